"""Checks a conversation of an import as strictly as the service checks what clients send."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import CharField, Field, Model
from django.utils import timezone

from sessions_api.exports.jsonl import FEEDBACK_FIELDS, MESSAGE_FIELDS, SESSION_FIELDS, VERSION
from sessions_api.models import Feedback, Message, Session
from web.fields import SESSION_ID
from web.moments import EPOCH, utc
from web.parsers import parse_line

Check = Callable[[Any], Any]
Checks = dict[str, tuple[Check, Callable[[], Any]]]  # of each value, and what makes its default
AMOUNT = re.compile(r"[0-9]{1,8}(\.[0-9]{1,12})?", re.ASCII)  # the columns' precision
TURN_ID = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)  # it becomes part of addresses
A_DAY = timedelta(days=1)  # another machine's clock may be ahead by this much
MAX_INTEGER = {"PositiveIntegerField": 2**31 - 1, "PositiveBigIntegerField": 2**63 - 1}


class Refused(Exception):
    """Why a conversation is not imported. The text names the place and quotes nothing."""


def conversation_in(line: bytes) -> tuple[Session, list[Message], list[Feedback]]:
    """The rows of a line, not stored. Raises `Refused`."""
    try:
        told = parse_line(line)
    except ValueError:
        raise Refused("it is no JSON that could be stored") from None
    if not isinstance(told, dict) or told.get("version") != VERSION:
        raise Refused(f"it is no conversation of version {VERSION}")
    session = Session(**_values(told, SESSION_CHECKS, ""))
    messages, feedback = _messages(told.get("messages"), session)
    session.message_count = len(messages)
    session.superseded_count = sum(message.superseded_at is not None for message in messages)
    return session, messages, feedback


def _messages(told: Any, session: Session) -> tuple[list[Message], list[Feedback]]:
    if not isinstance(told, list):
        raise Refused("messages: not a list")
    messages, feedback = [], []
    for position, values in enumerate(told):
        where = f"messages[{position}]"
        if not isinstance(values, dict):
            raise Refused(f"{where}: not an object")
        checked = _values(values, MESSAGE_CHECKS, f"{where}.")
        if checked["position"] != position:
            raise Refused(f"{where}.position: not {position}, as its place in the list says")
        opinion = checked.pop("feedback")
        if opinion is not None:
            opinion = _values(opinion, FEEDBACK_CHECKS, f"{where}.feedback.")
            feedback.append(Feedback(session=session, position=position, **opinion))
        messages.append(_ended(Message(session=session, **checked)))
    return messages, feedback


def _ended(message: Message) -> Message:
    """No process runs an imported turn."""
    if message.status == Message.Status.PENDING:
        message.status = Message.Status.INTERRUPTED
        message.error_code = "turn_interrupted"
        message.may_have_been_billed = True
        message.completed_at = message.created_at
    return message


def _values(told: Mapping[str, Any], checks: Checks, where: str) -> dict[str, Any]:
    """A missing value becomes the column's default, if there is one. Names that no check knows are ignored."""
    values = {}
    for name, (check, default) in checks.items():
        try:
            values[name] = check(told[name]) if name in told else default()
        except Refused as problem:
            raise Refused(f"{where}{name}: {problem}") from None
    return values


def _require(fits: Callable[[Any], Any], reason: str) -> Check:
    """A check that returns the value itself."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise Refused(reason)
        return value

    return check


def _text_that(fits: Callable[[str], Any], reason: str) -> Check:
    check = _require(fits, reason)
    return lambda value: check(_text(value))


def _or(other: Any, check: Check) -> Check:
    return lambda value: value if value == other else check(value)


_text = _require(lambda value: isinstance(value, str), "not a text")
_filled = _text_that(bool, "empty")
_flag = _require(lambda value: isinstance(value, bool), "neither true nor false")
_object = _require(lambda value: isinstance(value, dict), "not an object")
_session_id = _text_that(re.compile(SESSION_ID.regex).search, "not 1 to 128 characters out of A-Z a-z 0-9 . _ : -")
_turn_id = _text_that(TURN_ID.fullmatch, "not 1 to 32 characters out of A-Z a-z 0-9 _ -")


def _moment(value: Any) -> datetime:
    try:
        moment = utc(datetime.fromisoformat(value))
    except (TypeError, ValueError, OverflowError):
        raise Refused("not a moment in ISO 8601") from None
    if not EPOCH <= moment <= timezone.now() + A_DAY:  # the cursors of lists begin in 1970
        raise Refused("not between 1970 and tomorrow")
    return moment


def _amount(value: Any) -> Decimal:
    if not isinstance(value, str) or not AMOUNT.fullmatch(value):
        raise Refused('not an amount such as "0.000123"')
    return Decimal(value)


def _check_of(field: Field) -> Check:
    kind = field.get_internal_type()
    if isinstance(field, CharField) and field.choices:
        choices = [value for value, _label in field.flatchoices]
        return _require(lambda value: isinstance(value, str) and value in choices, f"none of {', '.join(choices)}")
    if most := MAX_INTEGER.get(kind):
        return _require(lambda value: type(value) is int and 0 <= value <= most, f"not a whole number from 0 to {most}")
    if longest := field.max_length:
        short = _text_that(lambda value: len(value) <= longest, f"longer than {longest} characters")
        return short if field.blank else lambda value: short(_filled(value))
    return {"TextField": _text, "DateTimeField": _moment, "DecimalField": _amount, "BooleanField": _flag}[kind]


def _checks(model: type[Model], names: Sequence[str]) -> Checks:
    checks: Checks = {}
    for name in names:
        field: Any = model._meta.get_field(name)
        check = _check_of(field)
        optional = field.null or field.has_default() or field.blank
        checks[name] = _or(None, check) if field.null else check, field.get_default if optional else _missing
    return checks


def _missing() -> Any:
    raise Refused("missing")


SESSION_CHECKS = _checks(Session, SESSION_FIELDS) | {
    "session_id": (_session_id, _missing),
    "forked_from": (_or("", _turn_id), str),
    "metadata": (_object, dict),
}
MESSAGE_CHECKS = _checks(Message, MESSAGE_FIELDS) | {
    "turn_id": (_turn_id, _missing),
    "metadata": (_object, dict),
    "feedback": (_or(None, _object), lambda: None),
}
FEEDBACK_CHECKS = _checks(Feedback, FEEDBACK_FIELDS)
