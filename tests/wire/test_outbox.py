"""Tests for L{iii.wire.outbox}."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions, DefaultOpenSSLContextFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from iii.wire.outbox import Flusher, Outbox, send_now
from tests.certificates import self_signed


class Watched:
    """Records what an outbox tells."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def outboxFilled(self) -> None:
        self.events.append("filled")

    def outboxDrained(self) -> None:
        self.events.append("drained")


class Transport(StringTransport):
    """Counts writes, and aborts."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)

    def abortConnection(self) -> None:
        self.aborted = True


class OutboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.watched = Clock(), Watched()
        self.flusher = Flusher(self.clock)
        self.transport, self.outbox = self.connect()

    def connect(self) -> tuple[Transport, Outbox]:
        transport = Transport()
        return transport, Outbox(transport, self.flusher, 100, 1000, self.watched)

    def turn(self) -> None:
        """Let the reactor's turn end."""
        self.clock.advance(0)

    def test_one_write_per_turn(self) -> None:
        """All that is written in one turn leaves in one write, in order, at the turn's end."""
        self.outbox.write(b"a", b"b")
        self.outbox.write(b"c")
        self.assertEqual(self.transport.writes, [])
        self.turn()
        self.assertEqual(self.transport.writes, [b"abc"])
        self.outbox.write(b"d")
        self.turn()
        self.assertEqual(self.transport.writes, [b"abc", b"d"])

    def test_send(self) -> None:
        """What is sent leaves at once, unless something waits: then it waits behind that."""
        self.outbox.send(b"a")
        self.assertEqual(self.transport.writes, [b"a"])
        self.outbox.write(b"b")
        self.outbox.send(b"c")
        self.assertEqual(self.transport.writes, [b"a"])
        self.turn()
        self.assertEqual(self.transport.writes, [b"a", b"bc"])
        self.outbox.pauseProducing()
        self.outbox.send(b"d")
        self.assertEqual(self.transport.writes, [b"a", b"bc"])
        self.outbox.discard()
        self.outbox.send(b"e")
        self.assertEqual(self.transport.writes, [b"a", b"bc"])

    def test_push(self) -> None:
        """What is pushed leaves at once, behind what waits, and does not count against the hard limit."""
        self.outbox.write(b"a")
        self.outbox.push(b"b" * 2000)
        self.assertEqual(self.transport.writes, [b"a", b"b" * 2000])
        self.assertFalse(self.transport.aborted)
        self.assertEqual((self.outbox.size, self.outbox.full, self.watched.events), (0, False, []))
        self.turn()
        self.outbox.discard()
        self.outbox.push(b"c")
        self.assertEqual(len(self.transport.writes), 2)

    def test_push_to_the_slow(self) -> None:
        """When it is not taken at once, the outbox is full until it has left."""
        self.outbox.pauseProducing()
        self.outbox.push(b"b" * 2000)
        self.assertEqual((self.outbox.size, self.outbox.full, self.watched.events), (0, True, ["filled"]))
        self.outbox.resumeProducing()
        self.assertEqual((self.outbox.full, self.watched.events), (False, ["filled", "drained"]))

    def test_relieve(self) -> None:
        """What waits is handed over before the turn's end, unless the transport is full."""
        self.outbox.write(b"a")
        self.outbox.relieve()
        self.assertEqual((self.transport.writes, self.outbox.size), ([b"a"], 0))
        self.outbox.pauseProducing()
        self.outbox.write(b"b")
        self.outbox.relieve()
        self.assertEqual((self.transport.writes, self.outbox.size), ([b"a"], 1))

    def test_waits_while_the_transport_is_full(self) -> None:
        """While the transport's buffer is full nothing is written; all of it is when that has emptied."""
        self.outbox.pauseProducing()
        self.outbox.write(b"a")
        self.turn()
        self.assertEqual(self.transport.writes, [])
        self.outbox.resumeProducing()
        self.assertEqual(self.transport.writes, [b"a"])
        self.assertEqual(self.outbox.size, 0)

    def test_high_water_mark(self) -> None:
        """Above the mark the outbox is full, which is told once; it is so until everything has left."""
        self.outbox.pauseProducing()
        self.outbox.write(b"x" * 100)
        self.assertFalse(self.outbox.full)
        self.outbox.write(b"x")
        self.outbox.write(b"x")
        self.assertTrue(self.outbox.full)
        self.assertEqual(self.watched.events, ["filled"])
        self.outbox.resumeProducing()
        self.assertFalse(self.outbox.full)
        self.assertEqual(self.watched.events, ["filled", "drained"])

    def test_stays_full_while_the_transport_refills(self) -> None:
        """It is drained only when the transport took everything without filling up again."""
        self.outbox.pauseProducing()
        self.outbox.write(b"x" * 101)
        self.transport.write = lambda data: self.outbox.pauseProducing()  # type: ignore[method-assign]
        self.outbox.resumeProducing()
        self.assertTrue(self.outbox.full)
        self.outbox.resumeProducing()
        self.assertFalse(self.outbox.full)

    def test_hard_limit(self) -> None:
        """Above the hard limit the connection is aborted and what waited is dropped."""
        self.outbox.pauseProducing()
        self.outbox.write(b"x" * 1001)
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.outbox.size, 0)
        self.outbox.write(b"y")
        self.assertEqual(self.outbox.size, 0)

    def test_close_sends_first(self) -> None:
        """What waits is sent before the connection is closed; what is written later is dropped."""
        self.outbox.write(b"a")
        self.outbox.close()
        self.outbox.write(b"b")
        self.turn()
        self.assertEqual(self.transport.writes, [b"a"])
        self.assertTrue(self.transport.disconnecting)
        self.assertIsNone(self.transport.producer)

    def test_hand_over(self) -> None:
        """What waits goes before what is written to the transport directly."""
        self.outbox.write(b"a")
        self.outbox.hand_over()
        self.transport.write(b"b")
        self.turn()
        self.assertEqual(self.transport.value(), b"ab")

    def test_failure_of_one_peer(self) -> None:
        """A transport that raises loses its own connection, and the others are served."""
        other, outbox = self.connect()

        def fail(data: bytes) -> None:
            raise RuntimeError("gone")

        self.transport.write = fail  # type: ignore[method-assign]
        self.outbox.write(b"a")
        outbox.write(b"b")
        self.turn()
        self.assertEqual(other.writes, [b"b"])
        self.assertTrue(self.transport.aborted)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_written_while_flushing(self) -> None:
        """What is written because something was sent leaves in the next turn."""
        other, outbox = self.connect()
        self.transport.write = lambda data: outbox.write(b"later")  # type: ignore[method-assign]
        self.outbox.write(b"a")
        self.turn()
        self.turn()
        self.assertEqual(other.writes, [b"later"])


