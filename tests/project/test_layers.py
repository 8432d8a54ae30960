"""The floor plan: which package imports which, how full a folder gets, and that no import hides.

Each check has a test that shows what it finds, since a check that finds nothing may be blind.
"""

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from testing.environment import ROOT

LAYERS = ("web", "access", "sessions_api", "chat", "bancobot_project")  # the left never imports the right
BESIDE = ("testing", "trials", "tests")
PACKAGES = (*LAYERS, *BESIDE)

MAX_FILES = dict.fromkeys(LAYERS, 12) | dict.fromkeys(BESIDE, 20)
SETTINGS_MODULE = {
    ("manage.py", "bancobot_project.settings"),
    ("bancobot_project/asgi.py", "bancobot_project.settings"),
}
# The name of a migration begins with digits, so that no statement can import it.
MIGRATIONS = {
    ("sessions_api/migrations/0009_search_alike.py", "sessions_api.migrations.0005_search"),
    ("sessions_api/migrations/0010_words_in_any_schema.py", "sessions_api.migrations.0005_search"),
    ("sessions_api/migrations/0010_words_in_any_schema.py", "sessions_api.migrations.0009_search_alike"),
}
DJANGO = {"django", "rest_framework"}
LOADERS = ("import_module", "import_string", "__import__")

Import = tuple[str, str]  # the importing module, the imported one


@cache
def imports_among(*packages: str) -> frozenset[Import]:
    """Every import in the packages, those inside functions too. Of other packages the first name alone counts."""
    graph = grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)
    return frozenset((name, found) for name in graph.modules for found in graph.find_modules_directly_imported_by(name))


def package_of(module: str) -> str:
    return module.partition(".")[0]


def against_the_order(imports: Iterable[Import], layers: tuple[str, ...]) -> set[Import]:
    number = {layer: index for index, layer in enumerate(layers)}
    both = [(name, found) for name, found in imports if {package_of(name), package_of(found)} <= number.keys()]
    return {(name, found) for name, found in both if number[package_of(name)] < number[package_of(found)]}


def from_to(imports: Iterable[Import], importers: Collection[str], imported: Collection[str]) -> set[Import]:
    return {(name, found) for name, found in imports if package_of(name) in importers and package_of(found) in imported}


def reached(imports: Iterable[Import], package: str) -> set[str]:
    """What the modules in the package import, and what that imports, and so on; its `__init__` does not count."""
    graph: dict[str, set[str]] = {}
    for name, found in imports:
        graph.setdefault(name, set()).add(found)
    seen: set[str] = set()
    ahead = {name for name in graph if name.startswith(f"{package}.")}
    while ahead:
        seen |= ahead
        ahead = {found for name in ahead for found in graph.get(name, ())} - seen
    return seen


def cycle(imports: Iterable[Import]) -> list[str]:
    """One of the cycles, or empty."""
    graph: dict[str, set[str]] = {}
    for name, found in imports:
        graph.setdefault(name, set()).add(found)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def between_siblings(imports: Iterable[Import]) -> set[Import]:
    """Each import as one between two packages or files of the same folder: a.b.c of a.d.e gives (a.b, a.d)."""
    found = set()
    for pair in imports:
        names = [name.split(".") for name in pair]
        differs = next((index for index, (one, other) in enumerate(zip(*names, strict=False)) if one != other), None)
        if differs is not None:
            found.add((".".join(names[0][: differs + 1]), ".".join(names[1][: differs + 1])))
    return found


def sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def crowded(paths: Iterable[Path], most: int) -> dict[Path, int]:
    """The folders with more files of code than that."""
    counted = [path for path in paths if path.name != "__init__.py" and "migrations" not in path.parts]
    return {folder: files for folder, files in Counter(path.parent for path in counted).items() if files > most}


def is_ours(name: str) -> bool:
    return package_of(name) in PACKAGES


