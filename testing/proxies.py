"""A real nginx and a real Caddy with the configurations of docs/deploy, each in a folder of its own."""

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from testing.environment import ROOT, clean_environment, free_port

PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # where a user's own path does not look
NGINX, CADDY = shutil.which("nginx", path=PLACES), shutil.which("caddy", path=PLACES)
MISSING = "nginx was not found. On Debian and Ubuntu: apt-get install nginx caddy"
DEPLOY = ROOT / "docs" / "deploy"
CERTIFICATE = ROOT / "tests" / "chat" / "providers" / "certificates" / "server.pem"  # and its key
START_SECONDS = 20
NGINX_MAIN = """
daemon off;
pid nginx.pid;
user {user};
error_log nginx.log notice;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log access.log;
    client_body_temp_path body; proxy_temp_path proxied; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    {site}
}}
"""


class Proxy:
    """A program that listens at localhost until it is closed: with TLS at `port`, and without it at `plain_port`."""

    def __init__(self, directory: Path, command: list[str], port: int, plain_port: int = 0) -> None:
        self.directory, self.port, self.plain_port = directory, port, plain_port
        with (directory / "output.log").open("ab") as log:
            environment = clean_environment(HOME=str(directory), XDG_DATA_HOME=str(directory))
            self.process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)

    def __enter__(self) -> "Proxy":
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise AssertionError(f"The proxy did not start.\n{self.log()[-3000:]}")
            time.sleep(0.02)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def close(self) -> None:
        """By SIGTERM, which nginx passes on to its workers."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def replaced(text: str, *changes: tuple[str, str]) -> str:
    """The text with each of these in the place of what must be in it."""
    for old, new in changes:
        assert old in text, f"{old!r} is not in it any more"
        text = text.replace(old, new)
    return text


def nginx(directory: Path, service_port: int, *changes: tuple[str, str]) -> Proxy:
    """nginx with docs/deploy/nginx.conf, its names, ports and paths put in."""
    assert NGINX
    port, plain = free_port(), free_port()
    site = replaced(
        re.sub(r"(?m)^ *listen \[::\].*\n", "", (DEPLOY / "nginx.conf").read_text()),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server_name chat.bank.example;", "server_name localhost;"),
        ("/etc/ssl/chat.bank.example.pem", str(CERTIFICATE)),
        ("/etc/ssl/chat.bank.example.key", str(CERTIFICATE)),
        ("server 127.0.0.1:8000;", f"server 127.0.0.1:{service_port};"),
        *changes,
    )
    main = directory / "nginx.conf"
    main.write_text(NGINX_MAIN.format(user=getpass.getuser(), site=site))
    return Proxy(directory, [NGINX, "-e", "nginx.log", "-p", str(directory), "-c", str(main)], port, plain)


def caddy(directory: Path, service_port: int, *changes: tuple[str, str]) -> Proxy:
    """Caddy with docs/deploy/Caddyfile, its names, ports and paths put in."""
    assert CADDY
    port = free_port()
    site = replaced(
        (DEPLOY / "Caddyfile").read_text(),
        ("{\n\tservers {", "{\n\tadmin off\n\tauto_https off\n\tservers {"),
        ("chat.bank.example {", f"https://localhost:{port} {{\n\ttls {CERTIFICATE} {CERTIFICATE}"),
        ("127.0.0.1:8000", f"127.0.0.1:{service_port}"),
        *changes,
    )
    (directory / "Caddyfile").write_text(site)
    command = [CADDY, "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]
    return Proxy(directory, command, port)
