// Markdown of strangers, made harmless: marked reads it, DOMPurify lets through what is on the list, and nothing is
// loaded from anywhere: a picture becomes a link. HTML in it is shown as the text that it is (grammar.js).

import { Marked } from "../vendor/marked/marked.esm.js";
import "../vendor/dompurify/purify.min.js";

import { copy, h } from "./dom.js";
import { grammar } from "./grammar.js";
import { t } from "./texts.js";

const ADDRESS = /^(?:https?:|mailto:|tel:)/i;
const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "blockquote", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "span", "strong", "table",
    "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "class", "href", "start", "title", "value"],
  ADD_URI_SAFE_ATTR: ["align", "start", "title", "value"], // what follows is for addresses alone
  ALLOWED_URI_REGEXP: ADDRESS,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

// The text is shown as it was typed, with its spaces and lines (chat.css), without the signs that were markup.
const marked = new Marked(grammar, {
  gfm: true,
  breaks: true,
  extensions: [{ name: "formula", renderer: ({ raw }) => escape(raw) }],
  renderer: {
    image: (token) => linked(token, escape(token.text)),
    link(token) {
      if (token.raw.startsWith("<") && ADDRESS.test(token.href)) return `&lt;${linked(token, escape(token.text))}&gt;`;
      const plain = token.autolink || token.tokens.some(({ type }) => type === "image");
      return linked(token, plain ? textOf(token) : this.parser.parseInline(token.tokens));
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    br: ({ raw }) => escape(raw),
    text(token) {
      if (token.tokens) return `<span>${this.parser.parseInline(token.tokens)}</span>`;
      return escape(token.type === "escape" ? token.text : token.raw);
    },
    code({ text, lang }) {
      const lines = text && `${text.replace(/\n$/, "")}\n`;
      return `<pre><code class="language-${escape(lang ?? "")}">${escape(lines)}</code></pre>`;
    },
    list(token) {
      const items = token.items.map((item, place) => {
        return `<li${numberOf(token, place)}>${this.parser.parse(item.tokens)}</li>`;
      });
      const start = token.ordered && token.start !== 1 ? ` start="${token.start}"` : "";
      const tag = token.ordered ? "ol" : "ul";
      return `<${tag} class="${signOf(token)}"${start}>${items.join("")}</${tag}>`;
    },
    // The page has its own first and second level.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
  },
});

// A link's text where it is no Markdown, or has a picture, which would be a link within the link.
function textOf({ autolink, text, tokens }) {
  return escape(autolink ? text : tokens.map((token) => (token.type === "image" ? token.text : token.raw)).join(""));
}

// A link, or what was typed where its address is none that can be followed.
function linked({ href, title, raw }, label) {
  if (/^www\./i.test(href)) href = `http://${href}`;
  if (!ADDRESS.test(href)) return escape(raw);
  const named = title ? ` title="${escape(title)}"` : "";
  return `<a href="${escape(href)}"${named}>${label.trim() ? label : escape(href)}</a>`;
}

// An item keeps its number, unless all have the same: those are counted.
function numberOf({ ordered, items }, place) {
  const numbers = items.map(({ raw }) => parseInt(raw, 10));
  const counted = place > 0 && numbers[place] !== numbers[place - 1] + 1 && new Set(numbers).size > 1;
  return ordered && counted ? ` value="${numbers[place]}"` : "";
}

// The sign before an item where it may mean something: 1), a minus before a number.
function signOf({ ordered, items }) {
  if (ordered) return /^\s*\d+\)/.test(items[0].raw) ? "paren" : "";
  return items.some(({ raw }) => /^\s*-\s+(?:\p{L}{0,2}\p{Sc}\s*)?\d/u.test(raw)) ? "minus" : "";
}

const purify = globalThis.DOMPurify;
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A" && node.hasAttribute("href")) {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
  // A code block's class names its language, a list's its signs.
  const named = node.nodeName === "CODE" || /^(?:paren|minus)$/.test(node.getAttribute("class"));
  if (!named) node.removeAttribute("class");
});

function escape(text) {
  const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return String(text).replace(/[&<>"']/g, (character) => entities[character]);
}

// Shows `text` in `element`. What has not changed since the last time stays as it is: a reply that is being written can
// be selected and copied, and costs little however long it is.
export function show(element, text) {
  let tokens;
  try {
    tokens = marked.lexer(text);
  } catch {
    tokens = []; // nested so deeply that reading it fails
  }
  if (!tokens.length) {
    element.textContent = text;
    element.blocks = [];
    return;
  }
  const blocks = (element.blocks ??= []);
  if (!blocks.length) element.replaceChildren();
  let place = 0;
  for (const token of tokens) {
    if (token.type === "space") continue;
    if (blocks[place]?.raw !== token.raw) {
      const block = h("div", { class: "block" });
      block.append(fragment(token));
      if (blocks[place]) blocks[place].node.replaceWith(block);
      else element.append(block);
      blocks[place] = { raw: token.raw, node: block };
    }
    place += 1;
  }
  for (const { node } of blocks.splice(place)) node.remove();
}

function fragment(token) {
  let html;
  try {
    html = marked.parser([token]);
  } catch {
    return document.createTextNode(token.raw);
  }
  const content = purify.sanitize(html, ALLOWED);
  content.querySelectorAll("pre").forEach(frameCode);
  content.querySelectorAll("table").forEach(frameTable);
  return content;
}

function frameCode(pre) {
  const code = pre.querySelector("code");
  const language = (code?.className ?? "").replace("language-", ""); // and all that stands behind it
  code?.removeAttribute("class");
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", language ? t("code_in", { language }) : t("code"));
  const button = h("button", { type: "button", class: "text-button", testid: "copy-code" }, t("copy"));
  button.addEventListener("click", async () => {
    await copy(pre.textContent);
    button.textContent = t("copied");
    setTimeout(() => (button.textContent = t("copy")), 2000);
  });
  const frame = h("div", { class: "code" }, h("div", { class: "code-head" }, h("span", {}, language), button));
  pre.replaceWith(frame);
  frame.append(pre);
}

function frameTable(table) {
  const frame = h("div", { class: "table", tabindex: "0", role: "group", "aria-label": t("table") });
  table.replaceWith(frame);
  frame.append(table);
}
