"""Looks a conversation of an import over, as strictly as the service looks at what clients send."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import CharField, Field, Model
from django.utils import timezone

from sessions_api.exports.jsonl import FEEDBACK_FIELDS, MESSAGE_FIELDS, SESSION_FIELDS, VERSION
from sessions_api.models import Feedback, Message, Session
from web.fields import SESSION_ID
from web.moments import EPOCH, utc
from web.parsers import parse_line

Check = Callable[[Any], Any]
AN_AMOUNT = re.compile(r"[0-9]{1,8}(\.[0-9]{1,12})?", re.ASCII)  # as the columns have room for
A_TURN = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)  # it becomes part of addresses
A_DAY = timedelta(days=1)  # by which another machine's clock may be ahead
MAX_INTEGER = {"PositiveIntegerField": 2**31 - 1, "PositiveBigIntegerField": 2**63 - 1}


class Refused(Exception):
    """Why a conversation is not taken. The text names the place, and quotes nothing."""


def conversation_in(line: bytes) -> tuple[Session, list[Message], list[Feedback]]:
    """The rows of a line, not stored. Raises `Refused`."""
    try:
        told = parse_line(line)
    except ValueError:
        raise Refused("it is no JSON that could be stored") from None
    if not isinstance(told, dict) or told.get("version") != VERSION:
        raise Refused(f"it is no conversation of version {VERSION}")
    session = Session(**_values(told, SESSION_CHECKS, ""), metadata=_metadata(told, ""))
    messages, feedback = _messages(told.get("messages"), session)
    session.message_count = len(messages)
    session.superseded_count = sum(message.superseded_at is not None for message in messages)
    return session, messages, feedback


def _messages(told: Any, session: Session) -> tuple[list[Message], list[Feedback]]:
    if not isinstance(told, list):
        raise Refused("messages: not a list")
    messages, feedback = [], []
    for position, values in enumerate(told):
        where = f"messages[{position}]."
        if not isinstance(values, dict):
            raise Refused(f"{where[:-1]}: not an object")
        message = Message(session=session, **_values(values, MESSAGE_CHECKS, where), metadata=_metadata(values, where))
        if message.position != position:
            raise Refused(f"{where}position: not {position}, as its place in the list says")
        messages.append(_ended(message))
        opinion = values.get("feedback")
        if opinion is not None:
            if not isinstance(opinion, dict):
                raise Refused(f"{where}feedback: not an object")
            checked = _values(opinion, FEEDBACK_CHECKS, f"{where}feedback.")
            feedback.append(Feedback(session=session, position=position, **checked))
    return messages, feedback


def _ended(message: Message) -> Message:
    """Nobody runs an imported turn."""
    if message.status == Message.Status.PENDING:
        message.status = Message.Status.INTERRUPTED
        message.error_code = "turn_interrupted"
        message.may_have_been_billed = True
        message.completed_at = message.created_at
    return message


def _metadata(told: Mapping[str, Any], where: str) -> Any:
    value = told.get("metadata", {})
    if not isinstance(value, dict):
        raise Refused(f"{where}metadata: not an object")
    return value


def _values(told: Mapping[str, Any], checks: Mapping[str, tuple[Check, Any]], where: str) -> dict[str, Any]:
    """What is missing has the column's default, if it has one."""
    values = {}
    for name, (check, default) in checks.items():
        try:
            values[name] = check(told[name]) if name in told else default()
        except Refused as problem:
            raise Refused(f"{where}{name}: {problem}") from None
    return values


def _check_of(field: Field) -> tuple[Check, Any]:
    """How a column's value is looked at, and what makes its default."""
    kind = field.get_internal_type()
    if isinstance(field, CharField) and field.choices:
        check = _one_of([value for value, _label in field.flatchoices])
    elif kind in MAX_INTEGER:
        check = _whole(MAX_INTEGER[kind])
    elif kind == "CharField":
        check = _text(field.max_length)
    else:
        check = {"TextField": _text(None), "DateTimeField": _moment, "DecimalField": _amount, "BooleanField": _flag}[
            kind
        ]
    if field.null:
        return (lambda value: None if value is None else check(value)), lambda: None
    return check, field.get_default if field.has_default() or field.blank else _missing


def _checks(model: type[Model], names: Sequence[str]) -> dict[str, tuple[Check, Any]]:
    return {name: _check_of(model._meta.get_field(name)) for name in names}  # type: ignore[arg-type] # no relations


def _missing() -> Any:
    raise Refused("missing")


def _text(longest: int | None) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Refused("not a text")
        if longest is not None and len(value) > longest:
            raise Refused(f"longer than {longest} characters")
        return value

    return check


def _one_of(values: Sequence[str]) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise Refused(f"none of {', '.join(values)}")
        return value

    return check


def _whole(largest: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not 0 <= value <= largest:
            raise Refused(f"not a whole number from 0 to {largest}")
        return value

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused("neither true nor false")
    return value


def _moment(value: Any) -> datetime:
    try:
        moment = utc(datetime.fromisoformat(value))
    except (TypeError, ValueError, OverflowError):
        raise Refused("not a moment in ISO 8601") from None
    if not EPOCH <= moment <= timezone.now() + A_DAY:
        raise Refused("not between 1970 and tomorrow")
    return moment


def _amount(value: Any) -> Decimal:
    if not isinstance(value, str) or not AN_AMOUNT.fullmatch(value):
        raise Refused('not an amount such as "0.000123"')
    return Decimal(value)


def _owner(value: Any) -> str:
    if value == "":
        raise Refused("empty")
    return str(_text(80)(value))


def _session_id(value: Any) -> str:
    try:
        SESSION_ID(_text(None)(value))
    except ValidationError:
        raise Refused("not 1 to 128 characters out of A-Z a-z 0-9 . _ : -") from None
    return str(value)


def _turn_id(value: Any) -> str:
    if not A_TURN.fullmatch(_text(None)(value)):
        raise Refused("not 1 to 32 characters out of A-Z a-z 0-9 _ -")
    return str(value)


def _forked_from(value: Any) -> str:
    return "" if value == "" else _turn_id(value)


SESSION_CHECKS = {
    **_checks(Session, SESSION_FIELDS),
    "session_id": (_session_id, _missing),
    "owner": (_owner, _missing),
    "forked_from": (_forked_from, str),
}
MESSAGE_CHECKS = {**_checks(Message, MESSAGE_FIELDS), "turn_id": (_turn_id, _missing)}
FEEDBACK_CHECKS = _checks(Feedback, FEEDBACK_FIELDS)
