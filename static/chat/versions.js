// The messages in their order, with gaps where some are yet to come. Those that were superseded are folded away where
// they stood, and come from the service when somebody looks: positions have no gaps, so it is known where they are.

import { h } from "./dom.js";
import { positionOf } from "./records.js";
import { number, t } from "./texts.js";

const folds = new WeakMap(); // by the views in one and the view behind it, so that an open one stays open
const gapNodes = new WeakMap(); // by the view that a gap is before

// pages: what is here. actions: fill(view), older(hole, up), each brings what is missing. A hole is what is missing of
// superseded messages: { after, before }, positions.
export function arrange(list, { views, gaps }, actions) {
  const nodes = [];
  const used = new Set();
  let run = []; // neighbouring superseded views, and holes
  let place = -1;
  const close = (view) => {
    if (run.length) nodes.push(filled(foldFor(run, view, used), run, actions));
    run = [];
  };
  for (const view of views) {
    const { id, superseded_at: old } = view.record;
    const position = id ? positionOf(view.record) : place + 1;
    if (gaps.has(view)) {
      close(view);
      nodes.push(gapBefore(view, actions));
    } else if (position > place + 1) run.push({ after: place, before: position });
    place = position;
    view.element.classList.toggle("superseded", Boolean(old));
    if (old) run.push(view);
    else {
      close(view);
      nodes.push(view.element);
    }
  }
  close(views.at(-1));
  put(list, nodes);
  markLast(views);
}

function gapBefore(view, actions) {
  if (!gapNodes.has(view)) {
    const button = h("button", { type: "button", class: "text-button", testid: "earlier", onclick: () => actions.fill(view) }, t("earlier"));
    gapNodes.set(view, Object.assign(h("p", { class: "gap" }, button), { view }));
  }
  return gapNodes.get(view);
}

function foldFor(run, behind, used) {
  const known = [...run, behind].map((each) => folds.get(each)).find((fold) => fold && !used.has(fold));
  const fold = known ?? h("details", { class: "versions", testid: "older-versions" }, h("summary", {}), h("div", { class: "versions-inner" }));
  used.add(fold);
  for (const each of [...run.filter(({ record }) => record), behind]) folds.set(each, fold);
  return fold;
}

function filled(fold, run, actions) {
  const members = run.filter(({ record }) => record);
  const missing = run.reduce((sum, { after, before }) => sum + (before ? before - after - 1 : 0), 0);
  const turns = new Set(members.map(({ record }) => record.turn_id)).size;
  const count = missing ? Math.ceil((members.length + missing) / 2) : turns; // a turn has two messages, mostly
  fold.firstChild.textContent = t("older_versions", { count: number(count) });
  put(fold.lastChild, run.map((each, at) => each.element ?? moreButton(each, at === 0 && run.length > 1, actions)));
  fold.ontoggle = () => fold.open && !members.length && actions.older(run[0], false);
  return fold;
}

// up: what is missing stands above what is here.
function moreButton(hole, up, actions) {
  const count = number(hole.before - hole.after - 1);
  return h("button", { type: "button", class: "text-button", testid: "older-more", onclick: () => actions.older(hole, up) }, t("more_messages", { count }));
}

// Only what is out of its place is moved: the rest keeps its focus and selection.
function put(parent, nodes) {
  const wanted = new Set(nodes);
  for (const node of [...parent.childNodes]) if (!wanted.has(node)) node.remove();
  nodes.forEach((node, place) => {
    if (parent.childNodes[place] !== node) parent.insertBefore(node, parent.childNodes[place] ?? null);
  });
}

// The last turn alone can be tried again where it stands.
function markLast(views) {
  const last = views.findLast(({ record }) => !record.superseded_at && record.status !== "unsent")?.record;
  for (const { element, record } of views) {
    element.classList.toggle("last", !record.superseded_at && record.turn_id === last?.turn_id);
  }
}
