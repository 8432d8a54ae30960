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

export function reasonOf({ detail, errors }) {
  return [detail, ...Object.values(errors ?? {}).flat()].join(" ");
}

// A sentence for a person: the service's own where it has answered.
export function said(problem) {
  if (problem.name === "Stopped") return t("sending_stopped");
  if (!(problem instanceof ApiError)) return t("unreachable");
  if (problem.code) return problem.message;
  const { status } = problem;
  if (status < 400) return t("strange_answer");
  if (status === 413) return t("too_large");
  return t(status < 500 ? "refused_between" : "failed_between", { status });
}
