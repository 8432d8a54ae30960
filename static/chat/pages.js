// The messages of a conversation that are on the page, in their order, and where others are missing.

import { isSame, positionOf, supersede } from "./records.js";

const LAST = Number.MAX_SAFE_INTEGER;

export class Pages {
  // make: a view of a record
  constructor(make) {
    this.make = make;
    this.clear();
  }

  clear() {
    this.views = []; // what the service has no id for comes last
    this.gaps = new Set(); // views before which messages that stand are missing
  }

  find(id) {
    return this.views.find(({ record }) => record.id === id);
  }

  // A page of the messages that stand, in their order. above: there are others before it; isEnd: and none after it.
  put(records, { above = false, isEnd = false }) {
    const known = new Set(this.views);
    const page = this.add(records);
    if (!page.length) return;
    const [first, last] = [page[0], page.at(-1)];
    for (const view of page.slice(1)) this.gaps.delete(view);
    if (!above) this.gaps.delete(first);
    else if (!known.has(first)) this.gaps.add(first);
    const [from, to] = [this.views.indexOf(first), this.views.indexOf(last)];
    if (isEnd) for (const view of this.views.slice(to)) this.gaps.delete(view);
    // What stood and is not on its page any more was superseded elsewhere.
    const gone = this.views.slice(from, to).filter((view) => !page.includes(view) && !view.record.superseded_at);
    supersede(gone, new Date().toISOString());
  }

  // Messages in any order, superseded ones too.
  add(records) {
    const views = records.map((record) => {
      const view = this.views.find((known) => isSame(known.record, record));
      if (!view) return this.make(record);
      // The record does not know how long to wait.
      view.update(record.error && view.record.error ? { ...record, error: view.record.error } : record);
      return view;
    });
    this.views = [...new Set([...this.views, ...views])].sort((one, other) => placeOf(one) - placeOf(other));
    return views;
  }

  // What a page of the messages before `view` is asked for with: from the gap's end up, or from its beginning down.
  bounds(view, down) {
    const above = this.views[this.views.indexOf(view) - 1];
    return { before: view.record.id, after: above?.record.id, order: down ? "asc" : "desc" };
  }

  // The answer to that.
  fill(view, down, { data, next }) {
    const isClosed = !down || !next;
    if (isClosed) this.gaps.delete(view);
    this.put(down ? data : data.toReversed(), { above: !down && Boolean(next) });
  }

  // What is missing before these views is superseded with them. Returns where that is.
  close(views) {
    return views.filter((view) => this.gaps.delete(view));
  }

  // The view before which messages are missing, between the two of these places or above the first one.
  gapBetween(one, other) {
    return this.views.slice(one + 1, other + 1).find((view) => this.gaps.has(view));
  }
}

function placeOf({ record }) {
  return record.id ? positionOf(record) : LAST;
}
