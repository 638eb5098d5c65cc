const { steps, values, events, groups, views, results, arrays, rules, places, primitives, remarks } = page.data;
const { find, all, make, math, draw, shown } = page;
const FORWARD = "forward";

// ---- what is known at each event ------------------------------------------------------------------------------------

const born = values.map(() => -1); // event at which a value is there; -1: from the start
const gains = values.map(() => []); // [event, array]: the running gradient of each value
const turn = events.findIndex((event) => event.kind !== FORWARD); // where backward begins; -1: nowhere
const meetings = []; // events at which paths meet
const forwardOf = new Map();
const backwardOf = new Map();
events.forEach((event, k) => {
  if (event.kind === FORWARD) {
    forwardOf.set(event.step, k);
    for (const v of steps[event.step].results) born[v] = k;
    return;
  }
  if (event.kind === "sum") meetings.push(k);
  if (event.total !== undefined) gains[event.value].push([k, event.total]);
  if (event.step !== undefined && !backwardOf.has(event.step)) backwardOf.set(event.step, k);
});
const firstRule = (v) => events.findIndex((event) => event.kind === "rule" && event.value === v);
const gradientAt = (v, k) => {
  let found = null;
  for (const [at, array] of gains[v]) { if (at > k) break; found = array; }
  return found;
};
const complete = (v, k) => gains[v].length > 0 && gains[v].at(-1)[0] <= k;

const now = { event: 0, view: page.data.first, node: null, path: null, zoom: null, playing: null, told: "" };

// ---- words ----------------------------------------------------------------------------------------------------------

const shape = (dims) => (dims?.length ? dims.join(" × ") : "a single number");
const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const clip = (text, most = 60) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const names = (list) => (list.length > 2 && list.every((v) => !values[v].named) ? `${list.length} values` : list.map((v) => clip(values[v].label, 30)).join(", "));
const outcome = () => (results.length === 1 ? clip(values[results[0]].label, 30) : "the results");

function sentence(event) {
  const step = event.step === undefined ? null : steps[event.step];
  const given = step ? step.inputs.filter((v) => v !== null) : [];
  const target = event.value === undefined ? "" : clip(values[event.value].label, 30);
  switch (event.kind) {
    case FORWARD: return `${step.name} computes ${names(step.results)}${given.length ? ` from ${names(given)}` : ""}.`;
    case "seed": return values[event.value].shape?.length
      ? `Backward begins: each entry of the gradient of ${target} is given.`
      : `Backward begins: the gradient of ${target} with respect to itself is ${arrays[event.total].text}.`;
    case "rule": return `The gradient of ${names(step.results)} has arrived; ${step.name} passes ${target} its part of it.`;
    case "fit": return `${target} was broadcast, so its gradient is the sum over all places where it was used.`;
    default: return `Paths meet: this part is added to what had already arrived at ${target}.`;
  }
}

// ---- small parts ----------------------------------------------------------------------------------------------------

const markup = (text) => { const box = make("span", { class: "formula" }); box.innerHTML = text; return box; }; // MathML made in Python
const row = (...children) => make("div", { class: "row" }, children);
const button = (v) => make("button", { type: "button", class: `chip ${values[v].role}`, onclick: () => select("v", v) }, clip(values[v].label, 40));
const mn = (value) => { const text = shown(value); const [digits, power] = text.split("e"); return power === undefined ? math("mn", {}, text) : math("mrow", {}, math("mn", {}, digits), math("mo", {}, "·"), math("msup", {}, math("mn", {}, "10"), math("mn", {}, power))); };
const bracketed = (value) => (Number(value) < 0 || page.number(value).startsWith("-") ? math("mrow", {}, math("mo", {}, "("), mn(value), math("mo", {}, ")")) : mn(value));
const mo = (text) => math("mo", {}, text);
const line = (...children) => math("math", { class: "worked" }, children);
const index = (dims, at) => { const found = []; for (let i = dims.length - 1; i >= 0; i--) { found.unshift(at % dims[i]); at = Math.floor(at / dims[i]); } return found; };

// An array: its numbers in coloured cells, or a coarse picture with its range.
function picture(id, title = "") {
  if (id === null || id === undefined) return make("span", { class: "unknown" }, "not known");
  const array = arrays[id];
  if (array.size === 1) return make("span", { class: "number value-number" }, array.text);
  const label = `${title} ${shape(array.shape)}, ${array.text}`.trim();
  if (array.whole && array.whole.length <= 64) return grid(array, label);
  const box = make("figure", { class: "map" });
  if (array.whole || array.thumb) box.append(heatmap(array, label));
  box.append(make("figcaption", { class: "number" }, `${shape(array.shape)}: ${array.text}`));
  return box;
}

function grid(array, label) {
  const columns = array.shape.at(-1) || 1;
  const most = Math.max(...array.whole.map((x) => Math.abs(Number(x)) || 0));
  const rows = [];
  for (let i = 0; i < array.whole.length; i += columns) {
    rows.push(make("tr", {}, array.whole.slice(i, i + columns).map((x) => make("td", { style: `--share:${tint(x, most)}`, class: Number(x) < 0 ? "below" : "above" }, shown(x)))));
  }
  return make("div", { class: "grid", tabindex: columns > 6 || rows.length > 8 ? "0" : null, role: "group", "aria-label": label }, make("table", { class: "cells" }, rows));
}
const tint = (x, most) => `${most > 0 && Number.isFinite(Number(x)) ? Math.round(70 * Math.sqrt(Math.min(1, Math.abs(x) / most))) : 0}%`;

