// The threshold explorer: everything that is decided by one number, from scores and truth.
const outcome = page.outcome;
const ranked = outcome?.ranked ?? []; // what can be ranked: the positive class, each class or label against the rest
const width = page.names.length, size = page.samples.id.length;
const scores = outcome && doubles(outcome.scores), target = outcome && doubles(outcome.target);
const classes = page.task === "binary" || page.task === "multiclass";
const scoreOf = (sample, output) => scores[sample * width + output];
const isPositive = (sample, output) => (classes ? target[sample] === output : target[sample * width + output] > 0);

// A sample is predicted positive from this score.
const operating = {ranking: null, threshold: 0.5};
const followers = []; // called when the threshold has come to rest

// -- counting --------------------------------------------------------------------------------------

// How many of the sorted values lie below.
function below(sorted, threshold) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}

function rank({number: output, name, points}) {
  const sides = [[], []];
  for (let sample = 0; sample < size; sample++) sides[Number(isPositive(sample, output))].push(scoreOf(sample, output));
  const [negatives, positives] = sides.map(side => Float64Array.from(side).sort());
  // One pass over the scores from above: what each of them as a threshold would give.
  const roc = {x: [0], y: [0], at: [Infinity]}, recall = {x: [], y: [], at: []};
  let i = positives.length, j = negatives.length, area = 0, precision = 0;
  while (i > 0 || j > 0) {
    const score = Math.max(i ? positives[i - 1] : -1, j ? negatives[j - 1] : -1);
    while (i > 0 && positives[i - 1] === score) i--;
    while (j > 0 && negatives[j - 1] === score) j--;
    const tp = positives.length - i, fp = negatives.length - j;
    const x = fp / negatives.length, y = tp / positives.length;
    area += (x - roc.x.at(-1)) * (y + roc.y.at(-1)) / 2;
    precision += (y - roc.y.at(-1)) * tp / (tp + fp);
    roc.x.push(x); roc.y.push(y); roc.at.push(score);
    recall.x.push(y); recall.y.push(tp / (tp + fp)); recall.at.push(score);
  }
  recall.x.unshift(0); recall.y.unshift(recall.y[0]); recall.at.unshift(recall.at[0]);
  return {output, name, points, positives, negatives, roc, recall, area, precision};
}

const ratio = (part, whole) => (whole ? part / whole : NaN);
// The same figures, by the same conventions, as engine/thresholds.py.
function figuresAt({positives, negatives}, threshold) {
  const fn = below(positives, threshold), tn = below(negatives, threshold);
  const tp = positives.length - fn, fp = negatives.length - tn;
  const sensitivity = ratio(tp, tp + fn), specificity = ratio(tn, tn + fp);
  const spread = Math.sqrt(tp + fp) * Math.sqrt(tp + fn) * Math.sqrt(tn + fp) * Math.sqrt(tn + fn);
  return {
    tp, fp, fn, tn, sensitivity, specificity, ppv: ratio(tp, tp + fp), npv: ratio(tn, tn + fn),
    f1: ratio(2 * tp, 2 * tp + fp + fn), accuracy: ratio(tp + tn, tp + fp + fn + tn),
    balanced: (sensitivity + specificity) / 2, mcc: ratio(tp * tn - fp * fn, spread),
  };
}

const FIGURES = [
  ["Sensitivity (recall)", "sensitivity", f => [f.tp, f.tp + f.fn]],
  ["Specificity", "specificity", f => [f.tn, f.tn + f.fp]],
  ["Positive predictive value (precision)", "ppv", f => [f.tp, f.tp + f.fp]],
  ["Negative predictive value", "npv", f => [f.tn, f.tn + f.fn]],
  ["Accuracy", "accuracy", f => [f.tp + f.tn, size]],
  ["Balanced accuracy", "balanced"],
  ["F1", "f1"],
  ["Matthews correlation", "mcc"],
];
const RULES = {
  youden: "Youden's J", f1: "Largest F1", recall: "Sensitivity ≥ {}", fpr: "False positive rate ≤ {}",
  cost: "Minimum cost (false negative = {} × false positive)", default: "Default 0.5",
};
const ruleOf = ({rule, demand}) => [RULES[rule] ?? rule.replaceAll("_", " "), ...(demand === null ? [] : [String(demand)])];
const atThreshold = value => (value === "inf" ? Infinity : value ?? NaN);

