// Which texts other tabs of this browser are holding. A tab that has gone answers nobody: what it held is free.

import { own } from "./access.js";
import { randomId } from "./api.js";

const ANSWER = 1000; // milliseconds; a living tab answers in a few, if it is not busy

// navigator.locks would do the same, but not on a page that comes by plain HTTP.
const channel = opened();
const me = randomId();
const wanted = new Set();
const taken = new Set();
let holds = () => false;

export function holding(isHeld) {
  holds = isHeld;
}

// Those of the ids that no other tab holds. Of two tabs that ask at once, one gets them.
export async function unclaimed(ids) {
  if (!ids.length) return [];
  for (const id of ids) {
    wanted.add(id);
    taken.delete(id);
  }
  channel?.postMessage({ ids, from: me });
  const end = channel ? performance.now() + ANSWER : 0;
  while (performance.now() < end && !ids.every((id) => taken.has(id))) await new Promise((resolve) => setTimeout(resolve, 20));
  for (const id of ids) wanted.delete(id);
  return ids.filter((id) => !taken.has(id));
}

// A browser that refuses storage may refuse this too.
function opened() {
  try {
    return new BroadcastChannel(own("bancobot.texts"));
  } catch {
    return null;
  }
}

channel?.addEventListener("message", ({ data: { ids, from, to } }) => {
  if (to === me) for (const id of ids) taken.add(id);
  if (to) return;
  const held = ids.filter((id) => holds(id) || (wanted.has(id) && me < from));
  if (held.length) channel.postMessage({ ids: held, from: me, to: from });
});
