// The calls of BancoBot's API. Nothing in here knows of the page: it serves any front end.

export class ApiError extends Error {
  // `code` is empty where something else than BancoBot has answered (a proxy, say).
  constructor(status, body = {}) {
    super(body.detail ?? `HTTP ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.code = body.code ?? "";
    this.errors = body.errors ?? {};
    this.retryAfter = body.retry_after ?? 0;
    this.turnId = body.turn_id ?? "";
    this.billed = body.may_have_been_billed === true;
  }
}

// 128 random bits. crypto.randomUUID would need HTTPS.
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Api {
  // `address` of the service, empty for the page's own; `key` is called for each request: "" means without one.
  constructor({ address = "", key = () => "" } = {}) {
    this.address = address;
    this.key = key;
  }

  // The response, if it is a good one; else an ApiError. No connection: whatever fetch throws.
  async request(method, path, { body, headers = {}, signal } = {}) {
    const key = this.key();
    const response = await fetch(this.address + path, {
      method,
      signal,
      credentials: "omit",
      headers: {
        ...(key && { Authorization: `Bearer ${key}` }),
        ...(body !== undefined && { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({}));
    throw new ApiError(response.status, problem && typeof problem === "object" ? problem : {});
  }

  async json(method, path, options) {
    return (await this.request(method, path, options)).json();
  }

  health() {
    return this.json("GET", "/health");
  }

  models() {
    return this.json("GET", "/models");
  }

  // A page of conversations; `next` is what the page before said.
  sessions({ q = "", limit = 30, next = "" } = {}, signal) {
    return this.json("GET", `/sessions${next ? queryOf(next) : `?${new URLSearchParams({ limit, ...(q && { q }) })}`}`, { signal });
  }

  // A conversation with its newest messages.
  session(id, signal) {
    return this.json("GET", `${session(id)}?include=superseded`, { signal });
  }

  // Messages, the newest first, before the one with the id `before`.
  messages(id, { before = "", limit = 50 } = {}, signal) {
    const parameters = new URLSearchParams({ order: "desc", limit, include: "superseded", ...(before && { before }) });
    return this.json("GET", `${session(id)}/messages?${parameters}`, { signal });
  }

  rename(id, title) {
    return this.json("PATCH", session(id), { body: { title } });
  }

  remove(id) {
    return this.json("DELETE", session(id));
  }

  fork(id, turn) {
    return this.json("POST", `${session(id)}/fork`, { body: { after_turn: turn } });
  }

  export(id, format) {
    return this.request("GET", `${session(id)}/export?${new URLSearchParams({ format })}`);
  }

  feedback(messageId, rating, comment = "") {
    return this.json("POST", `/messages/${encodeURIComponent(messageId)}/feedback`, { body: { rating, comment } });
  }

  cancel(turn) {
    return this.json("POST", `/turns/${encodeURIComponent(turn)}/cancel`);
  }

  // The two that answer with a stream of events: see stream.js.
  send(body, idempotencyKey, signal) {
    const headers = { "Idempotency-Key": idempotencyKey };
    return this.request("POST", "/chat", { body: { ...body, stream: true }, headers, signal });
  }

  events(turn, after, signal) {
    return this.request("GET", `/turns/${encodeURIComponent(turn)}/events?after=${after}`, { signal });
  }
}

function session(id) {
  return `/sessions/${encodeURIComponent(id)}`;
}

// `next` is a whole address, and a proxy may have hidden the real one from the server.
function queryOf(address) {
  return new URL(address, location.href).search;
}
