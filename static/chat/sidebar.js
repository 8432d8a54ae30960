// The list of conversations: search, rename, remove.

import { addressOf } from "./address.js";
import { announce, find, h, iconButton, toast } from "./dom.js";
import { exactly, t, when } from "./texts.js";

const TYPING = 250; // milliseconds without a key before a search

export class Sidebar {
  // `removed` is called with an id, `said` makes a sentence of an error, `renamed` is called with an id and a title.
  constructor(api, { removed, renamed, said }) {
    const nothing = { sessions: [], next: "", current: "", found: "", asked: null, loaded: false };
    Object.assign(this, { api, removed, renamed, said, ...nothing });
    this.list = find("conversation-list");
    this.more = find("conversations-more");
    this.empty = find("conversations-empty");
    this.search = find("search");
    this.more.addEventListener("click", () => this.load(true));
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.load().then(() => this.tell()), TYPING);
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.search.value) {
        event.stopPropagation();
        this.search.value = "";
        this.load();
      }
    });
  }

  // The first page, or the one after what is shown. A newer question makes the answer to an older one void.
  async load(more = false) {
    this.asked?.abort();
    const { signal } = (this.asked = new AbortController());
    const q = this.search.value.trim();
    try {
      const page = await this.api.sessions({ q, next: more ? this.next : "" }, signal);
      this.found = q;
      this.sessions = more ? [...this.sessions, ...page.data] : page.data;
      this.next = page.next ?? "";
      this.loaded = true;
      this.draw(t(q ? "nothing_found" : "no_conversations"));
    } catch (problem) {
      if (!signal.aborted) this.draw(this.said(problem));
    }
  }

  tell() {
    announce(t("found", { count: this.sessions.length + (this.next ? "+" : "") }));
  }

  show(id) {
    this.current = id;
    for (const row of this.list.children) mark(row, id);
  }

  draw(ifEmpty) {
    const focused = document.activeElement?.closest?.("[data-session-id]")?.dataset.sessionId;
    const place = document.activeElement?.dataset?.testid;
    this.list.replaceChildren(...this.sessions.map((session) => this.row(session)));
    this.more.hidden = !this.next;
    this.empty.hidden = this.sessions.length > 0;
    this.empty.textContent = ifEmpty;
    if (focused) this.focus(focused, place);
  }

  // On a conversation's button, or its link.
  focus(id, button) {
    const row = [...this.list.children].find(({ dataset }) => dataset.sessionId === id);
    row?.querySelector(button ? `[data-testid="${button}"]` : "a")?.focus();
  }

  row(session) {
    const title = session.title || t("untitled");
    const hit = this.found ? { message: session.match?.message_id, q: this.found } : {};
    const link = h(
      "a",
      { href: addressOf(session.session_id, hit) },
      h("span", { class: "row-title" }, title),
      h("time", { datetime: session.last_activity_at, title: exactly(session.last_activity_at) }, when(session.last_activity_at)),
    );
    const row = h(
      "li",
      { testid: "conversation", "data-session-id": session.session_id },
      link,
      iconButton("pencil", t("rename_this", { title }), { testid: "conversation-rename", onclick: () => this.rename(session) }),
      iconButton("bin", t("remove_this", { title }), { testid: "conversation-delete", onclick: () => this.remove(session) }),
    );
    mark(row, this.current);
    return row;
  }

  async rename(session) {
    const input = find("rename-input");
    input.value = session.title;
    const named = await answered(find("rename-dialog"), find("rename-cancel"), input);
    this.focus(session.session_id, "conversation-rename"); // the list may have been drawn anew meanwhile
    if (!named) return;
    const title = input.value.trim();
    if (title !== session.title && (await this.attempt(() => this.api.rename(session.session_id, title)))) {
      this.renamed(session.session_id, title);
      await this.load();
    }
  }

  async remove(session) {
    find("delete-title").textContent = session.title || t("untitled");
    const cancel = find("delete-cancel");
    const sure = await answered(find("delete-dialog"), cancel, cancel);
    this.focus(session.session_id, "conversation-delete");
    if (!sure) return;
    if (await this.attempt(() => this.api.remove(session.session_id))) {
      toast(t("removed"));
      this.removed(session.session_id);
      await this.load();
      find("new-conversation").focus();
    }
  }

  async attempt(action) {
    try {
      await action();
      return true;
    } catch (problem) {
      toast(this.said(problem));
      return false;
    }
  }
}

function mark(row, id) {
  const link = row.querySelector("a");
  if (row.dataset.sessionId === id) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

// True when a dialog's form was submitted, false when it was left.
function answered(dialog, cancel, first) {
  return new Promise((resolve) => {
    let answer = false;
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      answer = true;
      dialog.close();
    };
    cancel.onclick = () => dialog.close();
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
    first.focus();
    first.select?.();
  });
}
