// Puts the list as it is now in the place of the one that is shown, every two seconds, while somebody can see it.
"use strict";

const EVERY = 2000; // milliseconds
const list = document.getElementById("running");

function put(html) {
  const template = document.createElement("template");
  template.innerHTML = html; // our own template's output, in which all that others wrote is escaped
  const turn = list.contains(document.activeElement) ? document.activeElement.dataset.turn : undefined;
  const left = list.querySelector(".scroll")?.scrollLeft ?? 0;
  list.replaceChildren(template.content);
  if (turn) list.querySelector(`[data-turn="${CSS.escape(turn)}"]`)?.focus();
  const scroll = list.querySelector(".scroll");
  if (scroll) scroll.scrollLeft = left;
}

async function refresh() {
  const answer = await fetch(list.dataset.source, { redirect: "manual" });
  if (answer.type === "opaqueredirect" || answer.status === 403) location.reload(); // logged out meanwhile
  else if (answer.ok) put(await answer.text());
}

setInterval(() => {
  if (!document.hidden) refresh().catch(() => {}); // the service may be starting anew: the next time it answers
}, EVERY);
