// The page's data, its elements, and its two languages. User's text enters the page as text only.
const page = JSON.parse(document.getElementById("page-data").textContent);
const find = id => document.getElementById(id);
const root = document.documentElement;

// Written with the same rules in words.py, for the page as it is before this script runs.
const TAGS = {en: "en", zh: "zh-CN"};
const TRANSLATED_ATTRIBUTES = ["aria-label", "placeholder", "title"];
const BETWEEN_SENTENCES = /((?<=\.)(?<!\bal\.)\s+(?=[A-Z0-9]))/;
const names = new Set([page.title, ...page.names, ...page.known, ...page.samples.id, ...page.samples.group]);
// What can stand at a place of an English phrase: any text, a name, a number, a phrase; or a list of such.
const PLACES = /\[\[(.+?)\]\]|\{(name|number|phrase|)\}/g;
const KINDS = {"": "(.*?)", name: "(.*?)", phrase: "(.*?)", number: "((?:[-+]?(?:\\d+(?:[.,]\\d+)*(?:e[-+]?\\d+)?|inf)|nan)%?|undefined)"};
const SEPARATOR = ", ", CHINESE_SEPARATOR = "、";
const literally = text => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

function pattern(english, chinese, isItem = false) {
  const items = Array.from(chinese.matchAll(/\[\[(.+?)\]\]/g), found => found[1]), kinds = [];
  let body = "", at = 0;
  for (const {0: place, 1: item, 2: kind, index} of english.matchAll(PLACES)) {
    body += literally(english.slice(at, index)) + KINDS[kind ?? ""];
    kinds.push(item === undefined ? kind : pattern(item, items.shift(), true));
    at = index + place.length;
  }
  body += literally(english.slice(at));
  // A name may hold a separator, too: what stands behind one has to look like an item.
  return {regex: new RegExp(body + (isItem ? `(?:${SEPARATOR}(?=${body})|$)` : "$"), "sy"), chinese, kinds};
}

const ownWords = phrase => phrase.replace(PLACES, "").length;
const patterns = Object.keys(page.words)
  .filter(phrase => phrase.search(PLACES) >= 0)
  .sort((a, b) => b.includes("{phrase}") - a.includes("{phrase}") || ownWords(b) - ownWords(a))
  .map(phrase => pattern(phrase, page.words[phrase]));
let language = page.language;

function fill(phrase, values) {
  if (!values.length) return phrase;
  let next = 0, filled = "", at = 0;
  for (const {0: place, 1: number, index} of phrase.matchAll(/\{(\d*)\}|\[\[.+?\]\]/g)) {
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

function ofPhrase(text) {
  const trimmed = text.trim();
  if (Object.hasOwn(page.words, trimmed)) return page.words[trimmed];
  for (const known of patterns) {
    const match = matchAt(known, trimmed, 0), said = match && refilled(known, match);
    if (said !== null) return said;
  }
  return null;
}

function matchAt({regex}, text, at) {
  regex.lastIndex = at;
  return regex.exec(text);
}

// The Chinese phrase with what stood in the English one; null where that does not fit.
function refilled({chinese, kinds}, match) {
  const said = kinds.map((kind, place) => valueOf(kind, match[place + 1]));
  return said.includes(null) ? null : fill(chinese, said);
}

function valueOf(kind, text) {
  if (typeof kind !== "string") return eachItem(kind, text);
  if (kind === "name") return text;
  return kind === "phrase" ? ofPhrase(text) : translate(text);
}

function eachItem(item, text) {
  const said = [];
  for (let at = 0; at < text.length;) {
    const match = matchAt(item, text, at);
    said.push(match && refilled(item, match));
    if (said.at(-1) === null) return null;
    at += match[0].length;
  }
  return said.join(CHINESE_SEPARATOR);
}

// A text that was filled elsewhere, and may be a name: as a whole, or sentence by sentence.
function translate(text) {
  if (language === "en" || !text || names.has(text)) return text;
  const parts = text.split(BETWEEN_SENTENCES), sentences = parts.filter((_, place) => place % 2 === 0);
  const said = sentences.map(ofPhrase);
  // Several sentences may be one phrase, where they are not known each by itself.
  if (sentences.length > 1 && said.includes(null)) {
    const whole = ofPhrase(text);
    if (whole !== null) return whole;
  }
  return said.map((sentence, place) => sentence ?? sentences[place] + (parts[2 * place + 1] ?? "")).join("");
}

// A phrase of the catalogue with its values.
function phrase(words, ...values) {
  if (language === "en") return fill(words, values);
  return fill(page.words[words] ?? words, values.map(value => (typeof value === "string" ? translate(value) : value)));
}

// Makes a phrase an element's text, and keeps what it was made from for the other language.
function say(element, words, ...values) {
  element.dataset.t = words;
  if (values.length) element.dataset.v = JSON.stringify(values);
  else delete element.dataset.v;
  element.textContent = phrase(words, ...values);
  return element;
}

// An element: `t` is a phrase (or one with values), other attributes are the element's own; children are nodes or texts.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "t") say(element, ...[value].flat());
    else if (name === "label") label(element, "aria-label", value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// A name of the user's, cut after some lines; whole it is what the pointer and a screen reader find.
const named = (tag, name, attributes = {}) => make(tag, {class: "name", title: name, ...attributes}, make("span", {class: "clamped"}, name));

function label(element, attribute, words) {
  element.setAttribute("data-t-" + attribute, words);
  element.setAttribute(attribute, translate(words));
}

function speak() {
  root.lang = TAGS[language];
  document.title = phrase("{} - Scanfire report", page.title);
  for (const element of document.querySelectorAll("[data-t]")) {
    const {t, v} = element.dataset;
    element.textContent = phrase(t, ...(v ? JSON.parse(v) : []));
  }
  for (const element of document.querySelectorAll("[data-s]")) element.textContent = translate(element.dataset.s);
  for (const attribute of TRANSLATED_ATTRIBUTES)
    for (const element of document.querySelectorAll(`[data-t-${attribute}]`))
      element.setAttribute(attribute, translate(element.getAttribute("data-t-" + attribute)));
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
