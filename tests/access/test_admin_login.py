"""The admin's login throttle, and what the log and the audit log say of logins."""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import Signal
from django.http import HttpRequest
from django.test import Client
from django.utils import timezone

from access import login_throttle
from access.models import AuditEntry, LoginAttempts
from testing.client import NO_TLS, PATIENCE, wait_until
from testing.service import Service
from tests.conftest import MakeService
from tests.support.operators import superuser
from tests.support.services import Services

LOGIN = "/admin/login/"
PASSWORD = "Uma-senha-boa-81723"
WRONG = "CANARIO-senha-errada"
OPERATOR, STRANGER = "127.0.0.1", "127.0.0.2"
MAX_TRIES, MAX_FROM_ADDRESS = 3, 6  # checking a password takes a good part of a second
LIMITS = {"ADMIN_LOGIN_TRIES": str(MAX_TRIES), "ADMIN_LOGIN_TRIES_PER_ADDRESS": str(MAX_FROM_ADDRESS)}
REFUSED = {429, 503}  # 503: PostgreSQL's few connections were all taken; no password was checked


@pytest.fixture(scope="module")
def guarded(services: Services) -> Iterator[Service]:
    """A service on two workers with one operator."""
    with services.own(2, LOG_FORMAT="json", **LIMITS) as service:
        superuser(service, "chefe", PASSWORD)
        yield service


@pytest.fixture
def place(guarded: Service) -> Service:
    """The same, with no attempts counted."""
    guarded.sql("DELETE FROM bancobot_project_passwordtries")
    return guarded


