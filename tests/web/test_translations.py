"""The Portuguese texts: complete, compiled, and shown."""

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils.translation import gettext as translate
from django.utils.translation import override
from django.utils.translation import template as template_translation

from testing import scenarios
from testing.client import Caller
from testing.environment import ROOT
from testing.service import Service
from testing.upstream import Upstream

CATALOGUE = ROOT / "locale" / "pt_BR" / "LC_MESSAGES"
PACKAGES = ("web", "access", "sessions_api", "chat", "bancobot_project")
MARKS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sd]|\{\w*\}")
A_STRING = r'"(?:[^"\\]|\\.)*"'


@pytest.fixture
def service(front: Service) -> Service:
    """No database changes what these tests show."""
    return front


def entries() -> dict[str, tuple[str, ...]]:
    """Each text of the .po file, a plural's singular, with its translations: one, or one for each number."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in re.split(r"\n\n+", (CATALOGUE / "django.po").read_text().strip()):
        fields = re.findall(rf"(?m)^(msg\w+(?:\[\d\])?) ((?:{A_STRING}\n?)+)", entry + "\n")
        texts = {name: "".join(map(ast.literal_eval, re.findall(A_STRING, quoted))) for name, quoted in fields}
        found[texts["msgid"]] = tuple(text for name, text in texts.items() if name.startswith("msgstr"))
    return found


def compiled(source: dict[str, tuple[str, ...]]) -> dict[Any, str]:
    """The texts as Python's gettext has them."""
    plain = {text: forms[0] for text, forms in source.items() if len(forms) == 1}
    plural = {
        (text, number): form for text, forms in source.items() if len(forms) > 1 for number, form in enumerate(forms)
    }
    return plain | plural


def marked_in_python(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS:
            text = node.args[0]
            literal = text.value if isinstance(text, ast.Constant) else None
            assert isinstance(literal, str), f"{path}:{node.lineno}: only a literal can be translated"
            yield literal


def marked_in_template(path: Path) -> Iterator[str]:
    """What Django would hand to xgettext: Python, with all else made x."""
    source: str = template_translation.templatize(path.read_text())
    for quoted in re.findall(rf"(?:gettext|_)\(u?({A_STRING}|'(?:[^'\\]|\\.)*')", source):
        yield ast.literal_eval(quoted)


def marked() -> set[str]:
    """Every text that the code or a template marks for translation."""
    code = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    templates = [path for folder in ("templates", *PACKAGES) for path in (ROOT / folder).rglob("*.html")]
    found = {text for path in code for text in marked_in_python(path)}
    return found | {text for path in templates for text in marked_in_template(path)}


def test_every_text_of_the_code_is_in_the_catalogue_and_nothing_else_is() -> None:
    assert entries().keys() - {""} == marked()


def test_every_text_is_translated_and_none_is_doubtful() -> None:
    assert [text for text, translations in entries().items() if not all(translations)] == []
    assert "fuzzy" not in (CATALOGUE / "django.po").read_text()


def test_translations_keep_the_placeholders() -> None:
    for text, translations in entries().items():
        for translation in translations if text else []:
            assert sorted(PLACEHOLDER.findall(translation)) == sorted(PLACEHOLDER.findall(text)), text


def test_the_compiled_catalogue_is_that_of_the_source() -> None:
    with (CATALOGUE / "django.mo").open("rb") as file:
        catalogue = vars(gettext.GNUTranslations(file))["_catalog"]  # a plural form's key is (text, number of the form)
    assert {**catalogue, "": ""} == {**compiled(entries()), "": ""}  # msgfmt takes the date out of the header


def test_django_finds_the_catalogue_for_the_default_language() -> None:
    with override(settings.LANGUAGE_CODE):
        assert translate("Session not found.") == "Sessão não encontrada."


ENGLISH = {"Session not found.", "Turn not found.", "There is nothing at this address."}
PORTUGUESE = {"Sessão não encontrada.", "Turno não encontrado.", "Não há nada neste endereço."}
ANSWERED = {None: PORTUGUESE, "pt-BR": PORTUGUESE, "pt-PT": PORTUGUESE, "de": PORTUGUESE, "": PORTUGUESE}
ANSWERED |= {"en": ENGLISH, "en-US,en;q=0.9,pt;q=0.5": ENGLISH, "fr,en;q=0.5": ENGLISH}


def speaking(service: Service, language: str | None) -> Caller:
    return Caller(service, **({} if language is None else {"Accept_Language": language}))


@pytest.mark.parametrize("language", ANSWERED)
def test_an_errors_sentence_is_portuguese_unless_english_is_asked_for(service: Service, language: str | None) -> None:
    caller = speaking(service, language)
    sentences = {caller.get(path).json()["detail"] for path in ("/sessions/none", "/turns/none", "/nowhere")}
    assert sentences == ANSWERED[language]


def problems(caller: Caller) -> dict[str, Any]:
    answer = caller.post("/chat", temperature=5, max_tokens="many", session_id="ç", stream="yes", model="m" * 201)
    return dict(answer.json()["errors"])


def test_what_is_wrong_with_a_field_is_said_in_the_callers_language(service: Service) -> None:
    english, portuguese = problems(speaking(service, "en")), problems(speaking(service, None))
    assert (english["message"], portuguese["message"]) == (["This field is required."], ["Este campo é obrigatório."])
    assert english.keys() == portuguese.keys()
    assert english.keys() >= {"message", "temperature", "max_tokens", "session_id", "stream", "model"}
    assert [field for field in english if english[field] == portuguese[field]] == []


@pytest.mark.parametrize(("language", "sentence"), [("pt-BR", "O provedor falhou."), ("en", "The provider failed.")])
def test_a_failed_turn_is_told_in_the_callers_language(
    service: Service, upstream: Upstream, language: str, sentence: str
) -> None:
    upstream.script(scenarios.error_mid_stream(500))
    caller = speaking(service, language)
    error = caller.stream("/chat", message="Oi")[-1]
    assert (error.name, error.data["detail"]) == ("error", sentence)
    assert caller.get(f"/turns/{error.data['turn_id']}").json()["error"]["detail"] == sentence
