// The mixture explorer: points, centres to drag, and EM one step at a time.
function explore(figure, data) {
  const { points, decimals, names } = data;
  const overall = [0, 1].map((axis) => variance(points.map((point) => point[axis])));
  let fit; // the mixture, each point's responsibilities, and the log-likelihood after each step
  let timer = null;
  const best = {}; // number of Gaussians → the highest log-likelihood so far

  const bar = element(figure, "div", { class: "explore-bar" });
  const plots = element(figure, "div", { class: "explore-plots" });
  const [xs, ys] = [0, 1].map((axis) => range(points.map((point) => point[axis])));
  const plane = plot(plots, {
    label: "Points, and the mixture's components with their centres",
    role: "group",
    xs,
    ys,
    xLabel: names[0],
    yLabel: names[1],
    height: 330,
  });
  const place = ([a, b]) => ({ cx: plane.x(a), cy: plane.y(b) });
  const cloud = element(plane.svg, "g", { "aria-hidden": "true" });
  const dots = points.map((point) => element(cloud, "circle", { ...place(point), r: 2.5 }));
  const outlines = element(plane.svg, "g", { "clip-path": plane.inside });
  const shapes = element(plane.svg, "g");

  const status = element(bar, "output", { class: "explore-status" });
  const control = element(bar, "label", { class: "explore-slider" });
  element(control, "span", {}, "Gaussians");
  const size = element(control, "input", { type: "range", min: 1, max: data.means.length, step: 1 });
  size.value = data.count;
  const sizeText = element(control, "output");
  const buttons = element(bar, "div", { class: "explore-buttons" });
  const button = (text, action) => {
    const node = element(buttons, "button", { type: "button" }, text);
    node.addEventListener("click", action);
    return node;
  };
  button("One EM step", () => { pause(); step(); draw(); });
  const runner = button("Run EM", () => (timer ? pause() : run()));
  button("Start again", () => startFrom(data.means));
  button("Bad start", () => startFrom(corner()));
  const climb = element(plots, "div");
  const list = element(figure, "div");

  // --- the mixture ------------------------------------------------------------------------------

  function start(means) {
    const weights = means.map(() => 1 / means.length);
    fit = { means, weights, variances: means.map(() => overall), climbed: [] };
    share();
  }

  // Responsibilities, and the mean log-likelihood, of the mixture as it is.
  function share() {
    let total = 0;
    fit.shares = points.map((point) => {
      const joint = fit.means.map((mean, k) => {
        const squares = [0, 1].map((axis) => {
          const spread = fit.variances[k][axis];
          return Math.log(2 * Math.PI * spread) + (point[axis] - mean[axis]) ** 2 / spread;
        });
        return Math.log(fit.weights[k]) - (squares[0] + squares[1]) / 2;
      });
      const top = Math.max(...joint);
      const sum = top + Math.log(joint.reduce((all, value) => all + Math.exp(value - top), 0));
      total += sum;
      return joint.map((value) => Math.exp(value - sum));
    });
    fit.climbed.push(total / points.length);
    const k = fit.means.length;
    best[k] = Math.max(best[k] ?? -Infinity, fit.climbed.at(-1));
  }

  function step() {
    const counts = fit.means.map((_, k) => (
      10 * Number.EPSILON + fit.shares.reduce((sum, own) => sum + own[k], 0) // no division by zero
    ));
    const average = (k, of) => (
      points.reduce((sum, point, n) => sum + fit.shares[n][k] * of(point), 0) / counts[k]
    );
    const all = counts.reduce((sum, count) => sum + count, 0);
    fit.weights = counts.map((count) => count / all);
    fit.means = counts.map((_, k) => [0, 1].map((axis) => average(k, (point) => point[axis])));
    fit.variances = counts.map((_, k) => [0, 1].map((axis) => (
      average(k, (point) => (point[axis] - fit.means[k][axis]) ** 2) + data.regularisation
    )));
    share();
  }

  const taken = () => fit.climbed.length - 1;
  const converged = () => (
    taken() > 1 && Math.abs(fit.climbed.at(-2) - fit.climbed.at(-3)) < data.tol
  );
  const over = () => converged() || taken() >= data.steps;

  function run() {
    if (over()) return;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      while (!over()) step();
      draw();
      return;
    }
    runner.textContent = "Pause";
    timer = setInterval(() => {
      step();
      draw();
      if (over()) pause();
    }, 400);
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    runner.textContent = "Run EM";
  }

  function startFrom(means) {
    pause();
    start(means.slice(0, Number(size.value)));
    rebuild();
  }
  size.addEventListener("input", () => startFrom(data.means));

  // The points nearest to the one that is farthest out: centres that all begin in one corner.
  function corner() {
    const middle = [0, 1].map((axis) => (
      points.reduce((sum, point) => sum + point[axis], 0) / points.length
    ));
    const apart = (a, b) => [0, 1].reduce((sum, axis) => (
      sum + (a[axis] - b[axis]) ** 2 / overall[axis]
    ), 0);
    const [far] = [...points].sort((a, b) => apart(b, middle) - apart(a, middle));
    return [...points].sort((a, b) => apart(a, far) - apart(b, far));
  }

  // A centre is put somewhere: EM starts from there.
  function put(k, [a, b]) {
    pause();
    const means = fit.means.map((mean) => [...mean]);
    const short = (value) => Number(value.toFixed(decimals));
    means[k] = [short(clamp(a, ...xs)), short(clamp(b, ...ys))];
    start(means);
    draw();
  }

  // --- what is seen -----------------------------------------------------------------------------

  let [handles, rings, cells] = [[], [], {}];

  function rebuild() {
    sizeText.textContent = size.value;
    outlines.replaceChildren();
    shapes.replaceChildren();
    rings = fit.means.map((_, k) => element(outlines, "ellipse", {
      class: "explore-ring", style: `stroke: var(--explore-${k + 1})`,
    }));
    handles = fit.means.map((_, k) => handle(k));
    list.replaceChildren();
    const rows = Object.fromEntries(fit.means.map((_, k) => [k, `${k + 1}`]));
    const caption = "Weight π, centre μ and standard deviation σ of each component; rings at 2 σ";
    cells = table(list, caption, ["π", "μ₁", "μ₂", "σ₁", "σ₂"], rows);
    draw();
  }

  function handle(k) {
    const node = element(shapes, "g", {
      class: "explore-handle", role: "slider", tabindex: 0, "aria-label": `Centre ${k + 1}`,
      "aria-valuemin": xs[0], "aria-valuemax": xs[1],
    });
    element(node, "circle", { r: 10, style: `stroke: var(--explore-${k + 1})` });
    element(node, "text", { y: 4, "text-anchor": "middle" }, `${k + 1}`);
    let held = false;
    node.addEventListener("pointerdown", (event) => {
      held = true;
      node.setPointerCapture(event.pointerId);
    });
    node.addEventListener("pointermove", (event) => { if (held) put(k, plane.at(event)); });
    for (const end of ["pointerup", "pointercancel"]) {
      node.addEventListener(end, () => { held = false; });
    }
    node.addEventListener("keydown", (event) => {
      const part = event.shiftKey ? 0.1 : 0.02;
      const [across, up] = [part * (xs[1] - xs[0]), part * (ys[1] - ys[0])];
      const moves = {
        ArrowLeft: [-across, 0], ArrowRight: [across, 0], ArrowUp: [0, up], ArrowDown: [0, -up],
      };
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      put(k, fit.means[k].map((value, axis) => value + move[axis]));
    });
    return node;
  }

  function draw() {
    const sizes = fit.means.length;
    points.forEach((_, n) => {
      const own = fit.shares[n];
      const most = Math.max(...own);
      const sure = sizes > 1 ? (most - 1 / sizes) / (1 - 1 / sizes) : 1;
      dots[n].style.fill = `var(--explore-${own.indexOf(most) + 1})`;
      dots[n].style.fillOpacity = 0.25 + 0.65 * sure;
    });
    fit.means.forEach((mean, k) => {
      const [across, up] = fit.variances[k].map((spread) => 2 * Math.sqrt(spread));
      const [rx, ry] = [plane.x(across) - plane.x(0), plane.y(0) - plane.y(up)];
      change(rings[k], { ...place(mean), rx, ry });
      const { cx, cy } = place(mean);
      const [a, b] = mean.map((value) => signed(value, decimals));
      const text = `${names[0]} ${a}, ${names[1]} ${b}`;
      change(handles[k], {
        transform: `translate(${cx} ${cy})`, "aria-valuenow": mean[0], "aria-valuetext": text,
      });
      const numbers = [fit.weights[k], ...mean, ...fit.variances[k].map(Math.sqrt)];
      numbers.forEach((value, i) => { cells[k][i].textContent = signed(value, i ? decimals : 3); });
    });
    const where = over() ? (converged() ? ", converged" : ", not converged") : "";
    const likelihood = signed(fit.climbed.at(-1), 4);
    status.textContent = `EM step ${taken()}${where}: log-likelihood ${likelihood} nats per point`;
    drawClimb();
  }

  function drawClimb() {
    climb.replaceChildren();
    const highest = best[fit.means.length];
    const own = plot(climb, {
      label: "Mean log-likelihood after each EM step, and the best so far",
      role: "img",
      xs: [0, Math.max(10, taken())],
      ys: range([...fit.climbed, highest], 0.1),
      xLabel: "EM steps",
      yLabel: "nats per point",
      height: 330,
    });
    const level = own.y(highest);
    const [left, right] = [own.x(0), own.x(Math.max(10, taken()))];
    element(own.svg, "path", { class: "explore-best", d: `M${left} ${level}H${right}` });
    const above = { x: right, y: level - 5, "text-anchor": "end", class: "explore-note" };
    element(own.svg, "text", above, `best so far ${signed(highest, 4)}`);
    const path = fit.climbed.map((value, i) => [own.x(i), own.y(value)]);
    element(own.svg, "path", { class: "explore-curve", d: line(path) });
    for (const [cx, cy] of path) element(own.svg, "circle", { class: "explore-dot", cx, cy, r: 3 });
  }

  start(data.means.slice(0, data.count));
  rebuild();
}

function variance(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
}

// From the least to the largest value, with some room at both ends.
function range(values, least = 0) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0.06 * (high - low), least);
  return [low - room, high + room];
}
