// Where the words of a search are in an element's text. Words are folded as the search folds them: case, accents and
// punctuation don't matter, the last word may be unfinished, and numbers are found however they are grouped.

const MOST_WORDS = 10; // of a search; the service ignores the rest
const TYPED = 3; // letters from which on a last word may be unfinished
const MOST_RANGES = 1_000;
const MOST_TEXT = 300_000; // characters of an element
const MOST_DIGITS = 20;

function fold(text) {
  return text.normalize("NFKD").replace(/[\u0300-\u036f]+/g, "").toLowerCase().replaceAll("ς", "σ");
}

function wordsIn(text) {
  return fold(text).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
}

// Is a word of a text one of those that were searched for? And patterns of their numbers.
function sought(search) {
  const all = wordsIn(search);
  const words = all.length > MOST_WORDS ? [...all.slice(0, MOST_WORDS - 1), all.at(-1)] : all;
  const last = words.at(-1) ?? "";
  const unfinished = /[\p{L}\p{N}]$/u.test(search) && last.length >= TYPED ? last : null;
  const wanted = new Set(words);
  return {
    has: (word) => wanted.has(word) || (unfinished !== null && word.startsWith(unfinished)),
    numbers: numbersAmong(words).map((digits) => grouped(digits, unfinished !== null && digits.endsWith(unfinished))),
  };
}

// Numbers that stand together may be one.
function numbersAmong(words) {
  const runs = words.map((word) => (/^\d+$/.test(word) ? word : " ")).join("").split(/ +/);
  return runs.filter((digits) => digits.length > 1 && digits.length <= MOST_DIGITS);
}

function grouped(digits, isUnfinished) {
  return new RegExp(`(?<!\\d)${[...digits].join("[^\\p{L}\\p{N}]{0,2}")}${isUnfinished ? "" : "(?!\\d)"}`, "gu");
}

export function rangesOf(element, search) {
  const { has, numbers } = sought(search);
  const ranges = [];
  let read = 0;
  for (const node of textsIn(element)) {
    const text = node.data;
    read += text.length;
    if (read > MOST_TEXT || ranges.length >= MOST_RANGES) break;
    for (const found of text.matchAll(/[\p{L}\p{N}\p{M}]+/gu)) if (wordsIn(found[0]).some(has)) ranges.push(rangeOf(node, found));
    for (const number of numbers) for (const found of text.matchAll(number)) ranges.push(rangeOf(node, found));
  }
  return ranges.slice(0, MOST_RANGES);
}

function* textsIn(element) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) if (!walker.currentNode.parentElement.closest("button, .code-head")) yield walker.currentNode;
}

function rangeOf(node, found) {
  const range = new Range();
  range.setStart(node, found.index);
  range.setEnd(node, found.index + found[0].length);
  return range;
}
