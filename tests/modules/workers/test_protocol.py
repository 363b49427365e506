"""Tests for L{iii.modules.workers.protocol}, C{channel} and C{listener}: bytes in, bytes out."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iii.core.engine import Engine
from iii.core.limits import Limits
from iii.interfaces import IChannelSocket, IConnection
from iii.modules.workers.channel import ChannelEnd
from iii.modules.workers.listener import WorkerFactory, WorkerListener
from iii.wire.outbox import Flusher
from iii.wire.server import SERVICE_RESTART, SILENT_SECONDS, STOP_TIMEOUT
from tests.websockets import PEER, Peer, Transport, masked, request


class WorkerPortTestCase(SynchronousTestCase):
    limits = Limits()
    token: str | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = Engine(self.clock, self.limits)
        self.factory = self.make_factory()

    def make_factory(self) -> WorkerFactory:
        return WorkerFactory(
            self.engine,
            self.clock,
            Flusher(self.clock),
            token=self.token,
            origins=("https://app.example.com",),
            handshake_timeout=10,
            ping_interval=20,
        )

    def connect(self, head: bytes = request()) -> Peer:
        client = Peer(self.factory.buildProtocol(PEER), Transport(), self.clock)
        client.protocol.makeConnection(client.transport)
        client.protocol.dataReceived(head)
        return client

    def upgraded(self, head: bytes = request()) -> Peer:
        client = self.connect(head)
        value = client.transport.value()
        self.assertTrue(value.startswith(b"HTTP/1.1 101 "), value)
        end = value.index(b"\r\n\r\n") + 4
        client.transport.clear()
        client.transport.write(value[end:])
        return client

    def status(self, head: bytes) -> tuple[int, str]:
        """Status and text of a refusal, which is a complete response and ends the connection."""
        client = self.connect(head)
        top, _, body = client.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"content-length: %d" % len(body), top)
        self.assertTrue(client.transport.disconnecting)
        return int(top.split(b" ")[1]), body.decode().strip()


class HandshakeTests(WorkerPortTestCase):
    def test_unknown_path(self) -> None:
        """An unknown path is 404 with or without an upgrade."""
        self.assertEqual(self.status(request("/nowhere"))[0], 404)
        self.assertEqual(self.status(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")[0], 404)

    def test_no_upgrade(self) -> None:
        """A plain GET is told what this port is."""
        status, text = self.status(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(status, 400)
        self.assertIn("WebSocket", text)

    def test_other_method(self) -> None:
        """On a known path only GET is allowed."""
        self.assertEqual(self.status(request(method="POST"))[0], 405)

    def test_http_1_0(self) -> None:
        """HTTP/1.0 cannot be upgraded."""
        self.assertEqual(self.status(request(version="HTTP/1.0"))[0], 426)

    def test_silence(self) -> None:
        """Strangers cannot fill the log."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.status(request("/nowhere"))
        self.connect(b"\x16\x03\x01 nonsense\r\n\r\n").hang_up()
        self.assertEqual(events, [])

    def test_large_head(self) -> None:
        """A head that does not end is refused at its bound, not collected."""
        self.assertEqual(self.status(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000)[0], 431)

    def test_foreign_origin(self) -> None:
        """A page of another site is refused; a listed one is let in."""
        self.assertEqual(self.status(request("/", "Origin: https://example.com"))[0], 403)
        self.upgraded(request("/", "Origin: https://app.example.com"))
        self.upgraded(request("/", "Origin: http://localhost:3000"))

    def test_capabilities(self) -> None:
        """Rust SDKs switch Nagle's algorithm off only when they are told that we do."""
        self.assertIn(b"x-iii-capabilities: tcp-nodelay", self.connect().transport.value())

    def test_dead_peers(self) -> None:
        """The kernel gives up a peer that acknowledges nothing for two minutes."""
        import socket

        client = self.upgraded()
        self.assertIn((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000), client.transport.options)


