const { data: d, make, draw, shown, find } = page;
const many = d.parts.length;
const rows = d.rows.map(([step, rate, norm, ...each]) => ({
  step, rate, norm, gradients: each.slice(0, many), updates: each.slice(many, 2 * many), weights: each.slice(2 * many),
}));
const places = [...new Set([...d.looks.map(look => look.step), ...rows.map(row => row.step), d.done])].sort((a, b) => a - b);
const running = d.status === "running";
const count = new Intl.NumberFormat("en");

// ---- what is kept when the page is loaded again ---------------------------------------------------------------------

const drawer = `chainrule-run ${location.pathname}`;
const state = { step: null, log: null, smooth: true, hidden: [], reload: true, same: false, epochs: false, scroll: 0 };
try { Object.assign(state, JSON.parse(sessionStorage.getItem(drawer))); } catch {}
function keep() {
  state.scroll = scrollY;
  try { sessionStorage.setItem(drawer, JSON.stringify(state)); } catch {}
}
addEventListener("pagehide", keep);

// ---- what is known at a step ----------------------------------------------------------------------------------------

const last = (list, step) => list.findLast(entry => entry.step <= step);
const place = () => state.step === null ? places.length - 1 : Math.max(0, places.findLastIndex(step => step <= state.step));
const chosen = () => places[place()];
const lossAt = step => step > 0 ? d.losses[Math.floor((step - 1) / d.every)] : null;
const ratio = (update, weight) => update === null || Number(weight) === 0 ? null : Number(update) / Number(weight);
const stepOf = i => Math.min(i * d.every + (d.every + 1) / 2, Math.max(d.done, 1));

// ---- charts ---------------------------------------------------------------------------------------------------------

const colour = i => {
  const hue = many > 1 ? 265 - 240 * i / (many - 1) : 265;
  return `light-dark(oklch(.52 .17 ${hue}), oklch(.8 .13 ${hue}))`;
};

function ticks(low, high, logarithmic) {
  if (logarithmic) {
    const [a, b] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const found = [];
    for (let p = a; p <= b; p++) for (const m of b - a < 3 ? [1, 2, 5] : b - a < 4 ? [1, 3] : [1]) found.push(Number(`${m}e${p}`));
    const inside = found.filter(v => v >= low && v <= high);
    return inside.filter((_, i) => i % Math.max(1, Math.floor(inside.length / 5)) === 0);
  }
  if (!(high > low)) return [low];
  const rough = (high - low) / 4, unit = 10 ** Math.floor(Math.log10(rough));
  const apart = [1, 2, 5, 10].find(m => m * unit >= rough) * unit, found = [];
  for (let i = Math.ceil(low / apart); i <= Math.floor(high / apart); i++) found.push(Number((i * apart).toPrecision(12)));
  return found;
}

// Each point is the mean (on a logarithmic scale the geometric mean) of `half` points on either side and itself.
function smoothed(points, half, logarithmic) {
  const fits = v => v !== null && Number.isFinite(Number(v)) && (!logarithmic || Number(v) > 0);
  const [into, back] = logarithmic ? [Math.log, Math.exp] : [v => v, v => v];
  return points.map(([step, v], i) => {
    if (!fits(v)) return [step, v];
    const near = points.slice(Math.max(0, i - half), i + half + 1).map(([, value]) => value).filter(fits).map(value => into(Number(value)));
    return [step, back(near.reduce((a, b) => a + b) / near.length)];
  });
}
const HALF = Math.floor(rows.length / 80);
const smoothing = () => state.smooth && HALF > 0 ? HALF : 0;

const charts = [];

