// Enter in the page's fields.

// What is written with is a keyboard on the screen. Where nothing points, there is a real one.
const TOUCH = matchMedia("(pointer: coarse), (hover: none) and (pointer: fine)");

let composing = false; // an input method is at work: its Enter takes a word, and sends nothing

// Keys that belong to an input method reach nobody else. Safari says that the word is taken before it says that Enter
// was pressed for it, and then only the code 229 tells.
export function leaveToInputMethods() {
  addEventListener("compositionstart", () => (composing = true), true);
  for (const name of ["compositionend", "focusout"]) addEventListener(name, () => (composing = false), true);
  for (const name of ["keydown", "keypress", "keyup"]) addEventListener(name, keep, true);
}

function keep(event) {
  if (!composing && !event.isComposing && event.keyCode !== 229) return;
  event.stopImmediatePropagation();
  if (event.key === "Enter" && event.target.matches?.("input")) event.preventDefault(); // it would submit the form
}

// Enter sends what is written in `field`, and makes a line on a touch screen; with Ctrl or Cmd it sends there too, and
// with Shift or Alt nowhere.
export function sendByEnter(field, send) {
  const hint = () => (field.enterKeyHint = TOUCH.matches ? "enter" : "send");
  TOUCH.addEventListener("change", hint);
  hint();
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
    if (TOUCH.matches && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    if (!event.repeat) send();
  });
}
