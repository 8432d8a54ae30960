// Messages that did not get through: they go back into the composer, or stand in the list where that has another text.

import { randomId } from "./api.js";
import { h, toast } from "./dom.js";
import { MessageView } from "./message.js";
import { drop, keep } from "./outbox.js";
import { errorOf, reasonOf } from "./records.js";
import { t } from "./texts.js";

const RESUMED = 600_000; // milliseconds

// The service has not taken a message on, or nobody knows whether it has. `left`: its conversation is not open any more.
export function giveBack(conversation, entry, problem, left) {
  const error = errorOf(problem);
  const request = problem.code === "idempotency_mismatch" ? { ...entry.request, key: randomId() } : entry.request;
  const to = request.fresh ? "" : entry.to;
  if (!left && request.fresh) conversation.beNew();
  if (!left && conversation.composer.give({ request, error })) {
    drop(entry);
    return;
  }
  const text = keep({ ...entry, kind: "unsent", to, fresh: false, request, error });
  if (conversation.id === to) show(conversation, text);
  if (left) toast(`${t("not_sent")} ${reasonOf(error)}`);
}

// A question that was being edited when its conversation or the page goes away.
export function putAside({ id, views }) {
  for (const { field, record } of views) {
    const text = field?.value ?? "";
    if (text.trim() && text !== record.content) keep({ kind: "unsent", to: id, fresh: false, text, error: { detail: t("left_draft") } });
  }
}

// Shows the texts of the conversation that was opened, and returns the one that is to be sent on, or null.
export function place(conversation, texts) {
  const drafts = texts.filter(({ kind }) => kind === "draft");
  for (const text of drafts.reverse()) placeDraft(conversation, text);
  let resumed = null;
  for (const text of texts.filter(({ kind }) => kind !== "draft")) {
    if (text.kind === "unsent") show(conversation, text);
    else if (conversation.isSending(text.to)) continue;
    else if (!resumed && text.to === conversation.id && isOnItsWay(text)) resumed = text;
    else leave(conversation, text, "unconfirmed");
  }
  return resumed;
}

// It is sent on by itself when its conversation is opened.
export function isOnItsWay({ kind, at }) {
  return kind === "sent" && at > Date.now() - RESUMED;
}

function placeDraft(conversation, text) {
  const { composer } = conversation;
  const elsewhere = text.to !== conversation.id && conversation.isSending(text.to);
  if (elsewhere || composer.draft?.id === text.id || composer.give(text)) return;
  leave(conversation, text, "left_draft");
}

function leave(conversation, text, why) {
  const error = text.error ?? { detail: t(why) };
  show(conversation, keep({ ...text, kind: "unsent", to: conversation.id, fresh: false, error }));
}

function show(conversation, text) {
  if (conversation.views.some(({ record }) => record.unsent === text.id)) return;
  const content = text.text ?? text.request.body.message;
  const discard = () => {
    conversation.views = conversation.views.filter((each) => each !== view);
    conversation.arrange();
    drop(text);
    conversation.drawn();
  };
  const back = () => {
    discard();
    if (!conversation.composer.give(text)) conversation.composer.add(content);
    conversation.composer.element.focus();
  };
  const again = () => {
    if (conversation.running) {
      toast(t("busy"));
      return;
    }
    discard();
    if (text.request) conversation.begin({ ...text, at: undefined });
    else conversation.send(content);
  };
  const choices = [choice("unsent-back", "put_back", back), choice("unsent-discard", "discard", discard)];
  const record = { role: "user", status: "unsent", content, unsent: text.id, error: text.error, again, choices };
  const view = new MessageView(record, conversation.actions);
  conversation.views.push(view);
  conversation.arrange();
  conversation.drawn();
}

function choice(testid, label, onclick) {
  return h("button", { type: "button", class: "text-button", testid, onclick }, t(label));
}