// -- tables ----------------------------------------------------------------------------------------

const shade = share => `background: rgba(var(--shade), ${(0.55 * (share || 0)).toFixed(3)})`;

// As long names are cut (report_words.js), with the phrase that holds one.
const headCell = (scope, words) => make("th", {scope, title: words[1]}, make("span", {class: "clamped", t: words}));

// Rows of [name, counts], as a table that a screen reader can read out.
function matrix(caption, heads, rows, kinds) {
  const body = rows.map(([name, counts], row) => {
    const all = counts.reduce((a, b) => a + b, 0);
    const cells = counts.map((count, column) => make("td", {style: shade(count / all)},
      make("b", {}, String(count)), make("span", {class: "share"}, percent(ratio(count, all))),
      ...(kinds ? [make("span", {class: "kind", t: kinds[row][column]})] : [])));
    return make("tr", {}, headCell("row", name), ...cells);
  });
  return make("table", {class: "matrix"},
    make("caption", {t: caption}),
    make("thead", {}, make("tr", {}, make("td", {}), ...heads.map(head => headCell("col", head)))),
    make("tbody", {}, ...body));
}

function oppositeName() {
  if (page.task === "binary") return page.names[0];
  return page.task === "multilabel" ? "absent" : "all others";
}
const positiveName = ranking => (page.task === "multilabel" ? "present" : ranking.name);

function showTables(found) {
  const {ranking} = operating, yes = positiveName(ranking), no = oppositeName();
  find("matrix").replaceChildren(matrix(
    "Rows: true class; columns: predicted class; percentages per row.",
    [["predicted {}", yes], ["predicted {}", no]],
    [[["true {}", yes], [found.tp, found.fn]], [["true {}", no], [found.fp, found.tn]]],
    [["true positives", "false negatives"], ["false positives", "true negatives"]]));
  find("figures-at").replaceChildren(...FIGURES.map(([name, key, parts]) => {
    const [part, whole] = parts?.(found) ?? [];
    return make("tr", {}, make("th", {scope: "row", t: name}), make("td", {"data-figure": key}, number(found[key])),
      make("td", {class: "soft"}, parts ? `${part} / ${whole}` : ""));
  }));
}

function showControl(found) {
  const {threshold} = operating, slider = find("threshold-slider"), box = find("threshold-number");
  const place = Math.min(1, Math.max(0, threshold));
  if (document.activeElement !== slider || Math.abs(slider.value - place) > 0.0005) slider.value = place;
  slider.setAttribute("aria-valuetext", number(threshold));
  if (document.activeElement !== box) box.value = Number.isFinite(threshold) ? number(threshold) : "1";
  say(find("threshold-said"), "At {}: sensitivity {}, specificity {}, positive predictive value {}.",
    number(threshold), number(found.sensitivity), number(found.specificity), number(found.ppv));
  for (const button of find("rules").children)
    button.setAttribute("aria-pressed", String(Number(button.dataset.threshold) === threshold));
}

function showPoints() {
  const {points} = operating.ranking;
  find("points").hidden = !points.length;
  find("points-body").replaceChildren(...points.map(point => make("tr", {},
    make("th", {scope: "row", t: ruleOf(point)}), make("td", {}, number(atThreshold(point.threshold))),
    ...["val", "test"].flatMap(side => ["sensitivity", "specificity"].map(key => make("td", {}, number(point[side][key] ?? NaN)))))));
  const choices = points.some(point => point.rule === "default") ? points : [...points, {rule: "default", demand: null, threshold: 0.5}];
  find("rules").replaceChildren(...choices.map(point => {
    const threshold = atThreshold(point.threshold);
    const button = make("button", {type: "button", t: ruleOf(point), disabled: Number.isNaN(threshold), "data-threshold": threshold});
    button.addEventListener("click", () => moveTo(threshold));
    return button;
  }));
}

// -- figures ---------------------------------------------------------------------------------------

