// What the page's address says: which conversation is open, and what of it was searched for.

const A_MESSAGE = /^[\w-]+\.\d{1,9}$/;

// hit: { message, q }, the id of a message to show, and the words to mark in it.
export function addressOf(id, { message, q } = {}) {
  if (!id) return "#/";
  const hit = new URLSearchParams({ ...(message && { message }), ...(q && { q }) });
  return `#/c/${encodeURIComponent(id)}${hit.size ? `?${hit}` : ""}`;
}

export function placeIn(hash) {
  const [, id, hit] = /^#\/c\/([^?]+)(?:\?(.*))?$/.exec(hash) ?? [];
  const { message = "", q = "" } = Object.fromEntries(new URLSearchParams(hit ?? ""));
  try {
    return { id: decodeURIComponent(id ?? ""), hit: { message: A_MESSAGE.test(message) ? message : "", q: q.trim() } };
  } catch {
    return { id: "", hit: { message: "", q: "" } };
  }
}
