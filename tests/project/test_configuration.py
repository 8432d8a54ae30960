"""Settings are read as everybody expects, or stop the start with a sentence that names them."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from bancobot_project.configuration.environment import Environment
from bancobot_project.server.http.listening import check_addresses
from testing.environment import ROOT, clean_environment
from tests.support.services import Services

BOM = "\ufeff"
SECRET = "s3nh4-s3cr3t4"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of settings, of which the process's environment says nothing yet."""
    path = tmp_path / ".env"
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path), "ENV_FILE": str(path)})
    return path


READ = {
    "A=b": "b",
    f"{BOM}A=b": "b",
    "A = b": "b",
    "export A=b": "b",
    "A=b\r\nB=c\r\n": "b",
    "A=b # a comment": "b",
    "A=b#c": "b#c",
    "A='b # c'": "b # c",
    'A="b # c"  # a comment': "b # c",
    'A="um\\ndois"': "um\ndois",
    'A="um\ndois"': "um\ndois",
    "A='um\\ndois'": "um\\ndois",
    "A=b$c${HOME}": "b$c${HOME}",
    "A=b=c==": "b=c==",
    "# A=c\n\n  A=b": "b",
    "A=b\nA=c": "c",
    "A=": "",
    "A=ação": "ação",
}


@pytest.mark.parametrize("text", READ)
def test_a_file_is_read_as_everybody_expects(file: Path, text: str) -> None:
    file.write_text(text, newline="")
    assert Environment(file).text("A") == READ[text]


@pytest.mark.parametrize(
    "text",
    [
        f"set A={SECRET}", "A", f"A-B={SECRET}", f"1A={SECRET}", f'"A B"={SECRET}', f"A='{SECRET}", f'A="{SECRET}" x',
        f"= {SECRET}", f"A: {SECRET}", f"\u200bA={SECRET}", f"Á={SECRET}", f"$env:A = '{SECRET}'",
        f"B=1\nsetx A {SECRET}",
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_stops_the_start_and_is_not_shown(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ImproperlyConfigured, match=rf"{file}, line {1 + text.count(chr(10))}: ") as refused:
        Environment(file)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "content", ["A=é".encode("latin-1"), "A=b".encode("utf-32"), "A=b".encode("utf-16-le"), b"A=b\0"]
)
def test_a_file_in_another_encoding_stops_the_start(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match="not UTF-8"):
        Environment(file)


def test_a_file_that_is_named_must_be_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for named in (file, file.parent):
        monkeypatch.setitem(os.environ, "ENV_FILE", str(named))
        with pytest.raises(ImproperlyConfigured, match="cannot be read"):
            Environment(file)
    monkeypatch.delitem(os.environ, "ENV_FILE")
    assert Environment(file).text("A") == ""
    file.write_text("A=b")
    monkeypatch.setitem(os.environ, "ENV_FILE", "~/.env")
    assert Environment(ROOT / "none").text("A") == "b"


def test_the_environment_overrides_the_file_unless_it_is_empty(file: Path) -> None:
    file.write_text("A=file\nB=file\nC=file")
    os.environ.update(A="own", B="", C=" ")
    env = Environment(file)
    assert [env.text(name) for name in "ABC"] == ["own", "file", "file"]


def test_quotes_that_a_container_kept_are_taken_away(file: Path) -> None:
    file.touch()
    os.environ.update(A='"keys"', B="'um \"dois\"'", C='"', D="\"a'")
    env = Environment(file)
    assert [env.text(name) for name in "ABCD"] == ["keys", 'um "dois"', '"', "\"a'"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Chat.Bank.example", "chat.bank.example"), ("x:443", "x"), ("*.bank.example", ".bank.example"),
        (".b.c", ".b.c"),
        ("::1", "[::1]"), ("[::1]:80", "[::1]"), ("2001:DB8::0:1", "[2001:db8::1]"), ("10.0.0.1:8000", "10.0.0.1"),
        ("a.", "a"), ("bücher.example", "xn--bcher-kva.example"), ("*", "*"),
    ],
)  # fmt: skip
def test_hosts_are_put_right(file: Path, written: str, expected: str) -> None:
    file.write_text(f"A='x.y, {written}'")
    assert Environment(file).hosts("A", []) == ["x.y", expected]


