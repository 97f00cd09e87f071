
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("study").textContent);
  const $ = (id) => document.getElementById(id);
  const place = `showtell-study-${data.study}`;
  const ASKS = {
    instruction: ["Which result follows the instruction best?", "Which result follows the instructions best?"],
    image: ["Which result keeps best what was not to be changed?"],
  };
  const known = new Map(data.questions.map((q) => [q.id, new Set(q.choices.map((c) => c.code))]));

  // ---- what is kept -------------------------------------------------------
  const LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ";
  const newCode = () => {
    const drawn = crypto.getRandomValues(new Uint8Array(8));
    const text = Array.from(drawn, (n) => LETTERS[n % LETTERS.length]).join("");
    return `${text.slice(0, 4)}-${text.slice(4)}`;
  };
  const fresh = () => ({ participant: newCode(), screen: "intro", at: 0, answers: {} });
  let kept = true;

  function load() {
    let found = null;
    try {
      found = JSON.parse(localStorage.getItem(place));
    } catch { /* nothing is kept, or it is damaged: begin anew */ }
    if (!found || typeof found !== "object" || !/^[2-9A-HJKMNP-TV-Z]{4}-[2-9A-HJKMNP-TV-Z]{4}$/.test(found.participant)) return fresh();
    const state = { ...fresh(), participant: found.participant };
    for (const [id, a] of Object.entries(found.answers || {}))
      if (known.has(id) && a && known.get(id).has(a.choice))
        state.answers[id] = { choice: a.choice, place: Number(a.place) || 0, seconds: Number(a.seconds) || 0 };
    if (Number.isInteger(found.at) && found.at >= 0 && found.at < data.questions.length) state.at = found.at;
    if (["intro", "question", "end"].includes(found.screen)) state.screen = found.screen;
    return state;
  }

  function keep() {
    try {
      localStorage.setItem(place, JSON.stringify(state));
      kept = true;
    } catch {
      kept = false;
    }
    $("unkept").hidden = kept;
  }

  // ---- every person has an order of their own, the same after a reload -----
  function random(text) {
    let h = 2166136261;
    for (const c of text) h = Math.imul(h ^ c.charCodeAt(0), 16777619);
    return () => {
      h = (h + 0x6d2b79f5) | 0;
      let t = Math.imul(h ^ (h >>> 15), 1 | h);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  function shuffled(list, draw) {
    const found = list.slice();
    for (let i = found.length - 1; i > 0; i--) {
      const j = Math.floor(draw() * (i + 1));
      [found[i], found[j]] = [found[j], found[i]];
    }
    return found;
  }

  function ordered() {
    const draw = random(`${state.participant} ${data.study}`);
    return shuffled(data.questions, draw).map((q) => ({ ...q, choices: shuffled(q.choices, draw) }));
  }

  let state = load();
  let questions = ordered();
  let since = 0; // when the question was shown
  let large = -1; // the choice in the large view; -1 when it is closed, or shows only the picture before

  const now = () => questions[state.at];
  const chosen = () => {
    const answer = state.answers[now().id];
    return answer ? now().choices.findIndex((c) => c.code === answer.choice) : -1;
  };
  const answered = () => questions.filter((q) => state.answers[q.id]).length;

  // ---- pictures -----------------------------------------------------------
  function show(img, number) {
    img.onload = () => img.classList.toggle("small", Math.max(img.naturalWidth, img.naturalHeight) <= 200);
    img.src = data.pictures[number];
  }

  function enlarge(i) {
    large = i;
    const q = now();
    show($("large-before"), q.before);
    const other = $("large-picture").parentElement;
    other.hidden = i < 0;
    document.querySelector(".pair").style.gridTemplateColumns = i < 0 ? "1fr" : "";
    for (const id of ["previous", "take", "following"]) $(id).hidden = i < 0;
    if (i >= 0) {
      show($("large-picture"), q.choices[i].picture);
      $("large-picture").alt = `result ${i + 1}`;
      $("large-name").textContent = `Result ${i + 1}` + (i === chosen() ? " (your choice)" : "");
    }
    if ($("large").open) return;
    $("large").showModal();
    $(i < 0 ? "close" : "take").focus();
  }

  const flip = (by) => large >= 0 && enlarge((large + by + now().choices.length) % now().choices.length);

  // ---- screens ------------------------------------------------------------
  function go(screen) {
    spent();
    state.screen = screen;
    keep();
    for (const id of ["intro", "question", "end"]) $(id).hidden = id !== screen;
    if (screen === "question") question();
    if (screen === "end") end();
    if (screen === "intro") intro();
  }

  function intro() {
    const most = Math.max(...questions.map((q) => q.choices.length));
    $("title").textContent = data.title;
    $("consent").textContent = data.consent;
    $("many").textContent = most;
    $("last").textContent = most;
    $("count").textContent = questions.length;
    $("agree").checked = false;
    $("start").disabled = true;
  }

  function question() {
    const q = now();
    const asks = ASKS[q.ask];
    $("ask").textContent = asks[Math.min(q.words.length, asks.length) - 1];
    $("where").textContent = `Question ${state.at + 1} of ${questions.length}`;
    $("told-label").textContent = q.caption ? "What the result is to show:" : "What was to be changed:";
    $("words").replaceChildren(...q.words.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    $("words").classList.toggle("one", q.words.length === 1);
    show($("before-picture"), q.before);
    $("choices").replaceChildren(...q.choices.map(choice));
    const columns = q.choices.length <= 3 ? q.choices.length : Math.ceil(q.choices.length / (q.choices.length > 8 ? 3 : 2));
    $("choices").style.setProperty("--columns", columns);
    $("choices").style.setProperty("--rows", Math.ceil(q.choices.length / columns));
    since = performance.now();
    mark();
    $("ask").focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  function choice(c, i) {
    const box = Object.assign(document.createElement("div"), { className: "choice" });
    const button = document.createElement("button");
    button.setAttribute("role", "radio");
    button.setAttribute("aria-label", `Result ${i + 1}`);
    button.addEventListener("click", () => choose(i));
    const img = Object.assign(document.createElement("img"), { alt: `result ${i + 1}`, draggable: false });
    show(img, c.picture);
    button.append(img, Object.assign(document.createElement("span"), { className: "number", textContent: i + 1 }));
    const zoom = Object.assign(document.createElement("button"), { className: "zoom", textContent: "⤢", title: "Enlarge" });
    zoom.setAttribute("aria-label", `Enlarge result ${i + 1}`);
    zoom.addEventListener("click", () => enlarge(i));
    box.append(button, zoom);
    return box;
  }

  function mark() {
    const at = chosen();
    document.querySelectorAll("#choices [role=radio]").forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === at));
      button.tabIndex = i === Math.max(at, 0) ? 0 : -1;
    });
    $("next").disabled = at < 0;
    $("next").textContent = state.at + 1 === questions.length ? "Finish" : "Next";
    $("back").disabled = state.at === 0;
    const share = answered() / questions.length;
    $("done-part").style.width = `${100 * share}%`;
    $("bar").setAttribute("aria-valuemax", questions.length);
    $("bar").setAttribute("aria-valuenow", answered());
  }

  function choose(i, follow = false) {
    const q = now();
    if (i < 0 || i >= q.choices.length) return;
    const before = state.answers[q.id];
    state.answers[q.id] = { choice: q.choices[i].code, place: i + 1, seconds: before ? before.seconds : 0 };
    spent();
    keep();
    mark();
    const button = document.querySelectorAll("#choices [role=radio]")[i];
    button.focus({ preventScroll: true });
    if (follow) button.scrollIntoView({ block: "nearest" });
  }

  // The time on a question counts up to the last look at it.
  function spent() {
    const answer = state.screen === "question" && since ? state.answers[now().id] : null;
    if (!answer) return;
    answer.seconds = Math.round(10 * (answer.seconds + (performance.now() - since) / 1000)) / 10;
    since = performance.now();
  }

  function move(by) {
    if (by > 0 && chosen() < 0) return;
    spent();
    if (state.at + by >= questions.length) return go("end");
    state.at = Math.max(0, state.at + by);
    go("question");
  }

  // ---- the end ------------------------------------------------------------
  function written() {
    const answers = questions.filter((q) => state.answers[q.id]).map((q) => ({ question: q.id, ...state.answers[q.id] }));
    return JSON.stringify({
      format: 1, kind: "study answer sheet", study: data.study, hash: data.hash, participant: state.participant,
      complete: answers.length === questions.length, answers,
    }, null, 1) + "\n";
  }

  function end() {
    const all = answered() === questions.length;
    $("end-title").textContent = all ? "Thank you: that was all" : "You can stop here";
    $("end-text").textContent =
      `You answered ${answered()} of ${questions.length} questions. ` +
      "Save your answers and give the file to whoever asked you. It holds your choices, how long each took, and the code below; nothing has been sent.";
    $("code").textContent = state.participant;
    $("text").value = written();
    $("saved").textContent = "";
    $("save").disabled = answered() === 0;
    $("end-title").focus({ preventScroll: true });
  }

  function save() {
    const link = document.createElement("a");
    link.download = `answers-${data.study}-${state.participant}.json`;
    link.href = URL.createObjectURL(new Blob([written()], { type: "application/json" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    $("saved").textContent = `Saved as ${link.download}, in your downloads.`;
  }

  // ---- keys and buttons ---------------------------------------------------
  const ARROWS = { ArrowLeft: -1, ArrowRight: 1 };

  function arrow(key) {
    const buttons = [...document.querySelectorAll("#choices .choice")];
    const columns = buttons.filter((b) => b.offsetTop === buttons[0].offsetTop).length;
    const by = { ...ARROWS, ArrowUp: -columns, ArrowDown: columns }[key];
    const at = chosen();
    const to = at < 0 ? 0 : at + by;
    if (to >= 0 && to < buttons.length) choose(to, true);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || state.screen !== "question") return;
    const digit = /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : -1;
    if ($("large").open) {
      if (event.key in ARROWS) flip(ARROWS[event.key]);
      else if (digit >= 0 && digit < now().choices.length) enlarge(digit);
      else if (event.key.toLowerCase() === "z") $("large").close();
      else return;
    } else if (digit >= 0) choose(digit);
    else if (event.key.startsWith("Arrow")) arrow(event.key);
    else if (event.key === "Backspace") move(-1);
    else if (event.key.toLowerCase() === "z") enlarge(Math.max(chosen(), 0));
    else if (event.key === "Enter" && !event.target.closest("button:not([role=radio])")) move(1);
    else return;
    event.preventDefault();
  });

  $("agree").addEventListener("change", () => { $("start").disabled = !$("agree").checked; });
  $("start").addEventListener("click", () => go("question"));
  $("back").addEventListener("click", () => move(-1));
  $("next").addEventListener("click", () => move(1));
  $("stop").addEventListener("click", () => go("end"));
  $("return").addEventListener("click", () => go("question"));
  $("save").addEventListener("click", save);
  $("before").addEventListener("click", () => enlarge(-1));
  $("previous").addEventListener("click", () => flip(-1));
  $("following").addEventListener("click", () => flip(1));
  $("close").addEventListener("click", () => $("large").close());
  $("take").addEventListener("click", () => { const i = large; $("large").close(); choose(i); });
  $("large").addEventListener("click", (event) => { if (event.target === $("large")) $("large").close(); });
  window.addEventListener("pagehide", () => { spent(); keep(); });
  // The same study in another tab: what was answered there counts here.
  window.addEventListener("storage", (event) => {
    if (event.key !== place || event.newValue === null) return;
    since = 0;
    if ($("large").open) $("large").close();
    state = load();
    questions = ordered();
    go(state.screen);
  });
  $("anew").addEventListener("click", () => {
    if (!confirm("Have you saved these answers? Beginning anew removes them from this browser.")) return;
    state = fresh();
    questions = ordered();
    go("intro");
  });

  go(state.screen);
})();
