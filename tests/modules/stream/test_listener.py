"""Tests for L{iii.modules.stream.listener} and C{protocol}: bytes in, bytes out, and a real Autobahn client."""

from __future__ import annotations

import json
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.test.iosim import FakeTransport, connect

from iii.config.blocks.stores import StreamSettings
from iii.core.limits import Limits
from iii.modules.stream.listener import ClientFactory, StreamListener
from iii.wire.server import SERVICE_RESTART, SILENT_SECONDS, STOP_TIMEOUT
from tests.core.fakes import FakeWorker
from tests.modules.stream.clients import HANDLER_TIMEOUT, ClientsTestCase
from tests.websockets import PEER, Peer, Transport, masked, request


class Browser(Peer):
    """The other end of a client's socket."""

    def ask(self, kind: str, subscription: str = "c1", stream: str = "s", group: str = "g") -> None:
        target = {"subscriptionId": subscription, "streamName": stream, "groupId": group}
        self.send({"type": kind, "data": target})

    def events(self) -> list[tuple[str, Any]]:
        found = [message["event"] for message in self.messages()]
        return [(event["type"], event.get("data")) for event in found]


class ListenerTestCase(ClientsTestCase):
    settings = StreamSettings()
    token: str | None = None

    def setUp(self) -> None:
        super().setUp()
        self.reactor: Any = self.clock
        self.factory = ClientFactory(
            self.settings,
            self.surroundings,
            self.reactor,
            token=self.token,
            origins=("https://app.example.com",),
            ping_interval=20,
        )
        self.backend.observer = self.factory.clients.deliver

    def connect(self, head: bytes = request()) -> Browser:
        browser = Browser(self.factory.buildProtocol(PEER), Transport(), self.clock)
        browser.protocol.makeConnection(browser.transport)
        browser.protocol.dataReceived(head)
        return browser

    def opened(self, browser: Browser) -> str:
        """Read the answer to the handshake, which is an upgrade."""
        value = browser.transport.value()
        self.assertTrue(value.startswith(b"HTTP/1.1 101 "), value)
        end = value.index(b"\r\n\r\n") + 4
        browser.transport.clear()
        browser.transport.write(value[end:])
        return value[:end].decode()

    def upgraded(self, head: bytes = request()) -> Browser:
        browser = self.connect(head)
        self.opened(browser)
        return browser

    def refusal(self, browser: Browser) -> tuple[int, str]:
        """Status and text of a refusal, which is a complete response and ends the connection."""
        top, _, body = browser.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"content-length: %d" % len(body), top)
        self.assertTrue(browser.transport.disconnecting)
        return int(top.split(b" ")[1]), body.decode().strip()

    def status(self, head: bytes) -> int:
        return self.refusal(self.connect(head))[0]


