// Replies as Markdown. Its modules are a third of all that the page loads and are no use to an empty page: they come with
// the first key, touch or conversation. Until then, and where they can't be had, a reply stands as the text that it is.

const FILES = ["./markdown.js", "./grammar.js", "../vendor/marked/marked.esm.js", "../vendor/dompurify/purify.min.js"];

let markdown = null;
let coming = null;

// Ends when they are here, or can't be had; the next text asks again.
export function ready() {
  coming ??= Promise.all(FILES.map((file) => import(file))).then(
    ([module]) => (markdown = module),
    () => (coming = null),
  );
  return coming;
}

export function show(element, text) {
  if (markdown) {
    markdown.show(element, text);
    return;
  }
  element.textContent = text;
  element.plain = text;
  ready().then(() => markdown && element.plain === text && element.textContent === text && markdown.show(element, text));
}

if (location.hash.startsWith("#/c/")) ready();
else for (const sign of ["keydown", "pointerdown", "input"]) addEventListener(sign, ready, { once: true, capture: true });
