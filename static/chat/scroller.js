// Where the reader is in the conversation, and that it stays so.

import { find } from "./dom.js";

const NEAR = 80; // pixels from the end that count as being there

export class Scroller {
  constructor(element) {
    this.element = element;
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

  // What is added above moves nothing.
  keepPlace(change) {
    const below = this.element.scrollHeight - this.element.scrollTop;
    change();
    this.element.scrollTop = this.element.scrollHeight - below;
    this.look();
  }
}
