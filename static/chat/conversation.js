// The conversation that is open: the message that is being sent, the reply that is being written.

import { randomId } from "./api.js";
import { announce, h, toast } from "./dom.js";
import { MessageView } from "./message.js";
import { drop, heldFor, keep, textsFor } from "./outbox.js";
import { completed, errorOf, said, supersede } from "./records.js";
import { ready } from "./rendering.js";
import { follow } from "./stream.js";
import { beginning, t } from "./texts.js";
import { Transcript } from "./transcript.js";
import { giveBack, isOnItsWay, place, putAside } from "./unsent.js";
import { Writer } from "./writer.js";

const STOPPING = 5000; // milliseconds in which a turn is looked for

export class Conversation extends Transcript {
  // `go` is called with the id of a conversation to open, `moved` when the id changes (with true where the address is
  // to be replaced), `changed` when the list of conversations may look different, `drawn` when the head or the composer have
  // to be drawn anew, `shown` with the hit of a search that the address has to name.
  constructor(api, composer, { go, moved, changed, drawn, shown }) {
    super(api, shown);
    Object.assign(this, { composer, go, moved, changed, drawn });
    this.afar = new Set(); // what is still being sent to conversations that were left
    Object.assign(this.actions, {
      retry: (view) => this.retry(view),
      edit: (view, text) => this.resend(view, text),
      fork: (view) => this.attempt(() => this.fork(view)),
      rate: (view, rating, comment) => this.attempt(() => this.rate(view, rating, comment)),
    });
    this.reset("");
    addEventListener("pagehide", () => putAside(this));
  }

  clear(id) {
    this.leave();
    putAside(this);
    this.reset(id);
    this.composer.open(id);
    this.drawn();
  }

  reset(id) {
    super.reset(id);
    this.model = ""; // what the reader has picked; else the session's
  }

  // The turn goes on without us. One that the service may not have got yet is seen off first.
  leave() {
    this.visit?.abort();
    const running = this.running;
    this.running = null;
    if (!running) return;
    if (running.turn.id) running.control.abort();
    else this.afar.add(running);
  }

  // A new conversation whose first message did not get through is a new conversation still.
  beNew() {
    this.id = "";
    this.moved(true);
    this.composer.moveTo("", false);
    this.drawn();
  }

  isSending(to) {
    return [this.running, ...this.afar].some((running) => running?.turn.request?.body.session_id === to);
  }

  // What was being sent from afar is sent from here, under its key.
  call(id) {
    for (const running of this.afar) {
      if (running.turn.request.body.session_id !== id) continue;
      this.afar.delete(running);
      running.control.abort();
    }
  }

  // hit: a message to show, and words to mark; see address.js
  async open(id, hit = {}) {
    this.clear(id);
    this.call(id);
    const { signal } = this.visit;
    const found = this.findHit(id ? hit : {});
    const coming = textsFor(id);
    const isNew = !id || heldFor(id).some((text) => isOnItsWay(text) && text.fresh);
    if (!isNew && !(await this.load(coming, found, signal))) return;
    const last = this.views.at(-1);
    if (!isNew) this.scroller.toBottom();
    this.showHit(await found);
    const texts = await coming;
    if (signal.aborted) return;
    // A message that was on its way when the page went away: under its key it can't become two.
    const resumed = place(this, texts);
    this.drawn();
    if (resumed) await this.begin(resumed);
    else if (last?.record.status === "pending" && !this.running) await this.takeUp(last);
  }

  // True if it is there, or is one that has yet to begin.
  async load(coming, found, signal) {
    this.list.setAttribute("aria-busy", "true");
    try {
      const [session] = await Promise.all([this.api.session(this.id, signal), found, ready()]);
      signal.throwIfAborted();
      this.take(session);
      return true;
    } catch (problem) {
      const texts = problem.status === 404 ? await coming : [];
      if (signal.aborted) return false;
      const known = problem.status !== 404 || !texts.length;
      if (known) this.cannotOpen(problem);
      else if (texts.some(({ fresh }) => fresh)) this.beNew();
      else toast(said(problem));
      return !known;
    } finally {
      if (!signal.aborted) this.list.setAttribute("aria-busy", "false");
    }
  }

  cannotOpen(problem) {
    const again = h("button", { type: "button", class: "text-button", testid: "error-retry" }, t("try_again"));
    again.addEventListener("click", () => this.open(this.id, this.hit));
    const gone = problem.status === 404;
    const box = h("div", { class: "error", testid: "error" }, h("p", {}, said(problem)), gone ? null : h("p", {}, again));
    this.list.replaceChildren(box);
    announce(said(problem));
  }

  take(session) {
    super.take(session, (record) => this.running || record.unsent);
    this.composer.moveTo(this.id, false);
    this.drawn();
  }

  // What somebody is writing here is not wiped away.
  async refresh() {
    const { id } = this;
    if (!id || this.running || this.list.querySelector("form")) return;
    const session = await this.api.session(id, this.visit.signal).catch(() => null);
    if (!session || this.id !== id || this.running) return;
    this.take(session);
    const last = this.views.findLast(({ record }) => !record.unsent);
    if (last?.record.status === "pending") this.takeUp(last); // another tab has sent something
  }

  // Sending

  // after: the turn that this one follows, null for none; undefined: the last one.
  // back: the request with which it was sent before; unchanged, it is the same one, and can't become two turns.
  send(text, after, back) {
    if (this.running) return;
    const body = { message: text, session_id: this.id || back?.body.session_id || randomId() };
    const model = this.model || back?.body.model;
    if (model) body.model = model;
    if (after !== undefined) body.after_turn = after;
    const same = JSON.stringify(body) === JSON.stringify(back?.body);
    this.begin({ request: { body, key: same ? back.key : randomId(), fresh: !this.id } });
  }

