// A reply as it is written, through lost connections to its end. Nothing in here knows of the page.

import { ApiError } from "./api.js";

const SILENCE = 40_000; // milliseconds; the server says something every 15 s
const MAX_PAUSE = 15_000;
const PASSING = [429, 500, 502, 503, 504];

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
// reply) are kept up to date in it. A request that got no answer is sent again under the same Idempotency-Key, so it
// stays one turn. on: { start(data), text(piece), pause(seconds), going() }. `signal` ends it; the turn goes on.
export async function follow(api, turn, on, signal) {
  for (let failures = 0; ; failures += 1) {
    let wait = 0;
    try {
      const response = turn.id
        ? await api.events(turn.id, turn.offset, signal)
        : await api.send(turn.request.body, turn.request.key, signal);
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
    } catch (problem) {
      if (signal.aborted || isFinal(problem, turn)) throw problem;
      wait = (problem.retryAfter ?? 0) * 1000;
    }
    wait ||= Math.min(250 * 2 ** failures, MAX_PAUSE);
    on.pause(Math.ceil(wait / 1000));
    await pause(wait, signal);
  }
}

// An answer of BancoBot's own is one, but for trouble that passes while a turn is only listened to.
function isFinal(problem, turn) {
  if (!(problem instanceof ApiError)) return false;
  if (problem.final) return true;
  return problem.code !== "" && !(turn.id && PASSING.includes(problem.status));
}

// Ends early when the connection comes back.
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, milliseconds);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}
