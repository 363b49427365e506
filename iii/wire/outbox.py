"""
Sending for every kind of connection: coalesced, immediate and bounded.

What is written to the connections during one reactor turn leaves in one send per connection at the turn's end.  On a
plain TCP transport with nothing buffered the bytes go to the socket at once and only what the kernel did not take goes
through C{transport.write}; measured, that saves an event-loop turn and two C{epoll_ctl} per message (DESIGN.md, 5).
While a transport's own buffer is full, the bytes wait here, where they are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import tcp
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer


class Flusher:
    """Flushes, once per reactor turn, the outboxes that were written to.  One for all connections of an engine."""

    log = Logger()

    def __init__(self, clock: IReactorTime, on_drop: Callable[[object], None] = lambda peer: None) -> None:
        """@param on_drop: Told the address of each peer that is cut off because it reads too little."""
        self._clock, self._on_drop = clock, on_drop
        self._dirty: list[Outbox] = []

    def dropped(self, transport: Any, size: int) -> None:
        """A peer is cut off."""
        peer = transport.getPeer()
        self.log.warn("cutting off {peer}: {size} bytes wait to be sent to it", peer=peer, size=size)
        self._on_drop(peer)

    def schedule(self, outbox: Outbox) -> None:
        """Flush an outbox when this turn's events have been handled."""
        if not self._dirty:
            self._clock.callLater(0, self._flush)
        self._dirty.append(outbox)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for outbox in dirty:
            try:
                outbox.flush()
            except Exception:  # one peer's failure must not keep the others waiting
                self.log.failure("sending to a peer failed")
                outbox.abort()


class Watcher(Protocol):
    """Told when an outbox crosses its high-water mark."""

    def outboxFilled(self) -> None:
        """More than the high-water mark waits to be sent."""

    def outboxDrained(self) -> None:
        """After L{outboxFilled}: everything has been handed to the transport."""


@implementer(IPushProducer)
class Outbox:
    """
    The bytes that wait to be sent to one peer.

    @ivar size: Bytes waiting here.  Up to 64 KiB and one write more wait in the transport.
    @ivar full: C{size} has exceeded the high-water mark and not everything has left since.
    """

    __slots__ = (
        "_chunks",
        "_closed",
        "_flusher",
        "_hard",
        "_high",
        "_paused",
        "_queued",
        "_sent",
        "_transport",
        "_watcher",
        "full",
        "size",
    )

    def __init__(self, transport: Any, flusher: Flusher, high: int, hard: int, watcher: Watcher | None = None) -> None:
        self._transport, self._flusher, self._watcher = transport, flusher, watcher
        self._high, self._hard = high, hard
        self._chunks: list[bytes] = []
        self._queued = self._paused = self._closed = False
        self._sent: Callable[[], None] | None = None
        self.full = False
        self.size = 0
        transport.registerProducer(self, True)

    def write(self, *chunks: bytes) -> None:
        """
        Queue bytes for the end of this turn.  Above the hard limit the connection is aborted; after L{close} or
        L{abort} they are dropped.
        """
        if self._closed:
            return
        self._chunks += chunks
        for chunk in chunks:
            self.size += len(chunk)
        if not self._queued and not self._paused:
            self._queued = True
            self._flusher.schedule(self)
        if self.size > self._high:
            self._filled()

    def send(self, data: bytes) -> None:
        """Like L{write}, but not at the turn's end: for a peer that gets one piece in a turn."""
        if self._chunks or self._paused or self._closed:
            self.write(data)
            return
        sent = send_now(self._transport, data)
        if sent < len(data):
            self._transport.write(data[sent:] if sent else data)

    def push(self, data: bytes) -> None:
        """
        Send bytes that do not count against the hard limit: a message that may be larger than that.  When they are not
        taken at once the outbox is full until they have left, so that whoever pushes can wait with the next.
        """
        if self._closed:
            return
        self.hand_over()
        self._transport.write(data)
        if self._paused and not self.full:
            self.full = True
            if self._watcher is not None:
                self._watcher.outboxFilled()

    def _filled(self) -> None:
        if self.size > self._hard:
            self._flusher.dropped(self._transport, self.size)
            self.abort()
        elif not self.full:
            self.full = True
            if self._watcher is not None:
                self._watcher.outboxFilled()

    def flush(self) -> None:
        """Hand to the transport what waits, unless its own buffer is full."""
        self._queued = False
        if self._paused:
            return
        if self._chunks:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks, self.size = [], 0
            sent = send_now(self._transport, data)
            if sent < len(data):
                self._transport.write(data[sent:] if sent else data)
        if self.full and not self._paused:
            self._drained()

    def _drained(self) -> None:
        self.full = False
        if self._watcher is not None:
            self._watcher.outboxDrained()

    def close(self) -> None:
        """Send what waits, then close the connection in order.  What is written later is dropped."""
        if self._closed:
            return
        self.hand_over()
        self._closed = True
        self._transport.unregisterProducer()  # a TLS transport does not close while a producer is registered
        self._transport.loseConnection()

    def hand_over(self) -> None:
        """Put all that waits into the transport's buffer, so that what is written to it directly comes after."""
        if self._chunks:
            self._transport.write(b"".join(self._chunks))
            self._chunks, self.size = [], 0

    def relieve(self) -> None:
        """Hand over what waits unless the transport's buffer is full: this turn's bytes have not been tried yet."""
        if not self._paused:
            self.hand_over()

    def seal(self, sent: Callable[[], None]) -> None:
        """
        Take nothing any more: what is written from now on is dropped.

        @param sent: Called when the transport's buffer has room, which is when nearly all has left.
        """
        self._closed = True
        self._watcher = None
        if self._paused:
            self._sent = sent
        else:
            sent()

    def abort(self) -> None:
        """Drop what waits and the connection with it."""
        self.discard()
        self._transport.abortConnection()

    def discard(self) -> None:
        """The connection is gone: drop what waits; nothing is sent any more."""
        self._closed = True
        self._chunks, self.size = [], 0
        self._watcher = self._sent = None
        forget_unsent(self._transport)

    # Called by the transport.

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._paused = False
        sent, self._sent = self._sent, None
        if sent is not None:
            sent()
        elif not self._queued:
            self.flush()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self.discard()


def send_now(transport: Any, data: bytes) -> int:
    """
    Send to the socket at once what the kernel takes, and return its length.

    That is done on a plain TCP connection of Twisted with nothing buffered and nothing closing, else 0 is returned.
    TLS transports proxy the attributes that are looked at here, so the class itself is what decides: anything else
    would put plaintext on a TLS connection.
    """
    if (
        type(transport) is not tcp.Server
        or transport.TLS
        or not transport.connected
        or transport.disconnecting
        or transport._writeDisconnected
        or transport.dataBuffer
        or transport._tempDataBuffer
    ):
        return 0
    try:
        return transport.socket.send(data)
    except OSError:  # full, or gone: transport.write finds out which
        return 0


def forget_unsent(transport: Any) -> None:
    """
    Free what a connection that is gone did not send.

    A closed connection is part of a reference cycle, and an engine that has little to do may not collect those for
    hours; each of them would keep its buffer, which holds whole snapshots, until then.  One that only ends keeps what
    it has still to send.
    """
    if type(transport) is tcp.Server and transport.disconnected:
        transport.dataBuffer, transport.offset = b"", 0
        transport._tempDataBuffer, transport._tempDataLen = [], 0
