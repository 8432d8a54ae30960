// What does not fit on a page: text outside the window, text that something cuts, and text under other text.
() => {
  const faults = [];
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) faults.push(`the page is ${document.documentElement.scrollWidth} px wide`);
  const named = (element) => {
    const said = (element.textContent || element.value || "").trim().slice(0, 30);
    return `${element.localName}${element.id && `#${element.id}`}.${element.className?.baseVal ?? element.className} “${said}”`;
  };
  // The boxes around an element that cut or scroll what is in them; null: what they cut is meant to be cut.
  const around = new Map([[document.body, []]]);
  const frames = (element) => {
    if (around.has(element)) return around.get(element);
    const { overflowX, overflowY, position, clip, clipPath, textIndent } = getComputedStyle(element);
    let found = element.parentElement ? frames(element.parentElement) : [];
    if (clip !== "auto" || parseInt(textIndent) < -999 || clipPath !== "none" || position === "fixed") found = null; // for screen readers, or over the page
    else if (found && (overflowX !== "visible" || overflowY !== "visible")) {
      found = [{ element, scrolls: /auto|scroll/.test(overflowX + overflowY), frame: element.getBoundingClientRect() }, ...found];
    }
    around.set(element, found);
    return found;
  };
  // What of a box can be seen, if anything.
  const clip = ({ left, right, top, bottom }, element) => {
    for (const { element: cutter, scrolls, frame } of frames(element) ?? []) {
      if (scrolls) {
        [left, right] = [Math.max(left, frame.left), Math.min(right, frame.right)];
        [top, bottom] = [Math.max(top, frame.top), Math.min(bottom, frame.bottom)];
        if (right <= left || bottom <= top) return null;
      } else if (right > frame.right + 1 || left < frame.left - 1 || bottom > frame.bottom + 2 || top < frame.top - 2) {
        faults.push(`cut by ${named(cutter)}: ${named(element)}`);
        return null;
      }
    }
    if (right > width + 1 || left < -1) faults.push(`outside the window: ${named(element)}`);
    return { left, right, top, bottom, element };
  };
  const seen = [];
  const add = (box, element) => {
    if (box.width < 1 || box.height < 1) return;
    const shown = frames(element) && clip(box, element);
    if (shown) seen.push(shown);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("option, script, style, noscript, title, desc, textarea, .skip-to-content-link")) continue;
    if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    range.selectNodeContents(walker.currentNode);
    for (const box of range.getClientRects()) add(box, element);
  }
  for (const field of document.querySelectorAll("input, select, textarea, button, a.button")) {
    if (!field.checkVisibility({ visibilityProperty: true }) || field.type === "hidden") continue;
    if (field.matches("button, [type=submit], [type=button]") && frames(field) && field.scrollWidth > field.clientWidth + 1) faults.push(`too narrow: ${named(field)}`);
    add(field.getBoundingClientRect(), field);
  }
  seen.sort((a, b) => a.top - b.top);
  for (let n = 0; n < seen.length && faults.length < 20; n += 1) {
    const one = seen[n];
    for (let m = n + 1; m < seen.length && seen[m].top < one.bottom - 3; m += 1) {
      const other = seen[m];
      if (Math.min(one.right, other.right) - Math.max(one.left, other.left) < 3) continue;
      if (Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) < 4) continue;
      if (one.element === other.element || one.element.contains(other.element) || other.element.contains(one.element)) continue;
      faults.push(`over each other: ${named(one.element)}, ${named(other.element)}`);
    }
  }
  if (width >= 1280) {
    for (const box of document.querySelectorAll("#content *")) {
      if (box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(box).overflowX) && !box.matches("input, select, textarea")) faults.push(`scrolls sideways: ${named(box)}`);
    }
  }
  return faults;
}
