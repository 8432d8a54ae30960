// What of a text is markup. CommonMark takes many a sign for markup that people mean as it is: 5*3*2, 2~3 days, >= 5,
// a path's backslash, a formula. Here a sign is markup only where little else can be meant; else it stays in the text.

import { Tokenizer } from "../vendor/marked/marked.esm.js";

const own = Tokenizer.prototype;

// Formulas

const WITHIN = String.raw`(?:(?!\n[ \t]*\n)[\s\S])`; // a formula has no empty line
const DISPLAYED = String.raw`\$\$(?!\$)${WITHIN}+?\$\$|\\\[${WITHIN}*?\\\]|\\begin\{(\w+\*?)\}${WITHIN}*?\\end\{\1\}`;
const IN_A_LINE = String.raw`\\\(${WITHIN}*?\\\)|\$(?![\s$])(?:\\.|[^$\\\n${"`"}]){1,200}(?<!\s)\$(?![\p{L}\p{N}$])`;
const FORMULA = new RegExp(`^(?:${DISPLAYED}|${IN_A_LINE})`, "u");
const FORMULAS = new RegExp(String.raw`\\\\|${DISPLAYED}|${IN_A_LINE}`, "gu");
const BLOCK = new RegExp(`^ {0,3}(?:${DISPLAYED})[^\\n]*`, "u");
const CLOSING = /\\[)\]]|\\end\{|\$/;
const LONGEST = 2000; // characters in which a formula is looked for
const WORD = 200; // characters in which a word is looked for

// Between single dollars stand sums of money too, and words.
function isFormula(text) {
  if (text[0] !== "$" || text[1] === "$") return true;
  return !/\p{L}{4}/u.test(text.replace(/\\[a-z]+|\{[^}]*\}/gi, ""));
}

// The end of what came before.
function before(tokens) {
  let text = "";
  for (let place = tokens.length - 1; place >= 0 && text.length < WORD; place -= 1) text = tokens[place].raw + text;
  return text.slice(-WORD);
}

const formula = {
  name: "formula",
  level: "inline",
  start: (text) => text.search(/[$\\]/),
  tokenizer(text, tokens) {
    if (!/^[$\\]/.test(text) || !CLOSING.test(text)) return undefined;
    const raw = FORMULA.exec(text.slice(0, LONGEST))?.[0];
    const inWord = raw?.[0] === "$" && /[\p{L}\p{N}$]$/u.test(before(tokens)); // R$, US$
    return raw && !inWord && isFormula(raw) ? { type: "formula", raw } : undefined;
  },
};

