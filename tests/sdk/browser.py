"""A web browser with the page that is a worker: C{workers/page.html}."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from twisted.internet.protocol import Factory, Protocol

from tests.integration.engine import HOST
from tests.integration.process import ChildProcess, eventually

PROGRAM = "chromium"
PAGE = Path(__file__).resolve().parent / "workers" / "page.html"
FOREIGN_HOST = "app.example.test"  # which the browser finds on this machine; no other name leads anywhere
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
    f"--host-resolver-rules=MAP {FOREIGN_HOST} {HOST}, MAP * ~NOTFOUND, EXCLUDE {HOST}",
)


class Pages(Factory):
    """A web server that answers every request with one page."""

    noisy = False

    def __init__(self, reactor: Any, page: bytes | None = None) -> None:
        """@param page: Its HTML, if it is not the worker's."""
        self._page = PAGE.read_bytes() if page is None else page
        self._listening = reactor.listenTCP(0, self, interface=HOST)
        self._connections: set[PageRequest] = set()

    def origin(self, host: str = HOST) -> str:
        return f"http://{host}:{self._listening.getHost().port}"

    def buildProtocol(self, address: object) -> Protocol:
        return PageRequest(self._page, self._connections)

    async def remove(self) -> None:
        for connection in self._connections:  # browsers open some without a request
            connection.transport.abortConnection()
        await self._listening.stopListening()


class PageRequest(Protocol):
    def __init__(self, page: bytes, connections: set[PageRequest]) -> None:
        self._page, self._connections, self._received = page, connections, b""

    def connectionMade(self) -> None:
        self._connections.add(self)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received:
            page = self._page
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\nConnection: close"
            self.transport.write(head.encode() + b"\r\n\r\n" + page)
            self.transport.loseConnection()

    def connectionLost(self, reason: object) -> None:
        self._connections.discard(self)


class Browser:
    """
    A headless browser with one page.

    Its files are in a directory of their own beside all others, because the path of a socket in it must be short.
    """

    def __init__(self, reactor: Any, log: Path) -> None:
        self._reactor = reactor
        self._directory = Path(tempfile.mkdtemp(prefix="browser-"))
        self._process = ChildProcess(reactor, "the browser", log)

    @property
    def log(self) -> str:
        """What the browser has written so far; also what the page has said on its console."""
        return self._process.log.read_text(errors="replace")

    def open(self, origin: str, engine_url: str, name: str) -> None:
        """Start with the page of this origin, whose functions begin with this name."""
        program = shutil.which(PROGRAM)
        assert program is not None, f"{PROGRAM} is not installed"
        place = str(self._directory)
        address = f"{origin}/?{urlencode({'engine': engine_url, 'name': name})}"
        command = [program, *FLAGS, f"--user-data-dir={place}/profile", address]
        self._process.start(command, self._directory, {"HOME": place, "TMPDIR": place, "PATH": "/usr/bin:/bin"})

    async def close(self) -> None:
        """Let it end, as its user does, and remove its files, unless that was done."""
        if not self._directory.exists():
            return
        await self._process.stop()
        await eventually(self._reactor, "the files of the browser are gone", self._removed)

    async def _removed(self) -> bool:
        shutil.rmtree(self._directory, ignore_errors=True)  # some of its processes end later than the first
        return not self._directory.exists()
