// The report's page: everything is in the JSON block; nothing is fetched. Text from the data becomes text nodes, never markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const labels = new Map(data.systems.map((s) => [s.name, s.label]));
  const measures = new Map(data.measures.map((m) => [m.name, m]));
  const curves = [...new Set(data.systems.map((s) => s.curve))];
  const PAGE = 20;

  // -- small tools ------------------------------------------------------------------------------------------------------

  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }
  const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const colour = (index) => `c${index % 8}${index >= 8 ? " dashed" : ""}`;

  // As many decimals as give the greatest of the values four digits.
  function decimals(values) {
    const top = values.reduce((most, value) => (isNumber(value) ? Math.max(most, Math.abs(value)) : most), 0);
    return top === 0 ? 2 : Math.min(8, Math.max(0, 3 - Math.floor(Math.log10(top))));
  }
  const text = (value, places) => (isNumber(value) ? value.toFixed(places) : "–");
  const better = (column, a, b) => (measures.get(column).better === "lower" ? a < b : a > b);
  const bestOf = (column, values) => {
    const known = values.filter(isNumber);
    return new Set(known).size > 1 ? known.reduce((a, b) => (better(column, a, b) ? a : b)) : null;
  };
  const name = (column) => measures.get(column).label || column;
  const arrow = (column) => (measures.get(column).better === "lower" ? "lower is better" : "higher is better");

  function options(select, pairs, chosen) {
    select.replaceChildren(...pairs.map(([value, label]) => h("option", { value }, label)));
    if (chosen !== undefined && pairs.some(([value]) => value === chosen)) select.value = chosen;
  }

  // Ends of an axis that holds the values, and its ticks: steps of 1, 2 or 5 times a power of ten.
  function axis(values) {
    let low = Math.min(...values), high = Math.max(...values);
    if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
    const power = 10 ** Math.floor(Math.log10((high - low) / 4));
    const step = power * ([1, 2, 5].find((m) => (high - low) / (power * m) <= 6) || 10);
    const first = Math.floor(low / step), last = Math.ceil(high / step), ticks = [];
    for (let i = first; i <= last; i++) ticks.push(i * step);
    return { low: first * step, high: last * step, ticks, places: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  // -- the summary: sorted by a column's head ---------------------------------------------------------------------------

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => head.querySelector("button")?.addEventListener("click", () => {
      const first = head.dataset.better === "higher" ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort");
      const next = now === first ? (first === "ascending" ? "descending" : "ascending") : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const key = (row) => row.cells[index].dataset.value;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");   // what has no value stays last
        return head.dataset.text ? sign * x.localeCompare(y) : sign * (Number(x) - Number(y));
      });
      table.tBodies[0].append(...rows);
    }));
  }

  // -- groups ------------------------------------------------------------------------------------------------------------

  function drawGroups() {
    const column = $("group-measure").value;
    const found = data.groups.map((g) => data.systems.map((one) => g.systems[one.name]?.[column]));
    const places = decimals(found.flat().map((cell) => cell?.value));
    const body = data.groups.map((group, i) => {
      const best = bestOf(column, found[i].map((cell, k) => (data.systems[k].bound ? null : cell?.value)));
      return h("tr", {}, h("th", { scope: "row" }, group.name || "(no group)"), h("td", {}, String(group.count)),
        found[i].map((cell, k) => h("td", { class: best !== null && cell?.value === best && !data.systems[k].bound ? "best" : null },
          text(cell?.value, places), isNumber(cell?.low) ? h("small", {}, ` ${text(cell.low, places)} to ${text(cell.high, places)}`) : null)));
    });
    $("group-table").replaceChildren(
      h("thead", {}, h("tr", {}, h("th", {}, "Group"), h("th", {}, "Pictures"), data.systems.map((one) => h("th", {}, one.label)))),
      h("tbody", {}, body));
  }

  // -- charts ------------------------------------------------------------------------------------------------------------

  const wide = (host) => Math.max(280, Math.min(860, host.clientWidth || 720));

  function frame(host, height, left, x, y, title) {
    const width = wide(host), right = width - 16, top = 14, bottom = height - 44;
    const X = (v) => left + ((v - x.low) / (x.high - x.low)) * (right - left);
    const Y = (v) => bottom - ((v - y.low) / (y.high - y.low)) * (bottom - top);
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
    const every = Math.ceil(x.ticks.length / Math.max(2, Math.floor((right - left) / 56)));
    x.ticks.forEach((tick, i) => {
      svg.append(s("line", { x1: X(tick), x2: X(tick), y1: top, y2: bottom, class: "grid" }));
      if (i % every === 0) svg.append(s("text", { x: X(tick), y: bottom + 17, "text-anchor": "middle", class: "tick" }, tick.toFixed(x.places)));
    });
    return { svg, X, Y, left, right, top, bottom };
  }

  function drawCurves() {
    const host = $("curves"), cx = $("curve-x").value, cy = $("curve-y").value;
    const every = data.systems.map((one) => ({ ...one, x: data.summary[one.name]?.[cx], y: data.summary[one.name]?.[cy] }))
      .filter((p) => isNumber(p.x?.value) && isNumber(p.y?.value));
    // A bound that lies far from all systems (100 dB) would only press them together.
    const far = every.filter((p) => p.bound && ["x", "y"].some((k) => {
      const rest = every.filter((q) => !q.bound).flatMap((q) => [q[k].value, q[k].low, q[k].high]).filter(isNumber);
      const low = Math.min(...rest), high = Math.max(...rest);
      return high > low && Math.max(low - p[k].value, p[k].value - high) > 2 * (high - low);
    }));
    const points = every.filter((p) => !far.includes(p));
    if (!points.length) return host.replaceChildren(h("p", {}, "No system has a value of both measures."));
    const span = (key) => points.flatMap((p) => [p[key].value, p[key].low, p[key].high]).filter(isNumber);
    const x = axis(span("x")), y = axis(span("y"));
    const at = frame(host, 420, 58, x, y, `${name(cy)} over ${name(cx)}`), { svg, X, Y } = at, placed = [];
    y.ticks.forEach((tick) => svg.append(
      s("line", { x1: at.left, x2: at.right, y1: Y(tick), y2: Y(tick), class: "grid" }),
      s("text", { x: at.left - 6, y: Y(tick) + 4, "text-anchor": "end", class: "tick" }, tick.toFixed(y.places))));
    svg.append(s("text", { x: (at.left + at.right) / 2, y: 414, "text-anchor": "middle", class: "axis" }, `${name(cx)} (${arrow(cx)})`),
      s("text", { transform: `translate(13 ${(at.top + at.bottom) / 2}) rotate(-90)`, "text-anchor": "middle", class: "axis" }, `${name(cy)} (${arrow(cy)})`));
    for (const p of points) placed.push({ l: X(p.x.value) - 5, r: X(p.x.value) + 5, t: Y(p.y.value) - 5, b: Y(p.y.value) + 5 });
    curves.forEach((curve, index) => {
      const own = points.filter((p) => p.curve === curve).sort((a, b) => Number(a.at?.value) - Number(b.at?.value) || 0);
      const group = s("g", { class: colour(index), "data-curve": curve });
      if (own.length > 1) group.append(s("polyline", { points: own.map((p) => `${X(p.x.value)},${Y(p.y.value)}`).join(" "), class: "line" }));
      for (const p of own) {
        const px = X(p.x.value), py = Y(p.y.value);
        if (isNumber(p.x.low)) group.append(s("line", { x1: X(p.x.low), x2: X(p.x.high), y1: py, y2: py, class: "error" }));
        if (isNumber(p.y.low)) group.append(s("line", { x1: px, x2: px, y1: Y(p.y.low), y2: Y(p.y.high), class: "error" }));
        const told = p.at ? `${p.at.name} = ${p.at.value}` : "";
        group.append(s("circle", { cx: px, cy: py, r: 5, "data-system": p.name },
          s("title", {}, `${p.label}${told && `, ${told}`}: ${name(cx)} ${p.x.value}, ${name(cy)} ${p.y.value}`)));
        group.append(label(p.at && own.length > 1 ? String(p.at.value) : p.label, px, py, placed, at));
      }
      svg.append(group);
    });
    const swept = (curve) => [...new Set(points.filter((p) => p.curve === curve && p.at).map((p) => p.at.name))].join(", ");
    const key = curves.filter((curve) => !far.some((p) => p.curve === curve)).map((curve) => [curve, curves.indexOf(curve)]).map(([curve, i]) => h("li", { class: colour(i) }, h("i"), curve, swept(curve) ? h("small", {}, ` over ${swept(curve)}`) : null));
    const off = far.map((p) => `${p.label} (${text(p.x.value, decimals([p.x.value]))}, ${text(p.y.value, decimals([p.y.value]))})`);
    host.replaceChildren(svg, h("ul", { class: "key" }, key), off.length ? h("p", { class: "quiet" }, `Off the chart: ${off.join(", ")}.`) : "");
  }

  // A point's label where it covers no other: right, left, above or below it.
  function label(words, px, py, placed, at) {
    const w = 7 * words.length, tries = [[9, -7], [-9 - w, -7], [9, 16], [-9 - w, 16], [-w / 2, -12], [-w / 2, 22],
      [14, -22], [-14 - w, -22], [14, 32], [-14 - w, 32]];
    const box = ([dx, dy]) => ({ l: px + dx, r: px + dx + w, t: py + dy - 12, b: py + dy + 2 });
    const free = (b) => b.l > at.left && b.r < at.right + 14 && !placed.some((o) => b.l < o.r && o.l < b.r && b.t < o.b && o.t < b.b);
    const chosen = tries.find((t) => free(box(t))) || (px + w > at.right ? tries[1] : tries[0]);
    placed.push(box(chosen));
    return s("text", { x: px + chosen[0], y: py + chosen[1], class: "label" }, words);
  }

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  // One row a system, all over the same axis and bins; the line is the mean, or the median where the measure is reduced by it.
  function histograms(host, series, title, { zero = false, middle = "mean" } = {}) {
    const centre = middle === "median" ? median : mean;
    const all = series.flatMap((one) => one.values);
    if (!all.length) return host.replaceChildren(h("p", {}, "No picture has a value of this measure."));
    const reduce = (better, start) => all.reduce((a, b) => (better(b, a) ? b : a), start);
    const x = axis([reduce((a, b) => a < b, all[0]), reduce((a, b) => a > b, all[0])].concat(zero ? [0] : []));
    const bins = 24, tall = 74, height = series.length * tall + 62;
    const { svg, X, left, right, bottom } = frame(host, height, 16, x, { low: 0, high: 1 }, title);
    const counts = series.map((one) => {
      const found = new Array(bins).fill(0);
      for (const v of one.values) found[Math.min(bins - 1, Math.floor(((v - x.low) / (x.high - x.low)) * bins))]++;
      return found.map((count) => (one.values.length ? count / one.values.length : 0));
    });
    const top = Math.max(...counts.flat()), step = (right - left) / bins, places = decimals(all);
    series.forEach((one, row) => {
      const base = 14 + (row + 1) * tall, group = s("g", { class: colour(one.colour), "data-system": one.name });
      counts[row].forEach((share, i) => share && group.append(
        s("rect", { x: left + i * step + 0.5, width: step - 1, y: base - (share / top) * (tall - 24), height: (share / top) * (tall - 24) },
          s("title", {}, `${Math.round(share * one.values.length)} of ${one.values.length}`))));
      group.append(s("line", { x1: left, x2: right, y1: base, y2: base, class: "base" }));
      const told = one.values.length ? `${middle} ${text(centre(one.values), places)}, ${one.values.length} pictures` : "no value";
      if (one.values.length) group.append(s("line", { x1: X(centre(one.values)), x2: X(centre(one.values)), y1: base - tall + 24, y2: base, class: "mean" }));
      group.append(s("text", { x: left, y: base - tall + 17, class: "label" }, `${one.label}: ${told}`));
      svg.append(group);
    });
    if (zero) svg.append(s("line", { x1: X(0), x2: X(0), y1: 14, y2: bottom, class: "zero" }));
    svg.append(s("text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle", class: "axis" }, title));
    host.replaceChildren(svg);
  }

  function drawHistograms() {
    const column = $("histogram-measure").value;
    const own = data.systems.map((one) => ({
      ...one, colour: curves.indexOf(one.curve), values: data.values[one.name][column].filter(isNumber),
    }));
    // A bound that is the same for every picture (100 dB, a similarity of 1) would only stretch the axis.
    const flat = own.filter((one) => one.bound && new Set(one.values).size < 2);
    $("histogram-note").textContent = flat.filter((one) => one.values.length).map((one) => `${one.label} is ${one.values[0]} for every picture.`).join(" ");
    histograms($("histograms"), own.filter((one) => !flat.includes(one)), `${name(column)} (${arrow(column)})`, { middle: measures.get(column).reduction });
  }

  // -- two systems, picture by picture ----------------------------------------------------------------------------------

  // Percentile bootstrap of the mean with a fixed seed (mulberry32), so that the same report says the same.
  function interval(values) {
    let state = 1;
    const random = () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    const draws = Math.max(200, Math.min(2000, Math.floor(4e6 / values.length)));
    const means = Array.from({ length: draws }, () => {
      let sum = 0;
      for (let i = 0; i < values.length; i++) sum += values[Math.floor(random() * values.length)];
      return sum / values.length;
    }).sort((a, b) => a - b);
    return [means[Math.floor(0.025 * draws)], means[Math.min(draws - 1, Math.floor(0.975 * draws))]];
  }

  function drawPaired() {
    const [a, b, column] = [$("pair-a").value, $("pair-b").value, $("pair-measure").value];
    const host = $("pair-chart"), x = data.values[a][column], y = data.values[b][column];
    const both = x.map((value, i) => [value, y[i]]).filter(([p, q]) => isNumber(p) && isNumber(q));
    if (!both.length) {
      $("pair-text").textContent = "No picture has a value of both.";
      return host.replaceChildren();
    }
    const differences = both.map(([p, q]) => p - q), places = decimals(differences.concat(interval(differences)));
    const signed = (v) => (v >= 0 ? "+" : "−") + Math.abs(v).toFixed(places), [low, high] = interval(differences);
    const wins = both.filter(([p, q]) => better(column, p, q)).length, losses = both.filter(([p, q]) => better(column, q, p)).length;
    $("pair-text").replaceChildren(
      h("strong", {}, `${labels.get(a)} minus ${labels.get(b)}: ${signed(mean(differences))}`),
      ` in the mean of ${name(column)} (95 % interval ${signed(low)} to ${signed(high)}; ${both.length} pictures that both have). `,
      `${labels.get(a)} is better on ${wins}, the same on ${both.length - wins - losses}, worse on ${losses}.`);
    histograms(host, [{ name: a, label: "Difference", colour: 0, values: differences }], `${name(column)}: difference`, { zero: true });
  }

  // -- the pictures, side by side ---------------------------------------------------------------------------------------

  let chosen = data.shown, page = 0, current = 0, pictured = 0;

  function select() {
    const group = $("show-group").value, words = $("show-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    chosen = data.shown.filter((row) => (group === "*" || row.group === group)
      && words.every((word) => `${row.id} ${row.words.join(" ")} ${row.source} ${row.target}`.toLowerCase().includes(word)));
    const column = $("show-sort").value, values = data.values[$("show-system").value]?.[column];
    if (values) {
      const sign = ($("show-order").value === "best") === (measures.get(column).better === "lower") ? 1 : -1;
      const key = (row) => values[row.at];
      chosen.sort((p, q) => (isNumber(key(p)) && isNumber(key(q)) ? sign * (key(p) - key(q)) : isNumber(key(q)) - isNumber(key(p))) || p.at - q.at);
    }
    page = current = 0;
    drawRows();
  }

  // What the bounds "input" and "truth" are measured as stands below the pictures that they are.
  const bounds = new Map(data.systems.filter((one) => one.bound).map((one) => [one.bound, one.name]));
  const pictures = (row) => [
    { label: "Input", src: row.input, system: bounds.get("input"), bound: true, file: `inputs/${row.id}.png` },
    ...(data.truths ? [{ label: "Truth", src: row.truth, system: bounds.get("truth"), bound: true, file: `truths/${row.id}.png` }] : []),
    ...data.systems.filter((one) => !one.bound).map((one) => ({ label: one.label, system: one.name, src: row.edits[one.name],
      error: row.errors[one.name], seed: row.seeds[one.name], file: `edits/${one.name}/${row.id}.png` })),
  ];

  function cell(picture, row, index, number) {
    if (!picture.src) return h("td", {}, h("p", { class: "none" }, picture.error || (picture.bound ? "none" : "no result")));
    const image = h("img", { src: picture.src, alt: `${picture.label} of ${row.id}`, class: row.small ? "small" : null });
    return h("td", {}, h("button", { class: "picture", type: "button", onclick: () => enlarge(index, number) }, image));
  }

  function card(row, index) {
    const all = pictures(row);
    const some = $("show-figures").checked ? data.columns : data.columns.filter((c) => c === $("show-sort").value || data.axes.includes(c));
    const figures = some.map((column) => {
      const values = all.map((p) => (p.system ? data.values[p.system][column][row.at] : undefined));
      const best = bestOf(column, values.map((v, i) => (all[i].bound ? null : v)));
      return h("tr", {}, h("th", { scope: "row" }, name(column)),
        values.map((v, i) => h("td", { class: isNumber(v) && v === best && !all[i].bound ? "best" : null }, v === undefined ? "" : text(v, data.places[column]))));
    });
    const captions = [row.source, row.target].filter(Boolean).join(" → ");
    return h("article", { class: "row", id: `row-${index}`, tabindex: "-1" },
      h("h3", {}, row.words.join("; ") || captions || row.id),
      h("p", { class: "about" }, [row.id, row.group, row.words.length ? captions : ""].filter(Boolean).join(" · ")),
      h("div", { class: "scroll" }, h("table", { class: "pictures" },
        h("thead", {}, h("tr", {}, h("td"), all.map((p) => h("th", { scope: "col" }, p.label)))),
        h("tbody", {}, h("tr", {}, h("td"), all.map((p, number) => cell(p, row, index, number))), figures))));
  }

  function drawRows() {
    const last = Math.max(0, Math.ceil(chosen.length / PAGE) - 1), first = page * PAGE;
    $("show-count").textContent = chosen.length
      ? `${first + 1} to ${Math.min(chosen.length, first + PAGE)} of ${chosen.length} pictures` : "No picture fits.";
    $("show-previous").disabled = page === 0;
    $("show-next").disabled = page >= last;
    $("rows").replaceChildren(...chosen.slice(first, first + PAGE).map((row, i) => card(row, first + i)));
  }

  function turn(to) {
    page = to;
    current = to * PAGE;
    drawRows();
    $("show-count").scrollIntoView({ block: "start" });
  }

  function go(to) {
    if (to < 0 || to >= chosen.length) return;
    current = to;
    if (Math.floor(to / PAGE) !== page) {
      page = Math.floor(to / PAGE);
      drawRows();
    }
    document.querySelector(".row.current")?.classList.remove("current");
    const row = $(`row-${to}`);
    row.classList.add("current");
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "start" });
  }

  function enlarge(index, number) {
    const row = chosen[index], all = pictures(row), shown = all[number];
    current = index;
    pictured = number;
    const figure = (p) => h("figure", {}, p.src ? h("img", { src: p.src, alt: p.label, class: row.small ? "small" : null }) : h("p", { class: "none" }, p.error || "none"),
      h("figcaption", {}, p.label, " ", h("a", { href: p.file, target: "_blank", rel: "noopener" }, "file")));
    const figures = shown.system ? data.columns.map((c) => `${name(c)} ${text(data.values[shown.system][c][row.at], data.places[c])}`).join(" · ") : "";
    $("large").replaceChildren(h("h3", {}, row.words.join("; ") || row.id), h("div", { class: "both" }, number ? figure(all[0]) : null, figure(shown)),
      h("p", { class: "about" }, [row.id, isNumber(shown.seed) ? `seed ${shown.seed}` : "", figures].filter(Boolean).join(" · ")));
    if (!$("viewer").open) $("viewer").showModal();
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const open = $("viewer").open, count = open ? pictures(chosen[current]).length : 0;
    const step = { n: 1, j: 1, ArrowDown: open ? 1 : 0, p: -1, k: -1, ArrowUp: open ? -1 : 0 }[event.key];
    const side = open ? { ArrowRight: 1, ArrowLeft: -1 }[event.key] : 0;
    if (!open && /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (side) enlarge(current, (pictured + side + count) % count);
    else if (step) {
      const begun = document.querySelector(".row.current") || open;
      go(begun || step < 0 ? current + step : current);
      if (open) enlarge(current, pictured);
    } else return;
    event.preventDefault();
  }

  // -- start -------------------------------------------------------------------------------------------------------------

  function listen(ids, draw) {
    for (const id of ids) $(id).addEventListener("input", draw);
    draw();
  }

  function start() {
    document.documentElement.classList.add("lively");
    document.querySelectorAll("table.sortable").forEach(sortable);
    const every = data.measures.map((m) => [m.name, m.label || m.name]), own = data.columns.map((c) => [c, name(c)]);
    const systems = data.systems.map((one) => [one.name, one.label]);
    options($("curve-x"), every, data.axes[0]);
    options($("curve-y"), every, data.axes[1]);
    options($("group-measure"), every);
    for (const id of ["histogram-measure", "pair-measure"]) options($(id), own, data.axes[1]);
    options($("pair-a"), systems, systems[0]?.[0]);
    options($("pair-b"), systems, systems[Math.min(1, systems.length - 1)]?.[0]);
    options($("show-group"), [["*", "all groups"], ...data.groups.map((g) => [g.name, `${g.name || "(no group)"} (${g.count})`])]);
    options($("show-sort"), [["", "the data set's order"], ...own]);
    options($("show-system"), systems);
    if (data.systems.length) listen(["curve-x", "curve-y"], drawCurves);
    if (data.groups.length) listen(["group-measure"], drawGroups);
    if (data.columns.length && data.systems.length) {
      listen(["histogram-measure"], drawHistograms);
      listen(["pair-a", "pair-b", "pair-measure"], drawPaired);
    }
    $("show-figures").checked = data.columns.length <= 4;
    $("show-figures").addEventListener("change", drawRows);
    listen(["show-group", "show-search", "show-sort", "show-system", "show-order"], select);
    $("show-previous").addEventListener("click", () => turn(page - 1));
    $("show-next").addEventListener("click", () => turn(page + 1));
    $("close").addEventListener("click", () => $("viewer").close());
    $("viewer").addEventListener("click", (event) => event.target === $("viewer") && $("viewer").close());
    document.addEventListener("keydown", keys);
    let waiting;
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => [drawCurves, drawHistograms, drawPaired].forEach((draw) => data.systems.length && data.columns.length && draw()), 150);
    });
  }
  start();
})();
