"""Tests for L{iii.modules.http.service}, with real sockets where it matters."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from msgspec import Raw
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from iii.config.blocks.listeners import HttpSettings, Middleware
from iii.config.parts import Tls
from iii.core.limits import Limits
from iii.core.triggers import Trigger
from iii.interfaces import IModule
from iii.modules.http.service import HttpModule
from iii.wire.listen import CannotListen
from iii.wire.outbox import Flusher
from tests.certificates import self_signed
from tests.modules.http.fakes import FakeEngine, Response, read_responses


class Reading(Protocol):
    """A client which collects what it gets."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


class SettingsTests(SynchronousTestCase):
    def module(self, **settings: Any) -> HttpModule:
        clock: Any = Clock()
        engine: Any = FakeEngine(clock, Limits())
        return HttpModule(HttpSettings(**settings), engine, Flusher(clock), clock)

    def test_module(self) -> None:
        """It is a module that provides the trigger type C{http}."""
        module = self.module()
        verifyObject(IModule, module)
        self.assertEqual(list(module.trigger_types), ["http"])

    def test_middleware(self) -> None:
        """Global middleware is asked by priority, equal ones in the order of the file."""
        entries = [("b", 1), ("c", 1), ("a", -1)]
        module = self.module(middleware=[Middleware(function_id=name, priority=number) for name, number in entries])
        self.assertEqual([check.function_id for check in module._site.middleware], ["a", "b", "c"])


class SocketTestCase(TestCase):
    def setUp(self) -> None:
        self.engine: Any = FakeEngine(reactor, Limits(http_connections=3))  # type: ignore[arg-type]
        self.modules: list[HttpModule] = []

    def module(self, *, port: int = 0, stop_timeout: float = 5.0, **settings: Any) -> HttpModule:
        """Return a module with a route C{POST echo} that answers at once."""
        runs_on: Any = reactor
        module = HttpModule(
            HttpSettings(port=port, **settings), self.engine, Flusher(runs_on), runs_on, stop_timeout=stop_timeout
        )
        config = Raw(json.dumps({"api_path": "echo", "http_method": "POST"}).encode())
        module.trigger_types["http"].register(Trigger("t", "http", "f", config))
        self.engine.at_once = lambda call: call.returns({"body": call.data["body"]})
        return module

    def start(self, **settings: Any) -> HttpModule:
        module = self.module(**settings)
        module.startService()
        self.addCleanup(module.stopService)
        return module

    async def connect(self, port: int, trust: Any = None) -> Reading:
        endpoint: Any = HostnameEndpoint(reactor, "localhost" if trust else "127.0.0.1", port)
        if trust is not None:
            endpoint = wrapClientTLS(ssl.optionsForClientTLS("localhost", trustRoot=trust), endpoint)
        client: Reading = await connectProtocol(endpoint, Reading())
        self.addCleanup(self.leave, client)
        return client

    async def leave(self, client: Reading) -> None:
        client.transport.abortConnection()
        await client.lost

    async def response(self, client: Reading, body: bytes) -> Response:
        """Send a request and wait for its answer."""
        already = len(client.received)
        head = (
            f"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        client.transport.write(head.encode() + body)
        while True:
            await deferLater(reactor, 0.01)
            if len(client.received) > already:
                (response,), _ = read_responses(client.received[already:], ["POST"], False)
                if response.complete:
                    return response


class SocketTests(SocketTestCase):
    async def test_requests(self) -> None:
        """Requests and answers of all sizes pass through a real socket."""
        client = await self.connect(self.start().port)
        for size in (1, 1000, 100_000, 5_000_000):
            body = json.dumps("x" * size).encode()
            response = await self.response(client, body)
            self.assertEqual((response.status, response.body), (200, body))

    async def test_tls(self) -> None:
        """The same over TLS."""
        certificate, key = self_signed(self.mktemp())
        module = self.start(tls=Tls(certificate=Path(certificate), key=Path(key)))
        client = await self.connect(module.port, ssl.Certificate.loadPEM(Path(certificate).read_bytes()))
        for size in (1, 1_000_000):
            body = json.dumps("x" * size).encode()
            self.assertEqual((await self.response(client, body)).body, body)
        client.transport.write(b"rubbish\r\n\r\n")
        await client.lost
        self.assertIn(b"HTTP/1.1 400 ", client.received)

    async def test_answer_while_sending(self) -> None:
        """A client that still sends much when it is refused can read the answer."""
        client = await self.connect(self.start().port)
        client.transport.write(b"POST /echo HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 5_000_000)
        await client.lost
        (response,), _ = read_responses(client.received, ["POST"], True)
        self.assertEqual((response.status, response.complete), (413, True))

    async def test_too_many_connections(self) -> None:
        """A connection above the limit is closed at once, and counted."""
        module = self.start()
        clients = [await self.connect(module.port) for _ in range(4)]
        await clients[3].lost
        self.assertEqual(self.engine.counters.connections_refused, 1)
        self.assertEqual((await self.response(clients[0], b"1")).status, 200)


class StartAndStopTests(SocketTestCase):
    async def test_taken_port(self) -> None:
        """A taken port ends the start."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            module = self.module(port=taken.getsockname()[1])
            error = self.assertRaises(CannotListen, module.startService)
        self.assertIn("http: cannot listen on 127.0.0.1:", str(error))

    async def test_stop_accepting(self) -> None:
        """The port closes at once and so do idle connections; a request in progress is answered."""
        module = self.start()
        idle, busy = await self.connect(module.port), await self.connect(module.port)
        self.engine.at_once = lambda call: None
        port, answer = module.port, Deferred.fromCoroutine(self.response(busy, b"1"))
        while not self.engine.calls:
            await deferLater(reactor, 0.01)
        await module.stop_accepting()
        await idle.lost
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0)
        self.engine.calls[0].returns({"body": 2})
        response = await answer
        self.assertEqual((response.json, response["connection"]), (2, "close"))
        await busy.lost

    async def test_stop(self) -> None:
        """After stopping nothing is left, whatever was in progress."""
        module = self.module()
        module.startService()
        client = await self.connect(module.port)
        self.engine.at_once = lambda call: None
        client.transport.write(b"POST /echo HTTP/1.1\r\n\r\n")
        while not self.engine.calls:
            await deferLater(reactor, 0.01)
        await module.stopService()
        await client.lost
        self.assertTrue(self.engine.calls[0].cancelled)

    async def test_stop_with_a_client_that_does_not_read(self) -> None:
        """A client that does not read cannot hold up the stop."""
        module = self.module(stop_timeout=0.2)
        module.startService()
        client = await self.connect(module.port)
        client.transport.pauseProducing()
        self.engine.at_once = lambda call: call.returns({"body": "x" * 20_000_000})
        client.transport.write(b"POST /echo HTTP/1.1\r\n\r\n")
        while not self.engine.calls:
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 0.05)
        await module.stopService()
        client.transport.resumeProducing()
        await client.lost
