// The sample explorer: one patient's scans, what the score rests on, and what was said.
const explorer = page.explorer;
const numberOf = new Map(page.samples.id.map((id, sample) => [id, sample]));
const current = {sample: null, part: "all", output: 0, hidden: new Set()};
// Of the output that is chosen on the page; undefined of a sample that was not explained.
const explainedOf = entry => entry.attributions?.[current.output];
const SCORES = {logit: "the logit of {}", log_odds: "the log-odds of {}"};
let packed = null; // parsed when the first sample is opened

function samplesData() {
  if (packed === null) {
    packed = JSON.parse(find("samples-data").textContent);
    packed.axis = singles(packed.axis);
  }
  return packed;
}

// Blue and orange are those of attributions here: lower, raise.
const LOWERS = palette[0], RAISES = palette[1];
const SCAN_COLOURS = [palette[2], palette[3], palette[5], palette[4], "#8c8c8c"], DASHES = ["solid", "dash", "dot", "dashdot"];
const scanColour = scan => SCAN_COLOURS[scan % SCAN_COLOURS.length];
const scanDash = scan => Math.floor(scan / SCAN_COLOURS.length) % DASHES.length;

// -- unpacking (report_payload.py says how it is packed) ---------------------------------------------

function scansOf(entry, points) {
  const levels = bytes(entry.scans);
  return entry.low.map((low, scan) => Array.from(levels.subarray(scan * points, (scan + 1) * points),
    level => low + entry.spread[scan] * (level / 255) ** 2));
}

function attributionOf(attribution, points, part) {
  const levels = new Int8Array(bytes(attribution.scans).buffer), rows = levels.length / points;
  const found = new Array(points).fill(0);
  for (let scan = 0; scan < rows; scan++) {
    if (part !== "all" && Number(part) !== scan) continue;
    for (let point = 0; point < points; point++) {
      const level = levels[scan * points + point] / 127;
      found[point] += attribution.top * level * Math.abs(level);
    }
  }
  return found;
}

// -- the figure --------------------------------------------------------------------------------------

function sampleFigure() {
  const data = samplesData(), entry = data.samples[page.samples.id[current.sample]], points = data.axis.length;
  const x = Array.from(data.axis), attribution = explainedOf(entry), explained = Boolean(attribution);
  const traces = scansOf(entry, points).map((y, scan) => ({
    type: "scatter", mode: "lines", x, y, name: phrase("scan {}", scan + 1), opacity: 0.8,
    visible: current.hidden.has(scan) ? "legendonly" : true,
    line: {width: 1.2, color: scanColour(scan), dash: DASHES[scanDash(scan)]},
    hovertemplate: `${escaped(data.axis_name)} %{x:.5g}: %{y:.4g}`,
  }));
  if (explained) {
    const given = attributionOf(attribution, points, current.part), score = shown(page.names[attribution.target]);
    for (const [words, side, fillColour] of [["raises the score of {}", 1, RAISES], ["lowers the score of {}", -1, LOWERS]])
      traces.push({
        type: "scatter", mode: "lines", x, y: given.map(value => (side * value > 0 ? value : 0)), name: phrase(words, score), yaxis: "y2",
        fill: "tozeroy", line: {width: 1, color: fillColour}, hovertemplate: `${escaped(data.axis_name)} %{x:.5g}: %{y:.3g}`,
      });
  }
  return {
    data: traces,
    layout: {
      height: explained ? 520 : 380, margin: MARGIN, legend: LEGEND, showlegend: true, hovermode: "closest",
      xaxis: axis(escaped(data.axis_name), {anchor: explained ? "y2" : "y", exponentformat: "none"}),
      yaxis: axis("intensity", {domain: explained ? [0.4, 1] : [0, 1], rangemode: "tozero", exponentformat: "SI"}),
      ...(explained ? {yaxis2: axis("attribution", {domain: [0, 0.34], zeroline: true})} : {}),
      uirevision: String(current.sample),
    },
  };
}

// -- tables ------------------------------------------------------------------------------------------

const bar = (share, background) => make("span", {class: "bar", "aria-hidden": "true"}, make("i", {style: `width: ${(100 * share).toFixed(1)}%; background: ${background}`}));

