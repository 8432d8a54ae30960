"""By which names and words providers say what went wrong. Names outrank words, and both outrank the status."""

import re

# ruff: noqa: E501 - a pattern is one line
from .bodies import Heard
from .names import NAMES

LIMITS_STATUS = {0, 400, 403, 413, 500, 502}  # where a limit is meant, whatever the status
RATE = re.compile(
    r"rate[ _-]?limit|per[ _-]?(?:min|sec|hour|day)|\b(?:tpm|rpm|rps|tpd|rpd)\b|too many requests|throttl|too frequent"
    r"|concurren|\bqps\b|request limit reached|free_tier|retry in \d|请求过于频繁|速率限制|频率",
    re.IGNORECASE,
)
OUTPUT = re.compile(
    r"(?:output|completion|generated|new) tokens|max_(?:\w+_)?tokens|max_tokens|maximum tokens you requested"
    r"|maximum value for [^.]{0,60}context_window\W",  # Groq, of a max_tokens that is larger than the reply may be
    re.IGNORECASE,
)
INPUT = re.compile(r"context|input|prompt|message|histor|got -\d", re.IGNORECASE)
PASSING = re.compile(
    r"current|temporar|overload|try again|moment|busy|loading|failed to load|memory|capacity", re.IGNORECASE
)

INNER_DOT = re.compile(r"(?<=\w)\.(?=\w)")  # a model's name has dots, and they end no sentence
ADDRESS = re.compile(r"(?<![^\s'\"`(])[^\s'\"`(]*/completions\S*")  # an address may have "models" in it
OTHER_FIELD = re.compile(r"invalid '(?!messages|input|prompt|content)\w+'", re.IGNORECASE)
ERROR_CLASS = re.compile(r"\bRateLimitError\b")  # LiteLLM's, also where credit is used up

