// What was typed and the service may not have: drafts, messages on their way, messages that did not get through. Each is
// kept on this device under its reader and its conversation. What the browser refuses to store lasts as long as the page.
//
// A text is { id, at, kind: "draft" | "sent" | "unsent", to, fresh, text, request, error }. to: its conversation, "" for
// one that is yet to begin; fresh: the service may not know that conversation. text: a draft's; request: { body, key,
// fresh }, what was or would be sent; error: why it was not (see errorOf).

import { kept, owner } from "./access.js";
import { randomId } from "./api.js";
import { holding, unclaimed } from "./tabs.js";

const NAME = "bancobot.text.";
const LEFT = "bancobot.tab";
const MOST = 50; // texts on this device
const LARGEST = 1_000_000; // characters of one
const ALL = 2_500_000; // and of all: browsers allow about five million
const DAYS = 30;
const RELOAD = 60_000; // milliseconds

const held = new Map(); // this tab's, by id
let shut = false;

holding((id) => held.has(id));

// Keep a text, or its new state. Returns it as it is kept.
export function keep(text) {
  const record = { ...text, id: text.id ?? randomId(), at: text.at ?? Date.now() };
  const isNew = !held.has(record.id);
  held.set(record.id, record);
  const json = JSON.stringify(record);
  if (json.length <= LARGEST && !shut) kept.set("localStorage", nameOf(record.id), json);
  if (isNew) tidy();
  return record;
}

export function drop({ id }) {
  held.delete(id);
  kept.set("localStorage", nameOf(id), "");
}

// This tab's draft for a conversation, or null.
export function draftFor(to) {
  return [...held.values()].find((text) => text.kind === "draft" && text.to === to) ?? null;
}

// This tab's texts for a conversation, the oldest first.
export function heldFor(to) {
  const texts = [...held.values()].filter((text) => belongs(text, to));
  return texts.sort((one, other) => one.at - other.at);
}

// Those of tabs that are gone are this tab's from now on, too.
export async function textsFor(to) {
  const others = stored(`${NAME}${owner()}.`).filter(({ text }) => !held.has(text.id) && belongs(text, to));
  for (const id of await unclaimed(others.map(({ text }) => text.id))) takeOver(id);
  return heldFor(to);
}

function belongs(text, to) {
  return text.to === to || (to === "" && text.fresh);
}

// Until the page goes away, nothing is stored any more: the reader may be another one by now.
export function shutDown() {
  held.clear();
  shut = true;
}

// The reader has left: nothing of theirs stays on the device.
export function forget() {
  shutDown();
  for (const { name } of stored(`${NAME}${owner()}.`)) kept.set("localStorage", name, "");
}

export function forgetConversation(to) {
  const texts = [...held.values(), ...stored(`${NAME}${owner()}.`).map(({ text }) => text)];
  for (const text of texts) if (text.to === to) drop(text);
}

// A conversation that the service knows, nobody else's has the id of, and a reader has texts for; undefined: none.
export function conversationOf(reader) {
  return stored(`${NAME}${reader}.`).find(({ text }) => /^[0-9a-f]{32}$/.test(text.to) && !text.fresh)?.text.to;
}

// A reader has got another key.
export function handOver(before) {
  for (const { name, text } of stored(`${NAME}${before}.`)) {
    kept.set("localStorage", name, "");
    kept.set("localStorage", nameOf(text.id), JSON.stringify(text));
  }
}

function nameOf(id) {
  return `${NAME}${owner()}.${id}`;
}

// Under a new id: were its tab alive after all, each of the two would keep what it has.
function takeOver(id) {
  const text = read(nameOf(id));
  if (!text) return;
  drop(text);
  keep({ ...text, id: undefined });
}

// Null where it is none.
function read(name) {
  const text = parsed(kept.get("localStorage", name));
  const said = text?.text ?? text?.request?.body?.message;
  return typeof said === "string" && typeof text.id === "string" && (text.request || text.kind !== "sent") ? text : null;
}

function parsed(json) {
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}

function stored(prefix) {
  const names = kept.names("localStorage", prefix);
  return names.map((name) => ({ name, text: read(name) })).filter(({ text }) => text);
}

function tidy() {
  const texts = stored(NAME).sort((one, other) => other.text.at - one.text.at);
  let size = 0;
  for (const [place, { name, text }] of texts.entries()) {
    size += kept.get("localStorage", name).length;
    const old = text.at < Date.now() - DAYS * 86_400_000;
    if (old || place >= MOST || size > ALL) kept.set("localStorage", name, "");
  }
}

// What this tab held before a reload. Only while the page is away is the list in the tab's storage: that storage is
// copied with a tab, and the copy must hold nothing of the first one's.
function comeBack() {
  const left = kept.get("sessionStorage", LEFT);
  kept.set("sessionStorage", LEFT, "");
  const { at, ids = [] } = parsed(left) ?? {};
  if (!(Math.abs(Date.now() - at) < RELOAD)) return;
  for (const text of ids.map((id) => read(nameOf(id))).filter(Boolean)) held.set(text.id, text);
}

comeBack();
tidy();
addEventListener("pagehide", () => kept.set("sessionStorage", LEFT, JSON.stringify({ at: Date.now(), ids: [...held.keys()] })));
addEventListener("pageshow", ({ persisted }) => persisted && kept.set("sessionStorage", LEFT, ""));
