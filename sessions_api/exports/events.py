"""The event log as CSV, with the columns that the research teams' tools read (docs/research.md)."""

from collections.abc import Iterable, Iterator, Sequence

from sessions_api.exports.reading import Conversation
from sessions_api.exports.table import PLAIN, lines
from sessions_api.exports.timeline import events
from sessions_api.exports.writing import ExportOptions, moment

COLUMNS = ("CASE_ID", "EVENT_ID", "ACTIVITY", "START_TIMESTAMP", "END_TIMESTAMP", "RECURSO", "AGENTE")


def write(conversations: Iterable[Conversation], options: ExportOptions) -> Iterator[str]:
    def rows() -> Iterator[Sequence[str]]:
        for conversation in conversations:
            before = options.counts.messages
            for event in events(conversation, options):
                options.counts.messages += 1
                start, end = moment(event.start), moment(event.end)
                yield event.case_id, event.event_id, event.activity, start, end, event.resource, event.agent
            options.counts.count_conversation(written=options.counts.messages > before)

    yield from lines(COLUMNS, rows(), PLAIN.separated_by(options.delimiter))
