"""What a server's list says of a model: the tokens of its context and of its longest reply, under many names."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

# Of what is served now before what the model could take. A dot leads into an object, or into a list of them.
CONTEXT_NAMES = (
    "loaded_context_length",  # LM Studio; its max_context_length is what the model could have
    "loaded_instances.config.context_length",  # LM Studio
    "meta.n_ctx",  # llama.cpp; its n_ctx_train is what the model was trained with
    "n_ctx",
    "max_model_len",  # vLLM, SGLang, NVIDIA NIM
    "context_length",  # OpenRouter, Together, Fireworks, Moonshot
    "context_window",  # Groq, Vercel
    "context_window.context_length",  # Poe
    "max_context_length",  # Mistral, LM Studio
    "max_context_window",  # Lemonade
    "max_context",  # ArliAI
    "context_size",  # Novita
    "top_provider.context_length",  # OpenRouter
    "metadata.context_length",  # DeepInfra
    "model_spec.availableContextTokens",  # Venice
    "providers.context_length",  # Hugging Face
    "limits.max_context_length",  # Cerebras
    "limits.max_context_window_tokens",
    "capabilities.limits.max_context_window_tokens",  # GitHub Copilot
    "max_context_window_tokens",
    "max_seq_len",
    "parameters.max_seq_len",  # TabbyAPI
)
PROMPT_NAMES = (  # where a prompt has a limit of its own
    "max_input_tokens",  # Anthropic, LiteLLM
    "model_info.max_input_tokens",  # LiteLLM
    "limits.max_input_tokens",  # GitHub Models
    "max_prompt_tokens",
    "limits.max_prompt_tokens",
    "capabilities.limits.max_prompt_tokens",  # GitHub Copilot
    "inputTokenLimit",  # Gemini
)
REPLY_NAMES = (
    "top_provider.max_completion_tokens",  # OpenRouter
    "max_completion_tokens",  # Groq, Featherless
    "max_output_tokens",  # LiteLLM, Novita, Requesty
    "max_output_length",
    "model_info.max_output_tokens",  # LiteLLM
    "limits.max_output_tokens",  # GitHub Models
    "limits.max_completion_tokens",  # Cerebras
    "capabilities.limits.max_output_tokens",  # GitHub Copilot
    "context_window.max_output_tokens",  # Poe
    "model_spec.maxCompletionTokens",  # Venice
    "outputTokenLimit",  # Gemini
    "max_tokens",  # Anthropic, Vercel
    "metadata.max_tokens",  # DeepInfra
)
MOST_TOKENS = 10**9  # what is beyond, no model has
NUMBER = re.compile(r"([0-9][0-9_,]{0,15}(?:\.[0-9]{1,9})?) ?([kKmM]?)(?: ?tokens)?", re.ASCII)
UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


class ListedLimits(NamedTuple):
    """In tokens; 0 where the list does not say."""

    context: int = 0
    reply: int = 0


def limits_in(entry: Mapping[str, Any]) -> ListedLimits:
    """The limits in a model's entry of the list. Values without sense (0, true, NaN, 10^30) count as missing."""
    context, prompt = _first(entry, CONTEXT_NAMES), _first(entry, PROMPT_NAMES)
    return ListedLimits(min(context or prompt, prompt or context), _first(entry, REPLY_NAMES))


def _first(entry: Mapping[str, Any], names: Sequence[str]) -> int:
    return next((tokens for name in names if (tokens := _least(entry, name.split(".")))), 0)


def _least(value: Any, path: Sequence[str]) -> int:
    """The tokens at a path; of several, as of the providers behind a router, the fewest."""
    if isinstance(value, list):
        return min((tokens for item in value if (tokens := _least(item, path))), default=0)
    if not path:
        return _tokens(value)
    return _least(value.get(path[0]), path[1:]) if isinstance(value, dict) else 0


def _tokens(value: Any) -> int:
    """A number of tokens, given as a number or as text (32768, 32768.0, "32,768", "128K"); 0 where it is none."""
    if isinstance(value, str):
        value = _number(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return 0
    return int(value) if 0 < value <= MOST_TOKENS and value == int(value) else 0


def _number(text: str) -> Decimal | None:
    found = NUMBER.fullmatch(text)
    if found is None:
        return None
    digits, unit = found.groups()
    return Decimal(re.sub("[_,]", "", digits)) * UNITS[unit.lower()]
