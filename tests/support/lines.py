"""A proxy between a browser and the service that can cut connections."""

import socket
import threading
from contextlib import suppress


class BreakingLine:
    """Forwards connections to the service; cuts one connection once, after `cut_after` has passed on it."""

    def __init__(self, service_port: int) -> None:
        self.service_port = service_port
        self.cut_after = b""
        self.cuts = 0
        self.sides: list[socket.socket] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.server.accept()
                self.sides.append(client)
                service = socket.create_connection(("127.0.0.1", self.service_port))
                self.sides.append(service)
                threading.Thread(target=self._pass, args=(client, service, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(service, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answer: bool) -> None:
        passed = b""
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
                passed += data
                if answer and self.cut_after and self.cut_after in passed:
                    self.cut_after, self.cuts = b"", self.cuts + 1
                    break
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "BreakingLine":
        return self

    def __exit__(self, *problem: object) -> None:
        self.server.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.accepting.join()
        for side in (self.server, *self.sides):
            side.close()
