"""Connections between proxy and service that nobody uses for a while, just when somebody wants them again."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from testing.service import Service
from tests.proxy.conftest import PRODUCTION, Start, Through
from tests.support.services import Services

AT_ONCE, ROUNDS = 16, 16
PROXY_CLOSES, SERVICE_CLOSES = 1, 2  # seconds; the documented ones are 50 and KEEP_ALIVE_SECONDS


@pytest.fixture
def service(services: Services) -> Service:
    return services.shared(**PRODUCTION, KEEP_ALIVE_SECONDS=str(SERVICE_CLOSES))


@pytest.mark.parametrize(
    ("kind", "setting"), [("nginx", "keepalive_timeout 50s;"), ("caddy", "keepalive 50s")]
)  # fmt: skip
def test_no_message_meets_a_connection_that_is_being_closed(
    start: Start, service: Service, kind: str, setting: str
) -> None:
    """Pauses of about the time after which either side closes; nobody sends a POST again, so each one is told."""
    front = start(kind, service, (setting, setting.replace("50s", f"{PROXY_CLOSES}s")))
    chance = random.Random(7)
    callers = [Through(front.url) for _ in range(AT_ONCE)]
    statuses = set()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(ROUNDS):
            answers = pool.map(lambda caller: caller.post("/chat", message="Oi"), callers)
            statuses |= {answer.status_code for answer in answers}
            time.sleep(chance.choice([PROXY_CLOSES, SERVICE_CLOSES]) + chance.uniform(-0.02, 0.02))
    assert statuses == {200}


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_hundreds_of_messages_go_over_one_connection(start: Start, service: Service, kind: str) -> None:
    with Through(start(kind, service).url).connection() as client:
        statuses = {client.post("/chat", json={"message": str(number)}).status_code for number in range(200)}
    assert statuses == {200}
