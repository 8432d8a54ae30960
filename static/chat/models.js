// The models on offer, to choose from.

import { find, h } from "./dom.js";
import { money, number, page, t } from "./texts.js";

const MAX_SHOWN = 200;

export class ModelPicker {
  // `picked` is called with a model's id.
  constructor(api, picked) {
    Object.assign(this, { api, picked, models: null });
    this.dialog = find("models-dialog");
    this.filter = find("model-filter");
    this.list = find("model-list");
    this.filter.addEventListener("input", () => this.draw());
    find("models-close").addEventListener("click", () => this.dialog.close());
  }

  // A model's name, its id where nobody has named it.
  nameOf(id) {
    return this.models?.find((model) => model.id === id)?.name || id;
  }

  async load() {
    this.models ??= (await this.api.models()).data;
  }

  async show(current) {
    this.current = current || page.default_model;
    this.filter.value = "";
    this.list.replaceChildren(h("li", { class: "aside" }, t("loading")));
    this.dialog.showModal();
    try {
      await this.load();
      this.draw();
    } catch (problem) {
      this.list.replaceChildren(h("li", { class: "aside" }, problem.code ? problem.message : t("unreachable")));
    }
  }

  draw() {
    const words = plain(this.filter.value).split(/\s+/).filter(Boolean);
    const found = (this.models ?? []).filter(({ id, name }) => {
      const text = plain(`${id} ${name ?? ""}`);
      return words.every((word) => text.includes(word));
    });
    found.sort((one, other) => this.rank(one) - this.rank(other));
    const rows = found.slice(0, MAX_SHOWN).map((model) => this.row(model));
    if (found.length > MAX_SHOWN) rows.push(h("li", { class: "aside" }, t("more_models", { count: number(found.length - MAX_SHOWN) })));
    this.list.replaceChildren(...(rows.length ? rows : [h("li", { class: "aside" }, t("no_models"))]));
  }

  // The one in use and the server's own come first.
  rank({ id }) {
    return id === this.current ? 0 : id === page.default_model ? 1 : 2;
  }

  row(model) {
    const name = h("span", { class: "model-name" }, model.name || model.id);
    if (model.id === page.default_model) name.append(" ", h("span", { class: "tag" }, t("default_model")));
    const pick = () => {
      this.dialog.close();
      this.picked(model.id);
    };
    const button = h(
      "button",
      { type: "button", testid: "model-option", "data-model": model.id, "aria-pressed": String(model.id === this.current), onclick: pick },
      name,
      h("span", { class: "model-id" }, model.id),
      h("span", { class: "model-facts" }, facts(model)),
    );
    return h("li", {}, button);
  }
}

function facts({ context_length: length, pricing }) {
  const context = Number.isFinite(length) ? t("context", { count: number(length) }) : "";
  return [context, priceOf(pricing)].filter(Boolean).join(" · ");
}

// US dollars per million tokens; a negative price is one that depends on something.
function priceOf(pricing) {
  const [prompt, reply] = [pricing?.prompt, pricing?.completion].map((price) => (price === undefined ? NaN : Number(price)));
  if (!(prompt >= 0 && reply >= 0)) return "";
  if (prompt === 0 && reply === 0) return t("free");
  return t("price", { prompt: money(prompt * 1e6), reply: money(reply * 1e6) });
}

// Lower case, without accents.
function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}
