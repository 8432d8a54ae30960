"""The kinds of greed."""

from trials.torture.greedy import batches, forks, line, pages, readers
from trials.torture.greedy.target import Flood

FLOODS: dict[str, Flood] = {
    "3,005 messages to one busy session": line.flood,
    "4 tasks that say 99 KB of new words, search and begin anew": batches.flood,
    "12 tasks that copy a megabyte": forks.flood,
    "12 tasks that copy nothing, thousands of times": forks.flood_of_empty_sessions,
    "12 tasks that store system prompts": forks.flood_of_settings,
    "12 tasks that erase": forks.flood_of_erasures,
    "12 tasks that export and search": forks.flood_of_reads,
    "300 readers who do not read": readers.flood,
    "16 clients that ask for pages": pages.flood,
}
