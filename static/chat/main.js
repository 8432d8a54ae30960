// The page: what is in the template is bound to the modules that know what to do.

import { PageApi, hasKey, kept, onSignOutElsewhere, signOut } from "./access.js";
import { addressOf, placeIn } from "./address.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { announce, find, h, toast } from "./dom.js";
import { leaveToInputMethods, sendByEnter } from "./keys.js";
import { ModelPicker } from "./models.js";
import { conversationOf, forget, forgetConversation, handOver, shutDown } from "./outbox.js";
import { said } from "./records.js";
import { Sidebar } from "./sidebar.js";
import { money, number, page, t } from "./texts.js";

const TITLE_LATER = 4000; // milliseconds after the first reply: a model may have thought of a better title

const api = new PageApi(async (before) => {
  if (before && !(await isSameReader(before))) await startAnew();
  if (before) handOver(before);
  drawAccess();
  sidebar.load();
});
const sidebar = new Sidebar(api, {
  said,
  renamed: (id, title) => {
    if (id !== conversation.id || !conversation.session) return;
    conversation.session.title = title;
    drawHead();
  },
  removed: (id) => {
    forgetConversation(id);
    if (id === conversation.id) go("");
  },
});
const models = new ModelPicker(api, (id) => {
  conversation.model = id;
  drawHead();
  find("composer").focus();
});
const composer = new Composer();
const conversation = new Conversation(api, composer, {
  go,
  moved: (instead) => history[instead ? "replaceState" : "pushState"](null, "", addressOf(conversation.id)),
  changed: () => {
    sidebar.load();
    if (conversation.views.length <= 2) setTimeout(lateTitle, TITLE_LATER);
  },
  drawn: () => draw(),
  shown: (hit) => history.replaceState(null, "", addressOf(conversation.id, hit)),
});

// A refused key was replaced: by its reader, or by somebody else who must not see what the first one wrote?
async function isSameReader(before) {
  const known = conversation.session ?? sidebar.sessions[0];
  if (known) return api.session(known.session_id).then((found) => found.created_at === known.created_at, () => false);
  const id = conversationOf(before);
  if (id) return api.session(id).then(() => true, () => false);
  // The one had no conversations, if the page knows; nor has the other?
  return sidebar.loaded && api.sessions({ limit: 1 }).then(({ data }) => !data.length, () => false);
}

function startAnew() {
  shutDown();
  history.replaceState(null, "", "#/");
  location.reload();
  return new Promise(() => {});
}

// Where we are

async function go(id) {
  if (addressOf(id) !== location.hash) history.pushState(null, "", addressOf(id));
  await conversation.open(id);
}

// again: the reader has asked for what the address says already
function follow(again = false) {
  const { id, hit } = placeIn(location.hash);
  return conversation.id === id ? conversation.turnToHit(hit, again) : conversation.open(id, hit);
}

async function lateTitle() {
  const { id } = conversation;
  const session = id && !conversation.running ? await api.session(id).catch(() => null) : null;
  if (!session || conversation.id !== id || session.title === conversation.session?.title) return;
  conversation.session = session;
  drawHead();
  sidebar.load();
}

addEventListener("popstate", () => follow());
addEventListener("hashchange", () => follow());

// What is shown around the messages

function draw() {
  const { id, running, views } = conversation;
  const opening = find("message-list").getAttribute("aria-busy") === "true";
  find("greeting").hidden = Boolean(id) || views.length > 0 || opening;
  find("send").hidden = Boolean(running);
  find("stop").hidden = !running;
  find("stop").disabled = false;
  find("export").hidden = !conversation.session;
  sidebar.show(id);
  drawHead();
}

function drawHead() {
  const { session } = conversation;
  const title = session ? session.title || t("untitled") : t("new_conversation");
  if (find("title").textContent !== title) find("title").textContent = title; // what is marked in it stays
  document.title = session ? `${title} – BancoBot` : "BancoBot";
  const model = conversation.model || session?.model || page.default_model;
  find("model-name").textContent = models.nameOf(model);
  find("totals").textContent = session ? totalsOf(session.usage) : "";
}

