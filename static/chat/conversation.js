// The conversation that is open: its messages, the one that is being sent, the reply that is being written.

import { randomId } from "./api.js";
import { announce, find, h, toast } from "./dom.js";
import { MessageView } from "./message.js";
import { arrived, sending, sentTo } from "./outbox.js";
import { completed, errorOf, isSame, positionOf, said, supersede } from "./records.js";
import { ready } from "./rendering.js";
import { Scroller } from "./scroller.js";
import { follow } from "./stream.js";
import { t } from "./texts.js";
import { arrange } from "./versions.js";
import { Writer } from "./writer.js";

const NEWEST = 20; // messages that come with a session

export class Conversation {
  // `moved` is called with the id when it changes, `changed` when the list of conversations may look different,
  // `drawn` when the head or the composer have to be drawn anew.
  constructor(api, { moved, changed, drawn }) {
    Object.assign(this, { api, moved, changed, drawn });
    this.list = find("message-list");
    this.scroller = new Scroller(find("messages"));
    this.actions = {
      retry: (view) => this.retry(view),
      edit: (view, text) => this.resend(view, text),
      fork: (view) => this.attempt(() => this.fork(view)),
      rate: (view, rating, comment) => this.attempt(() => this.rate(view, rating, comment)),
    };
    this.reset("");
  }

  clear(id) {
    this.leave();
    this.reset(id);
    this.drawn();
  }

  reset(id) {
    this.id = id;
    this.session = null;
    this.model = ""; // what the reader has picked; else the session's
    this.views = [];
    this.hasEarlier = false;
    this.visit = new AbortController();
    this.list.replaceChildren();
  }

  // The turn goes on without us. One that the service may not have got yet is seen off first.
  leave() {
    this.visit?.abort();
    const running = this.running;
    this.running = null;
    if (!running) return;
    if (running.turn.id) running.control.abort();
    else running.left = true;
  }

  async open(id) {
    this.clear(id);
    if (!id) return;
    // A message that was on its way when the page went away: under its key it can't become two.
    const request = sentTo(id);
    if (request?.fresh) {
      await this.begin(request);
      return;
    }
    const { signal } = this.visit;
    this.list.setAttribute("aria-busy", "true");
    try {
      const [session] = await Promise.all([this.api.session(id, signal), ready()]);
      this.take(session);
      this.hasEarlier = this.views.length >= NEWEST;
    } catch (problem) {
      if (!signal.aborted) this.cannotOpen(problem);
      return;
    } finally {
      if (!signal.aborted) this.list.setAttribute("aria-busy", "false");
    }
    this.scroller.toBottom();
    this.drawn();
    const last = this.views.at(-1);
    if (request) await this.begin(request);
    else if (last?.record.status === "pending") await this.takeUp(last);
  }

  cannotOpen(problem) {
    const again = h("button", { type: "button", class: "text-button", testid: "error-retry" }, t("try_again"));
    again.addEventListener("click", () => this.open(this.id));
    const gone = problem.status === 404;
    const box = h("div", { class: "error", testid: "error" }, h("p", {}, said(problem)), gone ? null : h("p", {}, again));
    this.list.replaceChildren(box);
    announce(said(problem));
  }

  // What the service knows of the conversation takes the place of what was shown.
  take(session) {
    this.session = session;
    const fresh = session.messages.map((record) => {
      const view = this.views.find((known) => isSame(known.record, record));
      if (!view) return new MessageView(record, this.actions);
      // The record does not know how long to wait.
      view.update(record.error && view.record.error ? { ...record, error: view.record.error } : record);
      return view;
    });
    const first = fresh.length ? positionOf(fresh[0].record) : 0;
    this.views = [...this.views.filter(({ record }) => record.id && positionOf(record) < first), ...fresh];
    this.arrange();
    this.drawn();
  }

  arrange() {
    this.scroller.keep(() => arrange(this.list, this.views));
  }

  // What somebody is writing here, or has not got through, is not wiped away.
  async refresh() {
    const { id } = this;
    if (!id || this.running || this.list.querySelector("form, [data-status=unsent]")) return;
    const session = await this.api.session(id, this.visit.signal).catch(() => null);
    if (!session || this.id !== id || this.running) return;
    this.take(session);
    const last = this.views.at(-1);
    if (last?.record.status === "pending") this.takeUp(last); // another tab has sent something
  }

  async earlier() {
    const { signal } = this.visit;
    const first = this.views.find(({ record }) => record.id);
    const page = await this.api.messages(this.id, { before: first?.record.id }, signal);
    this.hasEarlier = Boolean(page.next);
    const views = page.data.reverse().map((record) => new MessageView(record, this.actions));
    this.views = [...views, ...this.views];
    this.scroller.keepPlace(() => arrange(this.list, this.views));
    this.drawn();
  }