@pytest.mark.parametrize(
    "value",
    ["https://x", "x/", "a b", "a;b", '["a"]', "*x", "a.*", "-a", "x:y", "[::1", "::g", "a..b", "a_b", "é" * 70],
)
def test_what_is_no_host_stops_the_start(file: Path, value: str) -> None:
    file.write_text(f"ALLOWED_HOSTS='{value}'")
    with pytest.raises(ImproperlyConfigured, match=r"ALLOWED_HOSTS must be a list of host names such as") as refused:
        Environment(file).hosts("ALLOWED_HOSTS", [])
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("https://www.bank.example", "https://www.bank.example"), ("HTTPS://Www.Bank.example/", "https://www.bank.example"),
        ("https://a:443", "https://a"), ("http://a:80", "http://a"), ("http://a:443", "http://a:443"),
        ("http://[::1]:5173", "http://[::1]:5173"), ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://Abcdef", "chrome-extension://abcdef"), ("http://bücher.example", "http://xn--bcher-kva.example"),
    ],
)  # fmt: skip
def test_origins_are_put_right(file: Path, written: str, expected: str) -> None:
    file.write_text(f"A={written}")
    assert Environment(file).origins("A") == [expected]


@pytest.mark.parametrize(
    "value", ["x", "*", "null", "https://x/app", "https://x?y", "ftp://x", "https://", "//x", "https://a b", "https://u@x",
              "https://*.x", "https://x:99999", "https://[::1", "https://x,y"],
)  # fmt: skip
def test_what_is_no_origin_stops_the_start(file: Path, value: str) -> None:
    file.write_text(f"CORS_ALLOWED_ORIGINS='{value}'")
    with pytest.raises(ImproperlyConfigured, match="CORS_ALLOWED_ORIGINS must be a list of origins such as"):
        Environment(file).origins("CORS_ALLOWED_ORIGINS")


def test_a_domain_may_be_trusted(file: Path) -> None:
    file.write_text("A=https://*.Bank.example")
    assert Environment(file).origins("A", domains=True) == ["https://*.bank.example"]


@pytest.mark.parametrize(
    ("value", "host"),
    [("::", "::"), ("[::1]", "::1"), ("0:0::1", "::1"), ("LOCALHOST", "localhost"), ("10.1.2.3", "10.1.2.3")],
)
def test_an_address_to_listen_on_needs_no_brackets(file: Path, value: str, host: str) -> None:
    file.write_text(f"HOST={value}")
    assert Environment(file).host("HOST", "") == host


@pytest.mark.parametrize("value", ["127.0.0.1:8000", "[::1]:80", "http://x", "x y", "fe80::1%eth0", "*", "::1]"])
def test_what_is_no_address_to_listen_on_stops_the_start(file: Path, value: str) -> None:
    file.write_text(f"HOST='{value}'")
    with pytest.raises(ImproperlyConfigured, match="HOST must be an address or a host's name, without a port"):
        Environment(file).host("HOST", "")


@pytest.mark.parametrize(
    "value", ["1_0", "١", "1e1", "0x10", "10 000", "1.000.000", "5s", "inf", "nan", "--1", "tcp://10.0.0.1:80"]
)
def test_a_number_is_written_with_digits(file: Path, value: str) -> None:
    file.write_text(f"A='{value}'")
    env = Environment(file)
    readers: list[Callable[[], object]] = [
        lambda: env.integer("A", 1, 0, 99),
        lambda: env.seconds("A", 1, 0, 99),
        lambda: env.amount("A", 99),
    ]
    for read in readers:
        with pytest.raises(ImproperlyConfigured, match=r"A must be a (whole )?number from 0 to 99, not "):
            read()


def test_a_path_may_begin_at_home_and_a_folder_is_made(file: Path) -> None:
    file.write_text("A=~/novo/dados\nB=~nobody-here/x\nC=/proc/x/y\nD=perto")
    env, home = Environment(file), file.parent
    assert env.folder("A", ROOT / "var") == home / "novo" / "dados"
    assert stat.S_IMODE((home / "novo" / "dados").stat().st_mode) == 0o700
    assert env.folder("D", home / "var") == home / "perto"
    for name, sentence in (("B", "no such user"), ("C", "a folder that can be made")):
        with pytest.raises(ImproperlyConfigured, match=sentence):
            env.folder(name, ROOT / "var")


