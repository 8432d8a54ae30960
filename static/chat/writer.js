// The reply's text, drawn at most once a frame, and less often the longer that takes.
export class Writer {
  constructor(view, scroller) {
    Object.assign(this, { view, scroller, text: view.record.content, frame: 0, notBefore: 0 });
  }

  add(piece) {
    this.text += piece;
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    const now = performance.now();
    if (now < this.notBefore) {
      this.frame = requestAnimationFrame(() => this.draw());
      return;
    }
    this.scroller.keep(() => this.view.drawBody(this.text));
    this.notBefore = now + 4 * (performance.now() - now);
  }

  end() {
    cancelAnimationFrame(this.frame);
  }
}