  // Sending

  // after: the turn that this one follows, null for none; undefined: the last one.
  send(text, after) {
    if (this.running) return;
    const body = { message: text, session_id: this.id || randomId() };
    if (this.model) body.model = this.model;
    if (after !== undefined) body.after_turn = after;
    this.begin({ body, key: randomId(), fresh: !this.session });
  }

  async begin(request) {
    const { body } = request;
    if (!this.id) {
      this.id = body.session_id;
      this.moved(this.id);
    }
    sending(request);
    const replaced = body.after_turn === undefined ? [] : this.after(body.after_turn);
    supersede(replaced, new Date().toISOString());
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
      arrived(request);
      this.views = this.views.filter((view) => view === question || view === reply || view.record.turn_id !== turn_id);
      question.update({ ...question.record, turn_id });
      reply.update({ ...reply.record, turn_id });
      this.arrange();
      if (!this.session) this.changed(); // a new conversation is in the list from now on
    };
    const problem = await this.listen(reply, turn, began);
    if (problem?.turnId) arrived(request);
    if (!problem || turn.id || problem.turnId) return;
    // The service has taken nothing on.
    arrived(request);
    supersede(replaced, null);
    const again = () => {
      if (this.running) return;
      this.views = this.views.filter((view) => view !== question && view !== reply);
      this.begin(request);
    };
    reply.update({ ...reply.record, status: "unsent", error: errorOf(problem), again });
    this.arrange();
  }

  takeUp(view) {
    const { turn_id: id, content } = view.record;
    return this.listen(view, { id, offset: [...content].length }, () => {});
  }

  // Show a reply as it comes, to its end. Returns the error that it ended with, or null.
  async listen(view, turn, began) {
    const running = { turn, view, control: new AbortController(), left: false };
    this.running = running;
    this.drawn();
    const writer = new Writer(view, this.scroller);
    const on = {
      start: (data) => {
        began(data);
        if (running.left) running.control.abort();
      },
      text: (piece) => writer.add(piece),
      pause: (seconds) => this.scroller.keep(() => view.connection(seconds)),
      going: () => view.connection(0),
    };
    let problem = null;
    try {
      const answer = await this.toItsEnd(turn, on, running.control.signal);
      writer.end();
      this.scroller.keep(() => view.update(completed(view.record, answer)));
    } catch (error) {
      writer.end();
      if (running.control.signal.aborted) return null;
      problem = error;
      const failed = { ...view.record, content: writer.text, status: "failed", error: errorOf(error) };
      if (error.turnId) failed.turn_id = error.turnId;
      this.scroller.keep(() => view.update(failed));
    } finally {
      if (this.running === running) this.running = null;
    }
    if (running.left) return null;
    announce(problem ? said(problem) : `${t("reply")}: ${view.body.innerText.slice(0, 2000)}`);
    this.drawn();
    if (!problem || turn.id || problem.turnId) {
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
    for (let tries = 0; running && this.running === running && tries < 20; tries += 1) {
      const turn = running.turn.id || (await this.pendingTurn());
      if (turn) return this.attempt(() => this.api.cancel(turn));
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    if (!running || this.running !== running) return;
    running.control.abort(); // nobody has heard of it
    this.running = null;
    arrived(running.turn.request);
    running.view.update({ ...running.view.record, status: "cancelled" });
    this.drawn();
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
    await this.attempt(async () => this.send(text, await this.before(view.record.turn_id)));
  }

  async fork(view) {
    const session = await this.api.fork(this.id, view.record.turn_id);
    toast(t("forked"));
    this.moved(session.session_id);
    this.changed();
    await this.open(session.session_id);
  }

  async rate(view, rating, comment) {
    const { feedback } = await this.api.feedback(view.record.id, rating, comment);
    view.update({ ...view.record, feedback });
  }

  // True if it went well; else the reader is told.
  async attempt(action) {
    try {
      await action();
      return true;
    } catch (problem) {
      if (problem.name !== "AbortError") toast(said(problem));
      return false;
    }
  }

  current() {
    return this.views.filter(({ record }) => !record.superseded_at);
  }

  // The turn before a turn, null where it is the first.
  async before(turn) {
    for (;;) {
      const views = this.current().filter(({ record }) => record.turn_id && record.role !== "system");
      const place = views.findIndex(({ record }) => record.turn_id === turn);
      if (place > 0) return views[place - 1].record.turn_id;
      if (!this.hasEarlier) return null;
      await this.earlier();
    }
  }

  // The messages that come after a turn; all of them for null.
  after(turn) {
    const views = this.current().filter(({ record }) => record.role !== "system");
    return views.slice(views.findLastIndex(({ record }) => record.turn_id === turn) + 1);
  }
}