class TokenTests(WorkerPortTestCase):
    token = "s3cret"

    def test_token(self) -> None:
        """With a token configured, workers and telemetry need it; a channel's key is enough for the channel."""
        self.assertEqual(self.status(request())[0], 401)
        self.assertEqual(self.status(request("/otel"))[0], 401)
        self.upgraded(request("/", "Authorization: Bearer s3cret"))
        channel = self.engine.channels.create()
        self.upgraded(request(f"/ws/channels/{channel.id}?key={self.engine.channels.key(channel.id)}&dir=read"))


class ConnectionLimitTests(WorkerPortTestCase):
    limits = Limits(connections=2)

    def test_all_listeners_together(self) -> None:
        """The limit is that of the engine, however many listeners it has."""
        first = self.factory
        self.upgraded()
        self.factory = self.make_factory()
        self.upgraded()
        self.assertIsNone(first.buildProtocol(PEER))

    def test_limit(self) -> None:
        """One connection more than the limit is closed at once and counted; when another goes there is room again."""
        client = self.upgraded()
        self.upgraded()
        self.assertIsNone(self.factory.buildProtocol(PEER))
        self.assertEqual(self.engine.counters.connections_refused, 1)
        self.assertEqual(self.engine.counters.limit_hits, {"connections": 1})
        client.hang_up()
        self.upgraded()


class WorkerTests(WorkerPortTestCase):
    def test_interface(self) -> None:
        """To the core the socket is a connection."""
        client = self.upgraded()
        verifyObject(IConnection, client.protocol)
        self.assertEqual(client.protocol.address, "192.0.2.7")

    def test_greeting(self) -> None:
        """The first frame tells the worker its id."""
        client = self.upgraded()
        (greeting,) = client.messages()
        self.assertEqual(greeting["type"], "workerregistered")
        self.assertIn(greeting["worker_id"], self.engine.connections)

    def test_alias(self) -> None:
        """Behind the documented proxies the path is C{/ws}."""
        self.assertEqual(self.upgraded(request("/ws")).messages()[0]["type"], "workerregistered")

    def test_json_ping(self) -> None:
        """A JSON ping is answered with a JSON pong."""
        client = self.upgraded()
        client.messages()
        client.send({"type": "ping"})
        self.assertEqual(client.messages(), [{"type": "pong"}])

    def test_binary_message(self) -> None:
        """A binary frame without a telemetry prefix is read like a text frame."""
        client = self.upgraded()
        client.messages()
        client.protocol.dataReceived(masked(0x82, b'{"type":"ping"}'))
        self.assertEqual(client.messages(), [{"type": "pong"}])

    def test_hang_up(self) -> None:
        """When the socket goes, the core forgets the connection."""
        client = self.upgraded()
        client.hang_up()
        self.assertEqual((self.engine.connections, self.factory.sockets), ({}, {}))

    def test_idle_peers_are_pinged(self) -> None:
        """Every peer is pinged once in each interval of 20 s."""
        client = self.upgraded()
        client.frames()
        for _ in range(40):
            self.factory.ping_some()
        self.assertEqual([opcode for opcode, _ in client.frames()], [0x89, 0x89])

    def test_silent_peers_are_dropped(self) -> None:
        """A peer of which nothing comes for minutes is dropped; any byte starts the time anew."""
        client = self.upgraded()
        for _ in range(int(SILENT_SECONDS)):
            self.factory.ping_some()
        self.assertFalse(client.transport.aborted)
        client.protocol.dataReceived(masked(0x8A, b""))
        for _ in range(int(SILENT_SECONDS)):
            self.factory.ping_some()
        self.assertFalse(client.transport.aborted)
        for _ in range(20):
            self.factory.ping_some()
        self.assertTrue(client.transport.aborted)

    def test_held_peers_are_not_silent(self) -> None:
        """A peer that we do not read cannot be heard; it is not dropped for that."""
        client = self.upgraded()
        client.protocol.hold("test")
        for _ in range(3 * int(SILENT_SECONDS)):
            self.factory.ping_some()
        self.assertFalse(client.transport.aborted)

    def test_pong_ends_suspicion(self) -> None:
        """A worker that was routed around gets calls again when it answers the ping."""
        client = self.upgraded()
        (connection,) = self.engine.connections.values()
        connection.probe()
        self.assertTrue(connection.suspect)
        client.protocol.dataReceived(masked(0x8A, b""))
        self.assertFalse(connection.suspect)

    def test_stop(self) -> None:
        """Stopping closes every connection with the code after which all SDKs reconnect, and waits for them."""
        client = self.upgraded()
        client.frames()
        stopped = self.factory.close_all()
        self.assertEqual(client.frames(), [(0x88, SERVICE_RESTART.to_bytes(2, "big"))])
        self.assertNoResult(stopped)
        client.hang_up()
        self.successResultOf(stopped)

    def test_stop_has_an_end(self) -> None:
        """A worker that does not read what was sent to it is cut off after a few seconds."""
        client = self.upgraded()
        listener = WorkerListener(self.factory, "127.0.0.1", 0, None, self.clock)  # type: ignore[arg-type]
        listener.running = True
        client.protocol.outbox.pauseProducing()
        client.protocol.send_text(b"x" * 1000)
        stopped = listener.stopService()
        self.clock.advance(STOP_TIMEOUT - 0.1)
        self.assertFalse(client.transport.aborted)
        self.clock.advance(0.2)
        self.assertTrue(client.transport.aborted)
        client.hang_up()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_during_a_handshake(self) -> None:
        """A socket whose handshake is not complete is dropped."""
        client = self.connect(b"GET / HTTP/1.1\r\n")
        self.factory.close_all()
        self.assertTrue(client.transport.aborted)


