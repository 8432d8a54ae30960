"""XES, checked against the structure of IEEE 1849-2016."""

import re
from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from sessions_api.exports.writing import ExportOptions
from tests.support.exported import HOSTILE, change, exported, rate, talk

pytestmark = pytest.mark.django_db(transaction=True)

NAMESPACE = "{http://www.xes-standard.org/}"
ATTRIBUTES = ("string", "date", "int", "float", "boolean", "id")
A_NAME = re.compile(r"[A-Za-z_:][\w:.-]*")
A_TOKEN_NAME = re.compile(r"[A-Za-z_][\w.-]*")  # NCName
REQUIRED = {"concept:name", "concept:instance", "start_timestamp", "time:timestamp", "org:resource", "org:role",
            "lifecycle:transition"}  # fmt: skip
READ_AS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "date": datetime.fromisoformat,
    "int": int,
    "float": float,
}


def log(*, simulated: bool = False) -> Element:
    return fromstring(exported("xes", ExportOptions(simulated=simulated)))  # noqa: S314 - it is our own


def kind(element: Element) -> str:
    return element.tag.removeprefix(NAMESPACE)


def values(element: Element) -> dict[str, str]:
    return {child.attrib["key"]: child.attrib["value"] for child in element if kind(child) in ATTRIBUTES}


def events(root: Element) -> list[dict[str, str]]:
    return [values(event) for event in root.iter(f"{NAMESPACE}event")]


def check_attributes(element: Element) -> None:
    attributes = [child for child in element if kind(child) in ATTRIBUTES]
    keys = [attribute.attrib["key"] for attribute in attributes]
    assert len(keys) == len(set(keys))
    for attribute in attributes:
        assert set(attribute.attrib) == {"key", "value"}
        assert A_NAME.fullmatch(attribute.attrib["key"])
        READ_AS[kind(attribute)](attribute.attrib["value"])


def test_its_parts_are_those_of_the_standard_in_its_order() -> None:
    rate(talk("Oi", "Olá", persona_id="aposentada"), 1, "boa")
    root = log()
    assert root.tag == f"{NAMESPACE}log"
    assert float(root.attrib["xes.version"]) == 1849.2016
    order = [key for key, _ in groupby(kind(child) for child in root)]
    assert order == ["extension", "global", "classifier", "string", "trace"]
    for element in root.iter():
        check_attributes(element)
    assert [kind(child) for child in root[-1] if kind(child) != "string"] == ["event", "event"]


def test_prefixes_are_declared_and_globals_are_in_every_event() -> None:
    talk("Oi", "Olá")
    root = log()
    extensions = {child.attrib["prefix"]: child.attrib for child in root if kind(child) == "extension"}
    used = {key.partition(":")[0] for element in root.iter() for key in values(element) if ":" in key}
    assert used == set(extensions) == {"concept", "time", "org", "lifecycle"}
    assert all(A_TOKEN_NAME.fullmatch(extension["name"]) for extension in extensions.values())
    scopes = {child.attrib["scope"]: values(child) for child in root if kind(child) == "global"}
    assert set(scopes["event"]) == REQUIRED
    assert all(REQUIRED.issubset(event) for event in events(root))
    classifiers = [child.attrib for child in root if kind(child) == "classifier"]
    assert all(set(classifier["keys"].split()) <= REQUIRED for classifier in classifiers)
    assert all(A_TOKEN_NAME.fullmatch(classifier["name"]) for classifier in classifiers)


def test_an_event_says_what_its_message_says() -> None:
    session = talk("Oi", "Olá", persona_id="aposentada")
    rate(session, 1, "boa")
    question, reply = events(log())
    assert (question["concept:name"], question["org:resource"]) == ("Cliente envia mensagem", "aposentada")
    assert (question["org:role"], question["content"]) == ("cliente", "Oi")
    assert (reply["start_timestamp"], reply["time:timestamp"]) == (
        "2026-03-01T12:00:00.000000Z",
        "2026-03-01T12:00:01.500000Z",
    )
    assert (reply["prompt_tokens"], reply["cost_usd"], reply["rating"]) == ("12", "0.000123456789", "up")


def test_a_reply_that_was_not_completed_is_aborted() -> None:
    session = talk("Oi", "Ol", "Oi", "Olá")
    change(session, 1, status="failed", error_code="provider_error")
    found = [(event["lifecycle:transition"], event.get("error_code")) for event in events(log())]
    assert found == [("complete", None), ("ate_abort", "provider_error"), ("complete", None), ("complete", None)]


def test_hostile_texts_come_through_but_for_what_xml_cannot_write() -> None:
    talk(*HOSTILE, persona_id='"><x>&\n')
    found = events(log())
    lost = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
    assert [event["content"] for event in found] == [lost.sub("\ufffd", text) for text in HOSTILE]
    assert found[0]["org:resource"] == '"><x>&\n'


def test_a_log_without_a_case_is_still_a_log() -> None:
    root = log(simulated=True)
    assert values(root)["clock"] == "simulated"
    assert [child for child in root if kind(child) == "trace"] == []
