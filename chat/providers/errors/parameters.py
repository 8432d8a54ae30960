"""Which parts of our own request a refusal names. It returns our names alone, never the provider's words."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# All that a request has beside its model and its messages.
PARAMETERS = ("max_tokens", "max_completion_tokens", "temperature", "stream", "stream_options", "session_id", "plugins")
SYSTEM = "system"  # the system role
ALTERNATION = "alternation"  # messages of one role in a row, or another first message than the user's

REFUSING_STATUS = (400, 422)
TEMPLATE_STATUS = (424, 500)  # llama.cpp, Ollama, SGLang, TGI where the model's chat template refuses the messages
ALIASES = {
    **{name: name for name in PARAMETERS},
    "max_output_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "maxoutputtokens": "max_tokens",
    "maxtokens": "max_tokens",
    "maximum tokens": "max_tokens",
    "max tokens": "max_tokens",
    "streaming": "stream",
    "streamoptions": "stream_options",
    "stream options": "stream_options",
    "sessionid": "session_id",
}
PATH_KEYS = {"param", "parameter", "field", "property", "property_name", "argument"}
ECHOES = {"input", "input_value", "ctx", "value", "flagged_input", "request", "url"}  # may quote what was sent
MAX_DEPTH = 8
MAX_TEXT = 4000  # characters

FLAGS = re.IGNORECASE | re.ASCII
NAME = re.compile(rf"(?<![a-z0-9_])(?:{'|'.join(sorted(ALIASES, key=len, reverse=True))})(?![a-z0-9_])", FLAGS)
SENTENCE_END = re.compile(r"[.!?]\s|[;\n]")
BEFORE = re.compile(
    r"(?:\bun(?:supported|recogni[sz]ed|known|expected)|\binvalid|\bextra|\badditional|\bextraneous|\bdisallowed"
    r"|\bforbidden|\billegal|\bdeprecated|\b(?:not|n't|cannot|can't) (?:be |a |an )?(?:support|accept|allow|permit"
    r"|valid|recogni[sz]e|take|find|use|set|specif)(?:ed|ted|y|ied)?"
    r"|\bremove|\bomit|\bwithout|\brange of|\bmaximum value)",
    FLAGS,
)
NOT_THESE = re.compile(
    r"\b(?:expected|supported|valid|allowed|accepted|instead|use|available|such as|whereas|required|missing|must|only"
    r"|messages?|content)\b",
    FLAGS,
)
# Names and at most four words between the parameter and what is said about it.
AFTER = re.compile(
    r"[^\w\s]*\s*(?:[^\s.!?]+\s+){0,4}?[^\w\s]*(?:not\b|(?:does|is|was|ca|are)n't|cannot|un(?:supported|recogni[sz]ed"
    r"|expected|known)|deprecated|invalid|forbidden|disallowed|illegal|removed|no longer|must\b|should\b|only\b"
    r"|failed\b|(?:can|may) only|out of|exceeds?\b|too (?:large|high|big|small|low|long)|extra inputs|>|<|≤|≥"
    r"|value of \S+ but the supported range)|\S{0,3}\s*(?:参数|不支持|取值|不合法|非法)",
    FLAGS,
)
AT_THE_START = re.compile(r"(?:^|: |\.)$")  # in "temperature: …" of Anthropic and Bedrock
REQUIRED = re.compile(r"\b(?:required|missing|must be (?:provided|set|given|present|specified))\b", FLAGS)
LOCATION = re.compile(r"\bloc['\"]?\s*[:=]\s*[\[(]([^\])]{1,200})[\])]", FLAGS)
FIRST_ROLE = re.compile(r"messages\W{1,3}0\W{1,3}(?:\w+\W)?role", FLAGS)

LASTING = re.compile(
    r"(?:not|n't|cannot) (?:be )?(?:support|permit|allow|recogni|accept|find|used|available|implement|enabled)"
    r"|un(?:support|recogni|known|expected)|extra_forbidden|extraneous|extra inputs|additional propert"
    r"|deprecated|no longer|disallowed|forbidden|\binstead\b|不支持",
    FLAGS,
)
ONLY_ITS_DEFAULT = re.compile(r"only (?:the default|\S+ is (?:allowed|supported))", FLAGS)
OF_A_VALUE = re.compile(
    r"\b(?:must|should) (?:be(?! (?:removed|omitted|dropped|renamed|replaced))|lie|equal|satisfy|not exceed)"
    r"|\bonly be set|\b(?:range|between|exceeds?|maximum|minimum|at (?:most|least)|too (?:large|high|big|small|low)"
    r"|(?:less|greater) than|(?:un)?supported[ _]values?)\b|(?<=\s)[<>]=?\s*-?\d|[≤≥]|取值",
    FLAGS,
)

OWN_ROLE = r"(?:system|developer)['\"`]?"
REFUSED_ROLE = re.compile(
    rf"\b{OWN_ROLE} ?(?:role|messages?|prompts?|instructions?)\b[^.;\n]{{0,40}}?"
    r"(?:\bnot|n't|\bun)[ -]?(?:be |yet |currently )?"
    r"(?:support|allow|enabl|permit|accept|availab|compatib|valid|implement)"
    rf"|(?:\bnot|n't|\bun) ?(?:support|allow|accept|permit|enable|have|recogni[sz]e)[^.;\n]{{0,40}}?\b{OWN_ROLE} ?"
    r"(?:role|messages?|prompts?|instructions?|with)\b"
    r"|\bonly [`'\"]?(?:user|assistant)\b[^.;\n]{0,40}\b(?:roles?|messages?)\b"
    r"|\broles? (?:must|should) be (?:one of|either|in)?\W{0,4}(?:user|assistant|model)\b"
    rf"|\bvalid roles?\W{{1,3}}(?:are )?\W?user"
    rf"|(?:unexpected|invalid|unknown|unsupported|unrecogni[sz]ed) (?:message )?role\W{{0,4}}(?:value )?\W?{OWN_ROLE}"
    rf"|unknown variant \W?{OWN_ROLE}|input tag \W?{OWN_ROLE}"
    rf"|\b{OWN_ROLE} (?:role )?is not (?:one of|a valid|in|support|allow)"
    rf"|\brole:? \W?{OWN_ROLE} (?:is |are )?(?:not|un)|\bno {OWN_ROLE} ?(?:roles?|messages?|prompts?)\b",
    FLAGS,
)
REFUSED_ORDER = re.compile(
    r"\balternat(?:e|es|ed|ing|ion)\b[^\n]{0,80}\b(?:user|assistant|model|roles?)\b"
    r"|\b(?:user|assistant|model|roles?|messages?)\b[^\n]{0,80}\balternat(?:e|es|ed|ing|ion)\b"
    r"|\bfirst (?:non-system )?(?:message|role|turn|content)\b[^.;\n]{0,30}\buser\b"
    r"|\b(?:conversations?|messages?|history)\b[^.;\n]{0,20}\b(?:start|begin)s? with (?:an? |the )?(?:role )?\W?user\b"
    r"|\b(?:multiple|consecutive|successive)\b[^.;\n]{0,20}\b(?:user|assistant|same)\b[^.;\n]{0,20}\b(?:roles?|messages?)\b"
    r"|\bsame role\b[^.;\n]{0,20}\b(?:row|consecutive|succession)",
    FLAGS,
)
CHAT_TEMPLATE = re.compile(r"\bjinja|\braise_exception\b|\btemplate[ _]?error\b|\bchat template\b", FLAGS)


class Refused(NamedTuple):
    """`names` are of PARAMETERS, SYSTEM or ALTERNATION; `reason` as `ProviderError.refused_for` has it."""

    names: tuple[str, ...] = ()
    reason: str = ""


def refused(status: int, body: Any) -> Refused:
    """What the body of a refusal names: a document that was parsed, or text."""
    if status not in REFUSING_STATUS:
        return _by_template(body) if status in TEMPLATE_STATUS else Refused()
    paths: list[str] = []
    texts: list[str] = []
    for is_path, said in _said(body):
        (paths if is_path else texts).append(said)
    paths += [path for text in texts for path in _locations(text)]
    names, roles = _of_paths(paths), _roles(paths, texts)
    about_messages = any(path.split(".")[0] in ("messages", "model") for path in paths)
    if not names and not roles and not about_messages:
        names = dict.fromkeys(name for text in texts for name in _named(text))
    if "stream_options" in names:
        names.pop("stream", None)
    return Refused((*names, *roles), "parameter" if roles else _reason("\n".join(texts)))


def _by_template(body: Any) -> Refused:
    """The messages are put into the template before the model has anything to do, so nothing was accepted."""
    texts = [said for _, said in _said(body)]
    if not any(CHAT_TEMPLATE.search(text) for text in texts):
        return Refused()
    return Refused(tuple(_roles([], texts)), "parameter")


def _reason(said: str) -> str:
    if ONLY_ITS_DEFAULT.search(said):
        return "parameter"
    if OF_A_VALUE.search(said):
        return "value"
    return "parameter" if LASTING.search(said) else ""


def _said(part: Any, key: str = "", depth: int = 0) -> Iterator[tuple[bool, str]]:
    """All paths (True) and texts (False) of a document. Documents inside texts (OpenRouter's `raw`) are read too."""
    if depth > MAX_DEPTH or key in ECHOES:
        return
    if isinstance(part, dict):
        if isinstance(part.get("loc"), list) and not REQUIRED.search(f"{part.get('msg')} {part.get('type')}"):
            yield True, _path(part["loc"])
        for name, inner in part.items():
            if name != "loc":
                yield from _said(inner, str(name), depth + 1)
    elif isinstance(part, list):
        for inner in part:
            yield from _said(inner, key, depth + 1)
    elif isinstance(part, str):
        document = _document(part)
        if document is not None:
            yield from _said(document, "", depth + 1)
        elif key in PATH_KEYS:
            yield True, _path(re.split(r"[.\[\]/$]+", part))
        else:
            yield False, part[:MAX_TEXT].replace('\\"', '"')


def _document(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _path(parts: Sequence[Any]) -> str:
    named = [str(part).strip() for part in parts]
    return ".".join(part for part in named if part and part != "body")


def _locations(text: str) -> Iterator[str]:
    """Pydantic's places, where a server (vLLM) prints them into its message."""
    if REQUIRED.search(text):
        return
    for found in LOCATION.finditer(text):
        yield _path([part.strip("'\" ") for part in found[1].split(",")])


def _of_paths(paths: Sequence[str]) -> dict[str, None]:
    found = (ALIASES.get(part.lower()) for path in paths for part in path.split(".")[:1])
    return dict.fromkeys(name for name in found if name)


def _roles(paths: Sequence[str], texts: Sequence[str]) -> list[str]:
    order = any(REFUSED_ORDER.search(text) for text in texts)
    if order:
        return [ALTERNATION]
    role = any(REFUSED_ROLE.search(text) for text in texts) or any(FIRST_ROLE.search(said) for said in (*paths, *texts))
    return [SYSTEM] if role else []


def _named(text: str) -> Iterator[str]:
    for found in NAME.finditer(text):
        before, after = text[max(0, found.start() - 100) : found.start()], text[found.end() : found.end() + 160]
        before, after = SENTENCE_END.split(before)[-1], SENTENCE_END.split(after.lstrip("\n"))[0]
        if not REQUIRED.search(after) and (_is_refused_before(before) or _is_refused_after(before, after)):
            yield ALIASES[found[0].lower()]


def _is_refused_before(before: str) -> bool:
    ends = [found.end() for found in BEFORE.finditer(before)]
    return bool(ends) and not NOT_THESE.search(before[ends[-1] :])


def _is_refused_after(before: str, after: str) -> bool:
    if after.startswith(":") and AT_THE_START.search(before):
        return True
    return AFTER.match(after) is not None
