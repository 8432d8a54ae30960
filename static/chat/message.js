// One message of the conversation, and what can be done with it.

import { copy, h, icon, iconButton } from "./dom.js";
import { reasonOf } from "./records.js";
import { show } from "./rendering.js";
import { exactly, money, number, t, when } from "./texts.js";

// record: a message as the API shows it; `status` is "unsent" where it has not reached the service, and then `again`
// sends it, and `choices` are buttons for what else can be done. actions: { retry, edit, fork, rate }, each called with this view.
export class MessageView {
  constructor(record, actions) {
    this.actions = actions;
    this.body = h("div", { class: "body", testid: "message-text" });
    this.notice = h("div", { class: "notice" });
    this.foot = h("div", { class: "foot" });
    this.element = h("article", { class: "message", testid: "message" }, this.body, this.notice, this.foot);
    this.update(record);
  }

  update(record) {
    this.record = record;
    const { role, status, turn_id: turn } = record;
    Object.assign(this.element.dataset, { role, status, turn: turn ?? "" });
    this.body.hidden = status !== "pending" && record.content === "";
    this.element.setAttribute("aria-label", t(role === "assistant" ? "reply" : role === "user" ? "question" : "instruction"));
    this.element.setAttribute("aria-busy", String(status === "pending"));
    if (!this.field) this.drawBody(record.content);
    this.notice.replaceChildren(...this.notices());
    this.drawFoot();
  }

  // The text so far; the rest of the message stays as it is.
  drawBody(text) {
    if (this.record.role !== "assistant") this.body.textContent = text;
    else if (text) show(this.body, text);
    else if (this.record.status === "pending") {
      this.body.replaceChildren(h("span", { class: "writing" }, h("span", { class: "off-screen" }, t("writing"))));
      this.body.blocks = [];
    } else this.body.textContent = "";
  }

  // Below the text: the connection is lost for so many seconds at least; 0: it is there.
  connection(seconds) {
    const text = t(this.record.turn_id ? "connection_lost" : "sending_again");
    const lost = seconds ? [h("p", { class: "aside", testid: "connection" }, text)] : [];
    this.notice.replaceChildren(...lost);
  }

  notices() {
    const { status, error, finish_reason: reason } = this.record;
    if (error) return [this.errorBox(error)];
    if (status === "cancelled") return [h("p", { class: "aside" }, t("stopped"))];
    const comment = this.record.feedback?.comment;
    return [
      reason === "length" ? h("p", { class: "aside" }, t("cut_short")) : null,
      comment ? h("p", { class: "aside" }, t("your_comment", { comment })) : null,
    ].filter(Boolean);
  }

  errorBox(error) {
    const again = h("button", { type: "button", class: "text-button", testid: "error-retry" }, t(this.record.again ? "send_again" : "try_again"));
    again.addEventListener("click", () => (this.record.again ?? (() => this.actions.retry(this)))());
    const wait = h("span", { class: "wait" });
    countDown(again, wait, error.retry_at ?? 0);
    return h(
      "div",
      { class: "error", testid: "error" },
      icon("warning"),
      h(
        "div",
        {},
        h("p", {}, reasonOf(error)),
        error.may_have_been_billed ? h("p", { class: "aside" }, t("billed")) : null,
        h("p", { class: "again" }, again, wait, ...(this.record.choices ?? [])),
      ),
    );
  }

  drawFoot() {
    const { role, status, superseded_at: superseded } = this.record;
    const parts = [];
    if (role === "assistant" && status !== "pending" && status !== "unsent") {
      const done = status === "completed" || status === "cancelled";
      if (this.record.content) parts.push(copyButton(this.record.content));
      if (!superseded && done) parts.push(this.button("again", "try_again", "retry", () => this.actions.retry(this)));
      if (!superseded && done) parts.push(this.button("fork", "fork", "fork", () => this.actions.fork(this)));
      if (!superseded && done && this.record.id) parts.push(...this.ratings());
      parts.push(usageOf(this.record));
    }
    if (role === "user" && this.record.turn_id) {
      if (!superseded) parts.push(this.button("pencil", "edit", "edit", () => this.edit()));
      if (this.record.created_at) parts.push(clock(this.record.created_at));
    }
    this.foot.replaceChildren(...parts);
  }

  button(image, label, testid, onclick, more = {}) {
    return iconButton(image, t(label), { testid, onclick, ...more });
  }

