// What the server has put into the page: the texts in the reader's language, and a few facts.

export const page = JSON.parse(document.getElementById("page-data").textContent);

// The path under which the service is, such as "/bot"; empty at the root of its host.
export const base = document.documentElement.dataset.base;

const language = page.language;
const whole = new Intl.NumberFormat(language);
const time = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(language, { day: "numeric", month: "short" });
const date = new Intl.DateTimeFormat(language, { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat(language, { dateStyle: "long", timeStyle: "short" });

// A text; {name} in it becomes values.name.
export function t(name, values = {}) {
  return page.texts[name].replace(/\{(\w+)\}/g, (found, key) => String(values[key] ?? found));
}

const seen = new Intl.Segmenter(language); // by characters as people see them

// The beginning of a text: at most so many characters of JavaScript's, the last one whole.
export function beginning(text, most) {
  if (text.length <= most) return text;
  return text.slice(0, seen.segment(text.slice(0, most + 100)).containing(most).index);
}

export function number(value) {
  return whole.format(value);
}

// US dollars: cents, and of what is less as many digits as show something.
export function money(value) {
  const digits = value > 0 ? Math.min(Math.max(2, 1 - Math.floor(Math.log10(value))), 12) : 2;
  const style = { style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, style).format(value);
}

// Today the time, this year the day, before that the date.
export function when(iso) {
  const then = new Date(iso);
  const now = new Date();
  if (then.toDateString() === now.toDateString()) return time.format(then);
  return (then.getFullYear() === now.getFullYear() ? day : date).format(then);
}

export function exactly(iso) {
  return moment.format(new Date(iso));
}