// The threshold's mark: a shape, as those are moved several times faster than traces. In the ink's
// colour: all others stand for classes and figures.
const RADIUS = 7;
const markAt = (x, y) => ({visible: Number.isFinite(x) && Number.isFinite(y), xanchor: x || 0, yanchor: y || 0});
const marker = (x, y) => ({
  type: "circle", name: "current threshold", showlegend: true, xsizemode: "pixel", ysizemode: "pixel", x0: -RADIUS, x1: RADIUS, y0: -RADIUS, y1: RADIUS,
  fillcolor: colour("--ink"), line: {width: 2, color: colour("--page")}, ...markAt(x, y),
});
const lineAt = threshold => ({visible: Number.isFinite(threshold), x0: threshold || 0, x1: threshold || 0});
const line = threshold => ({type: "line", name: "current threshold", showlegend: true, yref: "paper", y0: 0, y1: 1, line: {width: 2, color: colour("--ink")}, ...lineAt(threshold)});
const UNIT = {range: [-0.02, 1.02], dtick: 0.2};
const HEIGHT = 360;

function curve(ranking, kind, own) {
  const {x, y, at} = ranking[kind];
  return {
    type: "scatter", mode: "lines", x, y, customdata: at, name: shown(ranking.name), hovertemplate: kind === "roc" ?
      "false positive rate %{x:.3f}<br>sensitivity %{y:.3f}<br>threshold %{customdata:.4~g}<extra></extra>" :
      "sensitivity %{x:.3f}<br>precision %{y:.3f}<br>threshold %{customdata:.4~g}<extra></extra>",
    line: {color: palette[ranking.output % palette.length], width: own ? 2.5 : 1, shape: kind === "roc" ? "linear" : "vh"}, opacity: own ? 1 : 0.55,
  };
}
const rankings = ranked.map(rank);
const curves = kind => rankings.map(ranking => curve(ranking, kind, ranking === operating.ranking));

function rocFigure(found) {
  const points = operating.ranking.points.filter(point => Number.isFinite(atThreshold(point.threshold)));
  const at = points.map(point => figuresAt(operating.ranking, point.threshold));
  return {
    data: [
      ...curves("roc"),
      {type: "scatter", mode: "lines", x: [0, 1], y: [0, 1], name: "chance", hoverinfo: "skip", line: {dash: "dot", color: "grey", width: 1}},
      {type: "scatter", mode: "markers", name: "rules", x: at.map(f => 1 - f.specificity), y: at.map(f => f.sensitivity),
        text: points.map(point => phrase(...ruleOf(point))), hovertemplate: "%{text}<extra></extra>",
        marker: {symbol: "circle-open", size: 9, color: colour("--soft"), line: {width: 1.5}}},
    ],
    layout: {height: HEIGHT, margin: MARGIN, legend: LEGEND, showlegend: true,
      shapes: [marker(1 - found.specificity, found.sensitivity)],
      xaxis: axis("false positive rate (1 - specificity)", UNIT), yaxis: axis("sensitivity", UNIT)},
  };
}

function recallFigure(found) {
  const share = operating.ranking.positives.length / size;
  return {
    data: [
      ...curves("recall"),
      {type: "scatter", mode: "lines", x: [0, 1], y: [share, share], name: "chance", hoverinfo: "skip", line: {dash: "dot", color: "grey", width: 1}},
    ],
    layout: {height: HEIGHT, margin: MARGIN, legend: LEGEND, showlegend: true,
      shapes: [marker(found.sensitivity, found.ppv)],
      xaxis: axis("sensitivity (recall)", UNIT), yaxis: axis("precision", UNIT)},
  };
}

function histogram(values, bins) {
  const counts = new Array(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.floor(value * bins))]++;
  return counts;
}

function scoresFigure() {
  const {ranking, threshold} = operating, bins = size < 200 ? 20 : 40;
  const sides = [["true {}", oppositeName(), ranking.negatives, page.task === "binary" ? palette[0] : "#8c8c8c"], ["true {}", positiveName(ranking), ranking.positives, palette[ranking.output % palette.length]]];
  const counts = sides.map(side => histogram(side[2], bins)), highest = Math.max(...counts.flat());
  const centres = counts[0].map((_, bin) => (bin + 0.5) / bins);
  return {
    data: [
      ...sides.map(([words, name, , side], number) => ({
        type: "bar", x: centres, y: counts[number], name: phrase(words, shown(name)), opacity: 0.65,
        marker: {color: side}, width: 1 / bins, hovertemplate: "%{x:.3f}: %{y}<extra></extra>",
      })),
    ],
    layout: {height: HEIGHT, margin: MARGIN, legend: LEGEND, barmode: "overlay", bargap: 0, shapes: [line(threshold)],
      xaxis: axis(phrase("predicted probability of {}", shown(ranking.name, 16)), UNIT), yaxis: axis("samples", {range: [0, highest * 1.08 || 1]})},
  };
}

