// Markdown of strangers, made harmless: marked reads it, DOMPurify lets through what is on the list, and nothing is
// loaded from anywhere: a picture becomes a link. HTML in it is shown as the text that it is.

import { Marked } from "../vendor/marked/marked.esm.js";
import "../vendor/dompurify/purify.min.js";

import { copy, h } from "./dom.js";
import { t } from "./texts.js";

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "class", "href", "start"],
  ADD_URI_SAFE_ATTR: ["align", "start"], // what follows is for addresses alone
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|tel:)/i,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escape(text),
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    // The page has its own first and second level.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
  },
});

const purify = globalThis.DOMPurify;
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A" && node.hasAttribute("href")) {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
  if (node.nodeName !== "CODE") node.removeAttribute("class"); // a code block's class names its language
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
      block.append(fragment(token, tokens.links));
      if (blocks[place]) blocks[place].node.replaceWith(block);
      else element.append(block);
      blocks[place] = { raw: token.raw, node: block };
    }
    place += 1;
  }
  for (const { node } of blocks.splice(place)) node.remove();
}

function fragment(token, links) {
  let html;
  try {
    html = marked.parser(Object.assign([token], { links }));
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
  const language = /^language-([\w+#.-]{1,30})$/.exec(code?.className ?? "")?.[1] ?? "";
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