// A tall and narrow picture on its side.
const lying = (cells) => (cells.rows <= 2 * cells.columns ? cells : { rows: cells.columns, columns: cells.rows, most: cells.most, at: (i) => cells.at((i % cells.rows) * cells.columns + Math.floor(i / cells.rows)) });

function cellsOf(array) {
  if (array.whole) {
    let columns = 1;
    for (const n of array.shape.toReversed()) { columns *= n; if (columns > 1) break; }
    return { rows: array.whole.length / columns, columns, at: (i) => Number(array.whole[i]), most: Math.max(...array.whole.map((x) => Math.abs(Number(x)) || 0)) };
  }
  const bytes = Int8Array.from(atob(array.thumb.cells), (c) => c.charCodeAt(0));
  return { ...array.thumb, at: (i) => (bytes[i] === -128 ? NaN : (bytes[i] / 127) * array.thumb.most) };
}

function heatmap(array, label) {
  const { rows, columns, at, most } = lying(cellsOf(array));
  const canvas = make("canvas", { width: columns, height: rows, role: "img", "aria-label": `Heat map: ${label}` });
  const side = Math.max(1, Math.min(14, Math.floor(280 / columns)));
  canvas.style.width = `${columns * side}px`;
  canvas.style.height = `${Math.max(14, rows * side)}px`;
  const paint = canvas.getContext("2d");
  const image = paint.createImageData(columns, rows);
  const paper = page.dark() ? [15, 23, 42] : [255, 255, 255];
  for (let i = 0; i < rows * columns; i++) {
    const x = at(i);
    const share = most > 0 ? Math.sqrt(Math.min(1, Math.abs(x) / most)) : 0;
    const ink = Number.isNaN(x) ? [168, 85, 247] : x < 0 ? [37, 99, 235] : [220, 38, 38];
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = Number.isNaN(x) ? ink[c] : paper[c] + (ink[c] - paper[c]) * share;
    image.data[4 * i + 3] = 255;
  }
  paint.putImageData(image, 0, 0);
  return canvas;
}

function histogram(array) {
  if (!array.histogram || array.histogram.length < 2) return null;
  const most = Math.max(...array.histogram);
  const bars = array.histogram.map((n, i) => draw("rect", { x: i * 10 + 1, y: 60 - (60 * n) / most, width: 8, height: (60 * n) / most }, draw("title", {}, `${n}`)));
  const width = array.histogram.length * 10;
  return make("figure", { class: "histogram" }, draw("svg", { viewBox: `0 0 ${width} 60`, role: "img", preserveAspectRatio: "none", "aria-label": `Histogram of ${array.size} elements from ${page.number(array.range[0])} to ${page.number(array.range[1])}` }, bars),
    make("figcaption", { class: "number" }, make("span", {}, shown(array.range[0])), make("span", {}, shown(array.range[1]))));
}

