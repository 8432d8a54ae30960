"""Serializer fields that take JSON's own types and nothing that merely looks like them."""

import json
import math
from functools import cache
from typing import Any, Self, cast

from django.core.validators import ProhibitNullCharactersValidator, RegexValidator
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.request import Request
from rest_framework.utils.formatting import lazy_format
from rest_framework.validators import ProhibitSurrogateCharactersValidator

MAX_METADATA_BYTES = 16_384
SESSION_ID = RegexValidator(r"^[A-Za-z0-9._:-]{1,128}\Z", _("Use 1 to 128 characters out of A-Z a-z 0-9 . _ : -"))


class InEveryLanguage(serializers.Field):
    """DRF words a limit once, in the language of the first who exceeds it; fields here live as long as the process."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        validators: list[Any] = self.validators
        for validator in validators:
            message = getattr(validator, "message", None)
            if isinstance(message, lazy_format):
                validator.message = format_lazy(cast(str, message.format_string), *message.args, **message.kwargs)


class Text(InEveryLanguage, serializers.CharField):
    """A string. White space is kept as it came. The parser has refused what DRF would look for again."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)
        again = (ProhibitNullCharactersValidator, ProhibitSurrogateCharactersValidator)
        self.validators = [validator for validator in self.validators if not isinstance(validator, again)]

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


@extend_schema_field({"type": "string", "pattern": "^[A-Za-z0-9._:-]{0,128}$"})
class SessionId(serializers.Field):
    """1 to 128 characters out of A-Z a-z 0-9 . _ : -; empty or null: a new session."""

    default_error_messages = {"invalid": serializers.CharField.default_error_messages["invalid"]}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, allow_null=True, validators=[SESSION_ID], **kwargs)

    def run_validation(self, data: Any = empty) -> Any:
        return super().run_validation(None if data == "" else data)

    def to_internal_value(self, data: Any) -> str:
        return data if isinstance(data, str) else self.fail("invalid")


class Flag(serializers.BooleanField):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Number(InEveryLanguage, serializers.FloatField):
    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        try:
            number = float(data)
        except OverflowError:
            number = math.inf
        return number if math.isfinite(number) else self.fail("invalid")


class Whole(InEveryLanguage, serializers.IntegerField):
    """A whole number; JSON has one type of number, so 5.0 is one too."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int | float) or data != data // 1:
            self.fail("invalid")
        return int(data)


class Items(InEveryLanguage, serializers.ListField):
    """A list with at most `max_length` items."""

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        self.most = max_length
        super().__init__(max_length=max_length, **kwargs)

    def to_internal_value(self, data: Any) -> list[Any]:
        """Of a list that is too long, all items could have problems: one too many is enough for a refusal."""
        items = data[: self.most + 1] if isinstance(data, list) else data
        return list(super().to_internal_value(items))


class Metadata(serializers.DictField):
    """A JSON object of at most 16 KiB, kept as it came."""

    default_error_messages = {"too_large": _("Ensure this object takes no more than 16 KiB.")}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value = super().to_internal_value(data)
        try:
            size = len(json.dumps(value, allow_nan=False))
        except ValueError:  # a number such as 1e999
            self.fail("not_a_dict", input_type="number")
        if size > MAX_METADATA_BYTES:
            self.fail("too_large")
        return value


class QuerySerializer(serializers.Serializer[Any]):
    """The query parameters of an endpoint. The answer to bad values names the first bad one."""

    @classmethod
    @cache
    def _shared(cls) -> Self:
        """One instance serves all requests: validating keeps no state."""
        return cls()

    @classmethod
    def read(cls, request: Request) -> dict[str, Any]:
        """The value of each parameter, or its default. Raises `ValidationError`."""
        values: dict[str, Any] = {}
        for name, field in cls._shared().fields.items():
            try:
                values[name] = field.run_validation(request.query_params.get(name, empty))
            except serializers.ValidationError as problem:
                raise serializers.ValidationError({name: problem.detail}) from None
        return values


def without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    """The validated values without nulls, which mean absent."""
    return {name: value for name, value in values.items() if value is not None}