  // text: one of the outbox, or its request alone.
  async begin(text) {
    const { request } = text;
    const { body, fresh } = request;
    const entry = keep({ ...text, kind: "sent", to: body.session_id, fresh, error: undefined });
    if (!this.id) {
      this.id = body.session_id;
      this.views = []; // what has not got through belongs to no conversation yet
      this.composer.moveTo(this.id, true);
      this.moved();
    }
    this.endHit();
    const replaced = body.after_turn === undefined ? [] : this.after(body.after_turn);
    supersede(replaced, new Date().toISOString());
    const closed = this.pages.close(replaced);
    const question = new MessageView({ role: "user", status: "completed", content: body.message }, this.actions);
    const reply = new MessageView({ role: "assistant", status: "pending", content: "" }, this.actions);
    this.views.push(question, reply);
    this.arrange();
    this.scroller.toBottom();
    // The button that was pressed to send again is gone.
    if (document.activeElement.matches("body, article *")) this.scroller.element.focus({ preventScroll: true });
    const turn = { request, id: "", offset: 0 };
    const began = ({ turn_id }) => {
      if (turn.began) return; // a stream that was taken up again says it again
      turn.began = true;
      drop(entry);
      this.composer.settle(body.session_id);
      this.views = this.views.filter((view) => view === question || view === reply || view.record.turn_id !== turn_id);
      question.update({ ...question.record, turn_id });
      reply.update({ ...reply.record, turn_id });
      this.arrange();
      if (fresh) this.changed(); // a new conversation is in the list from now on
    };
    const problem = await this.listen(reply, turn, began);
    if (problem?.turnId) drop(entry);
    if (!problem || turn.began || problem.turnId) return;
    // The service has taken nothing on.
    supersede(replaced, null);
    for (const view of closed) this.pages.gaps.add(view);
    this.views = this.views.filter((view) => view !== question && view !== reply);
    this.arrange();
    giveBack(this, entry, problem, turn.left);
  }

  takeUp(view) {
    const { turn_id: id, content } = view.record;
    return this.listen(view, { id, offset: [...content].length }, () => {});
  }

  // Show a reply as it comes, to its end. Returns the error that it ended with, or null.
  async listen(view, turn, began) {
    const running = { turn, view, control: new AbortController() };
    this.running = running;
    this.drawn();
    const writer = new Writer(view, this.scroller);
    const on = {
      start: (data) => {
        began(data);
        if (this.afar.has(running)) running.control.abort();
      },
      text: (piece) => writer.add(piece),
      pause: (seconds) => {
        running.waits = true;
        this.scroller.keep(() => view.connection(seconds));
      },
      going: () => {
        running.waits = false;
        view.connection(0);
      },
    };
    let problem = null;
    try {
      const answer = await this.toItsEnd(turn, on, running.control.signal);
      writer.end();
      this.scroller.keep(() => view.update(completed(view.record, answer)));
    } catch (error) {
      writer.end();
      const { aborted, reason } = running.control.signal;
      if (aborted && reason.name !== "Stopped") return null;
      problem = aborted ? reason : error;
      const failed = { ...view.record, content: writer.text, status: "failed", error: errorOf(problem) };
      if (problem.turnId) failed.turn_id = problem.turnId;
      this.scroller.keep(() => view.update(failed));
    } finally {
      if (this.running === running) this.running = null;
      turn.left = this.afar.delete(running);
    }
    if (turn.left) return problem;
    announce(problem ? said(problem) : `${t("reply")}: ${beginning(view.body.innerText, 2000)}`);
    this.drawn();
    if (!problem || turn.began || problem.turnId) {
      await this.refresh();
      this.changed();
    }
    return problem;
  }

  // A key that is revoked ends the stream, not the turn.
  async toItsEnd(turn, on, signal) {
    for (;;) {
      try {
        return await follow(this.api, turn, on, signal);
      } catch (problem) {
        if (!problem.final || problem.code !== "invalid_api_key") throw problem;
        await this.api.signIn(problem.message);
      }
    }
  }

  // What the reader does with a message

  async stop() {
    const { running } = this;
    const end = Date.now() + (running?.waits ? 0 : STOPPING);
    do {
      if (!running || this.running !== running) return;
      const turn = running.turn.id || (await Promise.race([this.pendingTurn(), pause(2000)]));
      if (turn) return this.attempt(() => this.api.cancel(turn));
      await pause(250);
    } while (Date.now() < end);
    if (!running || this.running !== running) return;
    running.control.abort(Object.assign(new Error("stopped"), { name: "Stopped" })); // nobody has heard of it
  }

  // Before the first piece of text nobody has told us the turn's id.
  async pendingTurn() {
    const page = await this.api.messages(this.id, { limit: 1 }).catch(() => ({ data: [] }));
    return page.data.find(({ status }) => status === "pending")?.turn_id;
  }

  async retry(view) {
    const turn = view.record.turn_id;
    await this.attempt(async () => {
      const after = await this.before(turn);
      const question = this.current().find(({ record }) => record.turn_id === turn && record.role === "user");
      if (question) this.send(question.record.content, after);
    });
  }

  async resend(view, text) {
    if (this.running) {
      toast(t("busy"));
      return false;
    }
    return this.attempt(async () => this.send(text, await this.before(view.record.turn_id)));
  }

  async fork(view) {
    const session = await this.api.fork(this.id, view.record.turn_id);
    toast(t("forked"));
    this.changed();
    await this.go(session.session_id);
  }

  async rate(view, rating, comment) {
    const { feedback } = await this.api.feedback(view.record.id, rating, comment);
    view.update({ ...view.record, feedback });
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