function statistics(array) {
  if (array.size === 1 || array.min === undefined) return null;
  const cells = [["least", array.min], ["largest", array.max], ["mean", array.mean], ["deviation", array.std], ["norm", array.norm], ["zeros", `${page.number(100 * Number(array.zeros))} %`]];
  if (array.nans) cells.push(["NaN", array.nans]);
  if (array.infs) cells.push(["infinite", array.infs]);
  return make("dl", { class: "statistics" }, cells.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", { class: "number" }, typeof value === "string" && value.endsWith("%") ? value : shown(value)))));
}

function source(id) {
  const place = id === null || id === undefined ? null : places[id];
  if (!place) return null;
  const first = place.line - Math.floor(place.lines.length / 2);
  const lines = place.lines.map((text, i) => {
    const here = first + i === place.line;
    if (!text.trim() && !here) return null;
    const parts = here ? [text.slice(0, place.mark[0]), make("mark", {}, text.slice(...place.mark)), text.slice(place.mark[1])] : [text];
    return make("span", { class: here ? "here" : "near" }, make("span", { class: "lineno", "aria-hidden": "true" }, String(first + i)), ...parts, "\n");
  });
  return make("figure", { class: "source" }, make("figcaption", {}, `Your program: ${place.file}, line ${place.line}${place.function === "<module>" ? "" : `, in ${place.function}`}`), make("pre", { tabindex: "0" }, lines));
}

function comparison(v) {
  const { check, unchecked, gradient } = values[v];
  if (gradient === undefined) return null;
  const title = make("h3", {}, "Finite-difference check");
  if (!check) return [title, make("p", { class: "quiet" }, remarks[unchecked] ?? "Not asked for.")];
  const cells = check.map((d) => make("tr", { class: d.agree ? "agree" : "differ" },
    make("th", { class: "number" }, d.entry.length ? `[${d.entry.join(", ")}]` : ""), make("td", { class: "number" }, shown(d.analytic)), make("td", { class: "number" }, shown(d.numeric)),
    make("td", {}, d.agree ? "✓ agree" : d.kink ? "a kink: the two sides differ here" : "✗ differ")));
  return [title, make("table", { class: "check" }, make("thead", {}, make("tr", {}, ["", "backward", "differences", ""].map((t) => make("th", { class: t ? "number" : null }, t)))), make("tbody", {}, cells)),
    make("p", { class: "quiet" }, "Differences: (L(v + h) − L(v − h)) / 2h, with the program run again in float64.")];
}

// ---- the current step -----------------------------------------------------------------------------------------------

const worked = (event) => { // 0.004 × (−3) = −0.012, for the first entries
  const [a, d, r] = [event.arrived?.[0], event.local, event.raw].map((id) => (id === null || id === undefined ? null : arrays[id]));
  if (!a?.whole || !d?.whole || !r?.whole) return null;
  const count = Math.min(4, r.whole.length);
  return [...Array(count).keys()].map((i) => row(
    count > 1 ? make("span", { class: "at number" }, `[${index(r.shape, i).join(", ")}]`) : null,
    line(mn(a.whole[i]), mo("×"), bracketed(d.whole[i]), mo("="), answer(r.whole[i]))))
    .concat(r.whole.length > count ? [make("p", { class: "quiet" }, `… and so on for all ${r.whole.length} entries.`)] : []);
};
const answer = (value) => math("mrow", { class: "outcome" }, mn(value));
const symbol = (text) => (text.length > 1 ? math("mi", { mathvariant: "normal" }, text) : math("mi", {}, text));
const partial = (over, under) => math("mfrac", {}, math("mrow", {}, mo("∂"), symbol(over)), math("mrow", {}, mo("∂"), symbol(under)));
// Names stand in formulas, expressions do not: Python is no mathematics.
const isName = (v) => values[v].named && /^[\p{L}_][\p{L}\p{N}_.]{0,19}$/u.test(values[v].label);
const whole = () => (results.length === 1 && isName(results[0]) ? values[results[0]].label : "L");
const nabla = (v) => partial(whole(), values[v].label);
const barred = (name) => math("mover", {}, symbol(name), mo("¯"));

function additions(event) {
  const [a, b, c] = [event.before, event.fitted, event.total].map((id) => arrays[id]);
  if (!a.whole || !b.whole || !c.whole) return null;
  return [...Array(Math.min(4, c.whole.length)).keys()].map((i) => row(c.whole.length > 1 ? make("span", { class: "at number" }, `[${index(c.shape, i).join(", ")}]`) : null,
    line(mn(a.whole[i]), mo("+"), bracketed(b.whole[i]), mo("="), answer(c.whole[i]))));
}

// The terms that un-broadcasting sums for the first entry of the result.
function foldings(event) {
  const [raw, fitted] = [arrays[event.raw], arrays[event.fitted]];
  if (!raw.whole || !fitted.whole || !fitted.whole.length || raw.whole.length / fitted.whole.length > 12) return null;
  const lead = raw.shape.length - fitted.shape.length;
  const terms = raw.whole.filter((_, i) => index(raw.shape, i).slice(lead).every((n, axis) => fitted.shape[axis] === 1 || n === 0));
  return row(fitted.whole.length > 1 ? make("span", { class: "at number" }, `[${fitted.shape.map(() => 0).join(", ")}]`) : null,
    line(terms.flatMap((x, i) => (i ? [mo("+"), bracketed(x)] : [mn(x)])), mo("="), answer(fitted.whole[0])));
}

function flow(title, v, id, extra = "") {
  return make("div", { class: `flow ${extra}` }, make("span", { class: "called" }, title), button(v), make("span", { class: "quiet" }, !values[v].shape ? "" : shape(values[v].shape)), picture(id, values[v].label));
}

function place(step) {
  const group = groups[step.group];
  return group.path ? make("span", { class: "quiet" }, ` in ${clip(group.path, 80)}`) : null;
}

const painters = {
  forward(event, step) {
    const primitive = primitives[step.primitive];
    return [
      step.recorded ? null : make("p", { class: "note" }, "No gradient flows through this operation: its inputs need none, or its values left the graph."),
      source(step.place),
      make("h3", {}, "Formula"),
      primitive.formula ? row(symbolMath("o", "="), markup(primitive.formula)) : null,
      step.worked ? row(entries(step.results[0]), markup(step.worked)) : null,
      make("p", { class: "quiet" }, primitive.about),
      step.parts ? make("p", {}, `One step for several operations: ${step.parts.join(", then ")}.`) : null,
      step.parts || step.several ? make("p", { class: "note" }, "What runs under cr.viz.record() is shown in its single operations.") : null,
      step.params?.length ? make("p", { class: "number" }, step.params.map(([name, value]) => `${name} = ${value}`).join("   ")) : null,
      make("h3", {}, "Inputs"), step.inputs.map((v, i) => (v === null ? null : flow(step.called[i], v, values[v].data))),
      make("h3", {}, "Result"), step.results.map((v, i) => flow(step.results.length > 1 ? `o (${i + 1})` : "o", v, values[v].data)),
      step.cost ? make("p", { class: "quiet" }, `${count(step.cost[0], "floating-point operation")}, ${count(step.cost[1], "byte")} moved.`) : null,
    ];
  },
  seed(event) {
    return [flow("∇", event.value, event.total, "gradient"), make("p", { class: "quiet" }, "Each operation now takes the gradient of its result and gives each of its inputs a part, by the chain rule: the newest operation first.")];
  },
  rule(event, step) {
    const rule = rules[event.rule];
    const numbers = worked(event);
    const [x, target] = [step.called[event.i] || "x", clip(values[event.value].label, 40)];
    return [
      make("h3", {}, "Incoming gradient ", symbolMath("ō")),
      step.results.map((v, i) => flow(step.results.length > 1 ? `ō (${i + 1})` : "ō", v, event.arrived[i], "gradient")),
      make("h3", {}, "Local derivative"),
      isName(event.value) && step.results.length === 1 && isName(step.results[0]) && event.local !== undefined && !results.includes(step.results[0])
        ? row(line(nabla(event.value), mo("="), nabla(step.results[0]), mo("·"), partial(values[step.results[0]].label, values[event.value].label))) : null,
      rule ? row(line(barred(x), mo("="), ...(event.local === undefined ? [] : [barred("o"), mo("·"), partial("o", x), mo("=")])), markup(rule.formula)) : null,
      event.local === undefined ? null : row(line(partial("o", x), mo("=")), even(event.local) ?? picture(event.local, "local derivative")),
      make("p", { class: "quiet" }, meaning([x, target], ["o", names(step.results)]), event.local === undefined ? " This is a vector–Jacobian product: the Jacobian itself is never made." : ""),
      numbers || event.worked ? make("h3", {}, numbers ? "In numbers: incoming × local" : "In numbers") : null,
      numbers, event.worked ? row(entries(event.value), markup(event.worked)) : null,
      make("h3", {}, "Outgoing contribution"),
      flow(step.called[event.i] || "", event.value, event.raw, "gradient"),
      rule ? make("details", { class: "rule", open: true }, make("summary", {}, `The rule, as it runs: ${rule.file}, line ${rule.line}`), make("pre", { tabindex: "0" }, rule.code || rule.name)) : null,
      primitives[step.primitive].formula ? [make("h3", {}, "The operation"), row(symbolMath("o", "="), markup(primitives[step.primitive].formula))] : null,
      source(step.place),
    ];
  },
  fit(event) {
    const [raw, fitted] = [arrays[event.raw], arrays[event.fitted]];
    return [make("p", {}, `The value has the shape ${shape(fitted.shape)} and was repeated to ${shape(raw.shape)}; backward, repeating becomes summing.`),
      make("h3", {}, "Before"), picture(event.raw, "before"), make("h3", {}, "Summed over the broadcast axes"), foldings(event), flow("", event.value, event.fitted, "gradient")];
  },
  sum(event) {
    const users = values[event.value].users;
    return [make("p", {}, `${clip(values[event.value].label, 40)} is used ${users.length} times; by the chain rule for several paths, its gradient is the sum over them.`),
      make("h3", {}, "Arrived before"), picture(event.before, "before"), make("h3", {}, "This contribution"), picture(event.fitted, "contribution"),
      make("h3", {}, "Running sum"), additions(event), flow("∇", event.value, event.total, "gradient")];
  },
};
const meaning = (...pairs) => { const told = pairs.filter(([letter, name]) => letter !== name).map(([letter, name]) => `${letter} is ${name}`); return told.length ? `Here ${told.join(", and ")}.` : ""; };
const even = (id) => { const { whole } = arrays[id]; return whole?.length > 1 && whole.every((x) => x === whole[0]) ? make("span", { class: "number" }, `${shown(whole[0])} in each of ${whole.length} entries`) : null; };
const symbolMath = (...texts) => math("math", {}, texts.map((t) => (t === "=" ? mo("=") : t === "ō" ? math("mover", {}, math("mi", {}, "o"), mo("¯")) : math("mi", {}, t))));
const entries = (v) => (values[v].shape?.reduce((a, b) => a * b, 1) > 1 ? make("span", { class: "at number" }, `[${values[v].shape.map(() => 0).join(", ")}]`) : null); // the first of several

const TITLES = { forward: "Forward", seed: "Backward", rule: "Backward", fit: "Backward: un-broadcasting", sum: "Backward: paths meet" };

function paintStep() {
  const event = events[now.event];
  const box = find("#step");
  if (!event) { box.replaceChildren(make("p", {}, "This program has no operations.")); return; }
  const step = event.step === undefined ? null : steps[event.step];
  box.dataset.kind = event.kind;
  box.replaceChildren(
    make("p", { class: `phase ${event.kind === FORWARD ? "forward" : "backward"}` }, TITLES[event.kind]),
    make("h2", {}, step ? step.name : values[event.value].label, step && event.kind !== FORWARD ? [" → ", clip(values[event.value].label, 40)] : null, step ? place(step) : null),
    make("p", { class: "sentence" }, sentence(event)),
    ...painters[event.kind](event, step).flat(Infinity).filter(Boolean),
  );
  if (event.value !== undefined && event.kind !== "seed" && complete(event.value, now.event)) box.append(...(comparison(event.value) || []));
  if (turn < 0 && now.event === events.length - 1) box.append(make("p", { class: "note" }, "There is no backward pass: nothing here requires a gradient."));
}

// ---- the selected box -----------------------------------------------------------------------------------------------

function select(kind, number) {
  now.node = { kind, number };
  paintNode();
  refresh();
  find("#node").scrollIntoView({ block: "nearest" });
}

function paintNode() {
  const box = find("#node");
  box.hidden = !now.node;
  if (!now.node) return;
  const close = make("button", { type: "button", class: "close", "aria-label": "Close (Esc)", onclick: deselect }, "✕");
  box.replaceChildren(close, ...({ v: paintValue, s: paintOperation, g: paintGroup }[now.node.kind](now.node.number).flat(Infinity).filter(Boolean)));
}
function deselect() { now.node = null; paintNode(); refresh(); }

function paintValue(v) {
  const value = values[v];
  const running = gradientAt(v, now.event);
  const data = value.data === undefined ? null : arrays[value.data];
  const gradient = value.gradient === undefined ? null : arrays[value.gradient];
  const done = complete(v, now.event) || (gains[v].length === 0 && gradient);
  return [
    make("h2", {}, make("span", { class: `chip ${value.role}` }, value.label)),
    make("p", { class: "quiet" }, `${{ computed: "a value", input: "an input: data", parameter: "a parameter", result: "the result", constant: "a constant" }[value.role]}, ${shape(value.shape)}${value.dtype ? `, ${value.dtype}` : ""}`),
    value.cut ? [make("p", { class: "note" }, `Its history was given up here by ${value.cut.how}: no gradient passes.`), source(value.cut.place)] : null,
    make("h3", {}, "Value"),
    data ? [picture(value.data, "value"), statistics(data), histogram(data)] : make("p", { class: "unknown" }, "It was not kept; compute under cr.viz.record() to see it."),
    make("h3", {}, "Gradient ", isName(v) ? line(nabla(v)) : null),
    !value.live ? make("p", { class: "quiet" }, "It needs no gradient.")
      : done ? [picture(value.gradient, "gradient"), gradient && statistics(gradient), gradient && histogram(gradient)]
        : running !== null ? [make("p", {}, `So far (${gains[v].filter(([k]) => k <= now.event).length} of ${gains[v].length} contributions):`), picture(running, "gradient so far")]
          : make("p", { class: "unknown" }, "∇ – not computed yet"),
    value.live ? comparison(v) : null,
    value.maker === undefined ? (value.users.length ? [make("h3", {}, "First used here"), source(steps[value.users[0][0]].place)] : null) : source(steps[value.maker].place),
    make("div", { class: "buttons" },
      value.maker === undefined ? null : make("button", { type: "button", onclick: () => go(forwardOf.get(value.maker)) }, "Go to where it is computed"),
      firstRule(v) < 0 ? null : make("button", { type: "button", onclick: () => go(firstRule(v)) }, "Go to its gradient"),
      gains[v].length > 1 ? make("button", { type: "button", onclick: () => go(gains[v][1][0]) }, "Go to where its paths meet") : null,
      value.live ? make("button", { type: "button", "aria-pressed": String(now.path?.from === v), onclick: () => trace(now.path?.from === v ? null : v) }, `Path to ${outcome()}`) : null),
  ];
}

function paintOperation(s) {
  const step = steps[s];
  return [make("h2", {}, make("span", { class: "chip step" }, step.name), place(step)), source(step.place),
    row(symbolMath("o", "="), markup(primitives[step.primitive].formula)), make("p", { class: "quiet" }, primitives[step.primitive].about),
    step.params?.length ? make("p", { class: "number" }, step.params.map(([name, value]) => `${name} = ${value}`).join("   ")) : null,
    make("h3", {}, "Inputs"), step.inputs.map((v, i) => (v === null ? null : flow(step.called[i], v, values[v].data))), make("h3", {}, "Result"), step.results.map((v) => flow("o", v, values[v].data)),
    make("div", { class: "buttons" }, make("button", { type: "button", onclick: () => go(forwardOf.get(s)) }, "Go to it forward"), backwardOf.has(s) ? make("button", { type: "button", onclick: () => go(backwardOf.get(s)) }, "Go to it backward") : null)];
}

function paintGroup(g) {
  const group = groups[g];
  const view = views.findIndex((one) => one.group === g);
  return [make("h2", {}, group.title, group.kind ? make("span", { class: "quiet" }, ` ${group.kind}`) : null), make("p", {}, `${group.count} operations${group.path ? `, at ${clip(group.path, 80)}` : ""}.`),
    make("div", { class: "buttons" }, svgOf(view) === null ? make("p", { class: "quiet" }, "It is not drawn on its own: the page would become too large.") : make("button", { type: "button", class: "primary", onclick: () => show(view) }, "Look inside"), make("button", { type: "button", onclick: () => go(forwardOf.get(group.first)) }, "Go to its first step"))];
}

// ---- the path of a value to the result ------------------------------------------------------------------------------

function trace(v) {
  now.path = null;
  if (v !== null) {
    const path = { from: v, values: new Set([v]), steps: new Set() };
    const waiting = [v];
    while (waiting.length) {
      for (const [s] of values[waiting.pop()].users) {
        if (path.steps.has(s) || !steps[s].recorded) continue;
        path.steps.add(s);
        for (const r of steps[s].results) { if (!path.values.has(r)) { path.values.add(r); waiting.push(r); } }
      }
    }
    now.path = path;
    page.announce(`The path from ${values[v].label} leads through ${path.steps.size} operations.`);
  }
  find("#paths").value = v === null ? "" : String(v);
  paintNode();
  refresh();
}

// ---- pictures -------------------------------------------------------------------------------------------------------

const canvas = find("#canvas");
const parked = new DOMParser().parseFromString(find("#others").textContent, "text/html"); // without scripts it is on the page itself
const drawn = new Map([[page.data.first, readied(find("svg", canvas), page.data.first)]]);

function svgOf(view) {
  if (view < 0) return null;
  if (!drawn.has(view)) {
    const kept = find(`[data-view="${view}"] svg`, parked);
    drawn.set(view, kept && readied(document.importNode(kept, true), view));
  }
  return drawn.get(view);
}

// A picture with its boxes by name: labelled, clickable, ready to change.
function readied(svg, view) {
  const nodes = new Map();
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", `${views[view].title}: graph with its boxes`);
  for (const node of all(".node", svg)) {
    const key = [...node.classList].at(-1);
    const [kind, number] = [key[0], Number(key.slice(1))];
    const last = kind === "v" && values[number].live ? all("text", node).at(-1) : null;
    nodes.set(key, { node, kind, number, last, final: last?.textContent, was: "" });
    node.setAttribute("role", "button");
    node.setAttribute("tabindex", "-1");
    node.setAttribute("aria-label", { v: () => `${values[number].label}, ${values[number].role}`, s: () => `${steps[number].name}, operation`, g: () => `${groups[number].title}, module of ${groups[number].count} operations` }[kind]());
    node.addEventListener("click", () => { rove(node); open(kind, number); });
  }
  const edges = all(".edge", svg).map((edge) => { const [, tail, head] = edge.classList; return { edge, tail, head, was: "" }; });
  nodes.values().next().value?.node.setAttribute("tabindex", "0");
  return { svg, nodes, edges, width: width * 4 / 3, height: height * 4 / 3 };
}
const open = (kind, number) => (kind === "g" && now.node?.kind === "g" && now.node.number === number ? show(views.findIndex((v) => v.group === number)) : select(kind, number));

function rove(node) {
  for (const { node: other } of current().nodes.values()) other.setAttribute("tabindex", other === node ? "0" : "-1");
}
const current = () => svgOf(now.view);

// The box that stands for a step in this view: its own, or that of the closed module round it.
function boxOf(s) {
  const { nodes } = current();
  if (nodes.has(`s${s}`)) return `s${s}`;
  for (let g = steps[s].group; g !== null; g = groups[g].parent) if (nodes.has(`g${g}`)) return `g${g}`;
  return null;
}

function show(view) {
  if (svgOf(view) === null) return;
  now.view = view;
  find("#views").value = String(view);
  canvas.replaceChildren(current().svg);
  now.zoom = now.painted = null;
  if (now.node?.kind === "g") { now.node = null; paintNode(); }
  paintCrumbs();
  refresh();
}

function paintCrumbs() {
  const trail = [];
  for (let g = views[now.view].group; g !== null; g = groups[g].parent) trail.unshift(g);
  find("#crumbs").replaceChildren(...trail.flatMap((g, i) => {
    const title = g === 0 ? "Whole program" : clip(groups[g].title, 30);
    const view = g === 0 ? page.data.first : views.findIndex((v) => v.group === g);
    return [i ? " › " : "", view === now.view ? make("strong", {}, title) : make("button", { type: "button", onclick: () => show(view) }, title)];
  }));
}

function zoomTo(width) {
  now.zoom = Math.max(80, Math.min(20000, width));
  current().svg.style.width = `${now.zoom}px`;
}
const rem = () => parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
// As wide as there is room, within what can be read from a seat in the room.
function fitWidth() {
  const { width } = current();
  zoomTo(Math.max(Math.min(canvas.clientWidth - 8, width * rem() * 1.15), width * rem() * 0.65));
}
function fitAll() {
  const { width, height } = current();
  zoomTo(Math.min(canvas.clientWidth - 8, (width / height) * (canvas.clientHeight - 8)));
}

function paintGraph() {
  const event = events[now.event];
  const { nodes, edges } = current();
  if (now.zoom === null) fitWidth();
  const active = event?.step === undefined ? null : boxOf(event.step);
  const goal = event?.value === undefined ? null : `v${event.value}`;
  const flows = event?.kind === FORWARD ? new Set([...steps[event.step].inputs, ...steps[event.step].results].map((v) => `v${v}`)) : new Set([goal, ...(event?.kind === "rule" ? steps[event.step].results.map((v) => `v${v}`) : [])]);
  const marked = now.path && new Set([...[...now.path.values].map((v) => `v${v}`), ...[...now.path.steps].map(boxOf)]);
  const chosen = now.node && `${now.node.kind}${now.node.number}`;
  for (const [key, box] of nodes) {
    let state = key === active ? " active" : key === goal ? " goal" : "";
    if (box.kind === "v" && born[box.number] > now.event) state += " unborn";
    if (box.kind === "s" && forwardOf.get(box.number) > now.event) state += " unborn";
    if (key === chosen) state += " chosen";
    if (marked) state += marked.has(key) ? " on-path" : " off-path";
    if (box.last) {
      const gradient = gradientAt(box.number, now.event);
      const known = gains[box.number].length ? gradient !== null : false;
      const text = known ? `∇ ${arrays[gradient].text}` : "∇ –";
      if (box.last.textContent !== text) box.last.textContent = text;
      state += known ? (complete(box.number, now.event) ? " reached" : " partly") : " unreached";
    }
    if (state !== box.was) {
      for (const name of box.was.trim().split(" ")) if (name) box.node.classList.remove(name);
      for (const name of state.trim().split(" ")) if (name) box.node.classList.add(name);
      if (state.includes("active") !== box.was.includes("active")) state.includes("active") ? box.node.setAttribute("aria-current", "step") : box.node.removeAttribute("aria-current");
      box.was = state;
    }
  }
  for (const one of edges) {
    const touches = active !== null && (one.tail === active || one.head === active) && (flows.has(one.tail) || flows.has(one.head));
    let state = touches ? (event.kind === FORWARD ? "flowing" : one.tail === goal ? "flowing back" : "flowing arrived") : "";
    if (marked) state += marked.has(one.tail) && marked.has(one.head) ? " on-path" : " off-path";
    if (state !== one.was) { one.edge.setAttribute("class", `edge ${one.tail} ${one.head} ${state}`); one.was = state; }
  }
  return (nodes.get(active) || nodes.get(goal))?.node;
}

function reveal(node) {
  const [outer, inner] = [canvas.getBoundingClientRect(), node.getBoundingClientRect()];
  const margin = Math.min(80, outer.height / 5);
  if (inner.top < outer.top + margin || inner.bottom > outer.bottom - margin) canvas.scrollTop += inner.top + inner.height / 2 - outer.top - outer.height / 2;
  if (inner.left < outer.left || inner.right > outer.right) canvas.scrollLeft += inner.left + inner.width / 2 - outer.left - outer.width / 2;
}

// ---- going ----------------------------------------------------------------------------------------------------------

const slider = find("#slider");
const list = all("#steps button");
const tell = (() => { let timer; return (text) => { clearTimeout(timer); timer = setTimeout(() => page.announce(text), 250); }; })();

function go(k) {
  now.event = Math.max(0, Math.min(events.length - 1, k));
  refresh();
}

const refresh = page.soon(() => {
  const event = events[now.event];
  if (find("#follow").checked && event?.step !== undefined && !current().nodes.has(`s${event.step}`)) {
    for (let g = steps[event.step].group; g !== null; g = groups[g].parent) {
      const view = views.findIndex((one) => one.group === g);
      if (view >= 0 && svgOf(view)?.nodes.has(`s${event.step}`)) { show(view); break; }
    }
  }
  const box = paintGraph();
  if (now.painted === now.event) return;
  now.painted = now.event;
  paintStep();
  if (now.node) paintNode();
  paintControls(event);
  if (box) reveal(box); // what asks for the layout comes last, or the frame would lay out twice
  if (now.item) revealStep(now.item.parentElement);
});

function revealStep(item) {
  const list = find("#steps");
  const [outer, inner] = [list.getBoundingClientRect(), item.getBoundingClientRect()];
  if (outer.height < list.scrollHeight && (inner.top < outer.top || inner.bottom > outer.bottom)) list.scrollTop += inner.top - outer.top - outer.height / 2;
}

function paintControls(event) {
  slider.value = String(now.event);
  const position = event ? `${event.kind === FORWARD ? "Forward" : "Backward"} · step ${now.event + 1} of ${events.length}` : "no steps";
  find("#position").textContent = position;
  slider.setAttribute("aria-valuetext", event ? `${position}: ${sentence(event)}` : position);
  find('[data-go="back"]').disabled = find('[data-go="start"]').disabled = now.event <= 0;
  find('[data-go="next"]').disabled = find('[data-go="end"]').disabled = now.event >= events.length - 1;
  if (event) tell(`${position}. ${sentence(event)}`);
  const item = event?.step === undefined ? null : list[event.step];
  if (item !== now.item) {
    now.item?.removeAttribute("aria-current");
    item?.setAttribute("aria-current", "step");
    now.item = item;
  }
}

function play(on = now.playing === null) {
  clearInterval(now.playing);
  now.playing = null;
  if (on && now.event >= events.length - 1) go(0);
  if (on) now.playing = setInterval(() => { if (now.event >= events.length - 1) play(false); else go(now.event + 1); }, Number(find("#speed").value));
  const button = find('[data-go="play"]');
  button.replaceChildren(on ? "⏸" : "▶", make("span", { class: "long" }, on ? " Pause" : " Play"));
  button.setAttribute("aria-label", on ? "Pause (space)" : "Play (space)");
}

const moves = {
  start: () => go(0), back: () => go(now.event - 1), next: () => go(now.event + 1), end: () => go(events.length - 1),
  turn: () => turn >= 0 && go(turn), play: () => play(),
  meeting: () => { const k = meetings.find((m) => m > now.event) ?? meetings[0]; if (k !== undefined) go(k); else page.announce("No paths meet in this program."); },
};
for (const [name, move] of Object.entries(moves)) find(`[data-go="${name}"]`).addEventListener("click", () => { if (name !== "play" && now.playing !== null) play(false); move(); });
find('[data-go="meeting"]').disabled = meetings.length === 0;
find('[data-go="turn"]').disabled = turn < 0;
slider.max = String(Math.max(0, events.length - 1));
slider.addEventListener("input", () => { if (now.playing !== null) play(false); go(Number(slider.value)); });
find("#speed").addEventListener("change", () => { if (now.playing !== null) { play(false); play(true); } });

find("#steps").addEventListener("click", (event) => {
  const item = event.target.closest("button[data-step]");
  if (!item) return;
  const s = Number(item.dataset.step);
  const back = backwardOf.get(s);
  go(now.event >= turn && turn >= 0 && back !== undefined ? back : forwardOf.get(s));
});

const ARROWS = { ArrowLeft: "back", ArrowRight: "next", Home: "start", End: "end", " ": "play", b: "turn", m: "meeting" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { hideFound(); if (now.path) trace(null); else if (now.node) deselect(); return; }
  if (page.typing()) return;
  if (event.key === "/") { event.preventDefault(); find("#search").focus(); return; }
  const node = document.activeElement?.closest?.(".node");
  if (node && (event.key === "Enter" || event.key === "ArrowUp" || event.key === "ArrowDown")) {
    event.preventDefault();
    if (event.key === "Enter") node.dispatchEvent(new MouseEvent("click"));
    else neighbour(node, event.key === "ArrowUp");
    return;
  }
  const move = ARROWS[event.key] || ARROWS[event.key.toLowerCase()];
  if (!move || (event.key === " " && /^(BUTTON|SUMMARY|INPUT)$/.test(document.activeElement?.tagName) && document.activeElement !== slider && document.activeElement !== find('[data-go="play"]'))) return;
  event.preventDefault();
  if (move !== "play" && now.playing !== null) play(false);
  moves[move]();
});

