// The message that was sent and of which nothing is known yet: it is sent again, under its key, after a reload.

import { kept } from "./access.js";

const NAME = "bancobot.outbox";

// request: { body, key, fresh }; fresh: its conversation is new
export function sending(request) {
  kept.set("sessionStorage", NAME, JSON.stringify(request));
}

// What was sent to a conversation, or null.
export function sentTo(id) {
  try {
    const request = JSON.parse(kept.get("sessionStorage", NAME) || "null");
    return request?.body?.session_id === id ? request : null;
  } catch {
    return null;
  }
}

// What has come of a request is known: it need not be sent again.
export function arrived({ body, key }) {
  if (sentTo(body.session_id)?.key === key) kept.set("sessionStorage", NAME, "");
}