WORDS: dict[str, re.Pattern[str]] = {
    code: re.compile("|".join(patterns), re.IGNORECASE | re.DOTALL)
    for code, patterns in {
        "context_length_exceeded": (
            r"context[ _-]?(?:length|window|size|limit|overflow)",
            r"context.{0,20}(?:exceed|too (?:long|large|small))",
            r"(?:prompt|inputs?|requests?|messages?|conversation|history|content|body|text|tokens?|entity|payload)(?:'s)?"
            r"(?: (?:is|are|was|has|length|size|token|tokens|count|body|text)){0,4} too (?:long|large|big|many)",
            r"(?:prompt|input|sequence|messages?|request)[ _]?(?:token )?(?:length|size|count|tokens)[^.]{0,80}"
            r"(?:exceed|greater|larger|longer|more than|above|over the|beyond|must be)",
            r"max(?:imum)?(?: allowed)? (?:prompt|input|sequence|context)[ _](?:length|size|tokens?)",
            r"maximum (?:number of )?(?:input )?tokens? (?:allowed|limit)",
            r"maximum allowed (?:number of )?(?:input |prompt )?tokens",
            r"too many (?:input |prompt )?tokens",
            r"token[ _](?:count|limit)[^.]{0,60}(?:exceed|too (?:large|high))",
            r"exceed\w*[^.]{0,60}(?:token[ _]limit|limit of \d+|max(?:imum)?[^.]{0,40}tokens|input length)",
            r"\btokens?\b[^.]{0,40}(?:exceed|more than max|too large for)",
            r"reduce the (?:length|number|size|amount) of",
            r"inputs?`?[ _]tokens ?\+ ?`?max_new_tokens",
            r"range of input length",
            r"longer than the (?:model|maximum|max)",
            r"max size: \d+ tokens|must have (?:less|fewer) than \d+ tokens|string(?:_above_max_length| too long)",
            r"max(?:imum)? input (?:characters|tokens)|shorten (?:your|the) (?:prompt|input|messages?|conversation)",
            r"(?:input|prompt)[^.]{0,60}only (?:supports|accepts|allows)(?: up to)? \d",
            r"max_(?:completion_)?tokens must be at least 1, got -",
            r"\bn_ctx\b|\bnum_ctx\b",
            r"exceeds? (?:the )?(?:model(?:'s)? )?max(?:imum)?[ _](?:length|size|sequence|position)",
            r"request exceeds the maximum size",
            r"上下文|输入.{0,12}(?:过长|超)|tokens?.{0,6}超",
        ),
        "provider_auth_failed": (
            r"(?:invalid|incorrect|wrong|bad|missing|expired|malformed|unknown|revoked|disabled|unauthorized|no)"
            r" (?:or (?:missing|invalid|expired) )?(?:\w+ ){0,2}(?:(?:api|access|subscription)[ _-]?keys?|auth(?:entication|orization)?\b"
            r"|credentials?)",
            r"(?:api[ _-]?|access |subscription )key\b[^.]{0,60}(?:not (?:valid|found|provided|recogni[sz]ed)|invalid|expired"
            r"|missing|disabled|revoked|incorrect|required|deactivated|blocked|leaked)",
            r"(?:did not|didn't|must|need to|please) (?:\w+ ){0,2}provide (?:\w+ ){0,2}(?:api key|token|credentials)",
            r"authentication (?:failed|failure|fails|error|required|parameter)",
            r"authenticationerror|\bunauthori[sz]ed\b|\bunauthenticated\b|user not found",
            r"(?:invalid|expired|malformed|incorrect) (?:bearer|access|auth|jwt|api) ?token|token (?:is )?(?:expired|invalid\b)",
            r"invalid x-api-key|invalid_?(?:api|access)_?key|\bnot authenticated\b|unregistered callers|could not (?:validate|resolve) (?:credentials|authentication)",
            r"(?:security|session|access|bearer|auth\w*) token[^.]{0,40} (?:is|has)(?: been)? (?:invalid|expired|revoked)",
            r"provided token is not|\binvalid token\b(?! (?:at|in|id|ids|count|value))",
            r"无效的.{0,4}(?:令牌|key|密钥)|令牌.{0,8}(?:无效|过期)|鉴权失败|身份验证失败|密钥.{0,6}(?:无效|错误)",
        ),
        "provider_payment_required": (
            r"insufficient[ _](?:\w+ )?(?:balance|credits?|quota|funds)|credit balance",
            r"(?:balance|credits?|funds)[^.]{0,20} (?:is|are) (?:not enough|insufficient|too low|negative|exhausted)|specified api usage limits",
            r"(?:n't|not) have any (?:\w+ )?(?:credits?|balance|quota|funds)",
            r"(?:not|n't have|do not have|no) (?:have )?enough (?:\w+ )?(?:balance|credits?|quota|funds|money)",
            r"(?:out of|run out of|ran out of|no remaining|no more|used all|used up|exhausted)[^.]{0,30}(?:credits?|balance|quota|allocation)",
            r"credits?[^.]{0,20}(?:exhausted|used up|depleted|run out|required)|requires? (?:more|at least)[^.]{0,40}credits?",
            r"quota[^.]{0,40}(?:exceeded|exhausted|used up|not enough|insufficient)|exceed\w*[^.]{0,40}quota",
            r"exceeded[^.]{0,40}(?:included credits|spend|budget|billing)|billing (?:hard )?(?:limit|details|issue)",
            r"spend(?:ing)? limit|key limit exceeded|budget has been exceeded|payment required|overdue|arrear",
            r"account[^.]{0,80}(?:suspended[^.]{0,40}(?:balance|billing|payment)|not active)|top[ -]up|recharge your",
            r"余额不足|额度不足|额度已用|欠费|配额.{0,6}(?:不足|用尽|超)|充值",
        ),
        "content_moderated": (
            r"content[ _-]?(?:management )?(?:filter|polic|moderat|safety|violat)",
            r"(?:usage|safety|content|community|acceptable use) (?:polic|guideline)",
            r"(?:flagged|blocked|filtered|rejected|refused|detected) (?:as|by|for|due to)[^.]{0,40}(?:safety|polic|moderat|filter"
            r"|harm|violat|sensitive|unsafe|inappropriate|guard|prohibited|content)",
            r"(?:input|prompt|response|request|output|content|message)s?(?: \w+){0,3} (?:was|were|is|been|being) "
            r"(?:filtered|blocked|flagged|moderated)",
            r"requires moderation|moderation (?:fail|error|polic|system|endpoint)|by moderation|safety (?:system|filter|reason|check)",
            r"(?:inappropriate|harmful|unsafe|sensitive|prohibited|offensive|illegal) (?:content|information|words?|material|topic)",
            r"violat\w*[^.]{0,60}(?:polic|guideline|terms|safety|rules)|data[ _]inspection|content exists risk|guardrail|jailbreak",
            r"敏感|违规|不合规|不安全|内容安全|审核",
        ),
        "invalid_request": (
            r"(?:unsupported|unrecogni[sz]ed|unknown|unexpected|extra|extraneous)[^.]{0,30}(?:parameter|value|argument|field|key|inputs?)\b",
            r"unknown name|property '[^']{1,40}'|system (?:role|messages?|prompt)|roles? must|must alternate|should alternate",
        ),
        "unsupported_model": (
            r"(?:not a valid|invalid|unknown|unsupported|no such|unrecogni[sz]ed|nonexistent) (?:\w+ )?model",
            r"model[^.]{0,120}(?:not[ _](?:be )?(?:found|exist|supported|a valid|valid|loaded|installed|recogni[sz]ed|hosted|deployed"
            r"|served|enabled|allowed)|does ?n[o']t exist|is invalid|been (?:decommissioned|deprecated|retired|removed)"
            r"|no longer|not available|is not a chat|does not support chat)",
            r"model[^:]{0,20}: .{1,120}(?:not found|does not exist|not supported|not available)",
            r"(?:could not|couldn't|cannot|can't|unable to|failed to) (?:find|load|locate|resolve) (?:\w+ ){0,3}model",
            r"no (?:available |healthy |allowed )?(?:channels?|endpoints?|deployments?|providers?|instances?|workers?)"
            r"[^.]{0,80}(?:for|found|support|serv)[^.]{0,60}",
            r"on-demand throughput|does not support (?:chat|generate)\b|unexpected model name|suitable inference handler",
            r"unknown provider for model|no router for|llm provider not provided|no available \w+ supporting model",
            r"not a chat model|try pulling it|deployment[^.]{0,80}(?:not exist|not found)|no model(?:s)? (?:named|with|loaded|found)",
            r"model_not_found|model identifier|only support models?:|supported models? (?:are|is)\b",
            r"模型.{0,40}(?:不存在|不支持|未找到|无可用|无效|错误)|无可用渠道|无可用的渠道",
        ),
        "provider_unavailable": (
            r"overload|at (?:full )?capacity|over capacity|capacity (?:temporarily )?exceeded|server (?:is )?(?:too )?busy|temporarily unavailable|loading model",
            r"model[^.]{0,60}(?:loading|starting|warming)|no healthy upstream|service unavailable|繁忙|过载",
        ),
        "provider_timeout": (r"timed? ?out|deadline exceeded|超时",),
    }.items()
}


