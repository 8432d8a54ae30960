// The messages of the open conversation: they are shown as the service knows them, and come when the reader gets near.

import { find, toast } from "./dom.js";
import { MessageView } from "./message.js";
import { Pages } from "./pages.js";
import { said } from "./records.js";
import { Scroller } from "./scroller.js";
import { arrange } from "./versions.js";

const NEWEST = 20; // messages that come with a session
const NO_HIT = { message: "", q: "" };

export class Transcript {
  // `shown` is called with the hit of a search that the address has to name.
  constructor(api, shown) {
    Object.assign(this, { api, shown, hit: NO_HIT, hits: null }); // what shows hits comes with the first one
    this.list = find("message-list");
    this.gaps = this.list.getElementsByClassName("gap"); // asked at every scroll, so the browser keeps them
    this.scroller = new Scroller(find("messages"));
    this.scroller.moved = () => this.bringNear();
    this.pages = new Pages((record) => new MessageView(record, this.actions));
    this.actions = {
      fill: (view) => this.bring(view),
      older: (hole, up) => this.attempt(() => this.older(hole, up)),
    };
  }

  reset(id) {
    this.id = id;
    this.session = null;
    this.pages.clear();
    this.bringing = null; // the view before which messages are being brought
    this.stuck = false; // that did not go well: the reader has to ask
    this.visit = new AbortController();
    this.leaveHit();
    this.list.replaceChildren();
    this.list.setAttribute("aria-busy", "false");
  }

  get views() {
    return this.pages.views;
  }

  set views(views) {
    this.pages.views = views;
  }

  // What the service knows of the conversation takes the place of what was shown. isKept: of a record that it does not know.
  take(session, isKept) {
    if (this.session && this.session.created_at !== session.created_at) this.pages.clear(); // another of that name
    this.session = session;
    this.pages.put(session.messages, { above: session.messages.length >= NEWEST, isEnd: true });
    this.views = this.views.filter(({ record }) => record.id || isKept(record));
    this.arrange();
  }

  arrange() {
    this.scroller.keep(() => this.put());
  }

  put() {
    arrange(this.list, this.pages, this.actions);
    this.hits?.draw();
  }

  // Hits of a search: { message, q }, see address.js

  // Ask for a hit, and the first time for what shows it. The answer, if there is one, is for `showHit`.
  async findHit(hit) {
    this.leaveHit();
    if (!hit.message && !hit.q) return null;
    this.hit = hit;
    const { signal } = this.visit;
    const module = await import("./hits.js").catch(() => null);
    if (!module || signal.aborted || this.hit !== hit) return null;
    this.hits ??= new module.Hits(this);
    return this.hits.fetch(hit);
  }

  showHit(found) {
    if (found) this.hits.show(found);
  }

  // In the conversation that is open. again: although it is the one that is shown.
  async turnToHit(hit, again = false) {
    if (again || hit.message !== this.hit.message || hit.q !== this.hit.q) this.showHit(await this.findHit({ ...hit }));
  }

  leaveHit() {
    this.hit = NO_HIT;
    this.hits?.clear();
  }

  // The reader goes on with something else, and the address says so.
  endHit() {
    if (this.hit === NO_HIT) return;
    this.leaveHit();
    this.shown(NO_HIT);
  }

  // Messages that are missing near what the reader sees.
  bringNear() {
    if (this.bringing || this.stuck || this.list.ariaBusy === "true") return;
    const near = [...this.gaps].find((gap) => this.scroller.isNear(gap.getBoundingClientRect()));
    if (near) this.bring(near.view, near !== this.list.firstChild && this.scroller.isInLowerHalf(near.getBoundingClientRect()));
  }

  // down: from the beginning of the gap on
  async bring(view, down = false) {
    const { signal } = this.visit;
    this.bringing = view;
    const wentWell = await this.attempt(() => this.fill(view, down));
    if (signal.aborted) return;
    this.bringing = null;
    this.stuck = !wentWell;
    this.bringNear();
  }

  async fill(view, down) {
    const { signal } = this.visit;
    const page = await this.api.messages(this.id, this.pages.bounds(view, down), signal);
    signal.throwIfAborted();
    if (this.pages.gaps.has(view)) this.pages.fill(view, down, page); // else it was superseded meanwhile
    this.scroller.hold(this.list, () => this.put());
  }

  async older({ after, before }, up) {
    const bounds = { after: after < 0 ? "" : after, before, include: "superseded", order: up ? "desc" : "asc" };
    const { signal } = this.visit;
    const page = await this.api.messages(this.id, bounds, signal);
    signal.throwIfAborted();
    this.pages.add(page.data);
    this.scroller.hold(this.list, () => this.put());
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
      if (place < 0) throw new DOMException("It was superseded elsewhere.", "AbortError");
      const gap = this.pages.gapBetween(this.views.indexOf(views[place - 1]), this.views.indexOf(views[place]));
      if (!gap) return place > 0 ? views[place - 1].record.turn_id : null;
      await this.fill(gap, false);
    }
  }

  // The messages that come after a turn; all of them for null.
  after(turn) {
    const views = this.current().filter(({ record }) => record.role !== "system" && !record.unsent);
    return views.slice(views.findLastIndex(({ record }) => record.turn_id === turn) + 1);
  }
}
