"""
One connection of a client: HTTP/1.1, keep-alive, pipelining (RFC 9112, 9).

Answers leave in the order of the requests; one that is ready before its turn is held.  A bounded number of requests is
worked on at a time; then nothing more is read until answers have left.  Time-outs cost nothing per request:
L{HttpConnection.check} looks about once a second for what takes too long.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Any

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from iii.modules.http.exchange import Exchange
from iii.modules.http.reader import RequestReader, RequestRefused
from iii.modules.http.request import Headers, Request
from iii.modules.http.site import Site
from iii.wire.outbox import Outbox

IDLE_TIMEOUT = 75.0
"""Seconds without any request after which a connection is closed."""
HEAD_TIMEOUT = 20.0
"""Seconds that the head of a request may take."""
BODY_TIMEOUT = 30.0
"""Seconds without anything of a body that is waited for."""
WRITE_TIMEOUT = 60.0
"""Seconds in which a client must take something of what waits to be sent to it."""
LINGER_TIMEOUT = 3.0
"""Seconds that a client which is still sending has to read the last answer before the connection is cut."""


class HttpConnection(Protocol):
    """Translates between bytes and L{Exchange}s."""

    transport: Any  # ITCPTransport, or TLS on top of one

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reader = RequestReader(site.limits, self)
        self._exchanges: deque[Exchange] = deque()  # bounded: at http_pipelined the reader is held
        self._current: Exchange | None = None  # whose body is being read
        self._body_bytes = self._held_bytes = 0
        self._paused = self._closing = self._reading = False
        self._active = site.now
        self._head_number, self._head_since = -1, 0.0  # which head has been incomplete since when
        self._unsent, self._progress_due = 0, inf  # less than so many bytes must wait to be sent then

    def connectionMade(self) -> None:
        limits = self._site.limits
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self._outbox = Outbox(self.transport, self._site.flusher, limits.outbox_bytes, limits.outbox_hard_bytes, self)
        self._site.connections[self] = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closing, self._progress_due = True, inf
        self._site.connections.pop(self, None)
        self._outbox.discard()
        self._reader.close()
        self._abandon()

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        if self._current is None or not self._current.complete:
            self._active = self._site.now  # a body that nobody waits for gains no time
        self._reading = True
        try:
            self._reader.feed(data)
        except RequestRefused as refusal:
            self._refuse(refusal.status)
        finally:
            self._reading = False

    # What the reader delivers.

    def begin(self, request: Request, body: bytes | None) -> None:
        """A request has come."""
        exchange = Exchange(self._site, self, request)
        self._exchanges.append(exchange)
        if body is None:
            self._current, self._body_bytes = exchange, 0
        exchange.begin(body)
        if len(self._exchanges) >= self._site.limits.http_pipelined or self._outbox.full:
            self._reader.held = True
            self.throttle()

    def body(self, data: bytes) -> None:
        """A part of its body has come."""
        self._body_bytes += len(data)
        current = self._current
        if current is not None:
            if self._body_bytes > current.body_limit:
                raise RequestRefused(413)
            current.receive(data)

    def end(self) -> None:
        """The body is complete."""
        exchange, self._current = self._current, None
        if exchange is not None:
            exchange.end()
        if self._reader.held:
            self.throttle()

    def _refuse(self, status: int) -> None:
        """What came is no request, or not the rest of one."""
        if status in (414, 431):
            self._site.engine.counters.hit("http_head_bytes")
        exchange = self._current
        if exchange is None:
            exchange = Exchange(self._site, self, Request("", "", "", Headers({})))
            self._exchanges.append(exchange)
        exchange.refuse(status)
        if not exchange.complete:
            self.abort()  # a body is being streamed: only the end of the connection tells that it is not complete
        elif not self._exchanges:
            self.close()

    # What exchanges ask for.

    def send(self, exchange: Exchange, data: bytes) -> None:
        """Send a part of an answer, or hold it until its turn comes."""
        exchanges = self._exchanges
        if exchanges and exchanges[0] is exchange:
            if self._outbox.full:
                self._unsent += len(data)
            self._outbox.write(data)
            return
        if exchange.held is None:
            exchange.held = []
        exchange.held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > self._site.limits.outbox_hard_bytes:
            self.abort()

    def send_whole(self, exchange: Exchange, data: bytes) -> None:
        """
        Send a whole answer, or hold it until its turn comes.  One that no other follows leaves at once; measured, that
        saves 2 µs beside waiting for the turn's end.  While requests are being read, another may follow.
        """
        alone = len(self._exchanges) == 1 and not self._reading
        if alone and self._exchanges[0] is exchange and not self._outbox.full:
            self._outbox.send(data)
        else:
            self.send(exchange, data)

    def takes(self, exchange: Exchange) -> bool:
        """Whether more of a streamed answer can be sent now; else its C{drained} will be called."""
        return bool(self._exchanges) and self._exchanges[0] is exchange and not self._outbox.full

    def is_last(self, exchange: Exchange) -> bool:
        """Whether no other request has come after this one."""
        return bool(self._exchanges) and self._exchanges[-1] is exchange

    def finished(self, exchange: Exchange) -> None:
        """An answer is complete."""
        exchanges = self._exchanges
        if not exchanges or exchanges[0] is not exchange:
            return
        while exchanges and exchanges[0].complete:
            done = exchanges.popleft()
            if not done.keep_alive or (self._site.closing and not exchanges):
                self.close()
                return
            if exchanges:
                self._release(exchanges[0])
        self._active = self._site.now
        if self._reader.held:
            self._go_on()

    def _release(self, exchange: Exchange) -> None:
        """It is the turn of this answer."""
        held, exchange.held = exchange.held, None
        if held is not None:
            data = b"".join(held)
            self._held_bytes -= len(data)
            self.send(exchange, data)
        exchange.drained()

    def _go_on(self) -> None:
        """Take up what was read and held, if there is room for it: one read may bring thousands of requests."""
        if self._outbox.full or len(self._exchanges) >= self._site.limits.http_pipelined:
            return
        self._reader.held = False
        try:
            self._reader.resume()
        except RequestRefused as refusal:
            self._refuse(refusal.status)
        self.throttle()

    def throttle(self) -> None:
        """Do not read from the client while it does not read, its body is not taken, or too many answers are due."""
        if self._closing:
            return
        current = self._current
        stop = self._outbox.full or (current.stalled if current is not None else self._reader.held)
        if stop and not self._paused:
            self._paused = True
            self.transport.pauseProducing()
        elif not stop and self._paused:
            self._paused = False
            self._active = self._site.now
            self.transport.resumeProducing()

    def abort(self) -> None:
        """Cut the connection: the answer under way cannot be completed."""
        self._closing, self._progress_due = True, inf
        self._reader.stop()
        self._abandon()
        self._outbox.abort()

    # What takes too long, and the end.

    def outboxFilled(self) -> None:
        self._watch(WRITE_TIMEOUT)
        self.throttle()

    def outboxDrained(self) -> None:
        self._progress_due = inf
        self.throttle()
        if self._exchanges:
            self._exchanges[0].drained()
        if self._reader.held:
            self._go_on()

    def check(self, now: float) -> None:
        """End what takes too long; to be called about once a second."""
        if now >= self._progress_due:
            self._check_progress()
        for exchange in [exchange for exchange in self._exchanges if exchange.deadline <= now]:
            exchange.overdue()
        if self._closing:
            return
        reader = self._reader
        if reader.in_body:
            if not self._paused and now - self._active > BODY_TIMEOUT:
                self._refuse(408)
        elif reader.in_head:
            if self._head_number != reader.started:
                self._head_number, self._head_since = reader.started, now
            elif now - self._head_since > HEAD_TIMEOUT:
                self._refuse(408)
        elif not self._exchanges and not self._outbox.full and now - self._active > IDLE_TIMEOUT:
            self.close()

    @property
    def peer(self) -> str:
        """The client's address."""
        peer = self.transport.getPeer()
        return f"{peer.host}:{peer.port}"

    @property
    def busy(self) -> bool:
        """A request is being answered."""
        return bool(self._exchanges)

    def retire(self) -> None:
        """End the connection if nothing is due to the client; else it ends with the last answer."""
        if not self._exchanges and not self._reader.in_head:
            self.close()

    def close(self) -> None:
        """Close the connection when what waits has been sent; what is not answered by now never is."""
        if self._closing:
            return
        self._closing = True
        unread = self._reader.unfinished
        self._reader.stop()
        self._abandon()
        if unread and not ISSLTransport.providedBy(self.transport):
            self._linger()
        else:
            self._outbox.close()
            self._watch(WRITE_TIMEOUT)

    def _linger(self) -> None:
        """
        Send the end, and drop what still comes: closing a socket with unread data resets the connection, and the client
        would lose the answer (RFC 9112, 9.6).
        """
        self._outbox.hand_over()
        self._outbox.discard()
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()
        if self._paused:
            self.transport.resumeProducing()
        self._watch(LINGER_TIMEOUT)

    def _watch(self, seconds: float) -> None:
        """Let the client take something of what waits within so many seconds."""
        self._progress_due = self._site.now + seconds
        self._unsent = self._count_unsent()

    def _check_progress(self) -> None:
        unsent = self._count_unsent()
        if 0 < unsent < self._unsent:
            self._watch(WRITE_TIMEOUT)
        else:
            self.abort()

    def _count_unsent(self) -> int:
        """How many bytes the kernel has not yet taken; Twisted has no public name for those in its transport."""
        transport = self.transport
        return self._outbox.size + len(transport.dataBuffer) - int(transport.offset) + int(transport._tempDataLen)

    def _abandon(self) -> None:
        exchanges, self._exchanges = self._exchanges, deque()
        current, self._current = self._current, None
        for exchange in exchanges:
            exchange.gone()
        if current is not None:
            current.gone()
