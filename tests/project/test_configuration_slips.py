"""What people get wrong in settings, and would not notice: it is told, or stops the start."""

import os
import stat
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from bancobot_project import settings as project_settings
from bancobot_project.configuration.environment import Environment
from bancobot_project.configuration.names import nearest
from bancobot_project.configuration.secret_key import check_production, private_key
from bancobot_project.management.commands.serve import Command
from web.addresses import networks

SECRET = "s3nh4-s3cr3t4"
KNOWN = project_settings.env.names


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of settings, of which the process's environment says nothing yet."""
    path = tmp_path / ".env"
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path), "ENV_FILE": str(path)})
    return path


def read(file: Path) -> Environment:
    """All variables of ours, as text."""
    env = Environment(file)
    for name in KNOWN:
        env.text(name)
    return env


# The file


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_windows_editors_save_is_read(file: Path, encoding: str) -> None:
    file.write_text("ACCESS_MODE=keys\r\nCHAT_SYSTEM_PROMPT='um\r\nação'\r\n", encoding=encoding, newline="")
    env = Environment(file)
    assert (env.text("ACCESS_MODE"), env.text("CHAT_SYSTEM_PROMPT")) == ("keys", "um\nação")


@pytest.mark.parametrize(
    "text",
    [
        f'OPENAI_API_KEY="{SECRET}\nACCESS_MODE=keys\nAUTO_TITLE_MODEL=x"',
        f"CHAT_SYSTEM_PROMPT='{SECRET}\n  export  ACCESS_MODE = keys\n'",
        f"CHAT_SYSTEM_PROMPT={SECRET} ACCESS_MODE=keys",
        *(f"CHAT_SYSTEM_PROMPT={SECRET}{end}ACCESS_MODE=keys" for end in ("\v", "\f", "\x85", "\u2028")),
    ],
)
def test_a_setting_within_another_one_s_value_stops_the_start(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ImproperlyConfigured, match=r" has ACCESS_MODE= inside\.") as refused:
        read(file).notes()
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("value", ["A=b\nb2=c", "Use TEMPERATURE=1 e HOST=x", "-----BEGIN X\nMIIC==\nPORT\n-----END"])
def test_a_text_that_sets_nothing_of_ours_is_a_text(file: Path, value: str) -> None:
    file.write_text(f"CHAT_SYSTEM_PROMPT='{value}'")
    assert read(file).notes() == []


@pytest.mark.parametrize("name", ["access_mode", "Access_Mode", "port"])
def test_our_names_are_written_in_capitals(file: Path, name: str) -> None:
    file.write_text(f"{name}={SECRET}")
    with pytest.raises(ImproperlyConfigured, match=f"{name} is written in capitals, {name.upper()}") as refused:
        read(file).notes()
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value", "told"),
    [
        ("A=b\nA=b", "b", ""),
        ("A=\nA=b", "b", ""),
        (f"A={SECRET}\nB=1\nA=b", "b", "again in line 3: the last one counts"),
        (f"A={SECRET}\nA=", SECRET, "again in line 2: the last one is empty and does not count"),
    ],
)
def test_a_name_that_comes_twice_is_told(file: Path, text: str, value: str, told: str) -> None:
    file.write_text(text)
    env = Environment(file)
    assert env.text("A") == value
    env.text("B")
    assert [told in note and SECRET not in note for note in env.notes()] == [True] * bool(told)


@pytest.mark.parametrize("value", ["${HOME}/x", "$(cat x)", "a${B}c"])
def test_variables_in_values_stay_and_are_told(file: Path, value: str) -> None:
    file.write_text(f"CHAT_SYSTEM_PROMPT={value}")
    env = read(file)
    assert os.environ["CHAT_SYSTEM_PROMPT"] == value
    assert [note.partition(" has ")[0] for note in env.notes()] == ["CHAT_SYSTEM_PROMPT"]


