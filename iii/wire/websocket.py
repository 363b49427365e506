"""
Autobahn's server protocol with a fast path for what arrives and leaves nearly always.

Autobahn does the handshake, control frames, fragmentation, close and limits.  Complete, unfragmented, masked data
frames (RFC 6455, 5.2) are taken here, from the bytes of one read, without Autobahn's per-frame state; anything else
falls through to it, and it keeps the stream until it has finished what it began.  Measured: a plain echo through
Autobahn costs 58 µs of CPU, a routed call (four frames) through here 38 µs (DESIGN.md, 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from struct import Struct
from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import USES_NVX
from autobahn.websocket.xormasker import create_xor_masker  # type: ignore[attr-defined]  # it is, in one way or another
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iii.wire.outbox import Flusher, Outbox

# Autobahn logs each refused handshake and each dropped peer, so that a stranger could fill the log.
txaio.set_global_log_level("error")  # type: ignore[attr-defined]  # it is made when a framework is chosen

TEXT, BINARY, PING, PONG = 0x81, 0x82, 0x89, 0x8A
CLOSE_TIMEOUT = 1.0
"""Seconds that a peer has to answer a close frame."""
COMPILED_FROM: float = 2048 if USES_NVX else math.inf
"""
Length from which Autobahn's compiled code unmasks faster than Python's integers; without it, never.  Measured: 64 KiB
take 8 µs, as integers 125 µs; 200 bytes take 2.8 µs, as integers 0.8 µs.
"""
_MASKED = 0x80
_pack_medium, _pack_large = Struct(">BBH").pack, Struct(">BBQ").pack
_HANDSHAKE_ONLY = (
    "http_headers",
    "http_request_data",
    "http_response_data",
    "http_request_params",
    "http_status_line",
    "http_request_uri",
    "websocket_extensions",
    "websocket_protocols",
    "_wskey",
)


def header(opcode: int, length: int) -> bytes:
    """The header of one final, unmasked frame (RFC 6455, 5.2)."""
    if length < 126:
        return bytes((opcode, length))
    if length < 65536:
        return _pack_medium(opcode, 126, length)
    return _pack_large(opcode, 127, length)


def text_frame(payload: bytes) -> bytes:
    """One text message as a server sends it: for what goes to many peers."""
    return header(TEXT, len(payload)) + payload


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Apply a masking key (RFC 6455, 5.3)."""
    if mask == b"\0\0\0\0":
        return payload
    size = len(payload)
    if size >= COMPILED_FROM:
        unmasked: bytes = create_xor_masker(mask, size).process(payload)
        return unmasked
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