def names_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """A relative import, which is of ours too, by the dots that it begins with."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or "")]


def late_imports(source: str) -> set[str]:
    """What of ours is imported inside a function."""
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    statements = [node for function in functions for node in ast.walk(function)]
    names = [name for node in statements if isinstance(node, ast.Import | ast.ImportFrom) for name in names_of(node)]
    return {name for name in names if name.startswith(".") or is_ours(name)}


def hidden_imports(source: str, modules: Collection[str]) -> set[str]:
    """Modules of ours that a string names, alone or with what is in them; those that a loader gets; `sys.modules`."""
    tree = ast.parse(source)
    return {
        *modules_in_strings(tree, modules),
        *loaded(tree),
        *(["sys.modules"] if "sys.modules" in used(tree) else []),
    }


def modules_in_strings(tree: ast.AST, modules: Collection[str]) -> Iterator[str]:
    for text in texts(tree):
        if is_ours(text) and re.fullmatch(r"\w+([.:]\w+)+", text) and ".".join(re.split("[.:]", text)[:2]) in modules:
            yield text


def loaded(tree: ast.AST) -> Iterator[str]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    for call in calls:
        if ast.unparse(call.func).rpartition(".")[2] in LOADERS:
            yield from (text for text in texts(call.args[0]) if text.startswith(".") or is_ours(text))


def used(tree: ast.AST) -> set[str]:
    """Attributes, with what they are taken from, and `from sys import modules` as the same."""
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return attributes | {f"{node.module}.{alias.name}" for node in imported for alias in node.names}


def texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def names_modules(path: Path) -> bool:
    """Django wants names there."""
    return path.name == "settings.py" or path.name.endswith("urls.py")


def test_every_package_has_its_place_in_the_order_or_beside_it() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(PACKAGES)


def test_a_layer_imports_nothing_to_its_right() -> None:
    assert against_the_order(imports_among(*PACKAGES), LAYERS) == set()


def test_the_service_imports_nothing_that_only_tries_it() -> None:
    assert from_to(imports_among(*PACKAGES), LAYERS, BESIDE) == set()


def test_what_the_tests_share_imports_none_of_its_users() -> None:
    assert from_to(imports_among(*PACKAGES), ["testing"], ["trials", "tests"]) == set()
    assert from_to(imports_among(*PACKAGES), ["trials"], ["tests"]) == set()


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert cycle(imports_among(*PACKAGES)) == []


def test_no_two_packages_import_each_other() -> None:
    assert cycle(between_siblings(imports_among(*PACKAGES))) == []


def test_a_provider_knows_no_django_and_nothing_of_ours() -> None:
    """Nor does what it imports. The registry does, which reads the settings."""
    names = reached(imports_among(*PACKAGES), "chat.providers")
    foreign = {name for name in names if package_of(name) in {*DJANGO, *PACKAGES}}
    assert {name for name in foreign if not name.startswith("chat.providers.")} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_is_crowded(package: str) -> None:
    assert crowded(sources(package), MAX_FILES[package]) == {}


def test_nothing_of_ours_is_imported_inside_a_function() -> None:
    found = {where(path): late_imports(path.read_text()) for path in sources(*PACKAGES)}
    assert {path: names for path, names in found.items() if names} == {}


def test_no_import_hides_in_a_string() -> None:
    """Of the service and of what the trials share; trials and tests start programs by their names."""
    modules = {module_of(path) for path in sources(*PACKAGES)}
    checked = [ROOT / "manage.py", *sources(*LAYERS, "testing")]
    hidden = {where(path): hidden_imports(path.read_text(), modules) for path in checked if not names_modules(path)}
    found = {(path, name) for path, names in hidden.items() for name in names}
    assert found == SETTINGS_MODULE | MIGRATIONS


def test_the_checks_of_imports_see_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "lower/__init__.py": "",
        "lower/one.py": "def late():\n    from upper import two\n",
        "upper/__init__.py": "",
        "upper/two.py": "import django.conf\nfrom .deep import three\n",
        "upper/four.py": "from upper import two\n",
        "upper/deep/__init__.py": "",
        "upper/deep/three.py": "from ..four import two\n",
    }
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    imports = imports_among("lower", "upper")
    assert ("upper.two", "django") in imports
    assert against_the_order(imports, ("lower", "upper")) == {("lower.one", "upper.two")}
    assert against_the_order(imports, ("upper", "lower")) == set()
    assert from_to(imports, ["lower"], ["upper"]) == {("lower.one", "upper.two")}
    assert set(cycle(imports)) == {"upper.two", "upper.deep.three", "upper.four"}
    assert set(cycle(between_siblings(imports))) == {"upper.two", "upper.deep", "upper.four"}
    assert set(cycle(between_siblings([("a.b.c", "a.d"), ("a.d.e", "a.b.f")]))) == {"a.b", "a.d"}


def test_the_graph_has_what_the_service_imports() -> None:
    imports = imports_among(*PACKAGES)
    assert ("chat.engine.service", "chat.engine.turn") in imports
    assert ("chat.providers.openrouter", "chat.providers.openai_compatible") in imports
    assert reached(imports, "chat.providers") > {"chat.providers.openrouter", "httpx"}
    assert reached(imports, "chat.engine") > {"chat.providers", *DJANGO}
    assert {package_of(name) for name, _ in imports} == set(PACKAGES)


def test_the_check_of_folders_sees_what_it_should() -> None:
    files = [Path(f"a/{name}.py") for name in ("__init__", "b", "c", "d")]
    assert crowded([*files, *(Path(f"a/migrations/{number}.py") for number in range(9))], 2) == {Path("a"): 3}
    assert crowded(files, 3) == {}


@pytest.mark.parametrize(
    "statement, found",
    [
        ("from chat import turns", {"chat"}),
        ("import chat.views, os", {"chat.views"}),
        ("from . import views", {"."}),
        ("async def later():\n        from .views import chat", {".views"}),
        ("import os", set()),
    ],
)
def test_the_check_of_functions_sees_what_it_should(statement: str, found: set[str]) -> None:
    assert late_imports(f"def late():\n    {statement}\n") == found
    assert "async" in statement or late_imports(statement) == set()


@pytest.mark.parametrize(
    "source, found",
    [
        ('NAME = "access.limits"', {"access.limits"}),
        ('connect("access.limits.connect")', {"access.limits.connect"}),
        ('run("bancobot_project.asgi:application")', {"bancobot_project.asgi:application"}),
        ('import_module("chat")', {"chat"}),
        ('importlib.import_module(f"chat.{name}")', {"chat."}),
        ('__import__("chat")', {"chat"}),
        ('import sys\nsys.modules["anything"]', {"sys.modules"}),
        ("from sys import modules", {"sys.modules"}),
        ('"""Says what access.limits does."""', set()),
        ('permission = "access.change_key"', set()),
        ("import_string(settings.ASGI_APPLICATION)", set()),
    ],
)
def test_the_check_of_strings_sees_what_it_should(source: str, found: set[str]) -> None:
    assert hidden_imports(source, {"access.limits", "bancobot_project.asgi"}) == found