function totalsOf({ total_tokens: tokens, cost }) {
  return [t("tokens", { count: number(tokens) }), cost ? money(cost) : ""].filter(Boolean).join(" · ");
}

// Writing and sending

const field = composer.element;

function submit() {
  if (conversation.running || composer.isEmpty) return;
  const { text, request } = composer.take();
  conversation.send(text, request?.body.after_turn, request);
}

sendByEnter(field, submit);
find("composer-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
  field.focus();
});
find("stop").addEventListener("click", stop);

async function stop() {
  find("stop").disabled = true;
  field.focus();
  await conversation.stop();
  find("stop").disabled = false;
}

// Buttons and keys

find("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which conversation this is
  field.focus();
});
find("new-conversation").addEventListener("click", () => {
  closeDrawer();
  go("").then(() => field.focus());
});
find("model-picker").addEventListener("click", () => models.show(conversation.model || conversation.session?.model));

find("theme").addEventListener("click", () => {
  const { dataset } = document.documentElement;
  const dark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = dark ? "light" : "dark";
  kept.set("localStorage", "bancobot.theme", dataset.theme);
});

function drawAccess() {
  find("sign-out").hidden = !hasKey();
  find("use-key").hidden = hasKey() || page.access !== "open";
}

find("sign-out").addEventListener("click", () => {
  forget();
  signOut();
});
onSignOutElsewhere(() => {
  forget();
  location.reload();
});
find("use-key").addEventListener("click", () => api.signIn().then(() => location.reload(), () => {}));

const menu = find("export");
for (const button of menu.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    menu.open = false;
    conversation.attempt(() => download(button.dataset.testid.replace("export-", "")));
  });
}

async function download(format) {
  const { id } = conversation;
  const response = await api.export(id, format);
  const named = /filename="([\w.-]+)"/.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
  const address = URL.createObjectURL(await response.blob());
  const link = h("a", { href: address, download: named ?? `${id}.${format}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

// The list of conversations as a drawer, where the window is narrow

const narrow = matchMedia("(max-width: 800px)");
const side = find("sidebar");

function openDrawer() {
  document.body.classList.add("drawer-open");
  side.inert = false;
  find("main").inert = true;
  find("menu-close").focus();
}

function closeDrawer() {
  const open = document.body.classList.contains("drawer-open");
  document.body.classList.remove("drawer-open");
  side.inert = narrow.matches;
  find("main").inert = false;
  if (open) find("menu").focus();
}

find("menu").addEventListener("click", openDrawer);
find("menu-close").addEventListener("click", closeDrawer);
find("drawer-shade").addEventListener("click", closeDrawer);
find("conversation-list").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link) closeDrawer();
  if (link?.hash === location.hash) follow(true);
});
narrow.addEventListener("change", closeDrawer);

addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("drawer-open")) closeDrawer();
  else if (menu.open) {
    menu.open = false;
    menu.querySelector("summary").focus();
  } else if (conversation.running) stop();
});
addEventListener("click", (event) => !menu.contains(event.target) && (menu.open = false));
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && conversation.refresh());
addEventListener("offline", () => toast(t("offline")));
addEventListener("online", () => {
  announce(t("online"));
  conversation.stuck = false;
});

// The start

async function begin() {
  leaveToInputMethods();
  closeDrawer();
  drawAccess();
  draw();
  models.load().then(drawHead, () => {});
  const listed = sidebar.load();
  const { id, hit } = placeIn(location.hash);
  const opened = api.ready().then(() => conversation.open(id, hit));
  await listed;
  document.documentElement.dataset.ready = "";
  if (!narrow.matches && !document.querySelector("dialog[open]")) field.focus();
  await opened;
}

begin();
