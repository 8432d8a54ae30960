"""The embedded default: a bank's FAQ in Portuguese, answered from answers.py. No model and no test double."""

import asyncio
import re
import unicodedata
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal
from typing import Any

from chat.providers.base import ChatMessage, Options, Piece, Provider, Usage

from .answers import (
    DEMONSTRATION,
    ENGLISH_WORDS,
    FACET_TOPICS,
    FACETS,
    NO_MORE,
    POINTING_BACK,
    PORTUGUESE_ONLY,
    PORTUGUESE_WORDS,
    SMALL_TALK,
    TOPICS,
    UNKNOWN,
    URGENT,
    Topic,
)

MODEL = "demo/bancobot-faq"
CONTEXT_LENGTH = 32_000
SHORT_WORD = 3  # letters; as stems, such words would match too much ("oi" in "oito")

MAX_SMALL_TALK_WORDS = 6  # words


class Demo(Provider):
    """Gives the same answer to the same conversation. `delay`: seconds between two words.

    A token is a word: it counts and streams words, so its counts are exact.
    """

    name = "demo"
    gives_titles = False
    default_model = MODEL

    def __init__(self, *, delay: float = 0.0) -> None:
        self.delay = delay

    async def stream(self, messages: Sequence[ChatMessage], options: Options) -> AsyncGenerator[Piece]:
        words = _words(answer(messages))
        limit = len(words) if options.max_tokens is None else min(options.max_tokens, len(words))
        for index, word in enumerate(words[:limit]):
            await asyncio.sleep(self.delay)
            yield Piece(word, None, None, MODEL, self.name) if index == 0 else Piece(word)
        prompt_tokens = sum(len(message.content.split()) for message in messages)
        usage = Usage(prompt_tokens, limit, cost=Decimal(0))
        yield Piece("", "stop" if limit == len(words) else "length", usage, MODEL, self.name)

    async def models(self, api_key: str | None = None) -> list[dict[str, Any]]:
        return [
            {
                "id": MODEL,
                "name": "BancoBot FAQ (demonstração)",
                "description": "Respostas prontas de um banco, em português. Não é um modelo de linguagem.",
                "context_length": CONTEXT_LENGTH,
                "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
                "pricing": {"prompt": "0", "completion": "0", "request": "0", "image": "0"},
            }
        ]


def answer(messages: Sequence[ChatMessage]) -> str:
    """The whole reply to the last user message. Earlier messages say what a follow-up is about."""
    questions = [_plain(message.content) for message in messages if message.role == "user"] or [""]
    parts = [_answer(questions[-1], questions[:-1])]
    if _is_english(questions[-1]):
        parts.insert(0, PORTUGUESE_ONLY)
    if not any(message.role == "assistant" and DEMONSTRATION in message.content for message in messages):
        parts.append(DEMONSTRATION)
    return " ".join(parts)


def _answer(question: str, earlier: Sequence[str]) -> str:
    facet = _facet(question)
    topic = _topic(question)
    if topic:
        return topic.more.get(facet, topic.answer)
    small_talk = next((talk for talk in SMALL_TALK.values() if _matches(question, talk.words)), None)
    if small_talk and len(question.split()) <= MAX_SMALL_TALK_WORDS:  # "Olá, explique…" asks for more than a greeting
        return small_talk.answer
    if not _is_follow_up(question):
        return UNKNOWN
    subject = next((topic for question in reversed(earlier) if (topic := _topic(question))), None)
    if subject:
        return subject.more.get(facet) or f"{NO_MORE} {subject.answer}"
    return TOPICS[FACET_TOPICS[facet]].answer if facet in FACET_TOPICS else UNKNOWN


def _topic(question: str) -> Topic | None:
    """The topic with most words in the question, the first of equals. Urgent topics come before all others."""
    found = {name: _matches(question, topic.words) for name, topic in TOPICS.items()}
    best = next((name for name in URGENT if found[name]), None) or max(found, key=found.__getitem__)
    return TOPICS[best] if found[best] else None


def _facet(question: str) -> str:
    return next((name for name, words in FACETS.items() if _matches(question, words)), "")


def _is_follow_up(question: str) -> bool:
    """Whether nearly all words point back: "Qual o limite disponível?", "Pode dar um exemplo?"."""
    facet_words = [word for words in FACETS.values() for word in words]
    rest = [word for word in question.split() if word not in POINTING_BACK and not _matches(word, facet_words)]
    return bool(question) and len(rest) <= (1 if _facet(question) else 0)


def _matches(text: str, stems: Sequence[str]) -> int:
    """How many of the stems begin a word of the text. A short stem must be the whole word."""
    padded = f" {text} "
    return sum(f" {stem} " in padded if len(stem) <= SHORT_WORD else f" {stem}" in padded for stem in stems)


def _is_english(question: str) -> bool:
    words = question.split()
    english = sum(word in ENGLISH_WORDS for word in words)
    return english * 3 >= len(words) > 0 and english > sum(word in PORTUGUESE_WORDS for word in words)


def _plain(text: str) -> str:
    """The text in lower case, without accents and punctuation, with one space between words."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    letters = "".join(character for character in decomposed if not unicodedata.combining(character))
    return " ".join(re.findall(r"[a-z0-9]+", letters))


def _words(text: str) -> list[str]:
    """The words, each with the space behind it."""
    return re.findall(r"\S+\s*", text)
