// The messages in their order, those that were superseded folded away where they stood.

import { h } from "./dom.js";
import { number, t } from "./texts.js";

const folds = new WeakMap(); // by the view that begins one, so that an open one stays open

export function arrange(list, views) {
  const nodes = [];
  let fold = null;
  for (const view of views) {
    const old = Boolean(view.record.superseded_at);
    view.element.classList.toggle("superseded", old);
    if (!old) {
      nodes.push(view.element);
      fold = null;
    } else if (fold) {
      fold.members.push(view);
    } else {
      fold = { node: foldOf(view), members: [view] };
      nodes.push(fold);
    }
  }
  put(list, nodes.map((node) => (node.members ? filled(node) : node)));
  markLast(views);
}

function foldOf(view) {
  if (!folds.has(view)) {
    const inner = h("div", { class: "versions-inner" });
    folds.set(view, h("details", { class: "versions", testid: "older-versions" }, h("summary", {}), inner));
  }
  return folds.get(view);
}

function filled({ node, members }) {
  const turns = new Set(members.map(({ record }) => record.turn_id)).size;
  node.firstChild.textContent = t("older_versions", { count: number(turns) });
  put(node.lastChild, members.map(({ element }) => element));
  return node;
}

// Only what is out of its place is moved: the rest keeps its focus and selection.
function put(parent, nodes) {
  nodes.forEach((node, place) => {
    if (parent.childNodes[place] !== node) parent.insertBefore(node, parent.childNodes[place] ?? null);
  });
  while (parent.childNodes.length > nodes.length) parent.lastChild.remove();
}

// The last turn alone can be tried again where it stands.
function markLast(views) {
  const last = views.findLast(({ record }) => !record.superseded_at && record.status !== "unsent")?.record;
  for (const { element, record } of views) {
    element.classList.toggle("last", !record.superseded_at && record.turn_id === last?.turn_id);
  }
}
