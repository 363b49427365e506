"""Tests for L{iii.wire.websocket}: a real Autobahn client and hand-made bytes against the server's end."""

from __future__ import annotations

import os
from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iii.wire.outbox import Flusher
from iii.wire.websocket import FastWebSocketServerFactory, FastWebSocketServerProtocol, header, unmask
from tests.websockets import MASK, Transport, masked, request

UPGRADE = request()
MAX = 1000

SIZES = (0, 1, 125, 126, 127, 65_535, 65_536)
PAYLOADS = st.one_of(
    st.text("aé€😀\0", max_size=300).map(str.encode), st.sampled_from(SIZES).map(lambda size: b"x" * size)
)
CONTROL_FRAMES = st.builds(masked, st.sampled_from([0x89, 0x8A]), st.binary(max_size=125))
FRAGMENTED = st.just(masked(0x01, b"frag") + masked(0x89, b"between") + masked(0x80, b"mented"))
VIOLATIONS = (
    b"\x81\x03one",  # not masked
    masked(0xC1, b"one"),  # a reserved bit
    masked(0x83, b"one"),  # a reserved opcode
    b"\x81\xfe\x00\x03" + MASK + unmask(b"one", MASK),  # not the shortest length
    b"\x81\xff" + (300).to_bytes(8, "big") + MASK + b"x" * 300,
    masked(0x80, b"one"),  # goes on with nothing
)
ENDS = (
    *VIOLATIONS,
    masked(0x01, b"one ") + masked(0x81, b"two"),
    masked(0x09, b"a ping in pieces"),
    masked(0x89, b"x" * 126),
    masked(0x81, b"\xff"),
    masked(0x81, "é".encode() * 200 + b"\xc3"),
    masked(0x81, b"\xed\xa0\x80"),
    masked(0x01, b"\xc3") + masked(0x80, b"x"),
    masked(0x82, b"x" * 70_001),
    masked(0x88, b""),
    masked(0x88, b"\x03"),
    masked(0x88, (1000).to_bytes(2, "big") + b"bye"),
    masked(0x88, (1005).to_bytes(2, "big")),
    masked(0x88, (1000).to_bytes(2, "big") + b"\xff"),
)
"""What ends a connection, by the peer's fault or wish."""


def without_reason(sent: bytes) -> list[bytes]:
    """The frames that a server has sent, all of them short; of a close frame its code only, not the text behind it."""
    frames = []
    while sent:
        size = 2 + sent[1]
        frames.append(sent[:size] if sent[0] != 0x88 else sent[:1] + sent[2:4])
        sent = sent[size:]
    return frames


def data_frames(payload: bytes) -> st.SearchStrategy[bytes]:
    """A text frame, or a binary one."""
    return st.sampled_from([0x81, 0x82]).map(lambda opcode: masked(opcode, payload))