class HandshakeTests(ListenerTestCase):
    def test_answers(self) -> None:
        """What is no handshake gets an answer that says so."""
        self.assertEqual(self.status(request("/nowhere")), 404)
        self.assertEqual(self.status(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"), 404)
        self.assertEqual(self.status(request(method="POST")), 405)
        self.assertEqual(self.status(request(version="HTTP/1.0")), 426)
        status, text = self.refusal(self.connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        self.assertEqual(status, 400)
        self.assertIn("clients of streams", text)

    def test_origins(self) -> None:
        """Pages of other sites are refused; loopback and listed ones are not."""
        self.assertEqual(self.status(request("/", "Origin: https://example.com")), 403)
        self.upgraded(request("/", "Origin: https://app.example.com"))
        self.upgraded(request("/", "Origin: http://localhost:3000"))
        self.assertEqual(self.engine.counters.stream_connections_refused, 1)

    def test_subprotocol(self) -> None:
        """One of the subprotocols is answered, as browsers want it, and never the token."""
        top = self.opened(self.connect(request("/", "Sec-WebSocket-Protocol: Authorization, tok")))
        self.assertIn("\r\nSec-WebSocket-Protocol: Authorization\r\n", top)
        self.assertNotIn("tok", top.replace("Protocol", ""))
        self.assertNotIn("Sec-WebSocket-Protocol", self.opened(self.connect()))

    def test_auto_join(self) -> None:
        """C{/stream/<name>/<group>} joins at once, and may join more."""
        self.backend.change("chat", "r 1", "m", b"1")
        browser = self.upgraded(request("/stream/chat/r%201"))
        (_, payload), *_ = browser.frames()
        message = json.loads(payload)
        self.assertEqual((message["streamName"], message["groupId"], message["id"]), ("chat", "r 1", None))
        self.assertEqual(message["event"], {"type": "sync", "data": [1], "ids": ["m"]})
        self.backend.change("chat", "r 1", "m", b"2")
        browser.ask("join")
        self.assertEqual(browser.events(), [("update", 2), ("sync", [])])


class LimitTests(ListenerTestCase):
    limits = Limits(stream_connections=2)

    def test_connections(self) -> None:
        """One connection more than the limit is closed at once and counted."""
        first = self.upgraded()
        self.upgraded()
        self.assertIsNone(self.factory.buildProtocol(PEER))
        self.assertEqual(self.engine.counters.stream_connections_refused, 1)
        self.assertEqual(self.engine.counters.limit_hits, {"stream_connections": 1})
        first.hang_up()
        self.upgraded()

    def test_leaving(self) -> None:
        """A client that is gone counts until its leave handlers have been called: they cannot pile up."""
        self.attendance.leaving = waiting = Deferred()
        first = self.upgraded()
        first.ask("join")
        self.upgraded()
        first.hang_up()
        self.assertIsNone(self.factory.buildProtocol(PEER))
        waiting.callback(None)
        self.upgraded()


class TokenTests(ListenerTestCase):
    token = "s3cret"

    def test_token(self) -> None:
        """The engine's token is wanted, in one of the three ways; it is not in the answer."""
        self.assertEqual(self.status(request()), 401)
        self.upgraded(request("/", "Authorization: Bearer s3cret"))
        self.upgraded(request("/?token=s3cret"))
        top = self.opened(self.connect(request("/", "Sec-WebSocket-Protocol: Authorization, s3cret")))
        self.assertNotIn("s3cret", top)


class AuthTestCase(ListenerTestCase):
    settings = StreamSettings(auth_function="app::auth")
    token = "s3cret"

    def setUp(self) -> None:
        super().setUp()
        self.worker = FakeWorker(self.engine)
        self.worker.send("registerfunction", id="app::auth")
        self.clock.advance(5)
        self.worker.edge.frames.clear()

    def answer(self, **outcome: Any) -> dict[str, Any]:
        """Let the auth function end with C{result} or C{error}.  @return: What it was called with."""
        (call,) = [frame for frame in self.worker.edge.frames if frame["type"] == "invokefunction"]
        self.worker.edge.frames.clear()
        self.worker.send("invocationresult", invocation_id=call["invocation_id"], **outcome)
        asked = call["data"]
        assert isinstance(asked, dict)
        return asked


class AuthTests(AuthTestCase):
    def test_context(self) -> None:
        """It is asked before the upgrade, and decides alone; join handlers get its context."""
        browser = self.connect(request("/?a=%20", "X-A: 1"))
        self.assertEqual(browser.transport.value(), b"")
        asked = self.answer(result={"context": {"user": "ann"}})
        self.assertEqual((asked["path"], asked["query_params"], asked["headers"]["x-a"]), ("/", {"a": ["%20"]}, "1"))
        self.assertEqual(asked["addr"], f"{PEER.host}:{PEER.port}")
        self.assertEqual(set(asked), {"path", "query_params", "headers", "addr"})
        self.opened(browser)
        browser.ask("join")
        self.assertEqual(bytes(self.attendance.joined[0].context), b'{"user": "ann"}')

    def test_refused(self) -> None:
        """C{unauthorized}, or nothing that lets the client in, is 401; a failure is 403."""
        outcomes: list[tuple[int, dict[str, Any]]] = [
            (401, {"result": {"unauthorized": True}}),
            (401, {"result": None}),
            (401, {"result": True}),
            (401, {}),
            (403, {"error": {"code": "oops", "message": "a secret of the worker"}}),
        ]
        for expected, outcome in outcomes:
            browser = self.connect()
            self.answer(**outcome)
            status, text = self.refusal(browser)
            self.assertEqual(status, expected)
            self.assertNotIn("secret", text)
        self.assertEqual(self.engine.counters.stream_connections_refused, 5)
        self.assertEqual(self.engine.counters.stream_connections, 0)

    def test_not_found(self) -> None:
        """Without the function nobody is let in."""
        self.worker.send("unregisterfunction", id="app::auth")
        self.assertEqual(self.status(request("/", "Authorization: Bearer s3cret")), 403)

    def test_time_out(self) -> None:
        """It must answer in time."""
        browser = self.connect()
        self.clock.advance(HANDLER_TIMEOUT - 0.1)
        self.assertEqual(browser.transport.value(), b"")
        self.clock.pump([0.1] * 3)
        self.assertEqual(self.refusal(browser)[0], 403)
        self.assertFalse(browser.transport.aborted)

    def test_early_messages(self) -> None:
        """What a client sends before it is let in waits; it is not read from meanwhile."""
        browser = self.connect()
        self.assertEqual(browser.transport.producerState, "paused")
        browser.ask("join")
        browser.ask("leave", "unknown")
        self.answer(result={})
        self.assertEqual(browser.transport.producerState, "producing")
        self.opened(browser)
        self.assertEqual(browser.events(), [("sync", [])])

    def test_second_request(self) -> None:
        """What comes before the client is let in is no second request, whatever it looks like."""
        browser = self.connect()
        browser.protocol.dataReceived(request("/?second"))
        self.assertEqual(self.answer(result={"unauthorized": True})["query_params"], {})
        self.assertEqual(self.refusal(browser)[0], 401)

    def test_gone_meanwhile(self) -> None:
        """A client that goes before the answer never was one."""
        browser = self.connect()
        browser.hang_up()
        self.answer(result={})
        self.assertEqual((self.engine.counters.stream_connections, self.factory.sockets), (0, {}))
        self.assertNotIn(b" 101 ", browser.transport.value())

    def test_stopped_meanwhile(self) -> None:
        """Stopping does not wait for the auth function."""
        browser = self.connect()
        self.factory.close_all()
        self.assertTrue(browser.transport.aborted)
        browser.hang_up()
        self.assertEqual(self.factory.sockets, {})

    def test_defect(self) -> None:
        """A defect is logged, and refuses."""
        self.factory.admit = self.broken  # type: ignore[method-assign]
        self.assertEqual(self.status(request()), 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def broken(self, asked: object) -> Raw:
        raise ZeroDivisionError("with a secret")


class FailOpenTests(AuthTestCase):
    settings = StreamSettings(auth_function="app::auth", auth_fail_open=True)

    def test_refused(self) -> None:
        """Failing open, only an explicit refusal refuses."""
        for outcome in ({"result": None}, {"result": 7}, {"error": {"code": "oops", "message": "broken"}}):
            browser = self.connect()
            self.answer(**outcome)
            self.opened(browser)
        browser = self.connect()
        self.answer(result={"unauthorized": True})
        self.assertEqual(self.refusal(browser)[0], 401)

    def test_not_found(self) -> None:
        """Failing open, everybody is let in without the function."""
        self.worker.send("unregisterfunction", id="app::auth")
        self.upgraded()

    def test_time_out(self) -> None:
        """Failing open, whoever waits long enough is let in."""
        browser = self.connect()
        self.clock.pump([0.1] * 102)
        self.opened(browser)


class ContextLimitTests(AuthTestCase):
    limits = Limits(stream_context_bytes=20)

    def test_large(self) -> None:
        """A context beyond its limit refuses the client, and is counted."""
        browser = self.connect()
        self.answer(result={"context": "x" * 20})
        self.assertEqual(self.refusal(browser)[0], 403)
        self.assertEqual(self.engine.counters.limit_hits, {"stream_context_bytes": 1})


class OpenTests(ListenerTestCase):
    def test_coalesced(self) -> None:
        """The events of one turn leave in one write."""
        browser = self.upgraded()
        browser.ask("join")
        browser.frames()
        for number in range(3):
            self.backend.change("s", "g", "i", b"%d" % number)
        self.assertEqual(browser.transport.value(), b"")
        self.assertEqual(browser.events(), [("create", 0), ("update", 1), ("update", 2)])

    def test_binary(self) -> None:
        """A binary frame is read like a text frame; one that is no UTF-8 is garbage."""
        browser = self.upgraded()
        target = {"subscriptionId": "c", "streamName": "s", "groupId": "g"}
        browser.protocol.dataReceived(masked(0x82, json.dumps({"type": "join", "data": target}).encode()))
        browser.protocol.dataReceived(masked(0x82, b'{"type":"join","data":{"subscriptionId":"\xff"'))
        self.assertEqual([event for event, _ in browser.events()], ["sync", "error"])

    def test_fragments(self) -> None:
        """A message may come in fragments, with control frames between them."""
        browser = self.upgraded()
        target = {"subscriptionId": "c", "streamName": "s", "groupId": "g"}
        text = json.dumps({"type": "join", "data": target}).encode()
        browser.protocol.dataReceived(masked(0x01, text[:10]) + masked(0x89, b"?") + masked(0x00, text[10:20]))
        self.assertEqual(browser.frames(), [(0x8A, b"?")])
        browser.protocol.dataReceived(masked(0x80, text[20:]))
        self.assertEqual(browser.events(), [("sync", [])])

    def test_large_message(self) -> None:
        """A message beyond the limit closes the connection with 1009, also when it comes in fragments."""
        for data in (masked(0x81, b"x" * 70_000), masked(0x01, b"x" * 40_000) + masked(0x80, b"x" * 40_000)):
            browser = self.upgraded()
            browser.protocol.dataReceived(data)
            ((opcode, payload),) = browser.frames()
            self.assertEqual((opcode, payload[:2]), (0x88, (1009).to_bytes(2, "big")))

    def test_close(self) -> None:
        """A client's close frame is answered with its code."""
        browser = self.upgraded()
        browser.ask("join")
        browser.frames()
        browser.protocol.dataReceived(masked(0x88, (1001).to_bytes(2, "big") + b"bye"))
        self.assertEqual(browser.frames(), [(0x88, (1001).to_bytes(2, "big") + b"bye")])
        browser.hang_up()
        self.assertEqual((len(self.attendance.gone), self.factory.sockets), (1, {}))

    def test_no_events_after_close(self) -> None:
        """Nothing follows a close frame."""
        browser = self.upgraded()
        browser.ask("join")
        browser.frames()
        browser.protocol.close(1000)
        self.backend.change("s", "g", "i", b"1")
        self.assertEqual([opcode for opcode, _ in browser.frames()], [0x88])

    def test_half_open(self) -> None:
        """A client of which nothing comes for minutes is dropped, and its subscriptions end."""
        browser = self.upgraded()
        browser.ask("join")
        browser.frames()
        for _ in range(int(SILENT_SECONDS)):
            self.factory.ping_some()
        self.assertEqual({opcode for opcode, _ in browser.frames()}, {0x89})
        self.assertFalse(browser.transport.aborted)
        for _ in range(21):
            self.factory.ping_some()
        self.assertTrue(browser.transport.aborted)
        browser.hang_up()
        self.assertEqual(len(self.attendance.gone), 1)


class SlowReaderTests(ListenerTestCase):
    limits = Limits(stream_buffer_bytes=10_000)

    def test_cut_off(self) -> None:
        """A client that does not read is cut off and counted when its buffer is full; others get everything."""
        slow, quick = self.upgraded(), self.upgraded()
        for browser in (slow, quick):
            browser.ask("join")
            browser.frames()
        slow.protocol.outbox.pauseProducing()
        for number in range(11):
            self.backend.change("s", "g", "i", b'"%s"' % (b"x" * 1000))
            self.assertEqual(len(quick.events()), 1, number)
        self.assertTrue(slow.transport.aborted)
        self.assertFalse(quick.transport.aborted)
        self.assertEqual(self.engine.counters.stream_clients_dropped, 1)
        self.assertEqual(self.engine.counters.peers_dropped, 1)
        self.assertEqual(self.engine.counters.limit_hits, {"stream_buffer_bytes": 1})
        slow.hang_up()
        self.assertEqual(len(self.attendance.gone), 1)

    def test_large_events(self) -> None:
        """Events larger than the buffer, also several in one turn, reach a client that reads."""
        browser = self.upgraded()
        browser.ask("join")
        browser.frames()
        for number in range(3):
            self.backend.change("s", "g", str(number), b'"%s"' % (b"x" * 20_000))
        self.assertFalse(browser.transport.aborted)
        self.assertEqual([event for event, _ in browser.events()], ["create"] * 3)
        browser.protocol.outbox.pauseProducing()
        self.backend.change("s", "g", "one may wait", b'"%s"' % (b"x" * 20_000))
        self.assertFalse(browser.transport.aborted)
        self.backend.change("s", "g", "not two", b"1")
        self.assertTrue(browser.transport.aborted)

    def test_large_snapshot(self) -> None:
        """A snapshot may be larger than the buffer; the client's next message waits until it has left."""
        for number in range(20):
            self.backend.change("s", "g", str(number), b'"%s"' % (b"x" * 1000))
        browser = self.upgraded()
        write = browser.transport.write

        def full(data: bytes) -> None:
            write(data)
            if len(data) > 10_000:
                browser.protocol.outbox.pauseProducing()

        browser.transport.write = full  # type: ignore[method-assign]
        browser.ask("join", "c1")
        browser.ask("join", "c2", group="h")
        self.assertEqual(len(self.attendance.joined), 1)
        self.assertEqual(browser.transport.producerState, "paused")
        self.assertFalse(browser.transport.aborted)
        (event, data), *more = browser.events()
        self.assertEqual((event, len(data), more), ("sync", 20, []))
        browser.protocol.outbox.resumeProducing()
        self.assertEqual(browser.transport.producerState, "producing")
        self.assertEqual(browser.events(), [("sync", [])])

    def test_ping_flood(self) -> None:
        """A client that pings and does not read is not read from before its buffer is full."""
        browser = self.upgraded()
        browser.protocol.outbox.pauseProducing()
        pings = 0
        while browser.transport.producerState == "producing":
            browser.protocol.dataReceived(masked(0x89, b"x" * 125))
            pings += 1
            self.assertLess(pings, 100)
        self.assertFalse(browser.transport.aborted)
        browser.protocol.outbox.resumeProducing()
        self.assertEqual(browser.frames(), [(0x8A, b"x" * 125)] * pings)


class StopTests(ListenerTestCase):
    def setUp(self) -> None:
        super().setUp()
        reactor: Any = MemoryReactorClock()
        reactor.advance(1_000)
        self.memory = reactor
        self.factory = ClientFactory(
            self.settings, self.surroundings, reactor, token=None, origins=(), ping_interval=20
        )
        self.listener = StreamListener(self.factory, "127.0.0.1", 0, None, reactor)
        self.backend.observer = self.listener.deliver
        self.listener.startService()

    def test_stop(self) -> None:
        """Stopping closes every client with 1012, and waits for the leave handlers."""
        browser = self.upgraded()
        browser.clock = self.memory
        browser.ask("join")
        browser.frames()
        self.attendance.leaving = waiting = Deferred()
        stopped = self.listener.stopService()
        self.assertEqual(browser.frames(), [(0x88, SERVICE_RESTART.to_bytes(2, "big"))])
        browser.hang_up()
        self.assertNoResult(stopped)
        waiting.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.memory.getDelayedCalls(), [])

    def test_stop_has_an_end(self) -> None:
        """Handlers that do not answer delay it for some seconds only."""
        browser = self.upgraded()
        browser.ask("join")
        self.attendance.leaving = Deferred()
        stopped = self.listener.stopService()
        browser.hang_up()
        self.memory.advance(STOP_TIMEOUT)
        self.successResultOf(stopped)

    def test_not_busy(self) -> None:
        """Clients do not keep the engine from stopping."""
        self.upgraded()
        self.assertFalse(self.listener.busy())
        self.listener.stop_accepting()


class RealClient(WebSocketClientProtocol):
    """Autobahn's client; notes what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []
        self.protocol_chosen: str | None = None
        self.closed_with: Any = None

    def onConnect(self, response: Any) -> None:
        self.protocol_chosen = response.protocol

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.got.append(json.loads(payload)["event"])

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.closed_with = (wasClean, code)

    def ask(self, kind: str, **target: Any) -> None:
        self.sendMessage(json.dumps({"type": kind, "data": target}).encode())


class PeerTransport(FakeTransport):
    """A connection of C{iosim} with what ours asks of a socket."""

    def setTcpKeepAlive(self, on: bool) -> None: ...

    @property
    def socket(self) -> PeerTransport:
        return self

    def setsockopt(self, level: int, option: int, value: int) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def getPeer(self) -> Any:
        return PEER


class RealClientTests(ListenerTestCase):
    def test_session(self) -> None:
        """A client connects with a subprotocol, joins, gets snapshot and events, leaves, and closes in order."""
        factory = WebSocketClientFactory("ws://localhost:3112/", protocols=["Authorization", "tok"], reactor=self.clock)
        factory.protocol = RealClient
        client: Any = factory.buildProtocol(PEER)
        server = self.factory.buildProtocol(PEER)
        pump = connect(server, PeerTransport(server, isServer=True), client, FakeTransport(client, isServer=False))

        def settle() -> None:
            for _ in range(3):
                self.clock.advance(0)
                pump.flush()

        settle()
        self.assertEqual(client.protocol_chosen, "Authorization")
        self.backend.change("s", "g", "i", b'{"id":"i"}')
        client.ask("join", subscriptionId="c", streamName="s", groupId="g", id="i")
        settle()
        self.backend.change("s", "g", "i", b'{"id":"i","n":2}')
        settle()
        client.ask("leave", subscriptionId="c", streamName="s", groupId="g", id="i")
        settle()
        self.backend.change("s", "g", "i", b"3")
        settle()
        self.assertEqual(
            client.got,
            [{"type": "sync", "data": {"id": "i"}}, {"type": "update", "data": {"id": "i", "n": 2}}],
        )
        client.sendClose(1000, "done")
        settle()
        self.assertEqual(client.closed_with, (True, 1000))
        self.assertEqual(self.factory.sockets, {})