@pytest.fixture
def quick(settings: Any) -> Any:
    """Settings with which a password is checked in no time."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return settings


@contextmanager
def browser(service: Service, address: str = OPERATOR) -> Iterator[httpx.Client]:
    """At the login page, at that address of this machine."""
    transport = httpx.HTTPTransport(local_address=address, verify=NO_TLS)
    with httpx.Client(base_url=service.url, transport=transport, timeout=PATIENCE) as client:
        assert client.get(LOGIN).status_code == 200
        yield client


def log_in(client: httpx.Client, name: str = "chefe", password: str = PASSWORD, **headers: str) -> httpx.Response:
    fields = {"username": name, "password": password, "csrfmiddlewaretoken": client.cookies["bancobot_csrftoken"]}
    return client.post(LOGIN, data=fields, headers={name.replace("_", "-"): text for name, text in headers.items()})


def fail(client: httpx.Client, times: int, name: str = "chefe", **headers: str) -> list[int]:
    return [log_in(client, name, WRONG, **headers).status_code for _ in range(times)]


# How often


def test_a_flood_of_wrong_passwords_gets_exactly_the_tries_that_are_allowed(place: Service) -> None:
    with browser(place) as client:
        token = client.cookies["bancobot_csrftoken"]

    def attempt(number: int) -> int:
        with httpx.Client(base_url=place.url, timeout=PATIENCE, trust_env=False, verify=NO_TLS) as client:
            client.cookies["bancobot_csrftoken"] = token
            return log_in(client, password=f"{WRONG}-{number}", User_Agent=f"agente {number}").status_code

    with ThreadPoolExecutor(16) as pool:
        answers = Counter(pool.map(attempt, range(100)))
    assert answers.pop(200) == MAX_TRIES
    assert answers.keys() <= REFUSED


def test_a_flood_over_many_names_gets_the_tries_of_one_address(place: Service) -> None:
    with browser(place) as client:
        token = client.cookies["bancobot_csrftoken"]

    def attempt(number: int) -> int:
        with httpx.Client(base_url=place.url, timeout=PATIENCE, trust_env=False, verify=NO_TLS) as client:
            client.cookies["bancobot_csrftoken"] = token
            return log_in(client, f"nome-{number}", WRONG).status_code

    with ThreadPoolExecutor(16) as pool:
        answers = Counter(pool.map(attempt, range(40)))
    assert answers.pop(200) == MAX_FROM_ADDRESS
    assert answers.keys() <= REFUSED


def test_the_right_password_does_not_end_a_lockout(place: Service) -> None:
    with browser(place) as client:
        assert fail(client, MAX_TRIES + 1) == [200] * MAX_TRIES + [429]
        answer = log_in(client)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 15 * 60
        assert "15 minutos" in answer.text
        assert client.get("/admin/").status_code == 302


def test_the_door_opens_again_when_the_time_is_over(place: Service) -> None:
    with browser(place) as client:
        assert fail(client, MAX_TRIES + 1)[-1] == 429
        then = timezone.now() - timedelta(seconds=1)
        place.sql("UPDATE bancobot_project_passwordtries SET until = %s", then.isoformat(" "))
        assert log_in(client).status_code == 302


def test_a_right_password_starts_anew(place: Service) -> None:
    with browser(place) as client:
        for _ in range(2):
            assert fail(client, MAX_TRIES - 1) == [200] * (MAX_TRIES - 1)
            assert log_in(client).status_code == 302
            client.cookies.clear()
            client.get(LOGIN)


def test_who_is_logged_in_has_no_more_tries_at_others_passwords(place: Service) -> None:
    with browser(place) as client:
        log_in(client)
        client.get(LOGIN + "?next=/admin/x")
        assert fail(client, MAX_TRIES + 2, "outra") == [200] * MAX_TRIES + [429] * 2


def test_a_stranger_locks_nobody_out_elsewhere(place: Service) -> None:
    with browser(place, STRANGER) as stranger, browser(place) as operator:
        assert fail(stranger, MAX_TRIES + 1)[-1] == 429
        assert log_in(operator).status_code == 302


def test_a_header_neither_dodges_the_lock_nor_turns_it_on_others(place: Service) -> None:
    names = ("X_Forwarded_For", "Forwarded", "X_Real_IP", "Client_IP")
    with browser(place, STRANGER) as stranger, browser(place) as operator:
        for number in range(MAX_TRIES):
            fail(stranger, 1, **dict.fromkeys(names, f"10.0.0.{number}"))
        for name in names:
            assert fail(stranger, 1, **{name: "10.9.9.9"}) == [429]
            assert fail(stranger, 1, **{name: OPERATOR}) == [429]
        assert log_in(operator).status_code == 302


def test_another_way_to_write_a_name_is_no_other_name(place: Service) -> None:
    with browser(place) as client:
        fail(client, MAX_TRIES)
        for name in (" chefe ", "ｃｈｅｆｅ", "chefe\0"):
            assert fail(client, 1, name) == [429]


def test_a_page_of_another_origin_can_t_use_up_the_tries(place: Service) -> None:
    with browser(place) as client:
        for _ in range(MAX_TRIES + 1):
            assert client.post(LOGIN, data={"username": "chefe", "password": WRONG}).status_code == 403
        assert log_in(client).status_code == 302


# What is kept of it


def test_neither_names_nor_addresses_nor_passwords_are_stored_with_the_tries(place: Service) -> None:
    with browser(place) as client:
        fail(client, MAX_TRIES)
    rows = str(place.sql("SELECT * FROM bancobot_project_passwordtries"))
    assert "chefe" not in rows
    assert OPERATOR not in rows
    assert WRONG not in rows


def test_the_log_says_who_came_failed_was_locked_out_and_left(place: Service) -> None:
    before = len(place.log())
    with browser(place) as client:
        fail(client, MAX_TRIES, PASSWORD)  # somebody writes the password into the wrong field
        log_in(client)
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', client.get("/admin/").text)
        assert token
        assert client.post("/admin/logout/", data={"csrfmiddlewaretoken": token[1]}).status_code == 200
        fail(client, 1)
    wait_until(lambda: place.log()[before:].count('"POST", "path": "/admin/login/"') >= MAX_TRIES + 2)
    written = place.log()[before:]
    told = re.findall(r'"message": "admin ([a-z ]+)".*?"who": "([^"]+)", "address": "([^"]+)"', written)
    assert [(action, who.split(":")[0]) for action, who, _ in told] == [
        *[("login failed", "unknown")] * MAX_TRIES, ("login locked", "unknown"), ("login", "staff"),
        ("logout", "staff"), ("login failed", "staff"),
    ]  # fmt: skip
    assert {address for *_, address in told} == {OPERATOR}
    assert PASSWORD not in written
    assert WRONG not in written


# Cookies


def test_the_admin_s_cookies_are_for_this_host_and_its_server_alone(place: Service) -> None:
    with browser(place) as client:
        answer = log_in(client)
        for cookie in answer.headers.get_list("set-cookie"):
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert "Domain" not in cookie
        assert client.get("/admin/").status_code == 200


def test_behind_https_they_are_sent_by_https_alone(make_service: MakeService) -> None:
    service = make_service(HTTPS="true", TRUSTED_PROXIES="127.0.0.1")
    superuser(service, "chefe", PASSWORD)
    with httpx.Client(base_url=service.url, trust_env=False, verify=NO_TLS, timeout=PATIENCE) as client:
        secure = {"X-Forwarded-Proto": "https", "Referer": service.url.replace("http:", "https:") + LOGIN}
        page = client.get(LOGIN, headers=secure)
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.text)
        [csrf] = page.headers.get_list("set-cookie")
        assert token
        fields = {"username": "chefe", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
        sent = {**secure, "Cookie": csrf.split(";")[0]}
        answer = client.post(LOGIN, data=fields, headers=sent)
    assert answer.status_code == 302
    cookies = [csrf, *answer.headers.get_list("set-cookie")]
    assert {cookie.split("=")[0] for cookie in cookies} == {"__Host-bancobot_csrftoken", "__Host-bancobot_sessionid"}
    for cookie in cookies:
        assert "Secure" in cookie
        assert "Path=/;" in cookie + ";"
        assert "Domain" not in cookie


@pytest.mark.django_db
def test_a_login_ends_when_its_hours_are_over(quick: Any) -> None:
    User.objects.create_superuser("chefe", password=PASSWORD)
    client = Client()
    assert client.post(LOGIN, {"username": "chefe", "password": PASSWORD}).status_code == 302
    assert client.session.get_expiry_age() == 8 * 3600
    assert client.session.get_expire_at_browser_close()


# The signals and the purge

NAMES = {user_logged_in: "login", user_logged_out: "logout", user_login_failed: "failed"}


@pytest.mark.django_db
def test_listeners_hear_what_happened(quick: Any) -> None:
    quick.ADMIN_LOGIN_TRIES = 1
    User.objects.create_superuser("chefe", password=PASSWORD)
    heard: list[str] = []

    def listen(*, signal: Signal, request: HttpRequest, **kwargs: Any) -> None:
        heard.append(NAMES[signal])
        assert request.META["REMOTE_ADDR"] == OPERATOR

    for signal in NAMES:
        signal.connect(listen)
    try:
        client = Client()
        client.post(LOGIN, {"username": "chefe", "password": PASSWORD})
        client.post("/admin/logout/")
        client.post(LOGIN, {"username": "chefe", "password": WRONG})
        client.post(LOGIN, {"username": "chefe", "password": WRONG})
    finally:
        for signal in NAMES:
            signal.disconnect(listen)
    assert heard == ["login", "logout", "failed"]
    assert AuditEntry.objects.filter(action=AuditEntry.Action.LOGIN_LOCKED).count() == 1


@pytest.mark.django_db
def test_a_user_who_may_not_enter_counts_as_a_failure(quick: Any) -> None:
    quick.ADMIN_LOGIN_TRIES = 2
    User.objects.create_user("cliente", password=PASSWORD)
    client = Client()
    failures: list[str] = []

    def listen(credentials: dict[str, str], **kwargs: Any) -> None:
        failures.append(credentials["username"])

    user_login_failed.connect(listen)
    tries = [client.post(LOGIN, {"username": "cliente", "password": PASSWORD}).status_code for _ in range(3)]
    user_login_failed.disconnect(listen)
    assert tries == [200, 200, 429]
    assert failures == ["cliente"] * 2


@pytest.mark.django_db
def test_addresses_of_one_ipv6_network_share_their_tries(quick: Any) -> None:
    quick.ADMIN_LOGIN_TRIES_PER_ADDRESS = 3
    client = Client()
    tries = [
        client.post(LOGIN, {"username": f"n{end}", "password": WRONG}, REMOTE_ADDR=f"2001:db8::{end}").status_code
        for end in range(1, 6)
    ]
    assert tries == [200, 200, 200, 429, 429]


@pytest.mark.django_db
def test_forgotten_tries_are_purged_and_others_kept() -> None:
    now = timezone.now()
    LoginAttempts.objects.create(who="old", tries=5, until=now - timedelta(seconds=1))
    LoginAttempts.objects.create(who="new", tries=5, until=now + timedelta(minutes=1))
    assert login_throttle.purge() == 1
    assert LoginAttempts.objects.get().who == "new"


@pytest.mark.django_db
def test_the_old_password_is_throttled_too(client: Client, quick: Any) -> None:
    quick.ADMIN_LOGIN_TRIES = 2
    user = User.objects.create_superuser("ana", password=PASSWORD)
    client.force_login(user)
    wrong = {"old_password": WRONG, "new_password1": "Outra-boa-31", "new_password2": "Outra-boa-31"}
    statuses = [client.post("/admin/password_change/", wrong).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    LoginAttempts.objects.all().delete()
    assert client.post("/admin/password_change/", wrong | {"old_password": PASSWORD}).status_code == 302
    told = AuditEntry.objects.filter(action="user.changed", actor="staff:ana", target="user:ana")
    assert [(entry.address, entry.details) for entry in told] == [("127.0.0.1", {"fields": ["password"]})]


@pytest.mark.django_db
def test_a_logout_that_any_page_can_bring_about_is_none(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.force_login(User.objects.create_superuser("ana", password=PASSWORD))
    with caplog.at_level("INFO", "bancobot.admin"):
        assert client.get("/admin/logout/").status_code == 405
    assert "logout" not in caplog.text