// series: {name, colour, points: [[step, value]], class, dots, band, part}; value null leaves a gap. guides: [value, text].
function chart(host, facts) {
  const made = { update() {
    const { label, series, guides = [], logarithmic } = facts();
    const em = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const width = Math.max(200, host.clientWidth), height = Math.max(11 * em, Math.min(16 * em, width * .5));
    const named = series.length <= 12 && width > 32 * em;
    const left = 4 * em, right = width > 32 * em ? 6 * em : .8 * em, top = .5 * em, bottom = 1.6 * em;
    const values = series.flatMap(s => [...s.points, ...(s.band ?? [])].map(([, v]) => v)).filter(v => v !== null).map(Number)
      .filter(v => Number.isFinite(v) && (!logarithmic || v > 0));
    let low = values.length ? Math.min(...values) : logarithmic ? .1 : 0, high = values.length ? Math.max(...values) : 1;
    for (const [v] of guides) if (v > low / 30 && v < high * 30) { low = Math.min(low, v); high = Math.max(high, v); }
    if (high - low <= 1e-12 * Math.abs(high)) [low, high] = logarithmic ? [low / 2, high * 2] : [low - .5, high + .5];
    const scale = logarithmic ? Math.log10 : v => v, end = Math.max(1, d.done, d.broke?.step ?? 0);
    const x = step => left + (width - left - right) * step / end;
    const y = v => top + (height - top - bottom) * (scale(high) - scale(v)) / (scale(high) - scale(low));
    const at = ([step, v]) => `${x(step).toFixed(1)},${y(v).toFixed(1)}`;
    const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
    for (const v of values.length ? ticks(low, high, logarithmic) : []) svg.append(
      draw("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      draw("text", { x: left - .4 * em, y: y(v) + .25 * em, "text-anchor": "end" }, shown(v)));
    for (const step of ticks(0, end, false).filter(Number.isInteger))
      svg.append(draw("text", { x: x(step), y: height - .4 * em, "text-anchor": "middle" }, count.format(step)));
    svg.append(draw("text", { x: width, y: height - .4 * em, "text-anchor": "end" }, width > 32 * em ? "step" : ""));
    for (const [v, text] of guides) if (v >= low && v <= high) svg.append(
      draw("line", { class: "guide", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      draw("text", { x: left + .3 * em, y: y(v) - .3 * em }, text));
    for (const s of series) {
      const drawn = v => v !== null && Number.isFinite(Number(v)) && (!logarithmic || Number(v) > 0);
      if (s.band) svg.append(draw("polygon", { class: "band", points: s.band.filter(([, v]) => drawn(v)).map(at).join(" ") }));
      const line = points => {
        let pen = "M";
        return points.map(p => { if (!drawn(p[1])) { pen = "M"; return ""; } const piece = pen + at(p); pen = "L"; return piece; }).join("");
      };
      const half = s.dots ? 0 : smoothing(), style = `stroke: ${s.colour}`;
      if (half) svg.append(draw("path", { d: line(s.points), class: "raw", style, "data-part": s.part }));
      svg.append(draw("path", { d: line(half ? smoothed(s.points, half, logarithmic) : s.points), class: s.class, style, "data-part": s.part }));
      for (const p of s.points) {
        if (s.dots && drawn(p[1])) svg.append(draw("circle", { class: s.class, cx: x(p[0]), cy: y(p[1]), r: .2 * em }));
        else if (p[1] !== null && Number(p[1]) === 0 && logarithmic) svg.append(draw("circle", { class: "zero", style, cx: x(p[0]), cy: height - bottom, r: .22 * em }));
        else if (p[1] !== null && !Number.isFinite(Number(p[1]))) svg.append(draw("path", { class: "odd", d: `M${x(p[0])},${top}l${.35 * em},${.6 * em}h${-.7 * em}z` }));
      }
    }
    if (named) {
      const ends = series.map(s => ({ s, p: s.points.findLast(([, v]) => v !== null && Number.isFinite(Number(v)) && (!logarithmic || v > 0)) }))
        .filter(({ p }) => p).map(end => ({ ...end, at: y(end.p[1]) + .25 * em })).sort((a, b) => a.at - b.at);
      for (let i = 1; i < ends.length; i++) ends[i].at = Math.max(ends[i].at, ends[i - 1].at + .95 * em);
      for (let i = ends.length - 1, lowest = height - bottom; i >= 0; i--, lowest -= .95 * em) ends[i].at = Math.min(ends[i].at, lowest);
      for (const { s, at } of ends)
        svg.append(draw("text", { class: "name", x: width - right + .4 * em, y: at, style: `fill: ${s.colour}` }, s.name.length > 12 ? `…${s.name.slice(-11)}` : s.name));
    }
    if (d.broke) svg.append(draw("line", { class: "broke", x1: x(d.broke.step), x2: x(d.broke.step), y1: top, y2: height - bottom },
      draw("title", {}, `The loss became ${page.number(d.broke.loss)} here.`)));
    const cursor = draw("line", { class: "cursor", y1: top, y2: height - bottom });
    svg.append(cursor);
    made.point = () => { cursor.setAttribute("x1", x(chosen())); cursor.setAttribute("x2", x(chosen())); };
    made.point();
    const pick = event => {
      const box = svg.getBoundingClientRect(), step = ((event.clientX - box.left) / box.width * width - left) / (width - left - right) * end;
      choose(places.reduce((best, p) => Math.abs(p - step) < Math.abs(best - step) ? p : best));
    };
    svg.addEventListener("pointerdown", event => { svg.setPointerCapture(event.pointerId); pick(event); });
    svg.addEventListener("pointermove", event => { if (event.buttons) pick(event); });
    host.replaceChildren(svg);
  } };
  made.update();
  charts.push(made);
  return made;
}
const redraw = page.soon(() => { for (const c of charts) c.update(); });

// ---- loss -----------------------------------------------------------------------------------------------------------

function losses() {
  const known = d.losses.map((f, i) => [stepOf(i), f]).filter(([, f]) => f);
  const validation = d.epochs.filter(e => e.val_loss !== undefined).map(e => [e.step, e.val_loss]);
  const values = [...known.map(([, f]) => f[0]), ...validation.map(([, v]) => Number(v))];
  const automatic = Math.min(...values) > 0 && Math.max(...values) > 20 * Math.min(...values);
  const band = [...known.map(([step, f]) => [step, f[2]]), ...known.toReversed().map(([step, f]) => [step, f[1]])];
  const ends = known.length ? ` from ${shown(known[0][1][0])} to ${shown(known.at(-1)[1][0])}` : "";
  return {
    label: `The loss over the steps${ends}.`,
    logarithmic: state.log ?? automatic,
    series: [
      { name: "training", colour: "var(--result)", points: known.map(([step, f]) => [step, f[0]]), band: d.every > 1 ? band : null },
      { name: "validation", colour: "var(--input)", class: "validation", points: validation, dots: true },
    ].filter(s => s.points.length),
  };
}

function buildLoss() {
  const host = find("#loss"), validation = d.epochs.some(e => e.val_loss !== undefined);
  if (!d.losses.length && !d.epochs.length) return;
  const loss = chart(host, losses);
  const log = make("button", { type: "button", id: "log", "aria-pressed": String(losses().logarithmic), onclick() {
    state.log = !losses().logarithmic;
    log.setAttribute("aria-pressed", state.log);
    loss.update();
  } }, "logarithmic");
  const smooth = make("button", { type: "button", "aria-pressed": String(state.smooth), onclick() {
    state.smooth = !state.smooth;
    smooth.setAttribute("aria-pressed", state.smooth);
    redraw();
  } }, "smooth");
  host.after(make("div", { class: "key" },
    make("span", {}, make("i", { class: "swatch", style: "background: var(--result)" }), "training"),
    validation && make("span", {}, make("i", { class: "swatch", style: "background: var(--input)" }), "validation"), log, HALF > 0 && smooth,
    HALF > 0 && make("span", {}, `Smooth lines are means of ${2 * HALF + 1} neighbouring points; the points themselves are the faint lines.`)));
}

// ---- gradients and updates ------------------------------------------------------------------------------------------

const visible = () => d.parts.map((_, i) => i).filter(i => !state.hidden.includes(d.parts[i].name));
const lines = value => visible().map(i => ({
  name: d.parts[i].name, part: i, colour: colour(i), points: rows.map(row => [row.step, value(row, i)]),
}));

function buildNorms() {
  const section = find("#norms");
  if (!rows.length) {
    section.append(make("p", { class: "quiet" }, "No step has been measured yet."));
    return;
  }
  const gradients = make("figure", { id: "gradients" }), updates = make("figure", { id: "updates" });
  const apart = d.every === 1 ? "every step" : `one step in ${count.format(d.every)} (${count.format(rows.length)} of ${count.format(d.done)})`;
  const skipped = rows[0].step > 1 ? ` What came before step ${count.format(rows[0].step)} was not recorded.` : "";
  section.append(
    make("h2", {}, "Gradient norms"),
    gradients,
    make("p", { class: "quiet" }, `‖∂loss/∂w‖ of each part, on a logarithmic scale, of ${apart}${d.clip === null ? "" : `, before clipping to ${shown(d.clip)}`}.${skipped} If the lines of the first layers lie far below those of the last, gradients vanish on the way back.`),
    make("h2", {}, "Update ratios"),
    updates,
    make("p", { class: "quiet" }, "‖Δw‖ / ‖w‖: by which share of its length a step moved the weights. About 10⁻³ is usual; much more is restless, much less stands still."),
    make("div", { class: "wide" }, make("table", { id: "parts" },
      make("thead", {}, make("tr", {}, ...[["part", ""], ["kind", "optional"], ["parameters", "number optional"], ["gradient", "number"], ["‖Δw‖/‖w‖", "number"], ["‖w‖", "number"]]
        .map(([text, kind]) => make("th", { scope: "col", class: kind }, text)))),
      make("tbody", {}, ...d.parts.map((part, i) => make("tr", { "data-part": i, onpointerenter: () => light(i), onpointerleave: () => light(null), onfocusin: () => light(i), onfocusout: () => light(null) },
        make("th", { scope: "row" }, make("label", {},
          make("input", { type: "checkbox", checked: !state.hidden.includes(part.name), onchange(event) {
            state.hidden = event.target.checked ? state.hidden.filter(name => name !== part.name) : [...state.hidden, part.name];
            redraw();
          } }), " ", make("i", { class: "swatch", style: `background: ${colour(i)}` }), part.name)),
        make("td", { class: "optional" }, part.kind), make("td", { class: "number optional" }, count.format(part.size)),
        make("td", { class: "number" }), make("td", { class: "number" }), make("td", { class: "number" })))))));
  chart(gradients, () => ({
    label: "The norm of each part's gradient over the steps; the table below has the numbers.", logarithmic: true,
    series: lines((row, i) => row.gradients[i]), guides: d.clip === null ? [] : [[d.clip, "clipped above, all parts together"]],
  }));
  chart(updates, () => ({
    label: "The update ratio of each part over the steps; the table below has the numbers.", logarithmic: true,
    series: lines((row, i) => ratio(row.updates[i], row.weights[i])), guides: [[1e-3, "10⁻³"]],
  }));
}

function light(part) {
  for (const line of page.all("#norms .chart path[data-part]")) {
    line.classList.toggle("strong", part !== null && line.dataset.part == part);
    line.classList.toggle("faint", part !== null && line.dataset.part != part);
  }
}

function fillParts() {
  const row = last(rows, chosen()) ?? rows[0];
  for (const line of page.all("#parts tbody tr")) {
    const i = line.dataset.part, cells = page.all("td.number", line).slice(-3);
    cells[0].textContent = row.gradients[i] === null ? "∇ –" : shown(row.gradients[i]);
    cells[1].textContent = (share => share === null ? "–" : shown(share))(ratio(row.updates[i], row.weights[i]));
    cells[2].textContent = shown(row.weights[i]);
  }
}

// ---- weights and feature maps ---------------------------------------------------------------------------------------

let palette = null;
function colours() {
  if (palette) return palette;
  const probe = make("span", { style: "display: none" });
  document.body.append(probe);
  const canvas = make("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  palette = Array.from({ length: 256 }, (_, i) => {
    probe.style.color = i ? page.heat(i - 128, 127) : "var(--failing)";
    canvas.fillStyle = getComputedStyle(probe).color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  });
  probe.remove();
  return palette;
}

const bytes = entry => entry.bytes ??= Int8Array.from(atob(entry.data), c => c.charCodeAt(0) << 24 >> 24);

// Tile n of an entry; most: the number that has the strongest colour. With three channels a tile is a picture in colour.
function tile(entry, n, most, kind = "") {
  const { width, height } = entry, size = width * height, cells = bytes(entry), share = most > 0 ? entry.scale / most : 0;
  const canvas = make("canvas", { width, height, class: kind, style: `--shape: ${width} / ${height}; --rows: ${height}` });
  const image = new ImageData(width, height), table = colours();
  for (let i = 0; i < size; i++) {
    const at = entry.channels === 3
      ? [0, 1, 2].map(c => 127.5 + cells[(3 * n + c) * size + i] * share)
      : table[cells[n * size + i] === -128 ? 0 : 128 + Math.round(cells[n * size + i] * share)];
    image.data.set([at[0], at[1], at[2], 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.addEventListener("pointermove", event => {
    const box = canvas.getBoundingClientRect();
    const column = Math.min(width - 1, Math.floor((event.clientX - box.left) / box.width * width));
    const row = Math.min(height - 1, Math.floor((event.clientY - box.top) / box.height * height));
    const where = (height > 1 ? `row ${row + 1}, ` : "") + `${height > 1 ? "column" : "unit"} ${column + 1}`;
    const values = (entry.channels === 3 ? [0, 1, 2] : [0]).map(c => cells[((entry.channels ?? 1) * n + c) * size + row * width + column]);
    const output = find("output", canvas.closest("figure") ?? document);
    if (output) output.textContent = `${where}: ${values.map(v => v === -128 ? "nan" : shown(Number((v / 127 * entry.scale).toPrecision(2)))).join(", ")}`;
  });
  return canvas;
}

const times = shape => shape.join(" × ");
const most = (entry, all) => state.same ? Math.max(...all.map(e => e?.scale ?? 0)) : entry.scale;

function filters(look) {
  const entry = look.filters;
  if (!entry) return [];
  const n = entry.tiles / entry.channels, scale = most(entry, d.looks.map(l => l.filters));
  const part = entry.count > n ? `the first ${n} of ${entry.count}` : `${n}`;
  const seen = entry.channels === 3 ? " in the three colours that they read" : entry.inputs > 1 ? `, each for the first of ${entry.inputs} inputs` : "";
  return [
    make("h3", {}, `Filters of the first layer, ${entry.name}`),
    make("figure", { class: "map", id: "filters" },
      make("div", { class: "tiles", role: "img", "aria-label": `${part} filters, ${entry.height} by ${entry.width}, the largest weight is ${shown(entry.scale)}` },
        ...Array.from({ length: n }, (_, i) => tile(entry, i, scale))),
      make("figcaption", {}, `${part} filters of ${entry.height} × ${entry.width}${seen}; strongest colour ±${shown(scale)}`, make("output", { class: "number" }))),
  ];
}

function maps(look) {
  if (!look.maps.length) return [];
  const some = d.modules.of > d.modules.shown ? ` ${d.modules.shown} of ${d.modules.of} modules, evenly spread.` : "";
  return [
    make("h3", {}, "Feature maps of one sample"),
    make("p", { class: "quiet" }, `What the modules made of the same sample, in evaluation mode.${some}`),
    ...look.maps.map((entry, at) => {
      const scale = most(entry, d.looks.map(l => l.maps[at])), strip = entry.height === 1, sheet = entry.tiles === 1 && !strip && entry.shape.length < 3;
      const left = entry.count > entry.tiles ? `, the first ${entry.tiles} shown` : "";
      const kind = strip ? "strip" : sheet ? "sheet" : entry.name === "input" ? "input" : "";
      return make("figure", { class: "map", "data-module": entry.name },
        make("figcaption", {}, make("b", {}, entry.name), ` ${entry.kind}, ${times(entry.shape)}${left}; ±${shown(scale)}`, make("output", { class: "number" })),
        make("div", { class: "tiles", role: "img", "aria-label": `${entry.name}: ${times(entry.shape)} numbers up to ${shown(entry.scale)}` },
          ...Array.from({ length: entry.tiles }, (_, i) => tile(entry, i, scale, kind))));
    }),
  ];
}

function histogram(entry) {
  const top = Math.max(1, ...entry.counts), n = entry.counts.length;
  return draw("svg", { class: "histogram", viewBox: "0 0 120 32", preserveAspectRatio: "none", role: "img", "aria-label": `histogram from ${shown(-entry.span)} to ${shown(entry.span)}` },
    draw("line", { x1: 60, x2: 60, y1: 0, y2: 32 }),
    ...entry.counts.map((c, i) => draw("rect", { x: 120 * i / n, width: 120 / n - .6, y: 32 - 30 * c / top, height: 30 * c / top })));
}

function weights(look) {
  if (!look.weights.length) return [];
  const sampled = look.weights.some(entry => entry.apart > 1) ? " Of large ones the histogram counts an even sample." : "";
  const more = d.parameters_left_out ? ` ${d.parameters_left_out} more are not shown.` : "";
  return [
    make("h2", {}, look.step === 0 ? "Weights before the first step" : `Weights after step ${count.format(look.step)}`),
    make("p", { class: "quiet" }, `Histograms are symmetric around 0, from minus to plus the largest magnitude.${sampled}${more}`),
    make("div", { class: "wide" }, make("table", { id: "weights" },
      make("thead", {}, make("tr", {}, ...[["parameter", ""], ["shape", "number optional"], ["lowest", "number"], ["highest", "number"], ["σ", "number optional"], ["histogram", ""], ["matrix", "optional"]]
        .map(([text, kind]) => make("th", { scope: "col", class: kind }, text)))),
      make("tbody", {}, ...look.weights.map((entry, at) => make("tr", {},
        make("th", { scope: "row" }, entry.name),
        make("td", { class: "number optional" }, times(entry.shape)),
        make("td", { class: "number" }, shown(entry.low)), make("td", { class: "number" }, shown(entry.high)),
        make("td", { class: "number optional" }, shown(entry.spread)),
        make("td", {}, histogram(entry), entry.odd ? `${entry.odd} not finite` : null),
        make("td", { class: "optional" }, entry.data ? tile(entry, 0, most(entry, d.looks.map(l => l.weights[at]))) : null)))))),
  ];
}

let drawn = null;
function fillLooks() {
  const section = find("#looks"), look = last(d.looks, chosen()) ?? d.looks[0];
  if (!look) {
    if (!drawn) section.replaceChildren(make("h2", {}, "Weights and feature maps"), make("p", { class: "quiet" }, d.no_look ? `None could be taken: ${d.no_look}` : "None yet."));
    drawn = true;
    return;
  }
  if (drawn === look) return;
  drawn = look;
  const kept = d.looks.length === 1 ? "These are the only ones kept so far" : `Kept at ${d.looks.length} moments: before the first step, after step 1, then every ${d.look_every === 1 ? "step" : `${count.format(d.look_every)} steps, and at the end`}`;
  const same = make("input", { type: "checkbox", checked: state.same, onchange() { state.same = same.checked; drawn = null; fillLooks(); } });
  section.replaceChildren(
    make("h2", {}, look.step === 0 ? "Filters and feature maps before the first step" : `Filters and feature maps after step ${count.format(look.step)}`),
    make("p", { class: "quiet" }, `${kept}. Blue is negative, red positive: `, make("i", { class: "scale" }), d.no_look ? ` Later ones could not be taken: ${d.no_look}` : null),
    make("label", {}, same, " the same colours at every step"),
    ...filters(look), ...maps(look));
  find("#weighing").replaceChildren(...weights(look));
}
const recolour = () => { palette = null; drawn = null; fillLooks(); };
document.addEventListener("themechange", recolour);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

// ---- choosing a step ------------------------------------------------------------------------------------------------

let slider, told, playing = null;
function buildChooser() {
  const button = (text, label, onclick, id) => make("button", { type: "button", "aria-label": label, title: label, onclick, id }, text);
  slider = make("input", { type: "range", id: "step", min: 0, max: places.length - 1, "aria-label": "Step", oninput: () => choose(places[slider.value]) });
  told = make("p", { id: "told", class: "number" });
  find("#chooser").append(
    make("div", { class: "controls" }, button("|◀", "First step (Home)", () => choose(places[0])), button("◀", "Back (←)", () => move(-1)), slider,
      button("▶", "Forward (→)", () => move(1)), button("▶|", "Latest step (End)", () => choose(places.at(-1))), button("Play", "Play from look to look (P)", play, "play")),
    told);
}

const move = by => choose(places[Math.min(places.length - 1, Math.max(0, place() + by))]);

function choose(step, by = "user") {
  if (by === "user") stop();
  state.step = step === places.at(-1) ? null : step;
  show();
  speak();
}

let voice = 0;
function speak() {
  clearTimeout(voice);
  voice = setTimeout(() => page.announce(told.textContent), 400);
}

const show = page.soon(showNow);
function showNow() {
  const step = chosen(), loss = lossAt(step), row = last(rows, step), facts = [make("b", {}, step ? `step ${count.format(step)}` : "before step 1"), ` of ${count.format(d.planned)}`];
  if (loss) facts.push(` · loss ${shown(loss[0])}${d.every > 1 ? ` (mean of ${d.every})` : ""}`);
  if (row && step) facts.push(` · gradient ${row.norm === null ? "–" : shown(row.norm)} · rate ${shown(row.rate)}`);
  told.replaceChildren(...facts);
  slider.value = place();
  slider.setAttribute("aria-valuetext", told.textContent);
  for (const c of charts) c.point();
  if (rows.length) fillParts();
  fillLooks();
}

function play() {
  if (playing) { stop(); return; }
  const steps = d.looks.map(look => look.step);
  let next = state.step === null ? 0 : steps.findIndex(step => step > chosen());
  find("#play").textContent = "Pause";
  playing = setInterval(() => {
    if (next < 0 || next >= steps.length) stop();
    else choose(steps[next++], "player");
  }, 250);
}
function stop() {
  clearInterval(playing);
  playing = null;
  find("#play").textContent = "Play";
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || page.typing()) return;
  const ranged = event.target.type === "range";
  const work = { ArrowLeft: ranged ? null : () => move(-1), ArrowRight: ranged ? null : () => move(1), Home: ranged ? null : () => choose(places[0]),
    End: ranged ? null : () => choose(places.at(-1)), p: play, l: () => find("#log")?.click() }[event.key];
  if (!work) return;
  event.preventDefault();
  work();
});

// ---- loading the page again -----------------------------------------------------------------------------------------

const loaded = Date.now();
let touched = 0;
for (const kind of ["pointerdown", "keydown", "wheel", "touchmove"]) addEventListener(kind, () => { touched = Date.now(); }, { passive: true });

function ago(seconds) {
  return seconds < 90 ? `${Math.max(0, Math.round(seconds))} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function look_again() {
  const age = Date.now() / 1000 - d.written, quiet = age > 10 * d.interval + 30;
  find("#written").textContent = `Written at ${new Date(d.written * 1000).toLocaleTimeString()}, ${ago(age)} ago.${quiet ? " Nothing new since: the training is slow, or was stopped." : ""}`;
  const pause = 1000 * (quiet ? Math.min(60, age / 5) : Math.max(2, d.interval));
  const free = !playing && document.visibilityState === "visible" && Date.now() - touched > 3000;
  if (state.reload && free && Date.now() - loaded > pause) again();
}
function again() { keep(); location.reload(); }

function buildReloading() {
  find("#written").textContent = `Written ${new Date(d.written * 1000).toLocaleString()}.`;
  if (!running) return;
  const box = make("input", { type: "checkbox", id: "reload", checked: state.reload, onchange: () => { state.reload = box.checked; } });
  find("#reloading").append(make("button", { type: "button", onclick: again }, "Reload"), make("label", {}, box, " reload by itself while it trains; the chosen step stays"));
  look_again();
  setInterval(look_again, 1000);
}

// ---- all together ---------------------------------------------------------------------------------------------------

buildReloading();
buildChooser();
buildLoss();
buildNorms();
showNow();
const epochs = find("#epochs");
if (epochs) {
  epochs.open = state.epochs;
  epochs.addEventListener("toggle", () => { state.epochs = epochs.open; });
}
let width = innerWidth;
new ResizeObserver(() => { if (innerWidth !== width) { width = innerWidth; redraw(); } }).observe(document.body);
if (state.scroll) scrollTo(0, state.scroll);