def test_misspelt_names_are_told_with_the_nearest(file: Path) -> None:
    file.write_text(f"ACESS_MODE={SECRET}\nOPENAI_API_BASE=x\nPOSTGRES_PASSWORD=x\nDJANGO_SETTINGS_MODULE=x")
    os.environ.update(
        ALLOWED_HOST="x", HOSTNAME="x", HTTPS_PROXY="x", XDG_DATA_DIRS="x", OPENAI_ORG_ID="x", MAX_WORKERS="9"
    )
    env = Environment(file)
    for name in (
        "ACCESS_MODE",
        "ALLOWED_HOSTS",
        "HOST",
        "HTTPS",
        "DATA_DIR",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "WORKERS",
    ):
        env.text(name)
    nearest = {"ACESS_MODE": "ACCESS_MODE", "ALLOWED_HOST": "ALLOWED_HOSTS", "OPENAI_API_BASE": "OPENAI_BASE_URL"}
    assert env.notes() == [f"{name} is no setting of this service. Is {near} meant?" for name, near in nearest.items()]


# The start


def serve(tmp_path: Path, *arguments: str, **settings: str) -> str:
    """What a start that fails says."""
    environment = clean_environment(DATA_DIR=str(tmp_path), **settings)
    command = [sys.executable, "manage.py", "serve", *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_host_that_a_shell_has_set_is_named(tmp_path: Path) -> None:
    said = serve(tmp_path, "--port", "0", HOST="x86_64-conda-linux-gnu", ACCESS_MODE="keys")
    assert "cannot listen on x86_64-conda-linux-gnu:0" in said
    assert "HOST says x86_64-conda-linux-gnu, which a shell may have set" in said


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = rf"^The service cannot listen on 127\.0\.0\.1:{port}: Address already in use\.$"
        with override_settings(HOST_IS_INHERITED=True), pytest.raises(ImproperlyConfigured, match=sentence):
            check_addresses("127.0.0.1", [0, port])


@pytest.mark.parametrize("inherited", [False, True])
def test_an_address_of_another_machine_is_told_in_a_sentence(inherited: bool) -> None:
    sentence = r"^The service cannot listen on 192\.0\.2\.7:0: "
    inherits = override_settings(HOST="192.0.2.7", HOST_IS_INHERITED=inherited)
    with inherits, pytest.raises(ImproperlyConfigured, match=sentence) as refused:
        check_addresses("192.0.2.7", [0])
    assert ("which a shell may have set" in str(refused.value)) == inherited


def test_a_variable_of_the_file_is_not_inherited(file: Path) -> None:
    file.write_text("A=b\nB=c")
    os.environ.update(B="d", C="")
    env = Environment(file)
    assert [env.is_inherited(name) for name in "ABCD"] == [False, True, False, False]


def test_a_short_secret_stops_production(tmp_path: Path) -> None:
    said = serve(tmp_path, ENVIRONMENT="production", SECRET_KEY="k" * 31)
    assert "needs a SECRET_KEY of at least 32 random characters" in said
    assert "k" * 31 not in said


def test_the_files_of_a_database_are_private_wherever_they_are(fronts: Services, tmp_path: Path) -> None:
    folder = tmp_path / "aberta"
    folder.mkdir(mode=0o755)
    database = folder / "banco.sqlite3"
    database.touch(mode=0o644)
    misspelt = {"OWNER_TOKEN_PER_DAY": "5"}
    with fronts.own(DATABASE_URL=f"sqlite:///{database}", **misspelt) as service:
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert modes == dict.fromkeys(("banco.sqlite3", "banco.sqlite3-wal", "banco.sqlite3-shm"), 0o600)
        assert "OWNER_TOKEN_PER_DAY is no setting of this service. Is OWNER_TOKENS_PER_DAY meant?" in service.log()