class TelemetryTests(WorkerPortTestCase):
    def test_counted(self) -> None:
        """Telemetry is accepted on C{/otel} and on C{/}, counted and never answered."""
        telemetry, worker = self.upgraded(request("/otel")), self.upgraded()
        worker.messages()
        for client in (telemetry, worker):
            client.protocol.dataReceived(masked(0x82, b'OTLP{"resourceSpans":[]}') + masked(0x82, b"MTRC"))
            self.assertEqual(client.frames(), [])
        self.assertEqual(self.engine.counters.telemetry_frames, 4)

    def test_no_worker(self) -> None:
        """A telemetry connection is no worker; what else it sends is ignored."""
        client = self.upgraded(request("/otel"))
        client.send({"type": "ping"})
        client.protocol.dataReceived(masked(0x82, b"nonsense"))
        self.assertEqual((client.frames(), self.engine.connections), ([], {}))
        self.assertEqual(self.engine.counters.telemetry_frames, 0)


class ChannelTests(WorkerPortTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.channel = self.engine.channels.create()

    def head(self, direction: str) -> bytes:
        key = self.engine.channels.key(self.channel.id)
        return request(f"/ws/channels/{self.channel.id}?key={key}&dir={direction}")

    def test_order_and_kind(self) -> None:
        """Messages arrive in order and keep their kind and boundaries, also those written before the reader came."""
        writer = self.upgraded(self.head("write"))
        writer.protocol.dataReceived(masked(0x81, b"text") + masked(0x82, b"\xff"))
        reader = self.upgraded(self.head("read"))
        writer.protocol.dataReceived(masked(0x82, b""))
        self.assertEqual(reader.frames(), [(0x81, b"text"), (0x82, b"\xff"), (0x82, b"")])

    def test_end(self) -> None:
        """The writer's close is answered; the reader gets all, then a close frame without a code."""
        writer = self.upgraded(self.head("write"))
        writer.protocol.dataReceived(masked(0x82, b"last") + masked(0x88, (1000).to_bytes(2, "big")))
        self.assertEqual(writer.frames(), [(0x88, b"\x03\xe8")])
        writer.hang_up()
        reader = self.upgraded(self.head("read"))
        self.assertEqual(reader.frames(), [(0x82, b"last"), (0x88, b"")])

    def test_writer_lost(self) -> None:
        """A writer that is cut off ends the channel like one that closes."""
        writer, reader = self.upgraded(self.head("write")), self.upgraded(self.head("read"))
        writer.hang_up()
        self.assertEqual(reader.frames(), [(0x88, b"")])

    def test_reader_lost(self) -> None:
        """When the reader goes, the writer is closed: nobody will read on."""
        writer, reader = self.upgraded(self.head("write")), self.upgraded(self.head("read"))
        reader.hang_up()
        self.assertEqual(writer.frames(), [(0x88, b"")])
        self.assertEqual(len(self.engine.channels), 0)

    def test_pings_of_a_reader(self) -> None:
        """A reader's pings are answered: Python would cut the connection after 20 s."""
        reader = self.upgraded(self.head("read"))
        reader.protocol.dataReceived(masked(0x89, b"?"))
        self.assertEqual(reader.frames(), [(0x8A, b"?")])

    def test_taken(self) -> None:
        """A second socket for a taken end is opened and closed; the first is not disturbed."""
        reader = self.upgraded(self.head("read"))
        second = self.upgraded(self.head("read"))
        self.assertEqual(second.frames(), [(0x88, b"")])
        second.hang_up()
        writer = self.upgraded(self.head("write"))
        writer.protocol.dataReceived(masked(0x82, b"one"))
        self.assertEqual(reader.frames(), [(0x82, b"one")])

    def test_gone(self) -> None:
        """An end of a channel that has ended is opened and closed: a 404 would end a Node worker's process."""
        self.engine.channels.forget(self.channel)
        self.assertEqual(self.upgraded(self.head("write")).frames(), [(0x88, b"")])

    def test_unknown(self) -> None:
        """An id that never was, and a wrong key, are 404."""
        self.assertEqual(self.status(request("/ws/channels/nix?key=k&dir=read")), (404, "Channel not found"))
        wrong = request(f"/ws/channels/{self.channel.id}?key=k&dir=read")
        self.assertEqual(self.status(wrong), (404, "Channel not found"))

    def test_back_pressure(self) -> None:
        """With as many messages buffered as fit, the writer is not read from until the reader has taken some."""
        writer = self.upgraded(self.head("write"))
        writer.protocol.dataReceived(masked(0x82, b"x") * 64)
        self.assertEqual(writer.transport.producerState, "paused")
        reader = self.upgraded(self.head("read"))
        self.assertEqual(writer.transport.producerState, "producing")
        self.assertEqual(len(reader.frames()), 64)

    def test_slow_reader(self) -> None:
        """A reader that does not read holds its writer back, and gets everything in the end."""
        writer, reader = self.upgraded(self.head("write")), self.upgraded(self.head("read"))
        reader.frames()
        reader.protocol.outbox.pauseProducing()
        chunk = masked(0x82, b"x" * 60_000)
        sent = 0
        while writer.transport.producerState == "producing":
            writer.protocol.dataReceived(chunk)
            sent += 1
            self.assertLess(sent * 60_000, 16 * 2**20)
        reader.protocol.outbox.resumeProducing()
        self.assertEqual(writer.transport.producerState, "producing")
        self.assertEqual(len(reader.frames()), sent)

    def test_expiry(self) -> None:
        """A channel of which an end never came is closed after five minutes."""
        reader = self.upgraded(self.head("read"))
        self.clock.advance(299)
        self.engine.channels.sweep()
        self.assertEqual(reader.frames(), [])
        self.clock.advance(2)
        self.engine.channels.sweep()
        self.assertEqual(reader.frames(), [(0x88, b"")])

    def test_interface(self) -> None:
        """To the channel a socket is an end."""
        reader = self.upgraded(self.head("read"))
        self.assertIsInstance(reader.protocol._role, ChannelEnd)
        verifyObject(IChannelSocket, reader.protocol._role)


class CallTests(WorkerPortTestCase):
    def test_call(self) -> None:
        """A call of the engine reaches the worker as a frame, and its answer comes back as bytes."""
        client = self.upgraded()
        client.messages()
        client.send({"type": "registerfunction", "id": "f"})
        self.clock.advance(5)
        answers: list[Any] = []
        self.engine.invoke("f", Raw(b'{"a": 1}'), lambda call, result, error: answers.append((bytes(result), error)))
        (call,) = client.messages()
        self.assertEqual((call["type"], call["data"]), ("invokefunction", {"a": 1}))
        client.send({"type": "invocationresult", "invocation_id": call["invocation_id"], "result": [1]})
        self.assertEqual(answers, [(b"[1]", None)])