function showPrediction(sample) {
  const row = rowOf(sample), facts = [["group", row.group, false], ["scans", row.scans === null ? NOTHING : String(row.scans), false]];
  if (classes) facts.unshift(["true", row.truth, true], ["predicted", row.said, true]);
  find("sample-facts").replaceChildren(...facts.flatMap(([words, value, marked]) =>
    [make("dt", {t: words}), make("dd", {class: marked && row.truth !== row.said ? "wrong" : null}, value)]));
  const heads = regression ? ["", "true", "predicted", "error"] : page.task === "multilabel" ? ["", "true", "probability", ""] : ["", "probability", ""];
  const lines = page.names.map((name, output) => {
    const score = scoreOf(sample, output), truth = target[sample * (classes ? 1 : width) + (classes ? 0 : output)];
    const head = named("th", name, {scope: "row"});
    if (regression) return make("tr", {}, head, ...[significant(truth, 4), significant(score, 4), signed(score - truth)].map(text => make("td", {}, text)));
    const bars = make("td", {class: "bars"}, bar(score, palette[output % palette.length]));
    if (classes) return make("tr", {class: truth === output ? "truth" : null}, head, make("td", {}, number(score)), bars);
    return make("tr", {}, head, make("td", {t: truth > 0 ? "present" : "absent"}), make("td", {}, number(score)), bars);
  });
  find("sample-scores").replaceChildren(make("thead", {}, make("tr", {}, ...heads.map(head => (head ? make("th", {scope: "col", t: head}) : make("td"))))), make("tbody", {}, ...lines));
}

function showScans(entry) {
  const largest = Math.max(...(entry.weights ?? [1]));
  const rows = entry.low.map((_, scan) => {
    const box = make("input", {type: "checkbox", checked: !current.hidden.has(scan)});
    box.addEventListener("change", () => {
      if (box.checked) current.hidden.delete(scan);
      else current.hidden.add(scan);
      Plotly.restyle(find("plot-sample"), {visible: box.checked ? true : "legendonly"}, [scan]);
    });
    const swatch = make("span", {class: "swatch", style: `border-top: 3px ${["solid", "dashed", "dotted", "dashed"][scanDash(scan)]} ${scanColour(scan)}`});
    const cells = entry.weights ? [make("td", {}, number(entry.weights[scan])), make("td", {class: "bars"}, bar(entry.weights[scan] / largest, scanColour(scan)))] : [];
    return make("tr", {}, make("th", {scope: "row"}, make("label", {}, box, swatch, make("span", {t: ["scan {}", scan + 1]}))), ...cells);
  });
  find("sample-scans").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", {scope: "col", t: "shown"}), ...(entry.weights ? [make("th", {scope: "col", t: "weight"}), make("td")] : []))),
    make("tbody", {}, ...rows));
  say(find("sample-scans-note"), entry.weights ? "Attention weight of each scan." : "The model has no weights per scan.");
}

function showCovariates(id, entry, data) {
  const given = explainedOf(entry)?.covariates, values = data.values[id] ?? [];
  const order = data.covariates.map((_, place) => place);
  if (given) order.sort((a, b) => Math.abs(given[b]) - Math.abs(given[a]));
  const most = given ? Math.max(...given.map(Math.abs), Number.MIN_VALUE) : 1;
  find("sample-covariates").replaceChildren(
    make("thead", {}, make("tr", {}, ...["covariate", "value", ...(given ? ["contribution"] : [])].map(head => make("th", {scope: "col", t: head, class: head === "contribution" ? null : "name"})), ...(given ? [make("td")] : []))),
    make("tbody", {}, ...order.map(place => make("tr", {},
      named("th", data.covariates[place], {scope: "row"}),
      values[place] ? named("td", values[place]) : make("td", {class: "name soft", t: "missing"}),
      ...(given ? [make("td", {}, signed(given[place])), make("td", {class: "bars"}, make("span", {class: given[place] < 0 ? "fork minus" : "fork", "aria-hidden": "true"},
        make("i", {style: `width: ${(50 * Math.abs(given[place]) / most).toFixed(1)}%; background: ${given[place] < 0 ? LOWERS : RAISES}`})))] : [])))));
}

function showSum(entry, data) {
  const attribution = explainedOf(entry), element = find("sample-sum"), gap = attribution?.gap ?? null;
  find("sample-gap").hidden = gap === null;
  if (gap !== null) say(find("sample-gap"), "Completeness error: {}.", significant(Math.abs(gap), 2));
  if (!attribution) return say(element, data.explained ? "No attributions of this sample: they were computed for {} samples." : "No attributions were computed.", data.explained);
  const what = [regression ? "the prediction of {}" : SCORES[data.score], page.names[attribution.target]];
  const parts = [what, signed(attribution.spectra_sum), signed(attribution.covariates.reduce((a, b) => a + b, 0))];
  if (attribution.change === null) return say(element, "Attribution of {}: spectra {}, covariates {}.", ...parts);
  const start = data.method === "gradient_shap" ? "Relative to random other samples, the spectra change {} by {} and the covariates by {}; in total by {}." :
    "Relative to an input of zeros, the spectra change {} by {} and the covariates by {}; in total by {}.";
  return say(element, start, ...parts, signed(attribution.change));
}

