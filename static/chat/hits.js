// The message that a search has found: shown where it stands, marked, with ways to the next and the previous one.

import { announce, find, toast } from "./dom.js";
import { t } from "./texts.js";
import { rangesOf } from "./words.js";

const AROUND = 30; // messages that come with a hit
const OLD = 20; // superseded ones
const NAME = "hit"; // of the highlight: see chat.css
const NONE = { message: "", q: "" };

export class Hits {
  constructor(conversation) {
    this.conversation = conversation;
    this.bar = find("hits");
    find("hits-close").addEventListener("click", () => conversation.endHit());
    for (const way of ["previous", "next"]) find(`hit-${way}`).addEventListener("click", () => this.turnTo(way));
    this.clear();
  }

  clear() {
    this.control?.abort();
    Object.assign(this, { hit: NONE, view: null, beside: {} }); // beside: the ids of the previous and the next one
    this.draw();
  }

  turnTo(way) {
    const message = this.beside[way];
    if (!message) return;
    const hit = { message, q: this.hit.q };
    this.conversation.shown(hit);
    this.conversation.turnToHit(hit);
  }

  // Ask for what is needed to show a hit. None at all is no failure: the conversation is there without it.
  async fetch(wanted) {
    this.control = new AbortController();
    const hit = { ...wanted };
    this.hit = hit;
    const signal = AbortSignal.any([this.conversation.visit.signal, this.control.signal]);
    const page = await this.pageOf(hit, signal).catch(() => null);
    return signal.aborted ? null : { page, signal };
  }

  async pageOf(hit, signal) {
    const { api, id, pages } = this.conversation;
    if (!hit.message) {
      const newest = await api.messages(id, { q: hit.q, limit: 1 }, signal);
      hit.message = newest.data[0]?.id ?? ""; // none: the title alone has the words
    }
    if (!hit.message || pages.find(hit.message)) return null;
    const page = await api.messages(id, { around: hit.message, order: "asc", limit: AROUND }, signal);
    if (page.data.some((record) => record.id === hit.message)) return page;
    const old = await api.messages(id, { around: hit.message, order: "asc", limit: OLD, include: "superseded" }, signal);
    return { ...page, old: old.data.filter((record) => record.superseded_at) };
  }

  async show({ page, signal }) {
    if (signal.aborted) return;
    const { pages, scroller } = this.conversation;
    if (page) {
      pages.put(page.data, { above: Boolean(page.previous), isEnd: !page.next });
      pages.add(page.old ?? []);
      this.conversation.arrange();
    }
    this.view = pages.find(this.hit.message) ?? null;
    if (this.hit.message && !this.view) toast(t("hit_gone"));
    const fold = this.view?.element.closest("details");
    if (fold) fold.open = true;
    const [first] = this.draw();
    if (this.view) scroller.show((first ?? this.view.element).getBoundingClientRect());
    if (this.view && this.hit.q) announce(t("hit", { words: this.hit.q }));
    await this.lookBeside(signal);
  }

  async lookBeside(signal) {
    const { api, id } = this.conversation;
    const { message, q } = this.hit;
    if (!message || !q) return;
    const neighbour = async (place) => (await api.messages(id, { q, limit: 1, ...place }, signal)).data[0]?.id;
    const both = [neighbour({ before: message, order: "desc" }), neighbour({ after: message, order: "asc" })];
    const [previous, next] = await Promise.all(both.map((each) => each.catch(() => "")));
    if (signal.aborted) return;
    this.beside = { previous, next };
    this.draw();
  }

  // Mark what there is now: a message that was drawn anew has lost its marks. Returns the places of the words.
  draw() {
    const { list } = this.conversation;
    const { hit, view } = this;
    const where = hit.message ? view?.body : find("title");
    const places = hit.q && where ? rangesOf(where, hit.q) : [];
    this.bar.hidden = !hit.q || (!hit.message && !places.length);
    find("hits-text").textContent = t(hit.message ? "hit" : "hit_in_title", { words: hit.q });
    for (const way of ["previous", "next"]) find(`hit-${way}`).setAttribute("aria-disabled", String(!this.beside[way]));
    for (const marked of list.querySelectorAll(".hit")) if (marked !== view?.element) marked.classList.remove("hit");
    view?.element.classList.add("hit");
    globalThis.CSS?.highlights?.set(NAME, new Highlight(...places));
    return places;
  }
}
