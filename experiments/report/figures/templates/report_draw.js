// Figures: drawn when they come into view, in the page's language and colours, and on paper.
const {palette} = page;
const colour = name => getComputedStyle(root).getPropertyValue(name).trim();
const makers = new Map(); // element -> what makes its figure
let dark = false;
const drawn = new Map(); // element -> whether it was in view yet

// Plotly reads a little HTML in every text (figure_page.py); names are shown as they are, and short.
function shown(name, longest = 32) {
  let text = String(name).replace(/\s+/g, " ").trim();
  if (text.length > longest) {
    const ending = Math.floor((longest - 1) / 2);
    text = text.slice(0, longest - 1 - ending) + "…" + text.slice(text.length - ending);
  }
  return escaped(text);
}
const escaped = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("%{", "%&#123;");

for (const name of [...names]) for (const longest of [32, 16]) names.add(shown(name, longest));

// The darker colours of the palette, lighter where the page is dark.
const IN_DARK = {"#0072B2": "#4a9fdb", "#D55E00": "#e57a3c", "#009E73": "#22b48b"};
const isDark = () => getComputedStyle(root).colorScheme === "dark";
const inDark = value => (dark && IN_DARK[value]) || value;

function inColours(layout) {
  const ink = colour("--ink"), line = colour("--line"), paper = colour("--page");
  const found = {
    ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", uirevision: "keep", separators: ".",
    font: {family: getComputedStyle(document.body).fontFamily, size: 13, ...layout.font, color: ink},
    hoverlabel: {bgcolor: paper, bordercolor: line, font: {color: ink}, ...layout.hoverlabel},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: ink},
    // Below the axis' title, however many lines it takes.
    legend: {...layout.legend, yref: "container", y: 0, yanchor: "bottom", x: 0, xanchor: "left"},
  };
  for (const axis of Object.keys(found).filter(key => /^[xy]axis\d*$/.test(key)))
    found[axis] = {automargin: true, ...found[axis], title: {standoff: 8, ...found[axis].title}, gridcolor: line, linecolor: line, zerolinecolor: line};
  return found;
}

// Several plots side by side need some width; there the reader scrolls the figure, not the page.
const sideBySide = layout => Object.entries(layout).some(([key, axis]) => /^xaxis\d*$/.test(key) && axis.domain?.[0] > 0.2);

function draw(element) {
  const made = makers.get(element)();
  dark = isDark();
  const {data, layout} = spoken(made, "", inDark);
  element.classList.toggle("broad", sideBySide(layout));
  Plotly.react(element, data, inColours(layout), {...page.config, locale: root.lang});
  drawn.set(element, true);
}

const inView = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) {
    if (!isIntersecting || drawn.get(target)) continue;
    inView.unobserve(target);
    draw(target);
  }
}, {rootMargin: "300px 0px"});

// `maker` returns {data, layout} anew each time: Plotly writes into what it is given.
function place(element, maker) {
  makers.set(element, maker);
  if (drawn.get(element)) { draw(element); return; }
  drawn.set(element, false);
  inView.observe(element);
}
function redraw() {
  for (const [element, done] of drawn) if (done) draw(element);
}
function drawAll() {
  for (const [element, done] of drawn) if (!done && element.offsetParent !== null) draw(element);
}

const axis = (title, more = {}) => ({title: {text: title}, zeroline: false, ...more});
const LEGEND = {orientation: "h", itemsizing: "constant"};
const MARGIN = {l: 56, r: 16, t: 12, b: 48};

// -- figures that were made with the page ----------------------------------------------------------

for (const element of document.querySelectorAll(".plot[data-figure]")) {
  const text = find(element.dataset.figure).textContent;
  place(element, () => JSON.parse(text));
}

const SIDE_STYLES = {train: {color: palette[1], dash: "dash"}, val: {color: palette[0], dash: "solid"}, other: {color: palette[2], dash: "solid"}};
for (const panel of page.panels) place(find(panel.id), () => {
  const rate = panel.title === "lr", highest = Math.max(0, ...panel.lines.flatMap(line => line.values));
  return {
    data: panel.lines.map(line => ({
      type: "scatter", x: line.epochs, y: line.values, name: line.name, showlegend: false,
      mode: line.epochs.length > 40 ? "lines" : "lines+markers", marker: {size: 4},
      line: {width: 2, ...SIDE_STYLES[line.side]}, hovertemplate: "%{y:.4g}",
    })),
    layout: {
      height: 190, margin: {...MARGIN, b: 24}, hovermode: "x unified",
      xaxis: {zeroline: false, rangemode: "tozero"},
      yaxis: {zeroline: false, exponentformat: "e", ...(rate && highest > 0 ? {range: [0, 1.05 * highest]} : {})},
    },
  };
});

// -- colours, paper --------------------------------------------------------------------------------

const THEMES = {auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark"};
function wear(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  find("theme").dataset.theme = theme;
  say(find("theme"), THEMES[theme]);
}
find("theme").addEventListener("click", event => {
  const all = Object.keys(THEMES);
  const next = all[(all.indexOf(event.currentTarget.dataset.theme) + 1) % all.length];
  remember("theme", next);
  wear(next);
  redraw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// Paper is light and narrow, and shows what was never scrolled to.
let onScreen = null;
const beforePaper = []; // called first: what they show is drawn too
addEventListener("beforeprint", () => {
  onScreen ??= find("theme").dataset.theme;
  root.dataset.theme = "light";
  root.classList.add("on-paper");
  for (const prepare of beforePaper) prepare();
  drawAll();
  redraw();
});
addEventListener("afterprint", () => {
  root.classList.remove("on-paper");
  wear(onScreen ?? "auto");
  onScreen = null;
  redraw();
});
find("print").addEventListener("click", () => print());