def test_a_file_that_was_there_once_is_missed(file: Path, tmp_path: Path) -> None:
    del os.environ["ENV_FILE"]
    file.symlink_to(tmp_path / "gone")
    with pytest.raises(ImproperlyConfigured, match="cannot be read: No such file"):
        Environment(file)
    os.environ["ENV_FILE"] = "~nobody-here/x"
    with pytest.raises(ImproperlyConfigured, match="ENV_FILE must be a path"):
        Environment(file)


def test_the_file_cannot_name_another_file(file: Path) -> None:
    file.write_text("A=b\nENV_FILE=other")
    with pytest.raises(ImproperlyConfigured, match=r"line 2: ENV_FILE works only in the environment"):
        Environment(file)


@pytest.mark.parametrize("value", ['""', "''", " ", '" "'])
def test_quotes_around_nothing_set_nothing(file: Path, value: str) -> None:
    """Not the shortest time that is allowed: sessions would be erased after seconds."""
    file.touch()
    os.environ["SESSION_CLEANUP_HOURS"] = value
    env = Environment(file)
    assert (env.is_set("SESSION_CLEANUP_HOURS"), env.hours_if_set("SESSION_CLEANUP_HOURS", 0.01)) == (False, None)


def test_quotes_of_the_text_itself_stay(file: Path) -> None:
    prompt = '"Olá" e "tchau"'
    file.write_text(f"A='\"Olá\"'\nB='{prompt}'")
    os.environ["C"] = prompt
    env = Environment(file)
    assert [env.text(name) for name in "ABC"] == ['"Olá"', prompt, prompt]


# Names