// -- opening -----------------------------------------------------------------------------------------

function open(sample) {
  current.sample = sample;
  current.hidden.clear();
  const id = page.samples.id[sample], data = samplesData(), entry = data.samples[id];
  find("sample-name").textContent = id;
  find("sample-search").value = id;
  showPrediction(sample);
  showPosition();
  find("sample-drawn").hidden = !entry;
  find("sample-missing").hidden = Boolean(entry);
  if (!entry) return;
  const part = find("sample-part"), scans = entry.low.length;
  part.replaceChildren(make("option", {value: "all", t: "all scans together"}), ...(scans > 1 ? entry.low.map((_, scan) => make("option", {value: scan, t: ["scan {}", scan + 1]})) : []));
  if (current.part !== "all" && Number(current.part) >= scans) current.part = "all";
  part.value = current.part;
  find("sample-explained").hidden = !entry.attributions;
  showScans(entry);
  showCovariates(id, entry, data);
  showSum(entry, data);
  place(find("plot-sample"), sampleFigure);
}

// The same output in the figures of importance and in the explorer.
function chooseOutput(number) {
  current.output = number;
  for (const select of document.querySelectorAll(".explained-output")) select.value = number;
  for (const piece of document.querySelectorAll("[data-choice]")) {
    piece.hidden = Number(piece.dataset.choice) !== number;
    // A figure that was drawn anew while it was hidden has lost its width.
    if (!piece.hidden) for (const plot of piece.querySelectorAll(".plot")) if (drawn.get(plot)) draw(plot);
  }
  const entry = explorer && current.sample !== null && samplesData().samples[page.samples.id[current.sample]];
  if (!entry) return;
  showCovariates(page.samples.id[current.sample], entry, samplesData());
  showSum(entry, samplesData());
  draw(find("plot-sample"));
}
for (const select of document.querySelectorAll(".explained-output"))
  select.addEventListener("change", () => chooseOutput(Number(select.value)));

function showPosition() {
  const at = table.shown.findIndex(row => row.sample === current.sample);
  say(find("sample-position"), at < 0 ? "not in the table as it is filtered" : "{} of {} in the table's order", at + 1, table.shown.length);
  find("sample-before").disabled = at === 0 || !table.shown.length;
  find("sample-after").disabled = at === table.shown.length - 1 || !table.shown.length;
}

function step(by) {
  const at = table.shown.findIndex(row => row.sample === current.sample);
  const next = table.shown[at < 0 ? 0 : at + by];
  if (next) go(next.id, false);
}

// The address names the sample, so that it can be handed on; the page only moves there when it was asked to.
function go(id, scroll) {
  if (!numberOf.has(id)) return;
  history.replaceState(null, "", "#sample=" + encodeURIComponent(id));
  open(numberOf.get(id));
  if (scroll) {
    find("explorer").scrollIntoView();
    find("explorer-heading").focus({preventScroll: true});
  }
}

function idOfAddress() {
  if (!location.hash.startsWith("#sample=")) return null;
  try { return decodeURIComponent(location.hash.slice("#sample=".length)); } catch { return null; }
}

if (explorer) {
  find("sample-list").append(...page.samples.id.map(id => make("option", {value: id})));
  find("sample-search").addEventListener("change", event => go(event.target.value, false));
  find("sample-before").addEventListener("click", () => step(-1));
  find("sample-after").addEventListener("click", () => step(1));
  find("sample-part").addEventListener("change", event => { current.part = event.target.value; draw(find("plot-sample")); });
  find("explorer").addEventListener("keydown", event => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (by) { event.preventDefault(); step(by); }
  });
  addEventListener("hashchange", () => { const id = idOfAddress(); if (id !== null) go(id, true); });
  onOrder = () => { if (current.sample !== null) { showPosition(); showPrediction(current.sample); } };
  const asked = idOfAddress();
  const openWorst = () => { if (current.sample === null && table.rows.length) open((table.shown[0] ?? table.rows[0]).sample); };
  if (asked !== null && numberOf.has(asked)) go(asked, true);
  // Many samples take some time to read; it is taken when somebody comes to see them.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some(entry => entry.isIntersecting)) return;
    observer.disconnect();
    openWorst();
  }, {rootMargin: "600px 0px"}).observe(find("explorer"));
  beforePaper.push(openWorst);
}
