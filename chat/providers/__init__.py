"""The providers by the names that a setting takes. base.py has their interface."""

from typing import Any

from django.conf import settings

from .base import ChatMessage, Options, Piece, Provider, ProviderError, Usage, estimate_tokens
from .demo import Demo
from .openai_compatible import OpenAICompatible
from .openrouter import OpenRouter

PROVIDERS: dict[str, type[Provider]] = {provider.name: provider for provider in (OpenRouter, OpenAICompatible, Demo)}

__all__ = [
    "PROVIDERS",
    "ChatMessage",
    "Options",
    "Piece",
    "Provider",
    "ProviderError",
    "Usage",
    "estimate_tokens",
    "get_provider",
    "make_provider",
]


def make_provider(kind: str, **settings: Any) -> Provider:
    """A provider of this kind, from the keyword arguments of its class. Raises `KeyError` where there is none."""
    return PROVIDERS[kind](**settings)


def get_provider() -> Provider:
    """The provider that the settings choose."""
    return make_provider(settings.LLM_PROVIDER, **settings.PROVIDERS[settings.LLM_PROVIDER])
