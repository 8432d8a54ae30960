// Messages as the API shows them, and what the page makes of them.

import { ApiError } from "./api.js";
import { t } from "./texts.js";

// A reply's record when its turn has come to the end.
export function completed(record, answer) {
  return {
    ...record,
    status: answer.finish_reason === "cancelled" ? "cancelled" : "completed",
    content: answer.response,
    model: answer.model_used,
    usage: answer.usage,
    finish_reason: answer.finish_reason,
    created_at: record.created_at ?? answer.timestamp,
  };
}

export function supersede(views, moment) {
  for (const view of views) view.update({ ...view.record, superseded_at: moment });
}

export function isSame(known, record) {
  return known.id ? known.id === record.id : Boolean(known.turn_id) && known.turn_id === record.turn_id && known.role === record.role;
}

export function positionOf({ id }) {
  return Number(id.slice(id.lastIndexOf(".") + 1));
}

export function errorOf(problem) {
  return {
    detail: said(problem),
    errors: problem.errors,
    retry_at: problem.retryAfter ? Date.now() + problem.retryAfter * 1000 : 0,
    may_have_been_billed: problem.billed,
  };
}

// A sentence for a person: the service's own where it has answered.
export function said(problem) {
  return problem instanceof ApiError && problem.code ? problem.message : t("unreachable");
}