const SHOWN = [["sensitivity", "sensitivity"], ["specificity", "specificity"], ["positive predictive value", "ppv"], ["negative predictive value", "npv"], ["F1", "f1"], ["balanced accuracy", "balanced"]];
const SHOWN_COLOURS = [palette[0], palette[2], palette[3], palette[4], palette[5], "#7a7a7a"];
const GRID = Array.from({length: 201}, (_, step) => step / 200);

function sweepFigure() {
  const {ranking, threshold} = operating, all = GRID.map(at => figuresAt(ranking, at));
  return {
    data: [
      ...SHOWN.map(([name, key], number) => ({
        type: "scatter", mode: "lines", x: GRID, y: all.map(found => found[key]), name, hovertemplate: "%{y:.3f}",
        line: {color: SHOWN_COLOURS[number], width: 2}, visible: key === "f1" || key === "balanced" ? "legendonly" : true,
      })),
    ],
    layout: {height: HEIGHT, margin: MARGIN, legend: LEGEND, hovermode: "x unified", shapes: [{...line(threshold), showlegend: false}],
      xaxis: axis("threshold", UNIT), yaxis: axis("value", UNIT)},
  };
}

// -- moving ----------------------------------------------------------------------------------------

// What moves with the threshold is each figure's shape; while it moves, of the figures in view.
function moveMarkers(found, all) {
  for (const [id, place] of [
    ["plot-roc", markAt(1 - found.specificity, found.sensitivity)],
    ["plot-pr", markAt(found.sensitivity, found.ppv)],
    ["plot-scores", lineAt(operating.threshold)],
    ["plot-sweep", lineAt(operating.threshold)],
  ]) {
    const element = find(id), {top, bottom} = element.getBoundingClientRect();
    if (!drawn.get(element) || (!all && (bottom < 0 || top > innerHeight))) continue;
    Plotly.relayout(element, Object.fromEntries(Object.entries(place).map(([key, value]) => ["shapes[0]." + key, value])));
  }
}

let waiting = 0, resting = 0;
function moveTo(threshold) {
  if (Number.isNaN(threshold)) return;
  operating.threshold = threshold;
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    const found = figuresAt(operating.ranking, operating.threshold);
    showControl(found);
    showTables(found);
    moveMarkers(found, false);
    clearTimeout(resting);
    resting = setTimeout(() => {
      moveMarkers(found, true);
      followers.forEach(follow => follow());
    }, 150);
  });
}

function choose(ranking) {
  operating.ranking = ranking;
  const start = atThreshold(ranking.points[0]?.threshold);
  operating.threshold = Number.isNaN(start) ? 0.5 : start;
  const found = figuresAt(ranking, operating.threshold);
  showPoints();
  showControl(found);
  showTables(found);
  for (const [id, area] of [["roc-area", ranking.area], ["pr-area", ranking.precision]]) find(id).textContent = number(area);
  const now = () => figuresAt(ranking, operating.threshold);
  place(find("plot-roc"), () => rocFigure(now()));
  place(find("plot-pr"), () => recallFigure(now()));
  place(find("plot-scores"), scoresFigure);
  place(find("plot-sweep"), sweepFigure);
  followers.forEach(follow => follow());
}

function allClasses() {
  const counts = page.names.map(() => new Array(width).fill(0));
  for (let sample = 0; sample < size; sample++) counts[target[sample]][likeliest(sample)]++;
  find("all-classes").replaceChildren(matrix(
    "Rows: true class; columns: most likely class; percentages per row.",
    page.names.map(name => ["predicted {}", name]), page.names.map((name, row) => [["true {}", name], counts[row]])));
}
function likeliest(sample) {
  let best = 0;
  for (let output = 1; output < width; output++) if (scoreOf(sample, output) > scoreOf(sample, best)) best = output;
  return best;
}

if (rankings.length) {
  const select = find("ranked");
  rankings.forEach((ranking, place) => select.append(make("option", {value: place}, ranking.name)));
  select.addEventListener("change", () => choose(rankings[select.value]));
  find("threshold-slider").addEventListener("input", event => moveTo(event.target.valueAsNumber));
  find("threshold-number").addEventListener("input", event => moveTo(event.target.valueAsNumber));
  choose(rankings[0]);
  if (page.task === "multiclass") allClasses();
}
