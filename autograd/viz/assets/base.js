// What every page's script may use, as `page.…`. Text goes into the document as text alone, never as markup.
const page = {
  data: JSON.parse(document.getElementById("data").textContent),

  // The element, or the first inside `within`, that a selector finds.
  find: (selector, within = document) => within.querySelector(selector),
  all: (selector, within = document) => [...within.querySelectorAll(selector)],

  // make("button", {class: "primary", onclick: f, "aria-label": "…"}, "text", child, [more]) -> element
  make(tag, attributes = {}, ...children) {
    return page.fill(document.createElement(tag), attributes, children);
  },
  // The same in SVG.
  draw(tag, attributes = {}, ...children) {
    return page.fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  },
  // The same in MathML: math(math("mi", {}, "x")) …
  math(tag, attributes = {}, ...children) {
    return page.fill(document.createElementNS("http://www.w3.org/1998/Math/MathML", tag), attributes, children);
  },
  fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined && child !== false) element.append(child);
    }
    return element;
  },

  // A number in at most four significant digits, as `number` in snapshot.py writes it; "NaN" and "Infinity" too.
  number(value) {
    if (typeof value === "boolean") return value ? "True" : "False";
    value = Number(value);
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
    if (value === 0) return "0";
    const [digits, power] = value.toExponential(3).split("e");
    if (power < -4 || power >= 4) return Number.isInteger(value) && power < 4 ? String(value) : `${Number(digits)}e${Number(power)}`;
    return String(Number(value.toPrecision(4)));
  },
  // The same with a true minus sign, for reading.
  shown: (value) => page.number(value).replaceAll("-", "−"),

  // A colour around 0: blue for negative, red for positive, the more the nearer |value| is to `most`.
  heat(value, most) {
    value = Number(value);
    if (!Number.isFinite(value)) return "var(--failing)";
    const share = most > 0 ? Math.min(1, Math.abs(value) / most) : 0;
    return `color-mix(in oklab, var(--${value < 0 ? "negative" : "positive"}) ${(100 * Math.sqrt(share)).toFixed(1)}%, var(--paper))`;
  },

  // Tell a screen reader.
  announce(text) { document.getElementById("announcer").textContent = text; },

  // Run `work` once in the next frame, however often it is asked for before.
  soon(work) {
    let waiting = false;
    return () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; work(); });
    };
  },

  // Whether keys typed now belong to a field for text.
  typing: () => /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName) && document.activeElement.type !== "range" && document.activeElement.type !== "checkbox" && document.activeElement.type !== "radio",

  // Whether the page is dark now.
  dark: () => getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches),
};

document.getElementById("theme").addEventListener("click", () => {
  const theme = page.dark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("chainrule-theme", theme); } catch {}
  document.dispatchEvent(new Event("themechange"));
});
