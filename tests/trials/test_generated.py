"""Generated requests against the real service, held against the document that it publishes: `make fuzz` in small."""

import pytest

from testing import scenarios
from testing.upstream import Upstream
from tests.support.services import Services
from trials.fuzz.run import PASSES, complaints, try_service

EVERY_PHASE = "examples,coverage,fuzzing,stateful"


def test_every_answer_is_one_that_the_document_describes(fronts: Services) -> None:
    how = PASSES["keys"]
    with fronts.own(**how.settings) as service:
        found = try_service(service, how, seed=1, examples=1, options=("--phases", EVERY_PHASE))
    assert found.problems == ""
    assert found.cases >= 250


def test_a_server_error_is_found(fronts: Services, upstream: Upstream) -> None:
    how = PASSES["open"]
    upstream.otherwise = scenarios.status(500)
    options = ("--phases", "examples", "--include-operation-id", "createMessage")
    with fronts.own(**how.settings) as service:
        found = try_service(service, how, seed=1, examples=1, options=options)
    assert "Server error" in found.problems
    assert "provider_error" in found.problems


@pytest.mark.parametrize("said", ["ERROR   unexpected KeyError", "WARNING Task was never retrieved", "Traceback (most"])
def test_a_fault_that_the_service_logs_is_found(said: str) -> None:
    assert complaints(f"12:00:00.000 INFO    request  status=400\n12:00:00.001 {said}") == [f"12:00:00.001 {said}"]