class Recorder(FastWebSocketServerProtocol):
    """Notes the messages that come."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[bytes, bool]] = []
        self.slow = 0

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.append((payload, isBinary))

    def _dataReceived(self, data: bytes) -> None:
        self.slow += 1
        super()._dataReceived(data)


class WebSocketTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.transport, self.protocol = self.open()

    def open(self, message_bytes: int = MAX) -> tuple[Transport, Recorder]:
        factory = FastWebSocketServerFactory(
            Recorder,
            self.clock,
            Flusher(self.clock),
            message_bytes=message_bytes,
            outbox_bytes=10_000,
            outbox_hard_bytes=100_000,
            handshake_timeout=10,
        )
        protocol: Any = factory.buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        protocol.dataReceived(UPGRADE)
        self.assertIn(b"101 Switching Protocols", transport.value())
        transport.clear()
        protocol.slow = 0
        return transport, protocol

    def closed_with(self) -> int:
        """The code of the close frame that was sent last."""
        sent = self.transport.value()
        at = sent.rindex(b"\x88")
        return int.from_bytes(sent[at + 2 : at + 4], "big")


class ReceiveTests(WebSocketTestCase):
    def test_fast(self) -> None:
        """Plain data frames never reach Autobahn's machinery, however many come in one read."""
        self.protocol.dataReceived(masked(0x81, b"one") + masked(0x82, b"two\xff") + masked(0x81, b""))
        self.assertEqual(self.protocol.messages, [(b"one", False), (b"two\xff", True), (b"", False)])
        self.assertEqual(self.protocol.slow, 0)

    def test_unmasked_key_of_zeros(self) -> None:
        """A key of four zeros is a key."""
        self.protocol.dataReceived(masked(0x81, b"one", b"\0\0\0\0"))
        self.assertEqual(self.protocol.messages, [(b"one", False)])

    def test_unmask(self) -> None:
        """Short and long payloads, which are unmasked in different ways: each byte with the key's in its turn."""
        for size in (0, 1, 3, 4, 127, 2047, 2048, 2049, 2050, 2051, 65_536, 100_003):
            payload = os.urandom(size)
            for mask in (MASK, b"\0\0\0\1", b"\xff" * 4):
                expected = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
                unmasked = unmask(payload, mask)
                self.assertEqual((type(unmasked), unmasked), (bytes, expected))

    def test_lengths(self) -> None:
        """All three encodings of the length are read."""
        for size in (0, 1, 125, 126, 127, MAX):
            self.protocol.dataReceived(masked(0x82, b"x" * size))
        self.assertEqual([len(payload) for payload, _ in self.protocol.messages], [0, 1, 125, 126, 127, MAX])
        self.assertEqual(header(0x81, 65536), b"\x81\x7f\0\0\0\0\0\x01\0\0")

    def test_in_pieces(self) -> None:
        """However the bytes are cut, the same messages come, and only then."""
        stream = masked(0x81, b"one") + masked(0x82, b"x" * 300) + masked(0x81, "ü".encode())
        for byte in stream:
            self.protocol.dataReceived(bytes((byte,)))
        self.assertEqual(self.protocol.messages, [(b"one", False), (b"x" * 300, True), ("ü".encode(), False)])
        self.assertEqual(self.protocol.slow, 0)

    @settings(max_examples=int(os.environ.get("III_SOAK", "0")) * 5000 or 100, deadline=None)
    @given(
        st.lists(st.one_of(PAYLOADS.flatmap(data_frames), CONTROL_FRAMES, FRAGMENTED), max_size=8),
        st.sampled_from((b"", *ENDS)),
        st.lists(st.one_of(st.integers(1, 200), st.integers(1, 70_000)), min_size=1, max_size=30),
    )
    def test_same_as_autobahn(self, frames: list[bytes], end: bytes, cuts: list[int]) -> None:
        """Whatever mix of frames, good and bad, comes in whatever pieces: what Autobahn alone reads, and answers."""
        stream = b"".join((*frames, end, *frames[:1]))
        sent, fast = self.open(70_000)
        expected, plain = self.open(70_000)
        plain.dataReceived = lambda data: WebSocketServerProtocol.dataReceived(plain, data)  # type: ignore[method-assign]
        plain.dataReceived(stream)
        at, turn = 0, 0
        while at < len(stream):
            fast.dataReceived(stream[at : at + cuts[turn % len(cuts)]])
            at += cuts[turn % len(cuts)]
            turn += 1
        self.clock.advance(0)
        self.assertEqual(fast.messages, plain.messages)
        self.assertEqual(without_reason(sent.value()), without_reason(expected.value()))

    def test_fragmented_and_control(self) -> None:
        """Fragments, and control frames between them, are left to Autobahn; afterwards the fast path goes on."""
        self.protocol.dataReceived(masked(0x01, b"one ") + masked(0x89, b"ping") + masked(0x80, b"two"))
        self.assertEqual(self.protocol.messages, [(b"one two", False)])
        self.clock.advance(0)
        self.assertIn(b"\x8a\x04ping", self.transport.value())
        slow = self.protocol.slow
        self.protocol.dataReceived(masked(0x81, b"three"))
        self.assertEqual(self.protocol.messages[1:], [(b"three", False)])
        self.assertEqual(self.protocol.slow, slow)

    def test_data_frame_within_a_fragmented_message(self) -> None:
        """It is a protocol error, not a message of its own."""
        self.protocol.dataReceived(masked(0x01, b"one "))
        self.protocol.dataReceived(masked(0x81, b"two"))
        self.assertEqual(self.protocol.messages, [])
        self.assertEqual(self.closed_with(), 1002)

    def test_violations(self) -> None:
        """Unmasked frames, reserved bits and opcodes, and lengths that are not the shortest close with 1002."""
        for bad in VIOLATIONS:
            self.transport, self.protocol = self.open()
            self.protocol.dataReceived(bad)
            self.assertEqual((self.protocol.messages, self.closed_with()), ([], 1002))

    def test_invalid_utf8(self) -> None:
        """A text frame that is not UTF-8 closes its own sender with 1007, and what came behind it does not count."""
        self.protocol.dataReceived(masked(0x81, b"\xff") + masked(0x81, b"next"))
        self.assertEqual(self.protocol.messages, [])
        self.assertEqual(self.closed_with(), 1007)

    def test_too_large(self) -> None:
        """A larger message closes with 1009 as soon as its length is known, before its bytes have come."""
        self.protocol.dataReceived(masked(0x81, b"x" * (MAX + 1))[:10])
        self.assertEqual(self.closed_with(), 1009)

    def test_closed_by_a_message(self) -> None:
        """Messages behind the one that led to closing are not delivered."""

        def close(payload: bytes, isBinary: bool) -> None:
            self.protocol.messages.append((payload, isBinary))
            self.protocol.sendCloseFrame(1012)

        self.protocol.onMessage = close  # type: ignore[method-assign]
        self.protocol.dataReceived(masked(0x81, b"one") + masked(0x81, b"two"))
        self.assertEqual(self.protocol.messages, [(b"one", False)])

    def test_sign_of_life(self) -> None:
        """Anything that comes ends the silence."""
        self.protocol.silence = 3
        self.protocol.dataReceived(masked(0x8A, b""))
        self.assertEqual(self.protocol.silence, 0)


