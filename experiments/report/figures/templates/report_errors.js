// The table of samples: the one that the model was most wrong about first; a row opens the sample.
const PAGE_ROWS = 50;
const regression = page.task === "regression";
const table = {rows: [], shown: [], key: regression ? "missed" : "probability", ascending: !regression, first: 0};

const COLUMNS = [
  ["id", "sample"], ["group", "group"], ["truth", "true"], ["said", "predicted"],
  ...(regression ? [["error", "error"], ["missed", "absolute error"]] : [["probability", "probability of the true class"], ["margin", "margin"]]),
  ["scans", "scans"],
];
const NUMBERS = new Set(["probability", "margin", "error", "missed", "scans", ...(regression ? ["truth", "said"] : [])]);

// One row, of what is chosen now: a threshold, a class against the rest, a label, a target.
function rowOf(sample) {
  const row = {sample, id: page.samples.id[sample], group: page.samples.group[sample], scans: page.samples.scans[sample]};
  if (regression) {
    const output = Number(find("regressed").value), truth = target[sample * width + output], said = scoreOf(sample, output);
    return {...row, truth, said, error: said - truth, missed: Math.abs(said - truth)};
  }
  const {ranking, threshold} = operating;
  const positive = ranking && isPositive(sample, ranking.output), called = ranking && scoreOf(sample, ranking.output) >= threshold;
  const wrong = Boolean(ranking) && positive !== called;
  if (page.task === "multilabel") {
    const score = ranking ? scoreOf(sample, ranking.output) : NaN;
    return {...row, wrong, truth: positive ? "present" : "absent", said: called ? "present" : "absent",
      probability: positive ? score : 1 - score, margin: positive ? score - threshold : threshold - score};
  }
  const truth = target[sample], probability = scoreOf(sample, truth);
  if (page.task === "binary") {
    const score = scoreOf(sample, 1);
    return {...row, wrong, truth: page.names[truth], said: page.names[Number(score >= threshold)], probability,
      margin: truth === 1 ? score - threshold : threshold - score};
  }
  const said = likeliest(sample);
  let other = 0;
  for (let output = 0; output < width; output++) if (output !== truth) other = Math.max(other, scoreOf(sample, output));
  return {...row, wrong, mistaken: said !== truth, truth: page.names[truth], said: page.names[said], probability, margin: probability - other};
}

function compare(a, b) {
  const [x, y] = [a[table.key], b[table.key]];
  if (!NUMBERS.has(table.key)) return x.localeCompare(y, undefined, {numeric: true});
  return Number.isNaN(x) - Number.isNaN(y) || x - y;
}

function fillTable() {
  table.rows = page.samples.id.map((_, sample) => rowOf(sample));
  arrange();
}

function arrange() {
  const wanted = find("errors-filter").value.trim().toLowerCase();
  const onlyWrong = find("errors-only")?.checked, onlyMistaken = find("errors-mistaken")?.checked;
  const spoken = row => [row.id, row.group, ...(regression ? [] : [row.truth, row.said].map(text => translate(text)))];
  table.shown = table.rows.filter(row => (!onlyWrong || row.wrong) && (!onlyMistaken || row.mistaken)
    && (!wanted || spoken(row).some(text => text.toLowerCase().includes(wanted))));
  table.shown.sort((a, b) => (table.ascending ? compare(a, b) : compare(b, a)) || a.sample - b.sample);
  table.first = Math.min(table.first, Math.max(0, Math.floor((table.shown.length - 1) / PAGE_ROWS) * PAGE_ROWS));
  showRows();
  onOrder?.();
}

function cell(row, key) {
  const value = row[key];
  if (key === "id") {
    const text = page.explorer ? make("a", {href: "#sample=" + encodeURIComponent(value)}, value) : value;
    return make("th", {scope: "row", class: "name", title: value}, make("span", {class: "clamped"}, text));
  }
  if (key === "scans") return make("td", {}, value === null ? NOTHING : String(value));
  if (NUMBERS.has(key)) return make("td", {}, regression ? (key === "error" ? signed(value) : significant(value, 4)) : number(value));
  // Present and absent are words of the page, classes are names.
  if (page.task === "multilabel" && key !== "group") return make("td", {class: "name", t: value});
  return named("td", value);
}

function showRows() {
  const {first, shown: rows} = table, last = Math.min(first + PAGE_ROWS, rows.length);
  find("errors-body").replaceChildren(...rows.slice(first, last).map(row =>
    make("tr", {class: row.wrong || row.mistaken ? "wrong" : null, "data-sample": row.id}, ...COLUMNS.map(([key]) => cell(row, key)))));
  say(find("errors-count"), rows.length ? "{} to {} of {} samples" : "No matching sample.", first + 1, last, rows.length);
  find("errors-before").disabled = first === 0;
  find("errors-after").disabled = last === rows.length;
  for (const head of find("errors-head").children) {
    const sorted = head.dataset.key === table.key;
    if (sorted) head.setAttribute("aria-sort", table.ascending ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
}

function sortBy(key) {
  table.ascending = table.key === key ? !table.ascending : key !== "missed";
  table.key = key;
  table.first = 0;
  arrange();
}

let onOrder = null; // the explorer goes through the samples in the table's order
if (outcome && (regression || rankings.length)) {
  find("errors-head").append(...COLUMNS.map(([key, words]) => {
    const button = make("button", {type: "button", t: words});
    button.addEventListener("click", () => sortBy(key));
    return make("th", {scope: "col", "data-key": key, class: NUMBERS.has(key) ? null : "name"}, button);
  }));
  find("errors-filter").addEventListener("input", () => { table.first = 0; arrange(); });
  for (const id of ["errors-only", "errors-mistaken"]) find(id)?.addEventListener("change", () => { table.first = 0; arrange(); });
  for (const [id, step] of [["errors-before", -PAGE_ROWS], ["errors-after", PAGE_ROWS]])
    find(id).addEventListener("click", () => { table.first += step; showRows(); });
  find("errors-body").addEventListener("click", event => {
    const row = event.target.closest("tr"), link = event.target.closest("a");
    // Marked text is no click, and a link can be opened elsewhere.
    if (!page.explorer || !row || (!link && String(getSelection())) || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const address = "#sample=" + encodeURIComponent(row.dataset.sample);
    if (location.hash === address) go(row.dataset.sample, true);
    else location.hash = address;
  });
  find("regressed")?.addEventListener("change", fillTable);
  followers.push(fillTable);
  fillTable();
}
