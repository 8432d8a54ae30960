"""The event log as XES (IEEE 1849-2016), with a trace for each conversation and an event for each message."""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from xml.sax.saxutils import quoteattr

from sessions_api.exports.reading import Conversation
from sessions_api.exports.timeline import Event, events
from sessions_api.exports.writing import ExportOptions, moment

NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 cannot represent these
HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1849.2016" xes.features="" xmlns="http://www.xes-standard.org/">
<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
<extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>
<extension name="Organizational" prefix="org" uri="http://www.xes-standard.org/org.xesext"/>
<extension name="Lifecycle" prefix="lifecycle" uri="http://www.xes-standard.org/lifecycle.xesext"/>
<global scope="trace">
<string key="concept:name" value=""/>
</global>
<global scope="event">
<string key="concept:name" value=""/>
<string key="concept:instance" value=""/>
<date key="start_timestamp" value="1970-01-01T00:00:00.000Z"/>
<date key="time:timestamp" value="1970-01-01T00:00:00.000Z"/>
<string key="org:resource" value=""/>
<string key="org:role" value=""/>
<string key="lifecycle:transition" value="complete"/>
</global>
<classifier name="Activity" scope="event" keys="concept:name"/>
<classifier name="Resource" scope="event" keys="org:resource"/>
<classifier name="Outcome" scope="event" keys="concept:name lifecycle:transition"/>
<string key="concept:name" value="BancoBot"/>
<string key="lifecycle:model" value="standard"/>
"""


def write(conversations: Iterable[Conversation], options: ExportOptions) -> Iterator[str]:
    yield HEAD + _attribute("string", "clock", "simulated" if options.simulated else "real")
    for conversation in conversations:
        told = events(conversation, options)
        first = next(told, None)
        options.counts.count_conversation(written=first is not None)
        if first is not None:
            yield _beginning(conversation)
            yield _event(first, options)
            for event in told:
                yield _event(event, options)
            yield "</trace>\n"
    yield "</log>\n"


def _beginning(conversation: Conversation) -> str:
    session = conversation.session
    about = {"concept:name": conversation.case_id, "session_id": session.session_id, "owner": session.owner}
    if session.persona_id:
        about["persona_id"] = session.persona_id
    return "<trace>\n" + "".join(_attribute("string", key, value) for key, value in about.items())


def _event(event: Event, options: ExportOptions) -> str:
    options.counts.messages += 1
    parts = [
        _attribute("string", "concept:name", event.activity),
        _attribute("string", "concept:instance", event.event_id),
        _attribute("date", "start_timestamp", moment(event.start)),
        _attribute("date", "time:timestamp", moment(event.end)),
        _attribute("string", "org:resource", event.resource),
        _attribute("string", "org:role", event.agent),
        _attribute("string", "lifecycle:transition", "complete" if event.ended_well else "ate_abort"),
        *_details(event),
    ]
    return f"<event>\n{''.join(parts)}</event>\n"


def _details(event: Event) -> Iterator[str]:
    message, feedback = event.said
    yield _attribute("string", "content", message.content)
    yield _attribute("string", "status", message.status)
    for key in ("prompt_tokens", "completion_tokens"):
        if (tokens := getattr(message, key)) is not None:
            yield _attribute("int", key, tokens)
    if message.cost is not None:
        yield _attribute("float", "cost_usd", f"{message.cost:f}")
    if message.error_code:
        yield _attribute("string", "error_code", message.error_code)
    if message.superseded_at:
        yield _attribute("date", "superseded_at", moment(message.superseded_at))
    if feedback is not None:
        yield _attribute("string", "rating", feedback.rating)
        yield _attribute("string", "comment", feedback.comment)


def _attribute(kind: str, key: str, value: Any) -> str:
    safe = NOT_XML.sub("\ufffd", str(value))
    return f'<{kind} key="{key}" value={quoteattr(safe)}/>\n'