class Peer(Protocol):
    """A connected end: what it gets, and what happened to it."""

    def __init__(self) -> None:
        self.received = b""
        self.up: Deferred[Peer] = Deferred()
        self.waiting: Deferred[None] | None = None
        self.wanted = 0
        self.down: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.up.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.waiting is not None and len(self.received) >= self.wanted:
            waiting, self.waiting = self.waiting, None
            waiting.callback(None)

    def connectionLost(self, reason: object) -> None:
        self.down.callback(None)

    def get(self, count: int) -> Deferred[None]:
        """Wait until a number of bytes has come."""
        self.wanted, self.waiting = count, Deferred()
        self.dataReceived(b"")
        return self.waiting if self.waiting is not None else Deferred.fromCoroutine(_nothing())


async def _nothing() -> None:
    return None


class SendNowTests(TestCase):
    """On real sockets: what may be sent past the transport, and what never."""

    async def pair(self, tls: bool) -> tuple[Peer, Peer]:
        server, client = Peer(), Peer()
        factory = Factory.forProtocol(lambda: server)  # type: ignore[arg-type,return-value]
        if tls:
            certificate, key = self_signed(self.mktemp())
            context = DefaultOpenSSLContextFactory(key, certificate)
            port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        else:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        if tls:
            from twisted.internet.endpoints import wrapClientTLS

            plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            endpoint = wrapClientTLS(CertificateOptions(), plain)
        else:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await connectProtocol(endpoint, client)
        await server.up

        async def hang_up() -> None:
            for peer in (client, server):
                if not peer.down.called:
                    peer.transport.abortConnection()
                    await peer.down

        self.addCleanup(lambda: Deferred.fromCoroutine(hang_up()))
        return server, client

    async def test_plain(self) -> None:
        """On an idle plain connection the bytes leave at once."""
        server, client = await self.pair(tls=False)
        self.assertEqual(send_now(server.transport, b"hello"), 5)
        await client.get(5)
        self.assertEqual(client.received, b"hello")

    async def test_never_past_tls(self) -> None:
        """On TLS nothing is sent past the transport: it would be plaintext."""
        server, client = await self.pair(tls=True)
        self.assertEqual(send_now(server.transport, b"secret"), 0)
        Outbox(server.transport, Flusher(reactor), 1000, 1000).write(b"secret")
        await client.get(6)
        self.assertEqual(client.received, b"secret")

    async def test_not_before_what_waits(self) -> None:
        """With bytes waiting in the transport nothing overtakes them."""
        server, client = await self.pair(tls=False)
        client.transport.pauseProducing()
        server.transport.write(b"a" * 8_000_000)
        self.assertEqual(send_now(server.transport, b"b"), 0)
        client.transport.resumeProducing()

    async def test_what_the_kernel_takes(self) -> None:
        """A full socket takes a part, then nothing; the outbox sends the rest in order."""
        server, client = await self.pair(tls=False)
        client.transport.pauseProducing()
        data = bytes(range(256)) * 40_000
        sent = send_now(server.transport, data)
        self.assertLess(sent, len(data))
        while sent_more := send_now(server.transport, data[sent:]):
            sent += sent_more
        outbox = Outbox(server.transport, Flusher(reactor), 10**8, 10**8)
        outbox.write(data[sent:])
        client.transport.resumeProducing()
        await client.get(len(data))
        self.assertEqual(client.received, data)

    async def leave_unsent(self) -> tuple[Peer, Outbox, Peer]:
        """A connection with much in the transport's buffer: the end that sends, its outbox, and the other end."""
        server, client = await self.pair(tls=False)
        client.transport.pauseProducing()
        outbox = Outbox(server.transport, Flusher(reactor), 10**8, 10**8)
        outbox.push(bytes(20_000_000))
        server.transport.doWrite()
        self.assertTrue(server.transport.dataBuffer)
        return server, outbox, client

    async def test_gone(self) -> None:
        """What a connection did not send is freed when it is gone, although the connection itself is in a cycle."""
        server, _, client = await self.leave_unsent()
        client.transport.abortConnection()
        await server.down
        self.assertEqual(len(server.transport.dataBuffer) + server.transport._tempDataLen, 0)

    async def test_cut_off(self) -> None:
        """Likewise when it is this end that ends it."""
        server, outbox, _ = await self.leave_unsent()
        outbox.abort()
        await server.down
        self.assertEqual(len(server.transport.dataBuffer) + server.transport._tempDataLen, 0)

    async def test_closing(self) -> None:
        """On a connection that is being closed, or is gone, nothing is sent and nothing raised."""
        server, _ = await self.pair(tls=False)
        server.transport.loseConnection()
        self.assertEqual(send_now(server.transport, b"x"), 0)
        await server.down
        self.assertEqual(send_now(server.transport, b"x"), 0)
