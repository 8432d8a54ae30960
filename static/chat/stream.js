// A reply as it is written, through lost connections to its end. Nothing in here knows of the page.

import { ApiError } from "./api.js";

const SILENCE = 40_000; // milliseconds; the server says something every 15 s
const MAX_PAUSE = 15_000;
const PASSING = [429, 500, 502, 503, 504];
const GATEWAYS = [502, 503, 504];
const TRIES = 14; // to begin a turn: two minutes
const TRIES_OFFLINE = 40; // eight and a half
const LONG = 60_000; // milliseconds; who is to wait longer than that before a turn begins is told so instead

// The events of a text/event-stream. Ends early where the server has fallen silent; comments only show that it has not.
export async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const part = await inTime(reader.read());
      if (part.done) return;
      const frames = (rest + decoder.decode(part.value, { stream: true })).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        const event = parse(frame);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(frame) {
  const fields = {};
  for (const line of frame.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return fields.data === undefined ? null : { ...fields, data: JSON.parse(fields.data) };
}

async function inTime(promise) {
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new TypeError("silence")), SILENCE);
  });
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}

// Follow a turn to its end and return what `done` says; an ApiError where it failed.
//
// turn: { request: { body, key } } to begin one, or { id, offset } to take one up; `id` and `offset` (characters of the
// reply) are kept up to date in it. A request that got no answer, or a gateway's, is sent again under the same
// Idempotency-Key, so it stays one turn; after some tries the last failure is thrown. A turn that has begun is listened
// to until it ends. on: { start(data), text(piece), pause(seconds), going() }. `signal` ends it; the turn goes on.
export async function follow(api, turn, on, signal) {
  for (let failures = 0; ; failures += 1) {
    let problem = new TypeError("the stream ended early");
    try {
      const response = turn.id
        ? await api.events(turn.id, turn.offset, signal)
        : await api.send(turn.request.body, turn.request.key, signal);
      if (isJson(response)) return whole(await response.json().catch(() => null), on);
      for await (const { event, id, data } of events(response.body)) {
        on.going();
        failures = 0;
        if (event === "start") {
          turn.id = data.turn_id;
          on.start(data);
        } else if (event === "delta") {
          turn.offset = Number(id);
          on.text(data.text);
        } else if (event === "done") {
          return data;
        } else if (event === "error") {
          throw Object.assign(new ApiError(200, data), { final: true });
        }
      }
    } catch (caught) {
      problem = caught;
      if (signal.aborted || isFinal(problem, turn)) throw problem;
    }
    const asked = (problem.retryAfter ?? 0) * 1000;
    const wait = Math.max(asked, Math.min(250 * 2 ** failures, MAX_PAUSE));
    if (!turn.id && (asked > LONG || failures + 1 >= (navigator.onLine ? TRIES : TRIES_OFFLINE))) throw problem;
    on.pause(Math.ceil(wait / 1000));
    await pause(wait, signal, !asked);
  }
}

function isJson(response) {
  return (response.headers.get("Content-Type") ?? "").startsWith("application/json");
}

// The answer to a request for a stream where something in between has made one piece of it.
function whole(answer, on) {
  if (typeof answer?.response !== "string" || !answer.turn_id) throw new ApiError(200);
  on.start(answer);
  on.text(answer.response);
  return answer;
}

// While a turn is listened to, only an answer of BancoBot's own is final, and that only where the trouble does not pass.
// Before it began, all answers are but those of gateways.
function isFinal(problem, turn) {
  if (!(problem instanceof ApiError)) return false;
  if (problem.final) return true;
  if (turn.id) return problem.code !== "" && !PASSING.includes(problem.status);
  return problem.code !== "" || !GATEWAYS.includes(problem.status);
}

// Ends early when the connection comes back, if it `may`.
function pause(milliseconds, signal, may) {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, milliseconds);
    if (may) addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}
