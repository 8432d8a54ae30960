"""The environment of tests' processes: enough of the developer's to run programs, none of BancoBot's settings."""

import os
import socket
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = {
    "CI",
    "COLUMNS",
    "FORCE_COLOR",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "NO_COLOR",
    "PATH",
    "TERM",
    "TMPDIR",
}
# The service could read these from a developer's `.env` or environment, and talk to a real provider.
PROVIDER_KEYS = {"OPENROUTER_API_KEY", "OPENAI_API_KEY"}


def clean_environment(**settings: str) -> dict[str, str]:
    """A new environment with these settings only, and no `.env` file."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    return {**kept, "ENV_FILE": os.devnull, "PYTHONUNBUFFERED": "1", **settings}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def leaks() -> str:
    """The reason why this process's tests would see a developer's own settings; empty if they don't."""
    if found := PROVIDER_KEYS & os.environ.keys():
        return f"{', '.join(sorted(found))} is set in the environment"
    if "ENV_FILE" not in os.environ and (ROOT / ".env").exists():
        return "there is a .env file"
    return ""
