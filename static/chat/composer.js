// The field in which a message is written. Its text is a draft of the conversation that is open; what was refused comes
// back into it, with the reason beside it.

import { announce, find, h, icon, iconButton } from "./dom.js";
import { countDown } from "./message.js";
import { draftFor, drop, keep } from "./outbox.js";
import { reasonOf } from "./records.js";
import { t } from "./texts.js";

export class Composer {
  constructor() {
    this.element = find("composer");
    this.notice = find("refusal");
    this.element.addEventListener("input", () => this.typed());
    this.to = null; // until the first conversation is open
    this.draft = null;
  }

  get isEmpty() {
    return !this.element.value.trim();
  }

  // Another conversation is open.
  open(to) {
    const early = this.to === null ? this.element.value : ""; // while the page was loading
    Object.assign(this, { to, fresh: false });
    this.show(draftFor(to));
    if (early) this.add(early);
  }

  // The conversation that is open has got an id, or none. fresh: the service may not know it.
  moveTo(to, fresh) {
    if (this.to === to && this.fresh === fresh) return;
    Object.assign(this, { to, fresh });
    if (this.draft) this.save();
  }

  // The service knows a conversation from now on.
  settle(to) {
    const draft = draftFor(to);
    if (to === this.to) this.moveTo(to, false);
    else if (draft) keep({ ...draft, fresh: false });
  }

  typed() {
    if (this.to === null) return;
    if (this.element.value) this.save();
    else this.clear();
    this.grow();
  }

  save() {
    const { to, fresh } = this;
    this.draft = keep({ ...this.draft, at: undefined, kind: "draft", to, fresh, text: this.element.value });
  }

  clear() {
    if (this.draft) drop(this.draft);
    this.show(null);
  }

  // What is to be sent: { text, request }, the latter where it had been sent before.
  take() {
    const taken = { text: this.element.value, request: this.draft?.request };
    this.clear();
    return taken;
  }

  // True if the text is in the field from now on; false where another one is.
  give({ id, text, request, error }) {
    if (!this.isEmpty) return false;
    this.clear();
    const { to, fresh } = this;
    this.show(keep({ id, kind: "draft", to, fresh, text: text ?? request.body.message, request, error }));
    return true;
  }

  // Below what is there.
  add(text) {
    this.element.value = [this.element.value.trimEnd(), text].filter(Boolean).join("\n\n");
    this.typed();
  }

  show(draft) {
    this.draft = draft;
    this.element.value = draft?.text ?? "";
    this.drawNotice(draft?.error, draft?.request);
    this.grow();
  }

  drawNotice(error, request) {
    this.notice.hidden = !error;
    this.element.setAttribute("aria-invalid", String(Boolean(error)));
    if (!error) {
      this.notice.replaceChildren();
      return;
    }
    const again = h("button", { type: "submit", class: "text-button", testid: "refusal-again" }, t("send_again"));
    const wait = h("span", { class: "wait" });
    countDown(again, wait, error.retry_at ?? 0);
    const moves = request?.body.after_turn === undefined ? null : h("p", { class: "aside" }, t("edit_hint"));
    const said = h("div", {}, h("p", { testid: "refusal-reason" }, reasonOf(error)), moves, h("p", {}, again, wait));
    this.notice.replaceChildren(icon("warning"), said, iconButton("close", t("close"), { testid: "refusal-close", onclick: () => this.dismiss() }));
    announce(reasonOf(error));
  }

  // The text stays, as a new message.
  dismiss() {
    this.draft = keep({ ...this.draft, request: undefined, error: undefined });
    this.drawNotice();
    this.element.focus();
  }

  grow() {
    this.element.style.height = "auto";
    this.element.style.height = `${this.element.scrollHeight + 2}px`;
  }
}