def named(heard: Heard, table: dict[str, set[str]] = NAMES) -> str | None:
    """The code that a name in the body stands for."""
    for code, names in table.items():
        if not names.isdisjoint(heard.names):
            return code
    return None


def meant(heard: Heard, status: int) -> str | None:
    """The code that the words of the body mean, beside this status."""
    if not heard.words.strip():
        return None
    words = INNER_DOT.sub("·", heard.words)
    for code, pattern in WORDS.items():
        said = without_addresses(words) if code == "unsupported_model" else words
        if pattern.search(said) and _holds(code, words, status):
            return code
    if status in LIMITS_STATUS and RATE.search(words):
        return "provider_rate_limited"
    return None


def is_quota_of_a_minute(heard: Heard) -> bool:
    """Whether the quota that is used up comes back soon. DashScope calls it like OpenAI's, and links to its limits."""
    if "quota_exceeded" in heard.names:
        return RATE.search(heard.words) is not None
    return "insufficient_quota" in heard.names and "#token-limit" in heard.words


def without_addresses(words: str) -> str:
    """The words, without the address that was asked for."""
    return ADDRESS.sub(" ", words)


def _holds(code: str, words: str, status: int) -> bool:
    """Whether the words mean it here: limits of rate and of what is written name tokens too."""
    if code == "context_length_exceeded":
        is_output = OUTPUT.search(words) and not INPUT.search(OUTPUT.sub("", words))
        is_other = is_output or OTHER_FIELD.search(words) or RATE.search(words)
        return status not in (401, 402, 429) and not is_other
    if code == "provider_payment_required":
        return not RATE.search(ERROR_CLASS.sub("", words))
    if code == "content_moderated":
        return status not in (401, 402, 429)
    if code == "unsupported_model":
        return status not in (401, 402, 403, 429) and not (status >= 500 and PASSING.search(words))
    if code == "invalid_request":
        return status in (0, 400, 422)
    if code == "provider_unavailable":
        return status in (0, 498, 500, 502, 504)  # 498: Groq's flex tier
    if code == "provider_timeout":
        return status in (0, 500, 502)
    return status != 429
