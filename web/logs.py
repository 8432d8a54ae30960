"""The log: one line per event, as JSON or for people. It has no message text and no keys."""

import json
import logging
import re
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from web.redaction import mask, mask_all, unmasked

request_id: ContextVar[str] = ContextVar("request_id", default="")
# Fields for the request's line in the log, besides method, path and status. Views add to them.
log_fields: ContextVar[dict[str, Any] | None] = ContextVar("log_fields", default=None)

A_DOUBTFUL_VALUE = re.compile(r"[\s\"=]|^$")

# Their messages describe the system (a refused connection, a missing file), never user data.
SYSTEM_ERRORS = (ImportError, ImproperlyConfigured, OSError, SyntaxError)
STANDARD = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "request", "response", "server_time"}


def add_log_fields(**values: Any) -> None:
    """Add fields to the request's line in the log: ids, counts and codes, never what people wrote."""
    collected = log_fields.get()
    if collected is not None:
        collected.update(values)


class JSONFormatter(logging.Formatter):
    """A line of JSON: time, level, logger, message, request_id, and the record's extra values."""

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        line = json.dumps(fields, ensure_ascii=False, default=str)
        return line if mask(line) == line else json.dumps(mask_all(fields), ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """A line for people: time, level, message, then name=value, with quotes where a value could be taken for more."""

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        trace = fields.pop("traceback", "")
        line = f"{fields.pop('time')[11:23]} {fields.pop('level'):<7} {fields.pop('message')}"
        fields.pop("logger")
        rest = " ".join(f"{name}={shown(value)}" for name, value in fields.items())
        return mask(visible(f"{line}  {rest}".rstrip()) + (f"\n{trace}" if trace else ""))


def shown(value: Any) -> str:
    """A path with spaces could imitate further fields."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if A_DOUBTFUL_VALUE.search(text) else text


def visible(text: str) -> str:
    """`text` with control characters escaped: a path from outside could forge lines or move the cursor."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": message_of(record),
    }
    if request_id.get():
        fields["request_id"] = request_id.get()
    extra = record.__dict__.items()
    fields |= {name: safe_argument(value) for name, value in extra if name not in STANDARD and value is not None}
    if record.exc_info:
        fields["traceback"] = trace_of(record.exc_info[1])
    return fields


def message_of(record: logging.LogRecord) -> str:
    """The message, without the texts that an exception in it may quote."""
    text, args = str(safe_argument(record.msg)), record.args
    if args:
        text %= tuple(map(safe_argument, args)) if isinstance(args, tuple) else args
    # asyncio's further lines are `repr`s, also of exceptions with their messages.
    return text.partition("\n")[0] if record.name == "asyncio" else text


def safe_argument(value: Any) -> Any:
    return headline(value) if isinstance(value, BaseException) else value


def trace_of(problem: BaseException | None) -> str:
    """The stack of an exception and of its causes."""
    parts: list[str] = []
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:
        seen.add(id(problem))
        parts = [headline(problem), *traceback.format_tb(problem.__traceback__), *parts]
        problem = problem.__cause__ or (None if problem.__suppress_context__ else problem.__context__)
    return "\n".join(part.rstrip("\n") for part in parts)


def headline(problem: BaseException) -> str:
    """The exception's type, with the message of system errors only: others may quote user data or a row."""
    name = type(problem).__name__
    return f"{name}: {problem}" if isinstance(problem, SYSTEM_ERRORS) or name == "OperationalError" else name


def configuration(level: str, format_name: str) -> dict[str, Any]:
    """Django's LOGGING: everything to standard error, in one format."""
    formatter = JSONFormatter if format_name == "json" else ConsoleFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": unmasked(sys.stderr), "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": {"handlers": [], "level": level, "propagate": True},
            # application.py logs each request with its id; these would repeat it without the id.
            "django.request": {"level": "CRITICAL", "propagate": True},
            "django.server": {"level": "CRITICAL", "handlers": [], "propagate": True},
            "django.security.DisallowedHost": {"level": "CRITICAL", "propagate": True},
            # So would these: a list's address that names no filter of the list.
            "django.security.DisallowedModelAdminLookup": {"level": "CRITICAL", "propagate": True},
            "django.security.DisallowedModelAdminToField": {"level": "CRITICAL", "propagate": True},
            "django.db.backends": {"level": "INFO", "propagate": True},  # DEBUG would show what people wrote
            "httpx": {"level": "WARNING", "propagate": True},
            "asyncio": {"level": "WARNING", "propagate": True},
        },
    }
