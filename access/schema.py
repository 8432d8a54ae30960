"""Callers' keys and errors in the published OpenAPI document."""

from collections import defaultdict
from typing import Any

from django.conf import settings
from django.utils import translation
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

from access.authentication import CallerAuthentication
from access.callers import Limits
from access.models import Scope
from web.errors import CODES
from web.openapi import JSON, REQUEST_ID, Count, Schema, examples_of

ERROR_CODES = list(CODES)
LIMITS = [*Limits._fields, "forks_at_once", "forked_mb_per_minute"]
OF_A_CLIENT = "A key of BancoBot (bb_…), which the operator gives you: the sessions are those of its client."
OF_THE_PROVIDER = (
    "Your own key of the provider: it goes upstream with this request, is never stored, and tells whose sessions are "
    "yours."
)
INSTEAD = (
    "The same keys, where a proxy in front needs `Authorization` for itself. Where it is sent, `Authorization` "
    "is not read, and an empty value is no key."
)
OF_NOBODY = "Without the header the server's key is used, and the sessions are those of everybody who sends none."
KEYS = {
    "open": (OF_THE_PROVIDER, OF_A_CLIENT, OF_NOBODY),
    "keys": (OF_A_CLIENT,),
    "byok": (OF_THE_PROVIDER,),
    "keys+byok": (OF_A_CLIENT, OF_THE_PROVIDER),
}
ACCESS_MODES = list(KEYS)
KEYS_ALONE: list[Any] = [{"bearer": []}, {"api_key": []}]
OPTIONAL_KEY = [*KEYS_ALONE, {}]
KEY = OPTIONAL_KEY if settings.ACCESS_MODE == "open" else KEYS_ALONE

# The error codes of all endpoints, and of all endpoints that identify their caller
ALWAYS = ("invalid_request", "request_too_large", "internal_error")
CALLER = (
    *ALWAYS, "not_authenticated", "invalid_api_key", "permission_denied", "not_acceptable", "rate_limited",
    "database_unavailable",
)  # fmt: skip


class Bearer(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call] # the library's hook has no hints
    """The headers with the key that ACCESS_MODE expects."""

    target_class = CallerAuthentication
    name = ["bearer", "api_key"]

    def get_security_requirement(self, auto_schema: AutoSchema) -> Any:
        return KEY

    def get_security_definition(self, auto_schema: AutoSchema) -> Any:
        keys = " ".join(KEYS[settings.ACCESS_MODE])
        return [
            {"type": "http", "scheme": "bearer", "description": keys},
            {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": INSTEAD},
        ]


class ErrorSerializer(serializers.Serializer[Any]):
    """Every error, whatever its status."""

    detail = serializers.CharField(help_text="What happened, for a person, in the language of Accept-Language.")
    code = serializers.ChoiceField(ERROR_CODES, help_text="What happened, for a program. Stable.")
    request_id = serializers.CharField(help_text="The answer's X-Request-ID.")
    errors = serializers.DictField(  # type: ignore[assignment] # DRF takes it away: `errors` stays the property
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="What is wrong, by field or parameter (400 only).",
    )
    retry_after = Count(required=False, help_text="Seconds after which it is worth trying again, as in Retry-After.")
    limit = serializers.ChoiceField(LIMITS, required=False, help_text="Which limit has been reached (402 and 429).")
    wanted = serializers.FloatField(
        required=False, min_value=0, help_text="What the request would have needed of it: tokens, USD, MB, or 1."
    )
    scope = serializers.ChoiceField(Scope.values, required=False, help_text="What the key would need (403).")
    turn_id = serializers.CharField(required=False, help_text="The turn that failed; its question is stored.")
    may_have_been_billed = serializers.BooleanField(
        required=False, help_text="The provider had been asked and may charge for it. Nothing is resent by itself."
    )


def errors(*codes: str, turn: str = "", problems: dict[str, str] | None = None) -> dict[Any, OpenApiResponse]:
    """The answers with these codes. Their examples have the id of a failed `turn`, and `problems` by field in a 400."""
    by_status: defaultdict[int, Schema] = defaultdict(dict)
    for code in sorted(codes):
        by_status[CODES[code].status][code] = _example(code, turn, problems)
    return {
        (status, JSON): OpenApiResponse(
            ErrorSerializer,
            description=", ".join(f"`{code}`" for code in by_status[status]),
            examples=examples_of(by_status[status], response_only=True),
        )
        for status in sorted(by_status)
    }


def _example(code: str, turn: str, problems: dict[str, str] | None) -> Schema:
    """The error object with this code, in Portuguese."""
    known = CODES[code]
    with translation.override("pt-br"):
        value: Schema = {"detail": str(known.sentence), "code": code, "request_id": REQUEST_ID}
    if code == "invalid_request" and problems:
        value["errors"] = {field: [problem] for field, problem in problems.items()}
    if known.retry_after:
        value["retry_after"] = known.retry_after
    if turn and known.stored:
        value |= {"turn_id": turn, "may_have_been_billed": known.billed}
    return value
