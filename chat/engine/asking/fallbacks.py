"""Which models may answer in a model's place, and when the next one is asked."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from django.conf import settings

from chat.engine.asking.draft import Draft
from chat.providers.base import ProviderError

logger = logging.getLogger(__name__)

ANY_MODEL = "*"  # in MODEL_FALLBACKS: those of all models that it does not name
# What another model of the same provider may not share. It shares the key, the credit and the connection.
OF_THE_MODEL = frozenset({"provider_rate_limited", "provider_unavailable", "unsupported_model"})


def models_to_ask(model: str, wished: Sequence[str] | None) -> list[str]:
    """`model`, and those that may answer in its place: the request's own, or those of the settings for `None`."""
    others = wished
    if others is None:
        configured = settings.MODEL_FALLBACKS
        others = configured.get(model) if model in configured else configured.get(ANY_MODEL)
    return list(dict.fromkeys((model, *others))) if others else [model]


async def ask_in_order(models: Sequence[str], ask: Callable[[str], Awaitable[None]], draft: Draft) -> None:
    """Ask the first model, and each further one only where the one before did not accept the request.

    Raises `ProviderError`. Where no model accepted the request it is the first one's, which the caller had asked for.
    """
    refusals: list[tuple[str, ProviderError]] = []
    for model in models:
        draft.model = model
        try:
            return await ask(model)
        except ProviderError as failure:
            if draft.text or failure.may_have_been_billed:
                raise
            refusals.append((model, failure))
            goes_on = failure.code in OF_THE_MODEL and model != models[-1]
            if goes_on or len(refusals) > 1:
                _note(draft, model, failure)
            if not goes_on:
                break
    draft.model, first = refusals[0]
    raise first


def _note(draft: Draft, model: str, failure: ProviderError) -> None:
    # In the order that PostgreSQL gives an object's keys, so that a repeated answer has the same bytes.
    draft.notes.setdefault("fallbacks", []).append({"code": failure.code, "model": model})
    logger.info(
        "a model did not accept a turn",
        extra={"turn": draft.turn_id, "code": failure.code, "reason": failure.detail},
    )