MEANT = {
    "ACESS_MODE": "ACCESS_MODE", "ACCES_MODE": "ACCESS_MODE", "ACCESSMODE": "ACCESS_MODE",
    "ACCESS_MODES": "ACCESS_MODE", "OWNER_TOKEN_PER_DAY": "OWNER_TOKENS_PER_DAY", "OPENAI_APIKEY": "OPENAI_API_KEY",
    "DATABASE_URI": "DATABASE_URL", "ALLOWED_HOST": "ALLOWED_HOSTS", "TRUSTED_PROXY": "TRUSTED_PROXIES",
    "CORS_ALLOWED_ORIGIN": "CORS_ALLOWED_ORIGINS", "CSRF_TRUSTED_ORIGIN": "CSRF_TRUSTED_ORIGINS",
    "ENVIROMENT": "ENVIRONMENT", "OPENROUTER_APIKEY": "OPENROUTER_API_KEY", "BANCOBOT_ACCESS_MODE": "ACCESS_MODE",
    "DJANGO_SECRET_KEY": "SECRET_KEY", "SECRET_KEY_FILE": "SECRET_KEY", "SECRETKEY": "SECRET_KEY",
}  # fmt: skip
MEANT_IN_THE_FILE = {
    "DEBUGG": "DEBUG", "POORT": "PORT", "HOSTS": "HOST", "WORKER": "WORKERS", "BANCOBOT_PORT": "PORT",
    "OPENAI_MODEL": "OPENAI_DEFAULT_MODEL", "OPENAI_API_BASE": "OPENAI_BASE_URL", "DJANGO_DEBUG": "DEBUG",
    "CORS_ORIGINS": "CORS_ALLOWED_ORIGINS",
}  # fmt: skip
USUAL = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TMPDIR", "PWD",
    "OLDPWD", "HOSTNAME", "HOSTTYPE", "MACHTYPE", "OSTYPE", "EDITOR", "PAGER", "TZ", "DISPLAY",
    "XDG_DATA_DIRS", "XDG_DATA_HOME", "XDG_CONFIG_DIRS", "XDG_RUNTIME_DIR", "XDG_SESSION_ID",
    "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV",
    "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PIP_INDEX_URL", "UV_INDEX_URL",
    "UV_CACHE_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY",
    "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "FTP_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "DJANGO_SETTINGS_MODULE", "DJANGO_SUPERUSER_PASSWORD", "POSTGRES_PASSWORD", "POSTGRES_USER",
    "POSTGRES_DB", "POSTGRES_HOST", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGDATA",
    "PGSSLMODE", "DATABASE_HOST", "DATABASE_PORT", "DATABASE_NAME", "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT", "KUBERNETES_PORT", "KUBERNETES_PORT_443_TCP_ADDR", "BANCOBOT_PORT",
    "BANCOBOT_SERVICE_HOST", "BANCOBOT_SERVICE_PORT", "BANCOBOT_PORT_8000_TCP", "DATABASE_SERVICE_HOST",
    "DATABASE_SERVICE_PORT", "DATABASE_PORT_5432_TCP", "PORT_8000_TCP", "OPENAI_ORG_ID",
    "OPENAI_ORGANIZATION", "OPENAI_PROJECT", "OPENAI_PROJECT_ID", "OPENAI_API_TYPE", "OPENAI_API_VERSION",
    "OPENAI_API_BASE", "OPENAI_MODEL", "OPENAI_LOG", "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY",
    "GEMINI_API_KEY", "OPENROUTER_SITE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS", "GITHUB_TOKEN",
    "GITHUB_ACTIONS", "GITHUB_ENV", "RUNNER_TEMP", "CI", "NODE_ENV", "APP_ENV", "FLASK_ENV", "NODE_OPTIONS",
    "JAVA_HOME", "GOPATH", "CARGO_HOME", "DOCKER_HOST", "COMPOSE_PROJECT_NAME", "COMPOSE_FILE",
    "INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_FDS", "NOTIFY_SOCKET", "MEMORY_PRESSURE_WATCH",
    "WSL_DISTRO_NAME", "WT_SESSION", "COLORTERM", "FORCE_COLOR", "NO_COLOR", "TERM_PROGRAM", "VSCODE_PID",
    "LS_COLORS", "LESSOPEN", "HISTSIZE", "MAIL", "SHLVL", "_", "DEBUGINFOD_URLS", "DEBIAN_FRONTEND", "DYNO",
    "WEB_CONCURRENCY", "SENDFILE", "GUNICORN_CMD_ARGS", "HOST_IP", "HOST_UID", "HTTPS_PORT", "LOG_DIR",
    "LOG_FILE", "SENTRY_DSN", "SENTRY_ENVIRONMENT", "REDIS_URL", "CELERY_BROKER_URL", "SECRET_ARN",
    "MAX_WORKERS", "WORKERS_MAX", "SERVER_PORT",
]  # fmt: skip


@pytest.mark.parametrize("name", MEANT | MEANT_IN_THE_FILE)
def test_a_misspelt_name_is_told_with_the_nearest(name: str) -> None:
    assert nearest(name, KNOWN, in_file=True) == (MEANT | MEANT_IN_THE_FILE)[name]
    if name in MEANT:
        assert nearest(name, KNOWN, in_file=False) == MEANT[name]


def test_what_a_usual_environment_has_is_no_misspelling() -> None:
    assert {name: found for name in USUAL if (found := nearest(name, KNOWN, in_file=False))} == {}


# Values


@pytest.mark.parametrize("value", ["chave secreta", "ch\u00e1ve", "${OPENAI}", "a\u200bb", "“sk-x”", "sk-x\x7f"])
def test_a_key_that_no_header_could_carry_stops_the_start_and_is_not_shown(file: Path, value: str) -> None:
    file.write_text(f"OPENAI_API_KEY={value}")
    with pytest.raises(ImproperlyConfigured, match=r"^OPENAI_API_KEY must be a key") as refused:
        Environment(file).key("OPENAI_API_KEY")
    assert value not in str(refused.value)


