// What the figures share: making elements, scales, axes, numbers as text.
const SVG = "http://www.w3.org/2000/svg";

function element(parent, name, attributes = {}, text = "") {
  const node = parent.namespaceURI === SVG || name === "svg"
    ? document.createElementNS(SVG, name)
    : document.createElement(name);
  change(node, attributes);
  if (text) node.textContent = text;
  parent.append(node);
  return node;
}

function change(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
}

const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)}\u202f%` : "–");
const signed = (value, digits) => value.toFixed(digits).replace("-", "−");
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// About `count` round numbers in [low, high].
function ticks(low, high, count = 5) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((size) => size * power).find((size) => size >= raw);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => {
    const value = (first + i) * step;
    return { value, text: signed(value || 0, digits) };
  });
}

// An SVG with axes; `x` and `y` turn data into its units, `at` turns a pointer's place into data,
// and `inside` is the clip-path of what must not cross the axes.
function plot(parent, { label, role, xs, ys, xLabel, yLabel, width = 360, height = 270 }) {
  const [acrossTicks, upTicks] = [ticks(...xs), ticks(...ys)];
  const left = 25 + 7 * Math.max(...upTicks.map(({ text }) => text.length));
  const [right, top, bottom] = [14, 10, 42];
  const svg = element(parent, "svg", { viewBox: `0 0 ${width} ${height}`, role });
  svg.setAttribute("aria-label", label);
  const x = (value) => left + ((value - xs[0]) / (xs[1] - xs[0])) * (width - left - right);
  const y = (value) => height - bottom - ((value - ys[0]) / (ys[1] - ys[0])) * (height - top - bottom);
  const axes = element(svg, "g", { class: "explore-axes", "aria-hidden": "true" });
  const [floor, wall] = [height - bottom, left];
  for (const { value, text } of acrossTicks) {
    element(axes, "path", { d: `M${x(value)} ${top}V${floor + 4}` });
    element(axes, "text", { x: x(value), y: floor + 16, "text-anchor": "middle" }, text);
  }
  for (const { value, text } of upTicks) {
    element(axes, "path", { d: `M${wall - 4} ${y(value)}H${width - right}` });
    element(axes, "text", { x: wall - 7, y: y(value) + 4, "text-anchor": "end" }, text);
  }
  element(axes, "text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel);
  const middle = (top + floor) / 2;
  const turned = { x: 12, y: middle, transform: `rotate(-90 12 ${middle})`, "text-anchor": "middle" };
  element(axes, "text", turned, yLabel);
  const clip = `explore-inside-${document.querySelectorAll("clipPath").length}`;
  const frame = { x: left, y: top, width: width - left - right, height: floor - top };
  element(element(svg, "clipPath", { id: clip }), "rect", frame);
  const at = (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [
      xs[0] + ((place.x - left) / (width - left - right)) * (xs[1] - xs[0]),
      ys[0] + ((floor - place.y) / (floor - top)) * (ys[1] - ys[0]),
    ];
  };
  return { svg, x, y, at, top, floor, inside: `url(#${clip})` };
}

const line = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;

// A table; returns the cells of each row, by the row's key.
function table(parent, caption, columns, rows) {
  const node = element(parent, "table");
  element(node, "caption", {}, caption);
  const head = element(element(node, "thead"), "tr");
  element(head, "td");
  for (const column of columns) element(head, "th", { scope: "col" }, column);
  const body = element(node, "tbody");
  return Object.fromEntries(Object.entries(rows).map(([key, name]) => {
    const row = element(body, "tr", { "data-row": key });
    element(row, "th", { scope: "row" }, name);
    return [key, columns.map(() => element(row, "td"))];
  }));
}
