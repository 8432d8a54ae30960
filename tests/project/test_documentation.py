"""The documentation against the code: everything that it names exists, and the reverse."""

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import get_commands

from bancobot_project import settings as project_settings
from sessions_api.exports.events import COLUMNS as EVENT_COLUMNS
from testing.client import Caller
from testing.environment import ROOT, clean_environment
from tests.support.endpoints import ENDPOINTS, addresses
from tests.support.services import Services
from web.errors import CODES

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "deploy").glob("*.md")])
OUR_FOLDERS = ("web", "access", "sessions_api", "chat", "bancobot_project", "testing", "tests", "trials")
OUR_APPS = {"access", "sessions_api", "chat", "bancobot_project"}
IN_FILES = (
    "requirements.in",
    "requirements-dev.in",
    "trials/bench/requirements.in",
    "trials/mining/requirements.in",
    "testing/llama/requirements.in",
)
OF_SERVERS = {"OLLAMA_CONTEXT_LENGTH", "OLLAMA_NUM_PARALLEL"}  # settings of model servers
COMPOSE_ONLY = {"POSTGRES_PASSWORD"}
WRITTEN_IN_WORDS = {"DATA_DIR", "DATABASE_URL", "BANCOBOT_SYSTEM_PROMPT"}  # defaults that are no plain value
DERIVED = {"SECRET_KEY", "OWNER_HASH_KEY", "LLM_PROVIDER"}  # empty means that something else decides


def page(name: str) -> str:
    return (ROOT / name).read_text()


def rows(name: str, columns: int) -> list[list[str]]:
    """The cells of all table rows of that many columns."""
    lines = [line for line in page(name).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if len(row) == columns]


def documented_settings() -> dict[str, str]:
    """Each variable's default in docs/settings.md."""
    return {row[0].strip("`"): row[1] for row in rows("docs/settings.md", 4) if row[0].startswith("`")}


def example_settings() -> dict[str, str]:
    return dict(re.findall(r"(?m)^#([A-Z][A-Z_]+)=(.*)$", page(".env.example")))


def written(cell: str, *, production: bool) -> str:
    """The default in a cell such as "`console`; in production `json`"."""
    values = re.findall(r"`([^`]*)`", cell)
    return "" if cell == "empty" else values[-1 if production else 0]


def real_settings(directory: Path, **environment: str) -> dict[str, Any]:
    """The settings for an environment, read in a separate process."""
    program = (
        "import json; from bancobot_project import settings as s; "
        "print(json.dumps({name: getattr(s, name, None) for name in s.env.names}, default=str))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=clean_environment(DATA_DIR=str(directory), **environment),
        capture_output=True,
        check=True,
    )
    return dict(json.loads(answer.stdout))


def as_written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    return "" if value is None else f"{value:.15g}" if isinstance(value, float) else str(value)


def test_every_setting_is_documented_and_nothing_else_is() -> None:
    assert sorted(documented_settings()) == sorted(project_settings.env.names)


def test_the_example_file_has_every_setting_and_nothing_else() -> None:
    assert sorted(example_settings()) == sorted({*project_settings.env.names, *COMPOSE_ONLY})


def test_no_setting_is_read_twice() -> None:
    assert len(project_settings.env.names) == len(set(project_settings.env.names))


@pytest.mark.parametrize("environment", ["development", "production"])
def test_the_documented_defaults_are_the_real_ones(environment: str, tmp_path: Path) -> None:
    production = environment == "production"
    secret = {"SECRET_KEY": secrets.token_hex(32)} if production else {}
    real = real_settings(tmp_path, ENVIRONMENT=environment, **secret)
    plain = documented_settings().keys() - WRITTEN_IN_WORDS - DERIVED - {"ENVIRONMENT"}
    stated = {name: written(documented_settings()[name], production=production) for name in plain}
    assert stated == {name: as_written(real[name]) for name in plain}


def test_the_example_file_taken_as_it_is_changes_nothing(tmp_path: Path) -> None:
    example = tmp_path / "example.env"
    lines = (line.removeprefix("#") for line in page(".env.example").splitlines() if re.match("#[A-Z]", line))
    example.write_text("\n".join(lines))
    assert real_settings(tmp_path, ENV_FILE=str(example)) == real_settings(tmp_path, ENV_FILE=os.devnull)


def test_what_is_read_beside_the_settings_is_documented() -> None:
    beside = page("docs/settings.md").partition("## Read before or beside these")[2]
    for name in ("ENV_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR", *COMPOSE_ONLY):
        assert f"`{name}`" in beside


def test_no_page_names_a_variable_that_does_not_exist() -> None:
    beside = set(re.findall(r"(?m)^- `([A-Z_]+)`", page("docs/settings.md")))
    known = {*project_settings.env.names, *beside, *EVENT_COLUMNS, "CI", "POSTGRES_BINDIR", *OF_SERVERS}
    for path in PAGES:
        named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", path.read_text()))
        assert named - known == set(), path.name


