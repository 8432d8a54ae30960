// Where the reader is in the conversation, and that it stays so.

import { find } from "./dom.js";

const NEAR = 80; // pixels from the end that count as being there
const AHEAD = 600; // pixels from what is seen, at which missing messages are brought

export class Scroller {
  constructor(element) {
    this.element = element;
    this.moved = () => {};
    this.jump = find("jump-down");
    this.jump.addEventListener("click", () => this.toBottom());
    element.addEventListener("scroll", () => this.look(), { passive: true });
    new ResizeObserver(() => this.wasAtBottom && this.toBottom()).observe(element);
    this.wasAtBottom = true;
  }

  look() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    this.wasAtBottom = scrollHeight - scrollTop - clientHeight < NEAR;
    this.jump.hidden = this.wasAtBottom;
    this.moved();
  }

  toBottom() {
    this.element.scrollTop = this.element.scrollHeight;
    this.look();
  }

  // Who reads the end goes on seeing it; who reads something above is left in peace.
  keep(change) {
    const follows = this.wasAtBottom;
    change();
    if (follows) this.toBottom();
    else this.look();
  }

  // What is put in anywhere moves nothing of what is seen.
  hold(list, change) {
    if (this.wasAtBottom) {
      this.keep(change);
      return;
    }
    const top = this.element.getBoundingClientRect().top;
    const seen = [...list.querySelectorAll(":scope > article, :scope > [open] article")].find((each) => each.getBoundingClientRect().bottom > top);
    const before = seen?.getBoundingClientRect().top;
    change();
    if (seen?.isConnected) this.element.scrollTop += seen.getBoundingClientRect().top - before;
    this.look();
  }

  // A box of the page, a third below the top.
  show({ top }) {
    const own = this.element.getBoundingClientRect();
    this.element.scrollTop += top - own.top - own.height / 3;
    this.look();
  }

  isNear({ top, bottom }) {
    const own = this.element.getBoundingClientRect();
    return bottom > own.top - AHEAD && top < own.bottom + AHEAD;
  }

  isInLowerHalf({ top }) {
    const own = this.element.getBoundingClientRect();
    return top > own.top + own.height / 2;
  }
}
