"""access ← sessions_api ← chat: the left never imports the right, and nothing of ours is imported inside a function."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.environment import ROOT

pytestmark = pytest.mark.no_database

LAYERS = ["access", "sessions_api", "chat"]
OURS = {*LAYERS, "bancobot_project", "tests", "bench", "torture", "fuzz"}

SOURCES = sorted(
    path
    for package in [*LAYERS, "bancobot_project"]
    for path in (ROOT / package).rglob("*.py")
    if "migrations" not in path.parts
)


def imported(node: ast.AST, path: Path) -> list[str]:
    """The modules that an import statement names, relative ones made absolute."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = path.relative_to(ROOT).parent.parts if node.level else ()
        base = package[: len(package) - node.level + 1] if node.level else ()
        return [".".join([*base, *([node.module] if node.module else [])])]
    return []


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        yield from imported(node, path)


def imports_inside_functions(path: Path) -> set[str]:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {name for function in functions for node in ast.walk(function) for name in imported(node, path)}


def is_ours(module: str) -> bool:
    return module.split(".")[0] in OURS


@pytest.mark.parametrize("number, layer", list(enumerate(LAYERS)))
def test_a_layer_imports_nothing_to_its_right(number: int, layer: str) -> None:
    right = set(LAYERS[number + 1 :])
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] == layer
        for name in imports(path)
        if name.split(".")[0] in right
    }
    assert found == set()


def test_no_module_of_ours_is_imported_inside_a_function() -> None:
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in SOURCES
        for name in imports_inside_functions(path)
        if is_ours(name)
    }
    assert found == set()


def test_the_service_imports_nothing_of_the_tests() -> None:
    forbidden = ("tests", "bench", "torture", "fuzz")
    assert [path for path in SOURCES for name in imports(path) if name.split(".")[0] in forbidden] == []


def test_what_a_provider_speaks_knows_no_django() -> None:
    """All but the registry, which reads the settings."""
    for path in (ROOT / "chat" / "providers").glob("*.py"):
        if path.name != "__init__.py":
            names = set(imports(path))
            assert not {name for name in names if name.split(".")[0] in ("django", "rest_framework", "sessions_api")}, (
                path
            )


def test_the_check_sees_what_it_should(tmp_path: Path) -> None:
    """A check that finds nothing may be blind."""
    assert "chat.engine.turn" in set(imports(ROOT / "chat" / "service.py"))
    assert "chat.providers.base" in set(imports(ROOT / "chat" / "providers" / "openrouter.py"))
    hidden = tmp_path / "hidden.py"
    hidden.write_text("def late():\n    from chat import turns\n    import chat.views\n")
    assert imports_inside_functions(hidden) == {"chat", "chat.views"}
    assert len(SOURCES) > 30