// In the graph the keys up and down walk along the arrows; where none leads on, to the next box in the picture.
function neighbour(node, up) {
  const { nodes, edges } = current();
  const key = [...nodes].find(([, box]) => box.node === node)[0];
  const along = edges.filter((e) => (up ? e.head : e.tail) === key).map((e) => (up ? e.tail : e.head));
  const order = [...nodes.keys()];
  const next = nodes.get(along[0] ?? order[order.indexOf(key) + (up ? -1 : 1)]);
  if (!next) return;
  rove(next.node);
  next.node.focus({ preventScroll: true });
  reveal(next.node);
}

// ---- finding --------------------------------------------------------------------------------------------------------

const search = find("#search");
const found = find("#found");
const things = [
  ...values.map((value, v) => ({ text: value.label, about: value.role, go: () => select("v", v), sure: value.named })),
  ...groups.slice(1).map((group, g) => ({ text: group.path || group.title, about: group.kind || "module", go: () => select("g", g + 1), sure: true })),
  ...steps.map((step, s) => ({ text: step.name, about: `operation ${s + 1}`, go: () => { go(forwardOf.get(s)); select("s", s); }, sure: true })),
];
function hideFound() { found.hidden = true; search.setAttribute("aria-expanded", "false"); search.removeAttribute("aria-activedescendant"); }
function look() {
  const wanted = search.value.trim().toLowerCase();
  const hits = wanted ? things.filter((thing) => thing.text.toLowerCase().includes(wanted)).sort((a, b) => b.sure - a.sure || a.text.length - b.text.length).slice(0, 30) : [];
  found.replaceChildren(...hits.map((thing, i) => {
    const item = make("li", { role: "option", id: `found-${i}`, "aria-selected": "false" }, make("span", {}, clip(thing.text, 80)), make("span", { class: "quiet" }, ` ${thing.about}`));
    item.addEventListener("mousedown", (event) => { event.preventDefault(); take(thing); });
    item.take = () => take(thing);
    return item;
  }));
  if (wanted && !hits.length) found.replaceChildren(make("li", { class: "quiet" }, "Nothing has this name."));
  found.hidden = !wanted;
  search.setAttribute("aria-expanded", String(!found.hidden));
  point(0);
}
function point(i) {
  const items = all('[role="option"]', found);
  items.forEach((item, j) => item.setAttribute("aria-selected", String(i === j)));
  if (items[i]) { search.setAttribute("aria-activedescendant", items[i].id); items[i].scrollIntoView({ block: "nearest" }); }
}
function take(thing) { search.value = ""; hideFound(); thing.go(); search.blur(); }
search.addEventListener("input", look);
search.addEventListener("blur", hideFound);
search.addEventListener("keydown", (event) => {
  const items = all('[role="option"]', found);
  const at = items.findIndex((item) => item.getAttribute("aria-selected") === "true");
  if (event.key === "Enter") items[Math.max(at, 0)]?.take();
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); point((at + (event.key === "ArrowDown" ? 1 : items.length - 1)) % Math.max(1, items.length)); }
});

