// Elements are made here, never out of HTML: whatever a text says, it stays text.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = new URL("icons.svg", import.meta.url).pathname;

export function find(testid, within = document) {
  return within.querySelector(`[data-testid="${testid}"]`);
}

// h("button", { class: "quiet", testid: "send", onclick: f, "aria-label": "…", disabled: true }, "text", node, null)
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "testid") element.dataset.testid = value;
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `${ICONS}#${name}`);
  svg.append(use);
  return svg;
}

// A button that shows an icon and says what it does.
export function iconButton(name, label, properties = {}) {
  return h("button", { type: "button", class: "icon-button", title: label, "aria-label": label, ...properties }, icon(name));
}

// Said to those who listen to the page instead of looking at it.
export function announce(text) {
  find("status").textContent = text;
}

let vanishing;

// A notice that everybody gets.
export function toast(text) {
  const place = find("toast");
  place.textContent = text;
  place.hidden = false;
  announce(text);
  clearTimeout(vanishing);
  vanishing = setTimeout(() => (place.hidden = true), 6000);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages that come by plain HTTP have no clipboard: the old way.
    const area = h("textarea", { class: "off-screen", value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
