// The calls of BancoBot's API. Nothing in here knows of the page: it serves any front end.

const JSON_TYPE = "application/json";
const EVENTS = "text/event-stream";
const PATIENCE = 60_000; // milliseconds; BancoBot begins to answer within ten seconds

export class ApiError extends Error {
  // `code` is empty where something else than BancoBot has answered (a proxy, say; status 0: with a redirect).
  constructor(status, body, retryAfter = 0) {
    const own = typeof body?.code === "string" && typeof body.detail === "string" ? body : {};
    super(own.detail ?? `HTTP ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.code = own.code ?? "";
    this.errors = own.errors ?? {};
    this.retryAfter = own.retry_after ?? retryAfter;
    this.turnId = own.turn_id ?? "";
    this.billed = own.may_have_been_billed === true;
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

  // The response, if it is a good one of a type that is among `types` (or of any but a page's); else an ApiError, also for a redirect, which is
  // never BancoBot's. No connection, or silence: whatever fetch throws.
  async request(method, path, { body, headers = {}, signal, types = [] } = {}) {
    const key = this.key();
    const response = await inTime(signal, this.address + path, {
      method,
      redirect: "manual",
      credentials: "same-origin", // a proxy before the page and the service may want its own
      headers: {
        "X-API-Key": key, // also without one: Authorization may be the proxy's
        ...(body !== undefined && { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const type = response.headers.get("Content-Type") ?? "";
    const expected = types.length ? types.some((each) => type.startsWith(each)) : !type.startsWith("text/html");
    if (response.ok && expected) return response;
    const problem = response.ok ? null : await response.json().catch(() => null);
    throw new ApiError(response.status, problem, secondsIn(response.headers.get("Retry-After")));
  }

  async json(method, path, options) {
    return (await this.request(method, path, { ...options, types: [JSON_TYPE] })).json();
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
    return this.json("GET", session(id), { signal });
  }

  // Messages, the newest first. more: before, after, around (a message's id), q, include, order.
  messages(id, { order = "desc", limit = 50, ...more } = {}, signal) {
    const asked = Object.entries({ order, limit, ...more }).filter(([, value]) => value !== undefined && value !== "");
    return this.json("GET", `${session(id)}/messages?${new URLSearchParams(asked)}`, { signal });
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
    return this.request("POST", "/chat", { body: { ...body, stream: true }, headers, signal, types: [EVENTS, JSON_TYPE] });
  }

  events(turn, after, signal) {
    return this.request("GET", `/turns/${encodeURIComponent(turn)}/events?after=${after}`, { signal, types: [EVENTS] });
  }
}

// The head of the answer must come in time; its body may take longer.
async function inTime(signal, address, options) {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new TypeError("silence")), PATIENCE);
  try {
    return await fetch(address, { ...options, signal: signal ? AbortSignal.any([signal, late.signal]) : late.signal });
  } finally {
    clearTimeout(timer);
  }
}

// Retry-After is a number of seconds, or a date.
function secondsIn(header) {
  const seconds = /^\d+$/.test(header ?? "") ? Number(header) : (Date.parse(header ?? "") - Date.now()) / 1000;
  return Math.max(0, Math.ceil(seconds) || 0);
}

function session(id) {
  return `/sessions/${encodeURIComponent(id)}`;
}

// `next` is a whole address, and a proxy may have hidden the real one from the server.
function queryOf(address) {
  return new URL(address, location.href).search;
}
