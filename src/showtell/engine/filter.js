// The sieve's page: everything is in the JSON block; nothing is fetched. Text from the data becomes text nodes, never markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const PAGE = 24;
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  const text = (value) => (isNumber(value) ? value.toFixed(3) : "–");

  function h(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) node.setAttribute(key, value);
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }

  function options(select, pairs) {
    select.replaceChildren(...pairs.map(([value, label]) => h("option", { value }, label)));
  }

  let chosen = data.rows, page = 0;

  function fits(row, verdict) {
    if (verdict === "*") return true;
    return verdict === "kept" || verdict === "outranked" ? row.verdict === verdict
      : verdict === "dropped" ? row.fails.length > 0 : row.fails.includes(verdict);
  }

  function select() {
    const verdict = $("show-verdict").value, group = $("show-group").value, column = $("show-sort").value;
    const words = $("show-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    chosen = data.rows.filter((row) => fits(row, verdict) && (group === "*" || row.group === group)
      && words.every((word) => `${row.id} ${row.words} ${row.source} ${row.target}`.toLowerCase().includes(word)));
    if (column) {
      const sign = $("show-order").value === "most" ? -1 : 1, key = (row) => row.figures[column];
      chosen.sort((a, b) => (isNumber(key(a)) && isNumber(key(b)) ? sign * (key(a) - key(b)) : isNumber(key(b)) - isNumber(key(a))));
    }
    page = 0;
    draw();
  }

  // A picture's data becomes an image only when its card is on the page.
  function picture(src, label, row) {
    const shown = src ? h("img", { src, alt: `${label}: ${label === "before" ? row.source : row.target}`, class: row.small ? "small" : null })
      : h("p", { class: "none" }, "cannot be read");
    return h("figure", {}, shown, h("figcaption", {}, label === "before" ? row.source : row.target));
  }

  function card(row) {
    const why = row.verdict === "kept" ? "kept" : row.verdict === "outranked" ? `passes, but ${data.keep} of its pair do better`
      : `dropped: ${row.fails.map((test) => data.tests[test].told).join(", ")}`;
    const figures = data.columns.filter(([name]) => isNumber(row.figures[name]) || data.tests[name]).map(([name, label]) =>
      h("tr", { class: row.fails.includes(name) ? "fails" : null }, h("td", {}, label), h("td", {}, text(row.figures[name])),
        h("td", {}, data.tests[name] ? `≥ ${data.tests[name].least}` : "")));
    return h("article", { class: `card ${row.verdict}` }, h("h3", {}, row.words || row.id),
      h("p", { class: "about" }, [row.id, row.group].filter(Boolean).join(" · ")),
      h("div", { class: "both" }, picture(row.before, "before", row), picture(row.after, "after", row)),
      h("p", { class: row.fails.length ? "fails" : "quiet" }, why), h("table", {}, h("tbody", {}, figures)));
  }

  function draw() {
    const first = page * PAGE, last = Math.max(0, Math.ceil(chosen.length / PAGE) - 1);
    $("show-count").textContent = chosen.length
      ? `${first + 1} to ${Math.min(chosen.length, first + PAGE)} of ${chosen.length} candidates` : "No candidate fits.";
    $("show-previous").disabled = page === 0;
    $("show-next").disabled = page >= last;
    $("cards").replaceChildren(...chosen.slice(first, first + PAGE).map(card));
  }

  function turn(by) {
    page += by;
    draw();
    $("show-count").scrollIntoView({ block: "start" });
  }

  document.documentElement.classList.add("lively");
  options($("show-verdict"), [["*", "all"], ["kept", "kept"], ["outranked", "passed, outranked"], ["dropped", "dropped"],
    ...Object.entries(data.tests).map(([name, test]) => [name, `dropped: ${test.told}`])]);
  options($("show-group"), [["*", "all kinds"], ...data.groups.map((name) => [name, name || "(none)"])]);
  options($("show-sort"), [["", "nothing"], ...data.columns]);
  for (const id of ["show-verdict", "show-group", "show-search", "show-sort", "show-order"]) $(id).addEventListener("input", select);
  $("show-previous").addEventListener("click", () => turn(-1));
  $("show-next").addEventListener("click", () => turn(1));
  draw();
})();
