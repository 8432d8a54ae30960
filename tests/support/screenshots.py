"""Takes the README's pictures of a scratch service with made-up conversations: `make screenshots`."""

import os
import random
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from testing import scenarios
from testing.client import Caller, good, new_id, wait_until
from testing.environment import ROOT
from testing.service import Service, provider_settings
from testing.upstream import Upstream
from tests.support.browser import PHONE, chromium
from tests.support.browser_fixtures import log_in
from tests.support.chat_page import Chat
from tests.support.keys import Client

IMAGES = ROOT / "docs" / "images"
MAX_BYTES = 150_000
CLIENTS = ("Aplicativo", "Site", "Agência virtual", "Laboratório de pesquisa")
MODELS = ("openai/gpt-4o-mini", "anthropic/claude-3.5-sonnet", "meta-llama/llama-3.3-70b-instruct")
PRICES = (0.000_000_4, 0.000_009, 0.000_000_2)  # US dollars per token, about
QUESTIONS = (
    "Como faço um Pix?", "Qual é a tarifa do cartão?", "Quero contestar uma compra", "Perdi o meu cartão",
    "Como aumento o meu limite?", "Quais documentos preciso para abrir a conta?", "Como invisto no Tesouro Direto?",
)  # fmt: skip
TALK = (
    ("Qual é a diferença entre CDB e Tesouro Selic?", """Os dois são de **renda fixa** e servem para a reserva de \
emergência. As diferenças principais:

| | CDB com liquidez diária | Tesouro Selic |
|---|---|---|
| Quem toma o dinheiro | o banco | o governo federal |
| Rendimento | parte do CDI | taxa Selic |
| Resgate | no mesmo dia | em um dia útil |

O imposto de renda é o mesmo nos dois e diminui com o tempo."""),
    ("E quanto rende R$ 1.000 em um ano?", """Depende da taxa do dia, que eu não consulto. A conta é esta:

```python
valor = 1000 * (1 + taxa_anual)
imposto = (valor - 1000) * 0.175  # de 361 a 720 dias
```

A taxa está no aplicativo, em **Investir**."""),
)  # fmt: skip
PK = "SELECT id FROM sessions_api_session WHERE session_id = %s"
SLOWER = """first_token_ms = 300 + abs(random()) % 700, latency_ms = 1100 + completion_tokens * 14
    WHERE session_id = %s AND role = 'assistant'"""


def spoken(upstream: Upstream, caller: Caller) -> str:
    """The conversation in the pictures."""
    session_id = new_id()
    for question in QUESTIONS:
        caller.chat(question)
    for question, reply in TALK:
        upstream.reply(reply, usage=scenarios.usage(prompt=420, completion=180, cost=0.0021))
        caller.chat(question, session_id=session_id, model=MODELS[1])
    number = caller.messages(session_id)[1]["id"]
    good(caller.post(f"/messages/{number}/feedback", rating="up", comment="A tabela ajudou muito."))
    return session_id


def a_day(upstream: Upstream, callers: Sequence[Caller], chance: random.Random) -> None:
    """Turns of all clients with all models; some fail."""
    for _ in range(130):
        caller, which = chance.choices(callers, (5, 3, 2, 1))[0], chance.choices(range(3), (6, 3, 2))[0]
        session_id = new_id()
        for question in chance.sample(QUESTIONS, chance.randint(1, 5)):
            prompt, completion = chance.randint(200, 1500), chance.randint(60, 500)
            counts = scenarios.usage(prompt, completion, round((prompt + 4 * completion) * PRICES[which], 8))
            fine, bad = scenarios.ok("Sim.", usage=counts), scenarios.status(chance.choice((400, 500)))
            upstream.script(bad if chance.random() < 0.02 else fine)
            caller.post("/chat", message=question, session_id=session_id, model=MODELS[which])


def moved_back(service: Service, chance: random.Random, kept: str) -> None:
    """Spread all conversations but one over the last day, with realistic response times."""
    now = datetime.now(UTC)
    for (session,) in service.sql("SELECT id FROM sessions_api_session WHERE session_id != %s", kept):
        then = now - timedelta(hours=min(chance.triangular(0.2, 24, 6), 23.9))
        if not 10 <= then.hour <= 23 and chance.random() < 0.6:
            then = now - timedelta(hours=chance.uniform(1, 5))
        moment = f"{then:%Y-%m-%d %H:%M:%S}.000001"
        both = "created_at = %s, last_activity_at = %s"
        service.sql(f"UPDATE sessions_api_session SET {both} WHERE id = %s", moment, moment, session)
        ended = f"created_at = %s, completed_at = %s, {SLOWER}"
        service.sql(f"UPDATE sessions_api_message SET {ended}", moment, moment, session)
    service.sql(f"UPDATE sessions_api_message SET {SLOWER}", *service.sql(PK, kept)[0])
    for counted in ("tally", "sessioncost", "counteduntil"):
        service.sql(f"DELETE FROM sessions_api_{counted}")


def take(page: Page, name: str) -> None:
    path = IMAGES / f"{name}.png"
    page.evaluate("document.activeElement?.blur()")
    page.screenshot(path=path, animations="disabled", caret="hide")
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size:,} bytes")
    assert size < MAX_BYTES, "too large for a README"


def pictures(browser: Browser, service: Service, caller: Caller, session_id: str) -> None:
    window: dict[str, Any] = {"viewport": {"width": 1200, "height": 800}, "locale": "pt-BR"}
    chat = Chat(browser.new_page(**window), caller).open(session_id)
    expect(chat.messages("assistant")).to_have_count(2)
    take(chat.page, "chat-page")
    phone = {**PHONE, "locale": "pt-BR", "color_scheme": "dark", "device_scale_factor": 1.5}
    chat = Chat(browser.new_page(**phone), caller).open(session_id)
    expect(chat.messages("assistant")).to_have_count(2)
    take(chat.page, "chat-phone-dark")
    state, larger = log_in(service, browser), {"viewport": {"width": 1440, "height": 1080}, "device_scale_factor": 0.75}
    context = browser.new_context(**window | larger, base_url=service.url, storage_state=state)
    page = context.new_page()
    page.goto("/admin/overview/")
    take(page, "console-overview")
    ((number,),) = service.sql(PK, session_id)
    page.goto(f"/admin/sessions_api/session/{number}/change/")
    take(page, "console-transcript")


def main() -> None:
    chance = random.Random(7)
    IMAGES.mkdir(exist_ok=True)
    os.environ["DJANGO_SETTINGS_MODULE"] = "bancobot_project.settings"  # for the operator's password
    with tempfile.TemporaryDirectory(prefix="bancobot-screenshots-") as directory, Upstream() as upstream:
        os.environ |= {"ENV_FILE": os.devnull, "DATA_DIR": directory}
        upstream.models = scenarios.models({"data": [scenarios.model(name, 128_000) for name in MODELS]})
        named = {"OPENROUTER_DEFAULT_MODEL": MODELS[1]}
        service = Service(Path(directory), settings=provider_settings(upstream.url) | named).start()
        try:
            callers = [Client(service, name=name).caller() for name in CLIENTS]
            reader = Client(service, name="Balcão").caller()
            session_id = spoken(upstream, reader)
            a_day(upstream, callers, chance)
            service.terminate()
            moved_back(service, chance, session_id)
            service.start()
            wait_until(lambda: bool(service.sql("SELECT 1 FROM sessions_api_sessioncost LIMIT 1")), 60)
            with chromium() as browser:
                pictures(browser, service, reader, session_id)
        finally:
            service.close()


if __name__ == "__main__":
    main()