class FastWebSocketServerProtocol(WebSocketServerProtocol):
    """
    A server's end of a WebSocket connection.

    Subclasses implement Autobahn's C{onConnect}, C{onOpen}, C{onMessage(payload, isBinary)} and C{onClose}, call this
    C{onOpen} first, and send with L{send_text} and L{send_binary} only.

    @ivar outbox: What waits to be sent; there once the connection is open.
    @ivar silence: Rounds of pings since anything came in; whoever pings counts them up.
    @ivar holds: Why nothing is read from the peer.
    """

    outbox: Outbox
    transport: Any
    maxMessagePayloadSize: int
    closeHandshakeTimeoutCall: Any
    factory: FastWebSocketServerFactory

    # What Autobahn would set on each instance later; here they are shared by all that have not changed them.
    current_frame: Any = None
    inside_message = False
    silence = 0
    holds: frozenset[str] = frozenset()
    _partial: list[bytes] | None = None
    _have = _need = 0

    def onOpen(self) -> None:
        factory = self.factory
        self.outbox = Outbox(self.transport, factory.flusher, factory.outbox_bytes, factory.outbox_hard_bytes, self)
        for name in _HANDSHAKE_ONLY:
            self.__dict__.pop(name, None)

    def hold(self, reason: str) -> None:
        """Read no more from the peer until all reasons for that are gone."""
        if not self.holds:
            self.transport.pauseProducing()
        self.holds |= {reason}

    def release(self, reason: str) -> None:
        """One reason not to read is gone."""
        if reason in self.holds:
            self.holds -= {reason}
            if not self.holds:
                self.transport.resumeProducing()

    def outboxFilled(self) -> None:
        """Do not read from a peer that does not read, so that what it asks for stays bounded."""
        self.hold("outbox")

    def outboxDrained(self) -> None:
        self.release("outbox")

    def send_text(self, payload: bytes) -> None:
        """Send one text message, UTF-8."""
        self.outbox.write(header(TEXT, len(payload)), payload)

    def send_binary(self, payload: bytes) -> None:
        """Send one binary message."""
        self.outbox.write(header(BINARY, len(payload)), payload)

    def dataReceived(self, data: bytes) -> None:
        self.silence = 0
        if self.state != self.STATE_OPEN or self.data or self.inside_message or self.current_frame is not None:
            self._dataReceived(data)  # Autobahn is in the middle of something
            return
        if self._partial is not None:
            self._partial.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._partial)
            self._partial = None
        position = self._take_frames(data)
        if position < len(data):
            self._dataReceived(data[position:] if position else data)

    def _take_frames(self, data: bytes) -> int:
        """
        Deliver the plain data frames at the beginning of some bytes, and keep an incomplete one for the next read.

        @return: Where what is left to Autobahn begins.
        """
        position, size = 0, len(data)
        while size - position >= 2:
            opcode, length, start = data[position], data[position + 1] - _MASKED, position + 2
            if (opcode != TEXT and opcode != BINARY) or length < 0:
                return position
            if length == 126:
                start += 2
                length = int.from_bytes(data[position + 2 : start], "big")
                if start <= size and length < 126:
                    return position  # not the shortest encoding; Autobahn fails the connection
            elif length == 127:
                start += 8
                length = int.from_bytes(data[position + 2 : start], "big")
                if start <= size and length < 65536:
                    return position
            if length > self.maxMessagePayloadSize:
                return position
            end = start + 4 + length
            if end > size:
                # The length counts only when its bytes are all there.
                self._keep(data[position:], end - position if start <= size else start - position)
                return size
            payload = unmask(data[start + 4 : end], data[start : start + 4])
            position = end
            if opcode == TEXT:
                if not payload.isascii():
                    try:
                        payload.decode()
                    except UnicodeDecodeError:
                        self._invalid_payload("invalid UTF-8 in a text frame")
                        return size
                self.onMessage(payload, False)
            else:
                self.onMessage(payload, True)
            if self.state != self.STATE_OPEN:
                return size
        if position < size:
            self._keep(data[position:], 2)
        return size

    def _keep(self, data: bytes, need: int) -> None:
        """Wait for a number of bytes before looking at these again: looking at each read would be quadratic."""
        self._partial, self._have, self._need = [data], len(data), need

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        if self.state == self.STATE_OPEN:
            self.outbox.hand_over()  # Autobahn writes to the transport, past the outbox
            super().sendCloseFrame(code, reasonUtf8, isReply)
            for reason in self.holds:
                self.release(reason)  # the answer must be read
            # RFC 6455, 5.5.1: nothing follows a close frame.
            self.outbox.seal(lambda: None if isReply else self._await_close())

    def _await_close(self) -> None:
        """
        Give the peer a moment to answer a close frame.  The time starts when what was sent before has left: until then
        the peer may be slow, and only its kernel tells whether it is there.
        """
        if self.state == self.STATE_CLOSING:
            self.closeHandshakeTimeoutCall = self.factory.clock.callLater(CLOSE_TIMEOUT, self.onCloseHandshakeTimeout)

    def sendPing(self, payload: bytes | None = None) -> None:
        self._send_control(PING, payload or b"")

    def sendPong(self, payload: bytes | None = None) -> None:
        self._send_control(PONG, payload or b"")

    def _send_control(self, opcode: int, payload: bytes) -> None:
        """Send a control frame through the outbox, which counts it: a peer that pings and never reads is bounded."""
        if self.state == self.STATE_OPEN:
            self.outbox.write(header(opcode, len(payload)), payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if "outbox" in self.__dict__:
            self.outbox.discard()
        if self.closeHandshakeTimeoutCall is not None:
            self.closeHandshakeTimeoutCall.cancel()
            self.closeHandshakeTimeoutCall = None
        self._partial = None


class _Timers:
    """What Autobahn's factory uses for time-outs, on the clock that was passed in instead of the global reactor."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def call_later(self, delay: float, function: Callable[..., object], *args: object) -> IDelayedCall:
        return self._clock.callLater(delay, function, *args)


class FastWebSocketServerFactory(WebSocketServerFactory):
    """
    Makes L{FastWebSocketServerProtocol}s.  Autobahn copies a factory's options into each of its protocols; here they
    are attributes of a class that is made for the factory, which saves 2 kB and most of the time a connection takes.

    @ivar outbox_bytes: High-water mark of each connection's outbox.
    @ivar outbox_hard_bytes: Above this a peer is dropped.
    """

    def __init__(
        self,
        protocol: type[FastWebSocketServerProtocol],
        clock: IReactorTime,
        flusher: Flusher,
        *,
        message_bytes: int,
        outbox_bytes: int,
        outbox_hard_bytes: int,
        handshake_timeout: float,
    ) -> None:
        super().__init__(reactor=clock)
        self.clock = clock
        self._batched_timer = _Timers(clock)
        self.flusher = flusher
        self.outbox_bytes, self.outbox_hard_bytes = outbox_bytes, outbox_hard_bytes
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            serveFlashSocketPolicy=False,
            perMessageCompressionAccept=lambda offers: None,
            maxFramePayloadSize=message_bytes,
            maxMessagePayloadSize=message_bytes,
            openHandshakeTimeout=handshake_timeout,
            closeHandshakeTimeout=0,  # see _await_close
            failByDrop=False,
            echoCloseCodeReason=True,
            tcpNoDelay=True,
            autoPingInterval=0,
        )
        options = {name: getattr(self, name) for name in protocol.CONFIG_ATTRS}
        shared = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
        self.protocol: Any = type(protocol.__name__, (protocol,), {"CONFIG_ATTRS": (), **shared})
