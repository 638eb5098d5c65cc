const { runs, examples } = page.data;
const select = page.find("#view");
const articles = page.all(".run");
const pictures = runs.map((run, r) => {
  const own = articles[r], points = page.all(".decision .point", own);
  return {
    own,
    points,
    places: points.map((point) => point.getAttribute("transform").split(" scale")[0]),
    detail: page.find(".detail", own),
    links: page.all(".link", own),
    units: page.all(".unit", own).map((group) => ({ frame: page.find(".frame", group), value: page.find(".value", group), strips: page.all("svg", group) })),
    decided: page.find(".decided", own),
    ring: page.find(".ring", own),
    chosen: -1,
  };
});
let view = 0, backward = false;

const MEANING = {
  forward: "Maps: the value of each unit over the plane. Lines: weights. Numbers: values.",
  backward: "Maps: the gradient of the output with respect to each unit. Lines: gradients of the loss with respect to the weights. Numbers: gradients of the loss with respect to the units. Points grow with their error.",
};
const short = (value) => page.shown(Number(Number(value).toPrecision(3)));
const percent = (share) => `${(100 * share).toFixed(1)}%`;

examples.forEach((example, v) => {
  const text = example ? `example ${example.point + 1}: (${example.at.map(short).join(", ")}), ${example.name}` : "all examples";
  select.append(page.make("option", { value: v }, text));
});

function show() {
  page.find("#meaning").textContent = MEANING[backward ? "backward" : "forward"];
  page.all(".figures tbody tr").forEach((row, r) => {
    page.find(".loss", row).textContent = page.number(runs[r].loss[scrub.moment]);
    page.find(".accuracy", row).textContent = percent(runs[r].accuracy[scrub.moment]);
  });
  runs.forEach((run, r) => paint(run, pictures[r]));
}

function paint(run, picture) {
  const seen = run.views[view];
  picture.own.classList.toggle("backward", backward);
  const lines = backward ? seen.weights[scrub.moment] : run.weights[scrub.moment];
  const most = backward ? page.data.steepest[view] : page.data.widest;
  picture.links.forEach((link, e) => {
    const share = most > 0 ? Math.min(1, Math.abs(lines[e]) / most) : 0;
    const own = run.edges[e].includes(picture.chosen) ? " own" : "";
    link.setAttribute("class", `link ${lines[e] < 0 ? "neg" : "pos"}${own}`);
    link.setAttribute("stroke-width", lines[e] === 0 ? 0 : 0.6 + 8 * (backward ? Math.sqrt(share) : share));
  });
  const numbers = (backward ? seen.pulls : seen.values)[scrub.moment];
  picture.units.forEach((unit, u) => {
    for (const strip of unit.strips) wind(strip, run.side);
    unit.value.textContent = (backward ? "∇ " : "") + short(numbers[u]);
    unit.frame.setAttribute("aria-label", `${run.units[u].name}, ${backward ? "gradient" : "value"} ${page.number(numbers[u])}`);
    unit.frame.setAttribute("aria-pressed", picture.chosen === u);
  });
  wind(picture.decided, run.fine);
  picture.points.forEach((point, i) => {
    const size = backward ? 0.15 + 1.25 * run.wrong[scrub.moment][i] / 100 : 0.6;
    point.setAttribute("transform", `${picture.places[i]} scale(${size})`);
  });
  const followed = examples[view] ? picture.places[examples[view].point] : null;
  picture.ring.toggleAttribute("hidden", !followed);
  if (followed) picture.ring.setAttribute("transform", followed);
  picture.own.classList.toggle("chosen", picture.chosen >= 0);
  picture.detail.replaceChildren(...detail(run, picture, seen));
}

// Move a strip of frames to the one of this moment.
function wind(strip, side) {
  const frame = Math.min(scrub.moment, strip.dataset.frames - 1);
  strip.setAttribute("viewBox", `0 ${frame * (side + 2) + 1} ${side} ${side}`);
}

function detail(run, picture, seen) {
  const u = picture.chosen;
  if (u < 0) return [page.make("p", { class: "quiet" }, "Choose a unit to read its numbers.")];
  const cells = (...values) => values.map((value) => page.make("td", { class: "number" }, page.shown(value)));
  const row = (name, ...values) => page.make("tr", {}, page.make("th", { scope: "row" }, name), cells(...values));
  const rows = [row("the unit itself", seen.values[scrub.moment][u], seen.pulls[scrub.moment][u])];
  run.edges.forEach(([from, to], e) => {
    if (to === u) rows.push(row(`weight from ${run.units[from].name}`, run.weights[scrub.moment][e], seen.weights[scrub.moment][e]));
  });
  if (!Number.isNaN(Number(run.biases[scrub.moment][u]))) rows.push(row("bias", run.biases[scrub.moment][u], seen.biases[scrub.moment][u]));
  run.edges.forEach(([from, to], e) => {
    if (from === u) rows.push(row(`weight to ${run.units[to].name}`, run.weights[scrub.moment][e], seen.weights[scrub.moment][e]));
  });
  const head = page.make("tr", {}, ...["", view ? "value" : "value (mean)", "gradient"].map((text, i) => page.make("th", { scope: "col", class: i ? "number" : "" }, text)));
  const caption = page.make("caption", {}, `${run.units[u].name} at step ${steps[scrub.moment]}`);
  const told = page.make("p", { class: "quiet" }, `The gradients are those of the loss ${view ? "of this example" : "with its penalty"}, ${page.shown(seen.loss[scrub.moment])}.`);
  return [page.make("table", {}, caption, page.make("thead", {}, head), page.make("tbody", {}, rows)), told];
}

function turn(to) {
  backward = to;
  page.find(`#pass input[value="${to ? "backward" : "forward"}"]`).checked = true;
  scrub.draw();
}
select.addEventListener("change", () => { view = Number(select.value); scrub.draw(); });
page.find("#pass").addEventListener("change", (event) => turn(event.target.value === "backward"));

pictures.forEach((picture) => picture.units.forEach(({ frame }, u) => {
  const choose = () => { picture.chosen = picture.chosen === u ? -1 : u; scrub.draw(); };
  frame.addEventListener("click", choose);
  frame.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); choose(); }
  });
}));

Object.assign(scrub.keys, {
  f: () => turn(false),
  b: () => turn(true),
  Escape: () => { pictures.forEach((picture) => { picture.chosen = -1; }); scrub.draw(); },
});
scrub.show = show;
scrub.tell = () => runs.map((run) => `${run.label}: loss ${page.number(run.loss[scrub.moment])}, accuracy ${percent(run.accuracy[scrub.moment])}`).join("; ");
scrub.draw();
