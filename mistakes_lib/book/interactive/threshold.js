// The threshold explorer: a slider, and two pictures of the same thresholds to drag through.
function explore(figure, data) {
  const { perBin, measures, pictures } = data;
  let own = measures[0]; // the score that is looked at, with its thresholds
  let chosen = own.start;

  const bar = element(figure, "div", { class: "explore-bar" });
  if (measures.length > 1) choice(bar);
  const control = element(bar, "label", { class: "explore-slider" });
  element(control, "span", {}, "Threshold");
  const slider = element(control, "input", { type: "range", min: 0, step: 1 });
  const value = element(control, "output");
  const told = element(bar, "p", { class: "explore-told" });

  const plots = element(figure, "div", { class: "explore-plots" });
  const [left, right] = [element(plots, "div"), element(plots, "div")];
  const key = element(figure, "p", { class: "explore-key" });
  element(key, "span", { class: "explore-correct" }, "correct predictions");
  element(key, "span", { class: "explore-wrong" }, "mistakes");
  let [histogram, roc] = [null, null];

  const scroll = element(figure, "div", { class: "explore-tables" });
  const groups = { correct: "correct", wrong: "mistakes" };
  const counts = table(scroll, "Predictions", ["flagged", "kept"], groups);
  const names = {
    tpr: "mistakes caught", fpr: "correct predictions refused", precision: "flagged rightly",
  };
  const shares = table(scroll, "Shares", ["value"], names);
  const gallery = pictures && strip(figure, pictures);

  // Which score to look at. The threshold moves to where as many correct predictions are refused.
  function choice(parent) {
    const box = element(parent, "fieldset", { class: "explore-choice" });
    element(box, "legend", {}, "Trust by");
    const group = `explore-choice-${document.querySelectorAll(".explore-choice").length}`;
    measures.forEach((measure, k) => {
      const label = element(box, "label");
      const radio = element(label, "input", { type: "radio", name: group, value: k });
      radio.checked = k === 0;
      label.append(measure.name);
      radio.addEventListener("change", () => {
        const refused = own.correct.flagged[chosen];
        own = measure;
        const gaps = own.correct.flagged.map((count) => Math.abs(count - refused));
        redraw(gaps.indexOf(Math.min(...gaps)));
      });
    });
  }

  function redraw(i) {
    slider.max = own.correct.flagged.length - 1;
    histogram = drawHistogram(left, own, perBin);
    roc = drawRoc(right, own, measures);
    follow(histogram.svg, (event) => histogram.index(event));
    follow(roc.svg, (event) => roc.index(event));
    choose(i);
  }

  function show(i) {
    const { correct, wrong } = own;
    const at = (own.first + i) * own.step;
    const text = signed(at, own.decimals);
    value.textContent = text;
    slider.setAttribute("aria-valuetext", `${text} ${own.unit}`);
    for (const [name, { flagged, count }] of Object.entries({ correct, wrong })) {
      counts[name][0].textContent = flagged[i];
      counts[name][1].textContent = count - flagged[i];
    }
    const [caught, refused] = [wrong.flagged[i], correct.flagged[i]];
    shares.tpr[0].textContent = percent(caught, wrong.count);
    shares.fpr[0].textContent = percent(refused, correct.count);
    shares.precision[0].textContent = percent(caught, caught + refused);
    told.textContent = `${percent(caught, wrong.count)} of the mistakes caught, `
      + `${percent(refused, correct.count)} of the correct predictions refused`;
    histogram.mark(at);
    roc.mark(i);
    gallery?.(at, measures.indexOf(own));
  }

  function choose(i) {
    chosen = i;
    slider.value = i;
    show(i);
  }
  slider.addEventListener("input", () => choose(Number(slider.value)));

  // A mouse that passes shows its threshold for the while; a press, or a finger, moves there.
  function follow(svg, index) {
    let pressed = false;
    svg.addEventListener("pointerdown", (event) => {
      pressed = true;
      svg.setPointerCapture(event.pointerId);
      choose(index(event));
    });
    svg.addEventListener("pointermove", (event) => {
      if (pressed) choose(index(event));
      else if (event.pointerType === "mouse") show(index(event));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      svg.addEventListener(end, () => { pressed = false; });
    }
    svg.addEventListener("pointerleave", () => show(chosen));
  }

  redraw(chosen);
}

// Both groups' histograms: counts between every few thresholds.
function drawHistogram(parent, { first, step, unit, correct, wrong }, perBin) {
  const last = correct.flagged.length - 1;
  const threshold = (i) => (first + i) * step;
  const bins = ({ flagged, count }) => Array.from(
    { length: last / perBin },
    (_, b) => (flagged[(b + 1) * perBin] - flagged[b * perBin]) / (count * step * perBin),
  );
  const densities = { correct: bins(correct), wrong: bins(wrong) };
  parent.replaceChildren();
  const own = plot(parent, {
    label: "Histograms of the scores of correct predictions and of mistakes, with the threshold",
    role: "img",
    xs: [threshold(0), threshold(last)],
    ys: [0, 1.08 * Math.max(...densities.correct, ...densities.wrong)],
    xLabel: unit,
    yLabel: "relative frequency",
  });
  const { svg, x, y, top, floor } = own;
  const [left, right] = [x(threshold(0)), x(threshold(last))];
  const shade = element(svg, "rect", { class: "explore-shade" });
  for (const [name, density] of Object.entries(densities)) {
    const outline = density.flatMap((value, b) => [b, b + 1].map(
      (edge) => [x(threshold(edge * perBin)), y(value)],
    ));
    const closed = [[left, y(0)], ...outline, [right, y(0)]];
    element(svg, "path", { class: `explore-area explore-${name}`, d: line(closed) });
  }
  const cut = element(svg, "path", { class: "explore-cut" });
  return {
    svg,
    index: (event) => clamp(Math.round(own.at(event)[0] / step - first), 0, last),
    mark: (at) => {
      change(cut, { d: `M${x(at)} ${top}V${floor}` });
      change(shade, { x: left, y: top, width: x(at) - left, height: floor - top });
    },
  };
}

// The ROC curve through all thresholds, and in grey those of the other scores.
function drawRoc(parent, chosen, measures) {
  parent.replaceChildren();
  const own = plot(parent, {
    label: "ROC curve, with the point of the threshold",
    role: "img",
    xs: [0, 1],
    ys: [0, 1],
    xLabel: "share of correct predictions refused",
    yLabel: "share of mistakes caught",
  });
  const through = ({ correct, wrong }) => correct.flagged.map(
    (count, i) => [count / correct.count, wrong.flagged[i] / wrong.count],
  );
  const path = (places) => line(places.map(([a, b]) => [own.x(a), own.y(b)]));
  const curve = (places) => path([[0, 0], ...places, [1, 1]]);
  element(own.svg, "path", { class: "explore-chance", d: path([[0, 0], [1, 1]]) });
  for (const other of measures.filter((measure) => measure !== chosen)) {
    element(own.svg, "path", { class: "explore-other", d: curve(through(other)) });
  }
  const places = through(chosen);
  element(own.svg, "path", { class: "explore-curve", d: curve(places) });
  const point = element(own.svg, "circle", { class: "explore-point", r: 7 });
  return {
    svg: own.svg,
    index: (event) => {
      const [a, b] = own.at(event);
      const distances = places.map(([x, y]) => (x - a) ** 2 + (y - b) ** 2);
      return distances.indexOf(Math.min(...distances));
    },
    mark: (i) => change(point, { cx: own.x(places[i][0]), cy: own.y(places[i][1]) }),
  };
}

// The images nearest to a threshold, on both sides of it; `scores` has a list for each measure.
function strip(figure, { source, scores, label, predicted }, shown = 4) {
  const orders = scores.map((own) => own.map((_, k) => k).sort((a, b) => own[a] - own[b]));
  const box = element(figure, "div", { class: "explore-pictures" });
  const sides = {};
  for (const [side, name] of [["below", "flagged, just below"], ["above", "kept, just above"]]) {
    const group = element(box, "section", { "aria-label": `Images ${name} the threshold` });
    element(group, "p", {}, `${name[0].toUpperCase()}${name.slice(1)} the threshold`);
    sides[side] = element(group, "ul");
  }
  return (threshold, m) => {
    const order = orders[m];
    const split = order.filter((k) => scores[m][k] < threshold).length;
    const nearest = {
      below: order.slice(Math.max(0, split - shown), split),
      above: order.slice(split, split + shown),
    };
    for (const [side, list] of Object.entries(sides)) {
      list.replaceChildren();
      for (const k of nearest[side]) {
        const right = label[k] === predicted[k];
        const item = element(list, "li", { "data-picture": k, class: right ? "explore-correct" : "explore-wrong" });
        const image = element(item, "div", { class: "explore-picture", "aria-hidden": "true" });
        image.style.backgroundImage = `url(${source})`;
        image.style.backgroundSize = `${100 * label.length}% 100%`;
        image.style.backgroundPosition = `${(100 * k) / Math.max(1, label.length - 1)}% 0`;
        element(item, "span", {}, right ? `${label[k]} ✓` : `${label[k]}, taken for ${predicted[k]} ✗`);
      }
      if (!nearest[side].length) element(list, "li", {}, "none of the example images");
    }
  };
}