  ratings() {
    const rating = this.record.feedback?.rating ?? null;
    return ["up", "down"].map((way) => {
      const rate = () => this.rate(rating === way ? null : way);
      return this.button(way, `rate_${way}`, `feedback-${way}`, rate, { "aria-pressed": String(rating === way) });
    });
  }

  async rate(rating) {
    const comment = this.record.feedback?.comment ?? "";
    if (!(await this.actions.rate(this, rating, comment))) return;
    this.foot.querySelector(`[data-testid="feedback-${rating ?? "up"}"]`)?.focus();
    if (rating) this.askForComment(rating, comment);
  }

  askForComment(rating, comment) {
    const field = h("textarea", { rows: "2", enterkeyhint: "enter", testid: "feedback-comment", "aria-label": t("comment"), placeholder: t("comment"), value: comment });
    const close = () => {
      this.notice.replaceChildren(...this.notices());
      this.foot.querySelector(`[data-testid="feedback-${rating}"]`)?.focus();
    };
    const send = async (event) => {
      event.preventDefault();
      if (!field.value.trim() || (await this.actions.rate(this, rating, field.value.trim()))) close();
    };
    const form = editor(field, { testid: "feedback", label: t("send_comment"), send, close });
    this.notice.replaceChildren(form);
    field.focus();
  }

  edit() {
    if (this.field) return;
    const field = h("textarea", { enterkeyhint: "enter", testid: "edit-text", "aria-label": t("edit"), value: this.record.content });
    const close = () => {
      this.field = null;
      this.element.classList.remove("edited");
      this.update(this.record);
      this.foot.querySelector('[data-testid="edit"]')?.focus();
    };
    const send = async (event) => {
      event.preventDefault();
      if (!field.value.trim()) return;
      if (this.sending) return;
      this.sending = true;
      if (await this.actions.edit(this, field.value)) close();
      this.sending = false;
    };
    this.body.replaceChildren(editor(field, { testid: "edit", label: t("send"), send, close, hint: t("edit_hint") }));
    this.element.classList.add("edited");
    this.field = field; // what is in it while the question is edited
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}

// A text field with its buttons. Escape leaves it, Enter makes a line, and Ctrl+Enter or Cmd+Enter sends.
function editor(field, { testid, label, send, close, hint }) {
  const form = h(
    "form",
    { class: "editor", onsubmit: send },
    field,
    hint ? h("p", { class: "aside" }, hint) : null,
    h(
      "p",
      { class: "buttons" },
      h("button", { type: "button", testid: `${testid}-cancel`, onclick: close }, t("cancel")),
      h("button", { type: "submit", class: "primary", testid: `${testid}-send` }, label),
    ),
  );
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(event);
  });
  return form;
}

function copyButton(text) {
  const button = iconButton("copy", t("copy"), { testid: "copy-reply" });
  button.addEventListener("click", async () => {
    await copy(text);
    button.replaceChildren(icon("check"));
    setTimeout(() => button.replaceChildren(icon("copy")), 2000);
  });
  return button;
}

function usageOf({ model, usage, latency_ms: latency, created_at: moment }) {
  const parts = [model];
  if (usage?.total_tokens) {
    const about = usage.estimated ? "≈ " : "";
    parts.push(about + t("tokens", { count: number(usage.total_tokens) }));
    if (usage.cost !== null) parts.push(money(usage.cost));
  }
  if (latency) parts.push(t("seconds", { count: number(Math.max(1, Math.round(latency / 100)) / 10) }));
  const title = usage ? t("in_and_out", { prompt: number(usage.prompt_tokens), reply: number(usage.completion_tokens) }) : "";
  const line = h("span", { class: "usage", testid: "usage", title }, parts.filter(Boolean).join(" · "));
  if (moment) line.append(" · ", clock(moment));
  return line;
}

function clock(iso) {
  return h("time", { datetime: iso, title: exactly(iso) }, when(iso));
}

// The button can be pressed when the wait that the service asked for is over.
export function countDown(button, place, end) {
  const seconds = Math.ceil((end - Date.now()) / 1000);
  button.disabled = seconds > 0;
  place.textContent = seconds > 0 ? t("wait", { seconds: number(seconds) }) : "";
  if (seconds > 0) setTimeout(() => countDown(button, place, end), 1000);
}
