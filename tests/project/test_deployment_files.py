"""Dockerfile, compose.yaml, Procfile, lock files, workflow and hooks, as far as they can be checked here."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class

from bancobot_project import settings as project_settings
from testing.environment import ROOT, clean_environment, free_port
from testing.service import Service
from tests.run import OPTIONAL

# The entries that each has at least.
LOCK_FILES = {"requirements.txt": 20, "requirements-dev.txt": 20, "testing/llama/requirements.txt": 2}
COMPOSE_ONLY = {"POSTGRES_PASSWORD"}  # the database's container reads it, the service does not


@pytest.fixture
def service(front: Service) -> Service:
    """No database changes what these tests show."""
    return front


def dockerfile() -> list[tuple[str, str]]:
    """The instructions and their arguments, with continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def instruction(name: str) -> str:
    """The last instruction of that name, which counts."""
    return [rest for found, rest in dockerfile() if found == name][-1]


def copied() -> set[str]:
    """The paths that the image copies from the repository."""
    copies = [shlex.split(rest) for found, rest in dockerfile() if found == "COPY" and "--from" not in rest]
    return {source for words in copies for source in words[:-1]}


def compose() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert isinstance(content, dict)
    return content


def parse_serve(command: list[str]) -> Namespace:
    """Parses it as manage.py would; options that `serve` does not know end the test."""
    assert command[:3] == ["python", "manage.py", "serve"]
    serve = load_command_class(get_commands()["serve"], "serve")
    return serve.create_parser("manage.py", "serve").parse_args(command[3:])


def test_the_image_copies_only_what_exists() -> None:
    assert [source for source in sorted(copied()) if not (ROOT / source).exists()] == []


def test_the_image_gets_everything_that_the_service_is_made_of() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"testing", "tests", "trials"}
    folders = {name for name in ("templates", "static", "locale") if (ROOT / name).exists()}
    assert packages | folders <= copied()


def test_the_build_context_lets_through_what_the_image_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == copied()


def test_the_image_starts_the_service_for_other_hosts_to_reach() -> None:
    assert parse_serve(json.loads(instruction("CMD"))).host == "0.0.0.0"  # noqa: S104  inside the container


def test_the_procfile_starts_the_service_on_the_port_of_the_environment() -> None:
    command = shlex.split((ROOT / "Procfile").read_text().removeprefix("web:"))
    options = parse_serve(command)
    assert options.host == "0.0.0.0"  # noqa: S104  a platform's router reaches it from outside
    assert not options.port


def test_the_image_runs_as_somebody_who_is_not_root_and_stops_by_sigterm() -> None:
    assert instruction("USER") not in ("root", "0")
    assert instruction("STOPSIGNAL") == "SIGTERM"


def health_check(**settings: str) -> int:
    """Runs the image's health check here; its exit code."""
    command = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    assert command[0] == "python"
    return subprocess.run([sys.executable, *command[1:]], env=clean_environment(**settings), check=False).returncode


def test_the_images_health_check_finds_a_service_that_answers(service: Service) -> None:
    assert health_check(PORT=str(service.port)) == 0


def test_the_images_health_check_fails_where_nobody_answers() -> None:
    assert health_check(PORT=str(free_port())) == 1


def test_the_image_keeps_its_sqlite_file_in_the_volume() -> None:
    assert f"DATABASE_URL=sqlite:///{instruction('VOLUME')}/" in instruction("ENV")


def test_every_variable_of_the_image_and_of_compose_is_a_setting() -> None:
    known = set(project_settings.env.names) | {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    asked_for = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    given = set(compose()["services"]["bancobot"]["environment"])
    image = {word.partition("=")[0] for word in shlex.split(instruction("ENV"))}
    assert (asked_for | given | image) - known == COMPOSE_ONLY


def test_compose_refuses_to_start_without_secrets() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert re.findall(r"\$\{(\w+)(?!:\?|\w)", text) == ["PORT"]
    assert "${SECRET_KEY:?" in text


def test_compose_publishes_on_loopback_only() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_waits_for_a_healthy_database_that_keeps_its_data() -> None:
    services = compose()["services"]
    assert services["bancobot"]["depends_on"]["database"]["condition"] == "service_healthy"
    assert services["database"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert services["database"]["volumes"][0].split(":")[0] in compose()["volumes"]


def test_compose_gives_replies_in_progress_the_time_to_finish() -> None:
    grace = int(compose()["services"]["bancobot"]["stop_grace_period"].removesuffix("s"))
    assert grace > project_settings.GRACEFUL_TIMEOUT


def test_docker_itself_accepts_the_compose_file() -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not on this machine")
    environment = clean_environment(SECRET_KEY="a", POSTGRES_PASSWORD="b")
    subprocess.run([docker, "compose", "config", "--quiet"], cwd=ROOT, env=environment, check=True)


@pytest.mark.parametrize("name", LOCK_FILES)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", (ROOT / name).read_text()).strip())
    assert len(entries) >= LOCK_FILES[name]
    assert [entry for entry in entries if not re.match(r"[\w.\[\]-]+==[\w.]+.*--hash=sha256:", entry, re.DOTALL)] == []


@pytest.mark.parametrize("name", LOCK_FILES)
def test_no_lock_file_names_a_registry_or_a_folder_of_somebodys(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links|/(home|root)/", text)


def test_the_workflow_runs_what_anybody_can_run() -> None:
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_continuous_integration_runs_every_stage() -> None:
    """A stage that fails ends the script with its exit code: `set -e`, and `exec` for the last one."""
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    asked = re.findall(r"(?m)^(?:exec )?make test(?: ARGS=\"--stage (\w+)\")? < /dev/null$", script)
    assert asked == ["", *OPTIONAL]
    assert script.splitlines()[-1].startswith("exec make test")


def hooks() -> list[dict[str, Any]]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    return list(repository["hooks"])


def test_the_hooks_run_the_tools_of_the_virtual_environment_that_make_lint_runs() -> None:
    assert {hook["language"] for hook in hooks()} == {"system"}
    programs = [hook["entry"].split()[0] for hook in hooks()]
    assert all(program.startswith(".venv/bin/") for program in programs)
    pinned = re.findall(r"(?m)^([\w-]+)==", (ROOT / "requirements-dev.txt").read_text())
    assert {program.removeprefix(".venv/bin/") for program in programs} == {"ruff", "mypy"} <= set(pinned)
