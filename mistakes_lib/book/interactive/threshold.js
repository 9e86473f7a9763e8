// The threshold explorer: a slider, and two pictures of the same thresholds to drag through.
function explore(figure, data) {
  const { first, step, decimals, perBin, correct, wrong, unit, pictures } = data;
  const last = correct.flagged.length - 1;
  const threshold = (i) => (first + i) * step;
  let chosen = data.start;

  const plots = element(figure, "div", { class: "explore-plots" });

  // Both groups' histograms: counts between every few thresholds.
  const bins = ({ flagged, count }) => Array.from(
    { length: last / perBin },
    (_, b) => (flagged[(b + 1) * perBin] - flagged[b * perBin]) / (count * step * perBin),
  );
  const densities = { correct: bins(correct), wrong: bins(wrong) };
  const histogram = plot(plots, {
    label: "Histograms of the scores of correct and wrong predictions, with the threshold",
    role: "img",
    xs: [threshold(0), threshold(last)],
    ys: [0, 1.08 * Math.max(...densities.correct, ...densities.wrong)],
    xLabel: unit,
    yLabel: "density",
  });
  const shade = element(histogram.svg, "rect", { class: "explore-shade" });
  for (const [name, density] of Object.entries(densities)) {
    const outline = density.flatMap((value, b) => [b, b + 1].map(
      (edge) => [histogram.x(threshold(edge * perBin)), histogram.y(value)],
    ));
    const [left, right] = [histogram.x(threshold(0)), histogram.x(threshold(last))];
    const closed = [[left, histogram.y(0)], ...outline, [right, histogram.y(0)]];
    element(histogram.svg, "path", { class: `explore-area explore-${name}`, d: line(closed) });
  }
  const cut = element(histogram.svg, "path", { class: "explore-cut" });

  // The ROC curve through all thresholds.
  const rates = (i) => [correct.flagged[i] / correct.count, wrong.flagged[i] / wrong.count];
  const roc = plot(plots, {
    label: "ROC curve, with the point of the threshold",
    role: "img",
    xs: [0, 1],
    ys: [0, 1],
    xLabel: "false positive rate",
    yLabel: "true positive rate",
  });
  const places = correct.flagged.map((_, i) => rates(i));
  const onPlot = ([fpr, tpr]) => [roc.x(fpr), roc.y(tpr)];
  element(roc.svg, "path", { class: "explore-chance", d: line([[0, 0], [1, 1]].map(onPlot)) });
  element(roc.svg, "path", { class: "explore-curve", d: line([[0, 0], ...places, [1, 1]].map(onPlot)) });
  const point = element(roc.svg, "circle", { class: "explore-point", r: 7 });

  const key = element(figure, "p", { class: "explore-key" });
  element(key, "span", { class: "explore-correct" }, "correct predictions");
  element(key, "span", { class: "explore-wrong" }, "wrong predictions");

  const control = element(figure, "label", { class: "explore-slider" });
  element(control, "span", {}, "Threshold");
  const slider = element(control, "input", { type: "range", min: 0, max: last, step: 1 });
  const value = element(control, "output");

  const scroll = element(figure, "div", { class: "explore-tables" });
  const groups = { correct: "correct", wrong: "wrong" };
  const counts = table(scroll, "Predictions", ["flagged", "kept"], groups);
  const names = { tpr: "true positive rate", fpr: "false positive rate", precision: "precision" };
  const shares = table(scroll, "Rates", ["value"], names);
  const gallery = pictures && strip(figure, pictures);

  function show(i) {
    const at = threshold(i);
    const text = signed(at, decimals);
    value.textContent = text;
    slider.setAttribute("aria-valuetext", `${text} ${unit}`);
    for (const [name, { flagged, count }] of Object.entries({ correct, wrong })) {
      counts[name][0].textContent = flagged[i];
      counts[name][1].textContent = count - flagged[i];
    }
    shares.tpr[0].textContent = percent(wrong.flagged[i], wrong.count);
    shares.fpr[0].textContent = percent(correct.flagged[i], correct.count);
    const all = wrong.flagged[i] + correct.flagged[i];
    shares.precision[0].textContent = percent(wrong.flagged[i], all);
    const [left, x] = [histogram.x(threshold(0)), histogram.x(at)];
    const { top, floor } = histogram;
    change(cut, { d: `M${x} ${top}V${floor}` });
    change(shade, { x: left, y: top, width: x - left, height: floor - top });
    const [cx, cy] = onPlot(rates(i));
    change(point, { cx, cy });
    gallery?.(at);
  }

  function choose(i) {
    chosen = i;
    slider.value = i;
    show(i);
  }

  slider.addEventListener("input", () => choose(Number(slider.value)));
  const fromHistogram = (event) => clamp(Math.round(histogram.at(event)[0] / step - first), 0, last);
  const fromRoc = (event) => {
    const [fpr, tpr] = roc.at(event);
    const distances = places.map(([x, y]) => (x - fpr) ** 2 + (y - tpr) ** 2);
    return distances.indexOf(Math.min(...distances));
  };
  follow(histogram.svg, fromHistogram);
  follow(roc.svg, fromRoc);

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

  choose(chosen);
}

// The images nearest to a threshold, on both sides of it.
function strip(figure, { source, score, label, predicted }, shown = 4) {
  const order = score.map((_, k) => k).sort((a, b) => score[a] - score[b]);
  const box = element(figure, "div", { class: "explore-pictures" });
  const sides = {};
  for (const [side, name] of [["below", "flagged, just below"], ["above", "kept, just above"]]) {
    const group = element(box, "section", { "aria-label": `Images ${name} the threshold` });
    element(group, "p", {}, `${name[0].toUpperCase()}${name.slice(1)} the threshold`);
    sides[side] = element(group, "ul");
  }
  return (threshold) => {
    const split = order.filter((k) => score[k] < threshold).length;
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
        image.style.backgroundSize = `${100 * score.length}% 100%`;
        image.style.backgroundPosition = `${(100 * k) / Math.max(1, score.length - 1)}% 0`;
        element(item, "span", {}, right ? `${label[k]} ✓` : `${label[k]}, taken for ${predicted[k]} ✗`);
      }
      if (!nearest[side].length) element(list, "li", {}, "none of the example images");
    }
  };
}