// ---- the tools over the graph ---------------------------------------------------------------------------------------

const chooser = find("#views");
views.forEach((view, i) => { if (i === page.data.first || find(`[data-view="${i}"]`, parked)) chooser.append(make("option", { value: i }, clip(view.title, 60))); });
chooser.value = String(now.view);
chooser.addEventListener("change", () => show(Number(chooser.value)));
find("#follow").addEventListener("change", refresh);
for (const [name, change] of Object.entries({ in: () => zoomTo(now.zoom * 1.25), out: () => zoomTo(now.zoom / 1.25), fit: fitAll })) find(`[data-zoom="${name}"]`).addEventListener("click", change);
canvas.addEventListener("wheel", (event) => { if (event.ctrlKey) { event.preventDefault(); zoomTo(now.zoom * Math.exp(-event.deltaY / 300)); } }, { passive: false });
addEventListener("resize", page.soon(fitWidth));

const starts = values.map((value, v) => [value, v]).filter(([value]) => value.live && value.maker === undefined);
find("#paths").append(...starts.map(([value, v]) => make("option", { value: v }, clip(value.label, 60))));
find("#paths").addEventListener("change", (event) => { const v = event.target.value; trace(v === "" ? null : Number(v)); });
if (!starts.length) find(".paths").hidden = true;

document.addEventListener("themechange", () => { paintStep(); paintNode(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { paintStep(); paintNode(); });
find(".legend").open = innerWidth >= 700;
paintCrumbs();
go(0);