def endpoints() -> set[tuple[str, str]]:
    """Method and path of every address but the admin's."""
    pages = {("GET", path) for path, callback in addresses() if not hasattr(callback, "actions")}
    return pages | {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}


def documented_endpoints(text: str) -> set[tuple[str, str]]:
    found = re.findall(r"`(GET|POST|PATCH|PUT|DELETE) (/[^\s`?]*)", text)
    return {(method, path) for method, path in found}


def test_every_endpoint_is_documented_and_nothing_else_is() -> None:
    assert documented_endpoints(page("docs/api.md")) == endpoints()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_names_an_endpoint_that_does_not_exist(path: Path) -> None:
    real = {(method, re.sub(r"\{\w+\}", "{}", name)) for method, name in endpoints()}
    named = {(method, re.sub(r"\{\w+\}", "{}", name)) for method, name in documented_endpoints(path.read_text())}
    assert named - real == set()


def test_every_error_code_is_documented_with_its_status_and_nothing_else_is() -> None:
    documented = {row[1].strip("`"): int(row[0]) for row in rows("docs/api.md", 3) if row[0].isdigit()}
    assert documented == {code: known.status for code, known in CODES.items()}


def test_every_command_of_ours_is_documented() -> None:
    ours = {name for name, app in get_commands().items() if app in OUR_APPS}
    assert ours
    assert [name for name in sorted(ours) if f"manage.py {name}" not in page("docs/operations.md")] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_that_a_page_names_exists(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"manage\.py (\w+)", text)) <= get_commands().keys()
    targets = re.findall(r"(?m)^([a-z]+):", page("Makefile"))
    assert set(re.findall(r"(?m)(?:^|`)make ([a-z]+)", text)) <= set(targets)


def anchors(path: Path) -> set[str]:
    """The headings' names in links, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_between_pages_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        target = urlsplit(link)
        if target.scheme:
            continue
        file = (path.parent / target.path).resolve() if target.path else path
        assert file.exists(), link
        assert not target.fragment or target.fragment in anchors(file), link


def missing_files(text: str) -> set[str]:
    """Paths and modules that a text names and the repository lacks. A bare name may be anywhere in it."""
    words = {word.removeprefix("./") for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()}
    paths = {
        word for word in words if re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)*(\.py|/[\w-]+\.(html|js|css|in|po|svg))", word)
    }
    folders = {word for word in words if re.fullmatch(r"[a-z_]+/([a-z_]+/)*", word)}
    modules = {name.replace(".", "/") for name in re.findall(r"-m ((?:trials|testing|tests)[.\w]*)", text)}
    lost = {name for name in paths | folders if not (ROOT / name).exists() and not ("/" not in name and known(name))}
    return lost | {name for name in modules if not (ROOT / f"{name}.py").exists() and not (ROOT / name).is_dir()}


def known(name: str) -> bool:
    """Whether a tracked folder has a file of that name."""
    return any(path for folder in OUR_FOLDERS for path in (ROOT / folder).rglob(name))


@pytest.mark.parametrize("path", [*PAGES, ROOT / "Dockerfile", ROOT / "Makefile"], ids=lambda path: path.name)
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    assert missing_files(path.read_text()) == set()


def test_a_file_that_does_not_exist_is_found() -> None:
    text = "`access/limits.py`, `limits.py`, `access/door.py`, `door.py`, `static/x.css`, `bench/`, `-m trials.lost`"
    assert missing_files(text) == {"access/door.py", "door.py", "static/x.css", "bench/", "trials/lost"}


def requirements(name: str) -> list[str]:
    """The packages that a .in file asks for, without versions."""
    return re.findall(r"(?m)^[a-z][\w-]*(?:\[[\w,]+\])?", page(name))


def test_every_direct_dependency_has_its_reason_and_nothing_else_has() -> None:
    wanted = {name for path in IN_FILES for name in requirements(path)}
    reasoned = {name for row in rows("docs/decisions.md", 2) for name in row[0].split(", ")}
    assert reasoned - {"package", "---"} == wanted


def first_call() -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The address and body of README's first curl, and the reply that it shows."""
    curl, reply = re.findall(r"```(?:sh|json)\n(.*?)```", page("README.md"), re.DOTALL)[1:3]
    words = shlex.split(curl.replace("\\\n", " "))
    return urlsplit(words[1]).path, json.loads(words[words.index("-d") + 1]), json.loads(reply)


def test_the_readmes_first_call_gets_the_reply_that_it_shows(fronts: Services) -> None:
    path, body, shown = first_call()
    answer = Caller(fronts.shared(LLM_PROVIDER="demo"), key="").post(path, **body).json()
    assert answer | {"turn_id": ""} == shown | {"turn_id": ""}
