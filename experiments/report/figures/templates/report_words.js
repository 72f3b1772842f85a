// The page's data, its elements, and its two languages. User's text enters the page as text only.
const page = JSON.parse(document.getElementById("page-data").textContent);
const find = id => document.getElementById(id);
const root = document.documentElement;

// Written with the same rules in words.py, for the page as it is before this script runs.
const TAGS = {en: "en", zh: "zh-CN"};
const TRANSLATED_ATTRIBUTES = ["aria-label", "placeholder", "title"];
const names = new Set([page.title, ...page.names, ...page.known ?? [], ...page.samples?.id ?? [], ...page.samples?.group ?? []]);
let language = page.language;

function fill(phrase, values) {
  if (!values.length) return phrase;
  let next = 0, filled = "", at = 0;
  for (const {0: place, 1: number, index} of phrase.matchAll(/\{(\d*)\}/g)) {
    filled = joined(joined(filled, phrase.slice(at, index)), String(values[number ? Number(number) : next++]));
    at = index + place.length;
  }
  return joined(filled, phrase.slice(at));
}

// A space parts Chinese from Latin letters, not Chinese from Chinese.
const CHINESE = /^[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]/;
function joined(left, right) {
  if (CHINESE.test(left.slice(-1)) && right[0] === " " && CHINESE.test(right.slice(1))) return left + right.slice(1);
  if (left.endsWith(" ") && CHINESE.test(left.slice(-2)) && CHINESE.test(right)) return left.slice(0, -1) + right;
  return left + right;
}

// A whole text of the page or of a figure, which may be a name.
const chinese = text => (names.has(text) ? text : page.words[text] ?? text);
const translate = text => (language === "en" ? text : chinese(text));

// All texts of a figure in the page's language; what is no phrase of the page stays as it is, or becomes `other`.
const TEXTS = new Set(["text", "name", "title", "label", "ticktext", "categoryarray", "hovertemplate", "hovertext", "x", "y", "labels", "texttemplate", "ticksuffix"]);
function spoken(value, key, other = text => text) {
  if (typeof value === "string") return TEXTS.has(key) ? translate(value) : other(value);
  if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(item => spoken(item, key, other));
  if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, spoken(item, name, other)]));
}

// A phrase of the catalogue with its values: names, numbers, phrases, or a list of a phrase and its values.
function inLanguage(tongue, words, ...values) {
  const said = values.map(value => (Array.isArray(value) ? inLanguage(tongue, ...value) : value));
  if (tongue === "en") return fill(words, said);
  return fill(page.words[words] ?? words, said.map(value => (typeof value === "string" ? chinese(value) : value)));
}
const phrase = (words, ...values) => inLanguage(language, words, ...values);

// Makes a phrase an element's text, in both languages.
function say(element, words, ...values) {
  for (const tongue of Object.keys(TAGS)) element.dataset[tongue] = inLanguage(tongue, words, ...values);
  element.textContent = element.dataset[language];
  return element;
}

// An element: `t` is a phrase (or one with values), other attributes are the element's own; children are nodes or texts.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "t") say(element, ...[value].flat());
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// A name of the user's, cut after some lines; whole it is what the pointer and a screen reader find.
const named = (tag, name, attributes = {}) => make(tag, {class: "name", title: name, ...attributes}, make("span", {class: "clamped"}, name));

function speak() {
  root.lang = TAGS[language];
  document.title = phrase(page.heading, page.title);
  for (const element of document.querySelectorAll("[data-en]")) element.textContent = element.dataset[language];
  for (const attribute of TRANSLATED_ATTRIBUTES)
    for (const element of document.querySelectorAll(`[data-en-${attribute}]`))
      element.setAttribute(attribute, element.getAttribute(`data-${language}-${attribute}`));
  const button = find("language");
  button.lang = language === "en" ? TAGS.zh : TAGS.en;
  button.textContent = language === "en" ? "中文" : "English";
}

// Choices outlive the page where the browser lets a page from the disk keep them.
function remember(key, value) {
  try { localStorage.setItem("scanfire-" + key, value); } catch { /* not here */ }
}
function remembered(key) {
  try { return localStorage.getItem("scanfire-" + key); } catch { return null; }
}

// Plotly's own buttons.
Plotly.register({moduleType: "locale", name: "zh-CN", dictionary: page.words, format: {}});

// `redraw` is the page's own.
find("language").addEventListener("click", () => {
  language = language === "en" ? "zh" : "en";
  remember("language", language);
  speak();
  redraw();
});

const MINUS = "−", NOTHING = "–";
// Shares and what is between -1 and 1; what is not 0 or 1 never looks as if it were (engine/figure_format.py).
function number(value, digits = 3) {
  if (!Number.isFinite(value)) return NOTHING;
  let text = value.toFixed(digits);
  const size = Math.abs(value), told = Math.abs(Number(text));
  if (size > 0 && told === 0) text = value.toExponential(1);
  if (size < 1 && told === 1) text = value.toFixed(Math.ceil(-Math.log10(1 - size)));
  return text.replace(/^-(?=.*[1-9])/, MINUS).replace(/^-/, "");
}
// With so many significant digits, whatever the unit; an exponent where engine/figure_format.py writes one.
function significant(value, digits = 3) {
  if (!Number.isFinite(value)) return NOTHING;
  const rounded = Number(value.toPrecision(digits)), size = Math.abs(rounded);
  const text = size > 0 && (size < 1e-3 || size >= 1e6) ? rounded.toExponential() : String(rounded);
  return text.replace(/^-/, MINUS);
}
const signed = value => (value > 0 ? "+" : "") + significant(value);
const percent = share => (Number.isFinite(share) ? (100 * share).toFixed(1) + " %" : NOTHING);

// Arrays travel as little-endian bytes.
function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}
const doubles = text => new Float64Array(bytes(text).buffer);
const singles = text => new Float32Array(bytes(text).buffer);
