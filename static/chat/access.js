// The reader's key: kept in this tab, or on this device if so wished, and asked for when the service wants one.

import { Api, ApiError } from "./api.js";
import { announce, find } from "./dom.js";
import { noteAnswer } from "./gate.js";
import { base, page, t } from "./texts.js";

const NAME = "bancobot.key";
const ASKING = ["not_authenticated", "invalid_api_key"];
const SENDABLE = /^[\x21-\x2b\x2d-\x7e]{1,512}$/; // in X-API-Key

// What is kept under a name, told from what another BancoBot on the same host keeps: "bancobot.key" is "bancobot/bot.key".
export function own(name) {
  return name.replace(/^bancobot/, `bancobot${base}`);
}

// Storage that a browser may refuse.
export const kept = {
  // Those that begin so.
  names(storage, prefix) {
    try {
      const names = Object.keys(globalThis[storage]).filter((name) => name.startsWith(own(prefix)));
      return names.map((name) => prefix + name.slice(own(prefix).length));
    } catch {
      return [];
    }
  },
  get(storage, name) {
    try {
      return globalThis[storage].getItem(own(name)) ?? "";
    } catch {
      return "";
    }
  },
  set(storage, name, value) {
    try {
      if (value) globalThis[storage].setItem(own(name), value);
      else globalThis[storage].removeItem(own(name));
    } catch {
      // then it lasts as long as the page
    }
  },
};

let current = kept.get("sessionStorage", NAME) || kept.get("localStorage", NAME);

// Who signs out in one tab has left the others that have remembered the same key.
export function onSignOutElsewhere(action) {
  addEventListener("storage", ({ key, newValue }) => {
    if (key === own(NAME) && !newValue && current && !kept.get("sessionStorage", NAME)) action();
  });
}

export function hasKey() {
  return current !== "";
}

// Tells this device's readers apart: 32 bits, from which no key can be found.
export function owner() {
  let hash = 0x811c9dc5; // FNV-1a
  for (let place = 0; place < current.length; place += 1) hash = Math.imul(hash ^ current.charCodeAt(place), 0x01000193);
  return current ? (hash >>> 0).toString(16) : "open";
}

function keep(key, remember) {
  current = key;
  kept.set("sessionStorage", NAME, remember ? "" : key);
  kept.set("localStorage", NAME, remember ? key : "");
}

export function signOut() {
  keep("", false);
  history.replaceState(null, "", "#/");
  location.reload();
}

// The API, which asks for a key where one is wanted and then goes on with what it was doing: no message is lost by it.
export class PageApi extends Api {
  // `signedIn` is called with the reader's mark before (see owner), "" where there was none.
  constructor(signedIn) {
    super({ address: base, key: () => current });
    this.signedIn = signedIn;
    this.asking = null;
  }

  async request(method, path, options) {
    await this.ready();
    for (;;) {
      const used = current;
      try {
        const response = await super.request(method, path, options);
        noteAnswer();
        return response;
      } catch (problem) {
        noteAnswer(problem);
        if (!ASKING.includes(problem.code)) throw problem;
        if (used === current) await this.signIn(used ? problem.message : "");
      }
    }
  }

  // Resolves when there is a key where one is needed.
  async ready() {
    if (!current && page.access !== "open") await this.signIn();
  }

  // Resolves when a good key is there; rejects where the reader does without.
  signIn(reason = "") {
    const before = current ? owner() : "";
    this.asking ??= ask(reason).finally(() => (this.asking = null)).then(() => this.signedIn(before));
    return this.asking;
  }
}

async function ask(reason) {
  const dialog = find("signin");
  const [input, error, submit] = ["signin-key", "signin-error", "signin-submit"].map((name) => find(name));
  const say = (text) => {
    error.textContent = text;
    announce(text);
  };
  say(reason);
  input.value = "";
  dialog.showModal();
  input.focus();
  try {
    for (;;) {
      const key = await submitted(dialog, input);
      submit.disabled = true;
      const problem = SENDABLE.test(key) ? await refusal(key) : t("key_unsendable");
      submit.disabled = false;
      if (!problem) {
        keep(key, find("signin-remember").checked);
        return;
      }
      say(problem);
      input.select();
    }
  } finally {
    submit.disabled = false;
    dialog.close();
  }
}

function submitted(dialog, input) {
  return new Promise((resolve, reject) => {
    const form = dialog.querySelector("form");
    form.onsubmit = (event) => {
      event.preventDefault();
      resolve(input.value.trim());
    };
    const giveUp = (event) => {
      event.preventDefault();
      if (page.access === "open") reject(new ApiError(401, { detail: t("no_key"), code: "not_authenticated" }));
    };
    dialog.oncancel = giveUp;
    find("signin-cancel").onclick = giveUp;
  });
}

// What speaks against a key; empty: nothing.
async function refusal(key) {
  try {
    await new Api({ address: base, key: () => key }).sessions({ limit: 1 });
  } catch (problem) {
    if (!(problem instanceof ApiError)) return t("unreachable");
    if (!problem.code) return t("strange_answer");
    if ([400, 401].includes(problem.status)) return problem.message;
  }
  return "";
}