def test_a_value_that_is_no_utf_8_stops_the_start(file: Path) -> None:
    file.touch()
    os.environ["CHAT_SYSTEM_PROMPT"] = os.fsdecode(b"ol\xe1")
    with pytest.raises(ImproperlyConfigured, match=r"^CHAT_SYSTEM_PROMPT must be UTF-8 text"):
        Environment(file).text("CHAT_SYSTEM_PROMPT")


@pytest.mark.parametrize("value", ["$HOME/dados", "${HOME}/dados", '"C:\\new"'])
def test_a_path_with_a_variable_or_a_line_s_end_stops_the_start(file: Path, value: str) -> None:
    file.write_text(f"DATA_DIR={value}")
    with pytest.raises(ImproperlyConfigured, match=r"^DATA_DIR must be a path"):
        Environment(file).folder("DATA_DIR", file.parent / "var")
    assert not list(file.parent.glob("*dados*"))


@pytest.mark.parametrize(("value", "read_as"), [("KEYS", "keys"), ("Keys+BYOK", "keys+byok"), ("open", "open")])
def test_words_are_read_in_capitals_too(file: Path, value: str, read_as: str) -> None:
    file.write_text(f"A={value}")
    assert Environment(file).choice("A", "open", ("open", "keys", "keys+byok")) == read_as


def test_what_was_put_right_is_told(file: Path) -> None:
    file.write_text("A=x.y,Bank.example,z:443,*.bank.example")
    env = Environment(file)
    assert env.hosts("A", []) == ["x.y", "bank.example", "z", ".bank.example"]
    put_right = {"z:443": "z", "*.bank.example": ".bank.example"}
    assert env.notes() == [f"A has {given!r}, which is read as {taken!r}." for given, taken in put_right.items()]


@pytest.mark.parametrize(
    ("value", "network"),
    [
        ("[::1]", "::1/128"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
    ],
)
def test_a_proxy_s_address_may_look_like_a_peer_s(value: str, network: str) -> None:
    assert [str(found) for found in networks("TRUSTED_PROXIES", [value])] == [network]


@pytest.mark.parametrize(
    "values",
    [["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["::ffff:0:0/96"], ["fe80::1%eth0"], ["localhost"], ["*"],
     ["10.0.0.1:80"], ["10.0.0.1/8"], ["http://10.0.0.1"]],
)  # fmt: skip
def test_what_is_no_proxy_stops_the_start(values: list[str]) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^TRUSTED_PROXIES must "):
        networks("TRUSTED_PROXIES", values)


# The key of an installation


@pytest.mark.parametrize(
    "key",
    ["", "k3" * 15, "x" * 50, "django-insecure-" + "ab1c2d3" * 5, "please-change-me-before-production-0123456789",
     "your-secret-key-goes-here-0123456789abcdef"],
)  # fmt: skip
def test_production_takes_no_key_that_somebody_could_guess(key: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="needs a SECRET_KEY of at least 32 random characters"):
        check_production(key, debug=False)


def test_the_service_s_own_key_is_whole_or_refused(tmp_path: Path) -> None:
    key = private_key(tmp_path)
    check_production(key, debug=False)
    assert private_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    (tmp_path / "secret_key").write_text("")  # a disk that was full, once
    with pytest.raises(ImproperlyConfigured, match="holds no key"):
        private_key(tmp_path)


# The command line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "70000"], "argument --port: must be a whole number from 0 to 65535, not '70000'"),
        (["--port=-1"], "argument --port: must be a whole number"),
        (["--port", "٨٠"], "argument --port: must be a whole number"),
        (["--workers", "0"], "argument --workers: must be a whole number from 1 to 64, not '0'"),
        (["--workers", "9" * 500], "argument --workers: must be a whole number from 1 to 64"),
        (["--host", "127.0.0.1:80"], "argument --host: must be an address or a host's name, without a port"),
        (["--host", ""], "argument --host: must be an address"),
    ],
)
def test_serve_refuses_what_it_cannot_use(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError) as refused:
        Command().create_parser("manage.py", "serve").parse_args(arguments)
    assert sentence in str(refused.value)
