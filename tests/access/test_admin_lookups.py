"""The admin's lists filter by what they offer. Other addresses are refused at once, and none is an error of ours."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import ForeignKey
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from access import clients
from access.admin_site import site
from tests.support.operators import NOBODY, logged_in, made
from tests.support.records import make_session

pytestmark = pytest.mark.django_db(transaction=True)

JSON = "application/json"
KINDS = {"exact", "regex", "startswith", "in", "gt", "isnull"}
HUGE = "9" * 25
ODD = [
    "?o=999", "?o=-99.1.x", "?p=x", f"?p={HUGE}", "?p=-3", "?all=", "?e=1", "?_facets=True", "?_popup=1",
    "?_to_field=id", "?_to_field=secret_hash", "?q=" + "a+" * 3900, "?q=" + "x" * 5000, "?q=%FF", "?q=%ED%A0%80",
    "?q=%22%28%2A", f"{HUGE}/change/", "x/change/", "-1/change/", "1_5F/change/", "1/history/", "999/history/",
    "1/delete/", f"?client__id__exact={HUGE}", "?client__id__exact=x", "?client__isnull=1",
    "?action__exact=a&action__exact=b", f"?groups__id__exact={HUGE}", "?groups__id__exact=x", "?is_active__exact=x",
    f"?is_staff__exact={HUGE}", "?active=x&active=y", "?model=" + "m" * 4000, "?kind=client&kind=open",
    "?state=usable&state=revoked", "?pk=1", "?id__in=1,2", "?id__exact=x", "?nothing=1", "?title__nothing__regex=x",
]  # fmt: skip


@pytest.fixture
def operator() -> Browser:
    make_session()
    clients.new_key(made(), NOBODY)
    made("Aplicativo")
    Group.objects.create(name="Caixas")
    return logged_in(User.objects.create_superuser("chefe"))


def list_of(model: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def lookups_of(model: Any) -> list[str]:
    """Lookups of each kind of every field, and those by pattern of the fields that a foreign key leads to."""
    own = [
        f"{field.name}__{kind}" for field in model._meta.concrete_fields for kind in KINDS & set(field.get_lookups())
    ]
    keys = [field for field in model._meta.concrete_fields if isinstance(field, ForeignKey)]
    far = [f"{key.name}__{field.name}__iregex" for key in keys for field in key.related_model._meta.concrete_fields]
    return own + far + [field.name for field in model._meta.concrete_fields]


def offered(model: Any, browser: Browser) -> set[str]:
    specs = browser.get(list_of(model)).context["cl"].filter_specs
    return {name for spec in specs for name in spec.expected_parameters()}


def test_a_list_looks_up_only_what_its_filters_offer(operator: Browser) -> None:
    for model in site._registry:
        refused = set(lookups_of(model)) - offered(model, operator)
        assert len(refused) > 10
        with CaptureQueriesContext(connection) as queries:
            answers = {lookup: operator.get(list_of(model), {lookup: "^(a+)+$"}).status_code for lookup in refused}
        assert set(answers.values()) == {400}, answers
        assert not [query["sql"] for query in queries if "a+" in query["sql"]]


def test_odd_addresses_are_no_errors_of_ours(operator: Browser) -> None:
    paths = [list_of(model) + odd for model in site._registry for odd in ODD]
    answers = {path: operator.get(path).status_code for path in paths}
    assert not {path: status for path, status in answers.items() if status not in (200, 302, 400, 403, 404)}


def test_odd_selections_are_no_errors_of_ours(operator: Browser) -> None:
    for model in site._registry:
        for key in ("x", HUGE, "1_0", "\0", "-1", ""):
            chosen = {"action": "delete_selected", "_selected_action": key}
            assert operator.post(list_of(model), chosen).status_code in (200, 302, 400, 403), (model, key)


def test_what_a_list_offers_works(operator: Browser) -> None:
    for model in site._registry:
        page = operator.get(list_of(model)).context["cl"]
        for spec in page.filter_specs:
            for choice in spec.choices(page):
                assert operator.get(list_of(model) + choice["query_string"]).status_code == 200, choice


def test_records_are_not_listed_for_autocompletion(operator: Browser) -> None:
    asked = {"app_label": "sessions_api", "model_name": "message", "field_name": "session", "term": ""}
    assert operator.get("/admin/autocomplete/", asked).status_code == 404


@pytest.mark.parametrize(
    ("accept", "kind"), [("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"), ("*/*", JSON)]
)
def test_an_error_is_a_page_for_a_browser_and_json_for_a_program(operator: Browser, accept: str, kind: str) -> None:
    nowhere = operator.get("/admin/nada/", headers={"Accept": accept})
    refused = operator.get("/admin/access/auditentry/add/", headers={"Accept": accept})
    assert [nowhere.status_code, refused.status_code] == [404, 403]
    assert {nowhere["Content-Type"], refused["Content-Type"]} == {kind}
    assert "There is nothing at this address." in nowhere.text
    assert operator.get("/nada", headers={"Accept": accept})["Content-Type"] == JSON
