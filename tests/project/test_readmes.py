"""The two READMEs against each other; the index and the developers' page against the repository."""

import re
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from chat.providers import ChatMessage, Options, Provider
from testing.environment import ROOT
from tests.run import STAGES

READMES = ["README.md", "README.pt-BR.md"]
ENGLISH, PORTUGUESE = ((ROOT / name).read_text() for name in READMES)
DEVELOPERS = (ROOT / "docs" / "developers.md").read_text()
A_BLOCK = r"(?ms)^```(\w+)\n(.*?)^```$"
OURS = ("access_", "sessions_api_", "bancobot_project_")


def sections(text: str) -> list[int]:
    """The depth of each heading."""
    return [len(marks) for marks in re.findall(r"(?m)^(#+) ", re.sub(A_BLOCK, "", text))]


def blocks(text: str) -> list[tuple[str, str]]:
    """Commands and their output, without the comments, which are translated."""
    return [(kind, re.sub(r"(?m)\s+#.*$", "", body)) for kind, body in re.findall(A_BLOCK, text)]


def links(text: str) -> Counter[str]:
    """The links' targets; links to the other README count as one target."""
    found = [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r"<(http[^>]+)>", text)]
    return Counter("the other" if link in READMES else link for link in found)


def pictures(text: str) -> dict[str, str]:
    """The alternative text of each picture."""
    return dict(re.findall(r'<img src="([^"]+)" width="\d+%" alt="([^"]+)">', text))


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", re.sub(A_BLOCK, "", text)))


@pytest.mark.parametrize("what", [sections, blocks, links, names], ids=lambda what: what.__name__)
def test_both_readmes_have_the_same(what: Any) -> None:
    assert what(PORTUGUESE) == what(ENGLISH)
    assert len(what(ENGLISH)) > 5


def test_each_readme_leads_to_the_other_at_its_top() -> None:
    for text, other in zip((ENGLISH, PORTUGUESE), reversed(READMES), strict=True):
        assert f"]({other})" in "".join(text.splitlines(keepends=True)[:4])


def test_the_pictures_are_there_and_described_in_both_languages() -> None:
    english, portuguese = pictures(ENGLISH), pictures(PORTUGUESE)
    assert len(english) == ENGLISH.count("<img") == 4
    assert english.keys() == portuguese.keys()
    assert not set(english.values()) & set(portuguese.values())
    assert [path for path in english if not (ROOT / path).is_file()] == []


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == {link for link in links(index) if "/" not in link}


@pytest.mark.django_db
def test_every_table_of_ours_is_described() -> None:
    described = set(re.findall(rf"`((?:{'|'.join(OURS)})[a-z]+)`", DEVELOPERS.partition("## The tables")[2]))
    models = {model._meta.db_table for model in apps.get_models() if model._meta.db_table.startswith(OURS)}
    here = {table for table in connection.introspection.table_names() if table.startswith(OURS)}
    hidden = {table for table in here if table.startswith("sessions_api_words_")}  # the search index's own
    assert models <= described
    assert here - hidden <= described


def test_every_file_that_the_developers_page_names_exists() -> None:
    named = {name for name in names(DEVELOPERS) if re.fullmatch(r"[\w./]+(/|\.(py|html|po|in))", name)}
    assert len(named) > 30
    # `openrouter.py` alone is beside the file that was named before
    assert [name for name in named if not (ROOT / name).exists() and not list(ROOT.glob(f"chat/**/{name}"))] == []


def test_the_developers_page_names_every_stage() -> None:
    said = re.search(r"The stages of `make test` are (.*?)\.", DEVELOPERS, re.DOTALL)
    assert said
    assert re.split(r",\s+|\s+and\s+", said[1]) == list(STAGES)


async def test_the_provider_that_the_developers_page_shows_answers(tmp_path: Path) -> None:
    file = tmp_path / "parrot.py"
    file.write_text(next(body for kind, body in re.findall(A_BLOCK, DEVELOPERS) if kind == "python"))
    spec = spec_from_file_location("chat.providers.parrot", file)  # as if it were there
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    parrot: Provider = module.Parrot()
    pieces = [piece async for piece in parrot.stream([ChatMessage("user", "Olá")], Options(parrot.default_model))]
    assert "".join(piece.text for piece in pieces) == "Olá"
    assert pieces[-1].finish_reason
    assert await parrot.models()