class SendTests(WebSocketTestCase):
    def test_one_write_per_turn(self) -> None:
        """What is sent in one turn leaves together, as unmasked frames."""
        self.protocol.send_text(b"one")
        self.protocol.send_binary(b"x" * 200)
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"\x81\x03one\x82\x7e\x00\xc8" + b"x" * 200)

    def test_nothing_overtaken_by_the_close_frame(self) -> None:
        """What was sent before closing arrives before the close frame, and nothing follows it."""
        self.protocol.send_text(b"one")
        self.protocol.sendCloseFrame(1012)
        self.protocol.send_text(b"two")
        self.clock.advance(0)
        self.assertEqual(self.transport.value(), b"\x81\x03one\x88\x02\x03\xf4")

    def test_close_is_answered(self) -> None:
        """A close frame is answered with its code; what was to be sent goes first."""
        self.protocol.send_text(b"one")
        self.protocol.dataReceived(masked(0x88, (1000).to_bytes(2, "big")))
        self.assertEqual(self.transport.value(), b"\x81\x03one\x88\x02\x03\xe8")
        self.assertTrue(self.transport.disconnecting)

    def test_not_read_while_it_does_not_read(self) -> None:
        """While more than the mark waits for a peer, it is not read from."""
        self.protocol.outbox.pauseProducing()
        self.protocol.send_text(b"x" * 10_001)
        self.assertEqual(self.transport.producerState, "paused")
        self.protocol.outbox.resumeProducing()
        self.assertEqual(self.transport.producerState, "producing")

    def test_unanswered_close(self) -> None:
        """A peer that does not answer the close frame is dropped after a second."""
        self.protocol.sendCloseFrame(1012)
        self.clock.advance(1.1)
        self.assertTrue(self.transport.aborted)

    def test_close_of_a_slow_peer(self) -> None:
        """The second begins when what was sent before has left: a peer may be slow to read it."""
        self.protocol.outbox.pauseProducing()
        self.protocol.send_text(b"x" * 5000)
        self.protocol.sendCloseFrame(1012)
        self.clock.advance(60)
        self.assertFalse(self.transport.aborted)
        self.protocol.outbox.resumeProducing()
        self.clock.advance(0.9)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(0.2)
        self.assertTrue(self.transport.aborted)

    def test_close_of_a_peer_that_is_not_read(self) -> None:
        """A peer that is held back is read again, so that its answer to the close frame is seen."""
        self.protocol.hold("test")
        self.protocol.sendCloseFrame(1012)
        self.assertEqual(self.transport.producerState, "producing")

    def test_no_timer_is_left(self) -> None:
        """When the peer answers, and when it goes, nothing is waited for."""
        self.protocol.sendCloseFrame(1012)
        self.protocol.dataReceived(masked(0x88, (1012).to_bytes(2, "big")))
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_pongs_count(self) -> None:
        """Pongs wait in the outbox like all else: a peer that pings and never reads is not read from any more."""
        self.protocol.outbox.pauseProducing()
        pings = 0
        while self.transport.producerState == "producing":
            self.protocol.dataReceived(masked(0x89, b"x" * 100))
            pings += 1
            self.assertLess(pings, 200)

    def test_two_reasons_not_to_read(self) -> None:
        """A peer is read again when all reasons not to are gone, in whatever order."""
        for reason in ("a", "b", "a"):
            self.protocol.hold(reason)
        self.protocol.release("a")
        self.assertEqual(self.transport.producerState, "paused")
        self.protocol.release("a")
        self.protocol.release("b")
        self.assertEqual(self.transport.producerState, "producing")


class HandshakeTests(WebSocketTestCase):
    def test_no_compression(self) -> None:
        """Offers of C{permessage-deflate} get a plain answer."""
        factory = self.protocol.factory
        protocol: Any = factory.buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        protocol.dataReceived(
            UPGRADE.replace(
                b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
            )
        )
        self.assertIn(b" 101 ", transport.value())
        self.assertNotIn(b"deflate", transport.value())

    def test_late(self) -> None:
        """A handshake that is not complete in time ends the connection."""
        protocol: Any = self.protocol.factory.buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        protocol.dataReceived(UPGRADE[:-1])
        self.clock.advance(9.9)
        self.assertFalse(transport.aborted)
        self.clock.advance(0.2)
        self.assertTrue(transport.aborted)

    def test_frames_right_behind(self) -> None:
        """Frames that come with the handshake, before its answer, are read."""
        protocol: Any = self.protocol.factory.buildProtocol(None)
        protocol.makeConnection(Transport())
        protocol.dataReceived(UPGRADE + masked(0x81, b"early"))
        self.assertEqual(protocol.messages, [(b"early", False)])

    def test_options_are_shared(self) -> None:
        """Autobahn's options are the factory's, not copied into each connection."""
        self.assertNotIn("maxMessagePayloadSize", vars(self.protocol))
        self.assertEqual(self.protocol.maxMessagePayloadSize, MAX)
