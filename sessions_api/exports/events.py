"""The event log as CSV, in the columns that the research teams' tools read. docs/research.md describes each."""

from collections.abc import Iterable, Iterator, Sequence

from sessions_api.exports.reading import Conversation
from sessions_api.exports.table import lines
from sessions_api.exports.timeline import events
from sessions_api.exports.writing import Wishes, moment

COLUMNS = ("CASE_ID", "EVENT_ID", "ACTIVITY", "START_TIMESTAMP", "END_TIMESTAMP", "RECURSO", "AGENTE")


def write(conversations: Iterable[Conversation], wishes: Wishes) -> Iterator[str]:
    def rows() -> Iterator[Sequence[str]]:
        for conversation in conversations:
            before = wishes.tally.messages
            for event in events(conversation, wishes):
                wishes.tally.messages += 1
                start, end = moment(event.start), moment(event.end)
                yield event.case_id, event.event_id, event.activity, start, end, event.resource, event.agent
            wishes.tally.count_conversation(written=wishes.tally.messages > before)

    yield from lines(COLUMNS, rows())
