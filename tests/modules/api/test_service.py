"""Tests for L{iii.modules.api.service}, on real sockets."""

from __future__ import annotations

from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

from iii.config.settings import ApiSettings
from iii.core.engine import Engine
from iii.core.limits import Limits
from iii.modules.api.service import ApiService
from iii.wire.listen import CannotListen


class ApiServiceTests(TestCase):
    def make(self, implicit_port: int = 0, **settings: Any) -> ApiService:
        self.engine = Engine(Clock(), Limits())
        self.parts = {"engine": "", "iii-http": ""}
        service = ApiService(ApiSettings(**settings), None, self.engine, lambda: self.parts, reactor, implicit_port)
        self.addCleanup(service.stopService)
        return service

    async def get(self, service: ApiService, path: str) -> tuple[int, Any]:
        # An agent without a pool: no connection outlives the request.
        response = await treq.get(f"http://127.0.0.1:{service.port}{path}", agent=Agent(reactor))
        return response.code, await response.json()

    async def test_serves(self) -> None:
        """It answers as soon as it listens, and asks each time who is ready."""
        service = self.make(port=0)
        service.startService()
        self.assertEqual(await self.get(service, "/healthz"), (200, {"status": "ok"}))
        self.assertEqual((await self.get(service, "/readyz"))[0], 200)
        self.parts["iii-http"] = "takes no work"
        status, said = await self.get(service, "/readyz")
        self.assertEqual((status, said["parts"]), (503, {"engine": True, "iii-http": False}))

    async def test_named_port_taken(self) -> None:
        """A port that was asked for must be free."""
        first = self.make(port=0)
        first.startService()
        second = self.make(port=first.port)
        self.assertRaises(CannotListen, second.startService)

    async def test_implicit_port_taken(self) -> None:
        """Without a port in the settings a second engine goes on without the API, and says so."""
        first = self.make(port=0)
        first.startService()
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        second = self.make(implicit_port=first.port or 0)
        second.startService()
        self.assertIsNone(second.port)
        self.assertTrue(any("going on without it" in event["log_format"] for event in observer))

    async def send(self, service: ApiService, data: bytes) -> bytes:
        """Send bytes and return all that comes until the connection ends."""
        received: list[bytes] = []
        ended: Deferred[None] = Deferred()

        class Raw(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(data)

            def dataReceived(self, data: bytes) -> None:
                received.append(data)

            def connectionLost(self, reason: object) -> None:
                ended.callback(None)

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", service.port or 0)
        await connectProtocol(endpoint, Raw())
        await ended
        return b"".join(received)

    async def test_no_text(self) -> None:
        """Bytes that are no text are answered, not logged as defects."""
        service = self.make(port=0)
        service.startService()
        for line, headers in (
            (b"GET /%ff", b"host: x"),
            (b"GET /nowhere", b"host: \xff"),
            (b"GET /metrics", b"host: x\r\naccept: application/openmetrics-text;version=abc"),
        ):
            answer = await self.send(service, line + b" HTTP/1.1\r\n" + headers + b"\r\nconnection: close\r\n\r\n")
            self.assertIn(answer.split(b" ")[1], (b"200", b"404"))
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_no_bodies(self) -> None:
        """Whoever sends a body is cut off, before it is stored."""
        service = self.make(port=0)
        service.startService()
        for framing in (b"content-length: 1000000", b"transfer-encoding: chunked"):
            await self.send(service, b"POST /healthz HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n\r\n")
