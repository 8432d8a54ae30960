"""One line per event, as JSON or for a person to read: no message text, no keys."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="")
# What a request's own line in the log shall say beside method, path and status; views add to it.
facts: ContextVar[dict[str, Any] | None] = ContextVar("facts", default=None)

STANDARD = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "request", "response", "server_time"}


def note(**values: Any) -> None:
    """Add facts to the request's line in the log: ids, counts and codes, never what people wrote."""
    collected = facts.get()
    if collected is not None:
        collected.update(values)


class JSONFormatter(logging.Formatter):
    """A line of JSON: time, level, logger, message, request_id, and the record's extra values."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(fields_of(record), ensure_ascii=False, default=str)


class ConsoleFormatter(logging.Formatter):
    """The same for a person: time, level, message, then name=value."""

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        trace = fields.pop("traceback", "")
        line = f"{fields.pop('time')[11:23]} {fields.pop('level'):<7} {fields.pop('message')}"
        fields.pop("logger")
        rest = " ".join(f"{name}={value}" for name, value in fields.items())
        return visible(f"{line}  {rest}".rstrip()) + (f"\n{trace}" if trace else "")


def visible(text: str) -> str:
    """`text` without what a terminal would obey: a path from outside could forge lines or move the cursor."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
    }
    if request_id.get():
        fields["request_id"] = request_id.get()
    fields |= {name: value for name, value in record.__dict__.items() if name not in STANDARD and value is not None}
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def configuration(level: str, format_name: str) -> dict[str, Any]:
    """Django's LOGGING: everything to standard error, in one format."""
    formatter = JSONFormatter if format_name == "json" else ConsoleFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": sys.stderr, "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": {"handlers": [], "level": level, "propagate": True},
            # A request's line comes from asgi.py, which knows its id; these would say it again without.
            "django.request": {"level": "CRITICAL", "propagate": True},
            "django.server": {"level": "CRITICAL", "handlers": [], "propagate": True},
            "django.security.DisallowedHost": {"level": "CRITICAL", "propagate": True},
            "django.db.backends": {"level": "INFO", "propagate": True},  # its DEBUG shows what people wrote
            "httpx": {"level": "WARNING", "propagate": True},
            "asyncio": {"level": "WARNING", "propagate": True},
        },
    }
