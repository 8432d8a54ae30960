// A proxy in front of the service may have a sign-in of its own (Basic, or a single sign-on with a cookie). When that has
// ended, the proxy answers in the service's place, and only a reload of the page leads to its sign-in.

import { ApiError } from "./api.js";
import { announce, find } from "./dom.js";

const SHUT = [0, 200, 401, 403, 407]; // a redirect, a page that is no answer, and refusals

// The notice stays until the service answers again.
export function noteAnswer(problem) {
  const shut = problem instanceof ApiError && !problem.code && SHUT.includes(problem.status);
  if (problem && !shut) return; // no connection says nothing
  const notice = find("gate");
  if (shut && notice.hidden) announce(find("gate-text").textContent);
  notice.hidden = !shut;
}

find("gate-reload").addEventListener("click", () => location.reload());
