"""A real llama.cpp server with a small model, in a process of its own and with the packages of `.venv/llama`."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from testing.environment import ROOT, clean_environment, free_port

MAKES_OWN = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # of a make that has started this process
STAMP = ".venv/.llama-stamp"  # a target of the Makefile
PYTHON = ROOT / ".venv" / "llama" / "bin" / "python"
PROGRAM = Path(__file__).with_name("serve.py")
NAME = "smollm2-135m"
KEY = "sk-of-the-model-server"
CONTEXT = 2048
START_SECONDS = 60


class Missing(Exception):
    """The packages can't be installed here. The message is for a person."""


def install() -> None:
    """Installs what is missing, as the Makefile says. Raises `Missing`; what pip said of it is on the terminal."""
    environment = {name: value for name, value in os.environ.items() if name not in MAKES_OWN}
    try:
        made = subprocess.run(["make", "--no-print-directory", STAMP], cwd=ROOT, env=environment, check=False)
    except OSError as problem:
        raise Missing(f"make: {problem}") from problem
    if made.returncode:
        raise Missing(f"`make {STAMP}` failed, and says above why.")


def settings(url: str) -> dict[str, Any]:
    """Of a service in front of it."""
    return {"LLM_PROVIDER": "openai", "OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY, "OPENAI_DEFAULT_MODEL": NAME}


class Llama:
    """One server at one address, which may be killed and started again. It computes one reply at a time.

    `context`: in tokens, prompt and reply together; llama.cpp rounds it up to a multiple of 256. With `endless` no
    reply ends before `max_tokens`.
    """

    def __init__(self, directory: Path, *, context: int = CONTEXT, endless: bool = False) -> None:
        self.port = free_port()
        self._log_file = directory / f"llama-{self.port}.log"
        self._arguments = ["--port", str(self.port), "--name", NAME, "--context", str(context), "--key", KEY]
        self._arguments += ["--endless"] if endless else []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Llama":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The base URL for a setting."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> "Llama":
        """Returns when it answers."""
        self.launch()
        self.wait()
        return self

    def launch(self) -> None:
        """Returns before it answers: at first it refuses connections, then it says that it is loading the model."""
        assert self._process is None
        command = [str(PYTHON), str(PROGRAM), *self._arguments]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=clean_environment(), stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"The model server did not start.\n{self.log()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL; it does not stop in another way."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    def log(self) -> str:
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def slot(self) -> dict[str, Any]:
        """What it computes, or computed last: `is_processing`, `params`, `next_token`."""
        (slot,) = self._ask("GET", "/slots")
        return dict(slot)

    def count(self, messages: Sequence[dict[str, str]]) -> int:
        """The tokens that the model reads for these messages, by its own template and vocabulary."""
        prompt = self._ask("POST", "/apply-template", messages=messages)["prompt"]
        return len(self._ask("POST", "/tokenize", content=prompt, add_special=True, parse_special=True)["tokens"])

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.request(method, f"http://127.0.0.1:{self.port}{path}", json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False