const formulaBlock = {
  name: "formulaBlock",
  level: "block",
  start: (text) => text.split(/\n[ \t]*\n/, 1)[0].search(/(?<=\n) {0,3}(?:\$\$|\\\[|\\begin\{)/),
  tokenizer(text) {
    if (!/^ {0,3}[$\\]/.test(text)) return undefined;
    const raw = BLOCK.exec(text)?.[0];
    return raw ? { type: "paragraph", raw, text: raw.trimEnd(), tokens: this.lexer.inline(raw.trimEnd()) } : undefined;
  },
};

// Backslashes

const PATH = /\\[\p{L}\p{N}]|\b[a-z]:\\|%\w+%\\|^\.{1,2}\\|¯\\/iu; // also a regular expression, or a command of LaTeX

// Whether a backslash takes away the meaning of the sign after it, and is not meant itself.
function isEscape(sign, word, whole) {
  if (PATH.test(whole)) return false;
  if ("*_~`#|<>$!".includes(sign)) return true;
  return "-+=".includes(sign) ? /^(?:\\[-+=])*$/.test(word) : ".)".includes(sign) && /^\d+$/.test(word);
}

const backslash = {
  name: "backslash",
  level: "inline",
  tokenizer(text, tokens) {
    const [raw, sign] = /^\\([!-/:-@[-`{-~])/.exec(text) ?? [];
    if (!raw) return undefined;
    const word = before(tokens).split(/\s/).at(-1);
    if (isEscape(sign, word, word + text.slice(0, WORD).split(/\s/)[0])) return undefined;
    return { type: "text", raw, text: raw };
  },
};

// Emphasis

const UNSPACED = "\\p{sc=Han}\\p{sc=Hira}\\p{sc=Kana}\\p{sc=Hang}\\p{sc=Thai}\\p{sc=Laoo}\\p{sc=Khmr}\\p{sc=Mymr}";
const IN_WORD = new RegExp(`^(?![${UNSPACED}])[\\p{L}\\p{N}\\p{M}]`, "u"); // where words stand apart
const AFTER = /^(?![\p{M}/])(?:[\p{L}\p{N}]|[^\x00-\x7f]|[("'[{<`$#@+=&\\-]|[*_~]+[\p{L}\p{N}("'[`$]|[^\s\w*]+\p{L})/u;
const UNDERSCORE_AFTER = /^(?:|[\s\p{Ps}\p{Pi}"'*~|,;/—–])$/u;
const STRONG = /^\*\*(?![\s*])(?:[^*]|\*(?!\*))+?(?<![\s*])\*\*(?!\*)/u;
const NAMES =
  "all|author|call|class|del|dict|doc|enter|eq|exit|file|future|hash|init|iter|len|main|name|new|next|proto|" +
  "pycache|repr|slots|str|version|[a-z]+(?=__[.(])|[a-z0-9]+(?:_[a-z0-9]+)+";
const PYTHON = new RegExp(`^__(?:${NAMES})__`);

// The text with its formulas out of the way, as long as before.
function withoutFormulas(text, masked) {
  if (!CLOSING.test(text)) return masked;
  const start = masked.length - text.length;
  let rest = masked.slice(start);
  for (const { 0: found, index } of text.slice(0, LONGEST).matchAll(FORMULAS)) {
    if (isFormula(found)) rest = rest.slice(0, index) + "a".repeat(found.length) + rest.slice(index + found.length);
  }
  return masked.slice(0, start) + rest;
}

// Whether a product may go on after it.
function isOperand(sign) {
  return IN_WORD.test(sign) || /[)\]}%]/.test(sign);
}

function opens(run, previous, text) {
  const next = text.slice(run.length, run.length + 12);
  if (run.length > 3 || !AFTER.test(next)) return false;
  if (run[0] === "_") return UNDERSCORE_AFTER.test(previous) && !PYTHON.test(text);
  if (run.length !== 2) return !isOperand(previous) && previous !== "/" && next[0] !== "."; // /*x*/, *.txt
  return !/\p{N}/u.test(previous) && !(isOperand(previous) && /^\p{N}/u.test(next));
}

function closes(run, previous, raw, next) {
  const inner = raw.slice(run.length).replace(/[*_]+$/, "");
  if (/[\s([{]$/.test(inner) || !/[\p{L}\p{N}]|[^\x00-\x7f]/u.test(inner)) return false;
  const cutsWord = IN_WORD.test(next) && IN_WORD.test(inner.at(-1) ?? "");
  if (run.length === 2) return isOperand(previous) ? !IN_WORD.test(next) : !cutsWord || /^\p{L}+$/u.test(inner);
  if (!/\p{L}|[^\x00-\x7f]/u.test(inner) || cutsWord) return false;
  if (run === "*" && /[,;|/]$/.test(inner)) return false; // *.txt,*.csv
  if (run === "_" && /^[^\s_]+_+[^\s_]|[^\s_]_+[^\s_]+$/.test(inner)) return false; // _a_name or a_name_
  return !(/^\d/.test(inner) && /[#*]/.test(inner)); // *144# or *100*
}

function emphasis(text, masked, previous) {
  const run = /^(?:\*+|_+)/.exec(text)?.[0];
  const before = masked[masked.length - text.length - 1];
  if (!run || before === run[0] || !opens(run, previous, text)) return undefined;
  const hidden = withoutFormulas(text, masked);
  const plain = STRONG.exec(hidden.slice(masked.length - text.length))?.[0];
  const raw = plain && text.slice(0, plain.length);
  const inner = raw?.slice(2, -2);
  const token = raw
    ? { type: "strong", raw, text: inner, tokens: this.lexer.inlineTokens(inner) }
    : own.emStrong.call(this, text, hidden, previous);
  return token && closes(run, previous, token.raw, text[token.raw.length] ?? "") ? token : undefined;
}

// Addresses

function address(text) {
  const token = own.url.call(this, text);
  const raw = token?.raw.split(/["“”«»‹›…、。，）】」]/u)[0];
  if (!raw || raw === token.raw) return token;
  const href = token.href.slice(0, token.href.length - token.raw.length) + raw;
  return { ...token, raw, text: raw, href, tokens: [{ type: "text", raw, text: raw }] };
}

// Tables

// The cells of a row that are more than the head has stay in the last one.
function table(text) {
  const token = own.table.call(this, text);
  if (!token) return undefined;
  const [head, line, ...rows] = token.raw.split("\n");
  if (!head.includes("|") && !line.includes("|")) return undefined;
  const last = token.header.length - 1;
  token.rows.forEach((row, place) => {
    const cells = cellsOf(rows[place] ?? "");
    if (cells.length <= token.header.length) return;
    const rest = cells.slice(last).join(" | ").replaceAll("\\|", "|");
    row[last] = { ...row[last], text: rest, tokens: this.lexer.inline(rest) };
  });
  return token;
}

function cellsOf(row) {
  const cells = row.split(/(?<=(?<!\\)(?:\\\\)*)\|/).map((cell) => cell.trim());
  if (!cells[0]) cells.shift();
  while (cells.length && !cells.at(-1)) cells.pop();
  return cells;
}

// Each returns undefined where there is none of its kind, and false where marked shall look for itself.
export const grammar = {
  extensions: [formula, formulaBlock, backslash],
  tokenizer: {
    emStrong: emphasis,
    table,
    url: address,
    del: (text) => (text.startsWith("~~") ? false : undefined),
    // HTML, and definitions of links, which would not be seen: text.
    html: () => undefined,
    tag: () => undefined,
    def: () => undefined,
    fences: (text) => (/^ {0,3}~{3,}[^\n]*[^~\n]~/.test(text) ? undefined : false), // ~~~a~~~ is none
    // "* * * * *" is a time of cron, "______" a line to write on.
    hr: (text) => (/^ {0,3}(?:-[ \t-]*-[ \t-]*-|\*{3}|_{3}|\* \* \*)[ \t-]*(?:\n|$)/.test(text) ? false : undefined),
    // A heading has a text; one that is underlined has one line, and at least three signs below it.
    heading: (text) => (/^ {0,3}#{1,6}[ \t]+(?!#+[ \t]*(?:\n|$))\S/.test(text) ? false : undefined),
    lheading(text) {
      const inParagraph = this.lexer.state.lastToken?.type === "paragraph";
      return !inParagraph && /^[^\n]+\n {0,3}(?:={3,}|-{3,})[ \t]*(?:\n|$)/.test(text) ? false : undefined;
    },
    blockquote: (text) => (/^ {0,3}>(?:[ \t]+\S|[ \t]*\n {0,3}>[ \t]+\S)/.test(text) ? false : undefined),
    // "1986. A year" is none, nor "+ 5", nor a sign that stands alone.
    list: (text) => (/^ {0,3}(?:[*-]|(?:0|[1-9]\d{0,2})[.)])[ \t]+\S/.test(text) ? false : undefined),
  },
};
