"""
What every WebSocket listener of the engine does alike: refusing a handshake with an HTTP answer, noticing peers that
are gone, and ending all connections in order.  A listener subclasses the three classes here and adds what its port is
for.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from iii.wire.listen import IReactor, Tls, listen, port_of
from iii.wire.outbox import Flusher
from iii.wire.websocket import FastWebSocketServerFactory, FastWebSocketServerProtocol

MAX_HEAD = 16 * 2**10
"""Bytes of a handshake's request line and headers."""
USER_TIMEOUT_MS = 120_000
"""
What was sent must be acknowledged by the peer's kernel within this time.  A busy worker's kernel does that until its
receive buffer is full; so long a worker may then still be busy.
"""
SERVICE_RESTART = 1012
"""Close code after which every published SDK reconnects; after 1000, 1001 or none, old ones never do (spec, 15)."""
SILENT_SECONDS = 300.0
"""A peer of which nothing at all has come for so long is dropped, though its kernel acknowledges our pings."""
STOP_TIMEOUT = 5.0
"""Seconds in which a peer can read what was sent to it when the listener stops; then it is cut off."""


@attrs.define
class Refused(Exception):
    """A request is answered with an HTTP status and a text instead of an upgrade."""

    status: int
    text: str


def check_origin(headers: Mapping[str, str], allowed: Collection[str]) -> None:
    """
    Let a browser in only from loopback or a listed origin (C{*} lists all).  Browsers send C{Origin}, programs none:
    pages of other sites must not reach an engine on the visitor's machine, also not on loopback (DESIGN.md, 9).

    @param headers: By lower-case name.
    @raise Refused: 403.
    """
    origin = headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed or _is_loopback(origin):
        return
    raise Refused(403, f"origin {origin} is not allowed; list it under engine.origins")


def _is_loopback(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:  # no URL, or a name
        return False


class PeerProtocol(FastWebSocketServerProtocol):
    """
    One socket of a listener.

    @cvar peers: Who is meant to connect, for the texts of refusals.
    @ivar bucket: In which round of pings it takes part.
    @ivar address: The peer's address without port.
    """

    factory: PeerFactory
    peers = "clients"
    bucket = 0
    address: str | None = None

    def served(self, path: str) -> bool:
        """Whether anything is served under a path."""
        raise NotImplementedError

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.opened(self)
        self.address = getattr(self.transport.getPeer(), "host", None)
        self.transport.setTcpKeepAlive(True)
        # A TLS transport passes the attribute on, while its getHandle() has no socket.
        self.transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.closed(self)

    def processHandshake(self) -> None:
        """Refuse what Autobahn would misname, or wait for without a bound; it does the rest of the handshake."""
        head, complete, _ = self.data.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD:
            self.failHandshake("the request's head is too large", 431)
            return
        if complete:
            request_line = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
            if len(request_line) == 3 and not self.served(request_line[1].partition("?")[0]):
                self.failHandshake("Not Found", 404)
                return
            if len(request_line) == 3 and request_line[2] == "HTTP/1.0":
                self.failHandshake("a WebSocket needs HTTP/1.1", 426)
                return
        super().processHandshake()

    def sendHttpErrorResponse(
        self, code: int, reason: str, responseHeaders: list[tuple[str, str]] | None = None
    ) -> None:
        """Answer with a complete HTTP response; Autobahn's own puts the text into the status line."""
        if "upgrade" in reason.lower() and code == 426:
            code = 400  # spec/worker-protocol.md, 1
            reason = f"{reason}. This port speaks WebSocket (RFC 6455) to {self.peers}."
        body = f"{reason}\n".encode()
        head = f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        if code == 405:
            head += "allow: GET\r\n"
        if code == 426:
            head += "upgrade: websocket\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)

    def onOpen(self) -> None:
        super().onOpen()
        self.factory.established(self)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.sendPing()

    def close(self, code: int | None) -> None:
        """Send what waits, then close in order."""
        self.sendCloseFrame(code)

    def abort(self) -> None:
        """End the connection at once."""
        self.dropConnection(abort=True)


class PeerFactory(FastWebSocketServerFactory):
    """
    All sockets of one listener.

    @ivar sockets: Those that are connected, also during their handshakes.
    """

    log = Logger()

    def __init__(
        self,
        protocol: type[PeerProtocol],
        clock: IReactorTime,
        flusher: Flusher,
        *,
        message_bytes: int,
        outbox_bytes: int,
        outbox_hard_bytes: int,
        handshake_timeout: float,
        ping_interval: float,
    ) -> None:
        """@param ping_interval: Seconds between two pings of one socket."""
        super().__init__(
            protocol,
            clock,
            flusher,
            message_bytes=message_bytes,
            outbox_bytes=outbox_bytes,
            outbox_hard_bytes=outbox_hard_bytes,
            handshake_timeout=handshake_timeout,
        )
        interval = max(1.0, ping_interval)
        self._rounds = round(interval)
        self._silent_rounds = max(2, round(SILENT_SECONDS / interval))
        self._buckets: list[dict[PeerProtocol, None]] = [{} for _ in range(self._rounds)]
        self._turn = 0
        self.sockets: dict[PeerProtocol, None] = {}
        self._all_closed: Deferred[None] | None = None

    def opened(self, protocol: PeerProtocol) -> None:
        """A socket has connected; the handshake comes."""
        self.sockets[protocol] = None

    def established(self, protocol: PeerProtocol) -> None:
        """A socket is open: from now on it is pinged, one part of all each second."""
        protocol.bucket = len(self.sockets) % self._rounds
        self._buckets[protocol.bucket][protocol] = None

    def closed(self, protocol: PeerProtocol) -> None:
        """A socket is gone."""
        del self.sockets[protocol]
        self._buckets[protocol.bucket].pop(protocol, None)
        if not self.sockets and self._all_closed is not None:
            waiting, self._all_closed = self._all_closed, None
            waiting.callback(None)

    def ping_some(self) -> None:
        """Ping the part of the sockets whose turn it is; to be called once a second."""
        self._turn = (self._turn + 1) % self._rounds
        for protocol in list(self._buckets[self._turn]):
            if protocol.holds:  # it cannot be heard
                protocol.silence = 0
            protocol.silence += 1
            if protocol.silence > self._silent_rounds:
                self.log.warn(
                    "dropping {peer}: nothing came from it for {seconds:.0f} s",
                    peer=protocol.peer,
                    seconds=SILENT_SECONDS,
                )
                protocol.abort()
            else:
                protocol.ping()

    def abort_all(self) -> None:
        """Cut off every socket that is still there."""
        for protocol in list(self.sockets):
            self.log.warn("cutting off {peer}: it does not read what was sent to it", peer=protocol.peer)
            protocol.transport.abortConnection()

    def close_all(self) -> Deferred[None]:
        """Close every socket so that its peer reconnects; fires when all are gone."""
        for protocol in list(self.sockets):
            if protocol.state == protocol.STATE_OPEN:
                protocol.close(SERVICE_RESTART)
            else:
                protocol.abort()
        waiting: Deferred[None] = Deferred()
        if self.sockets:
            self._all_closed = waiting
        else:
            waiting.callback(None)
        return waiting


class PeerListener(Service):
    """
    Listens on one port.  Stopping closes every connection in order.

    @cvar what: Who is listened to, for the log.
    """

    log = Logger()
    what = "clients"

    def __init__(self, factory: PeerFactory, host: str, port: int, tls: Tls | None, reactor: IReactor) -> None:
        """@param port: 0 takes any free one."""
        self._factory, self._host, self._port, self._tls, self._reactor = factory, host, port, tls, reactor
        self._listening: IListeningPort | None = None
        self._pings = LoopingCall(factory.ping_some)
        self._pings.clock = reactor

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listening is not None
        return port_of(self._listening)

    def startService(self) -> None:
        """Open the port.  L{iii.wire.listen.CannotListen} ends the start."""
        super().startService()
        self._listening = listen(self._reactor, self.what, self._host, self._port, self._factory, self._tls)
        self._pings.start(1.0, now=False)
        self.log.info("{what}: listening on {host}:{port}", what=self.what, host=self._host, port=self.port)

    def stop_accepting(self) -> Deferred[None] | None:
        """Close the port; what is connected stays."""
        listening, self._listening = self._listening, None
        return listening.stopListening() if listening is not None else None

    def busy(self) -> bool:
        """What peers have asked for are calls, which the engine counts."""
        return False

    async def _stop(self) -> None:
        await maybeDeferred(self.stop_accepting)
        closed = self._factory.close_all()
        cut = self._reactor.callLater(STOP_TIMEOUT, self._factory.abort_all)
        await closed
        if cut.active():
            cut.cancel()

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        if self._pings.running:
            self._pings.stop()
        return Deferred.fromCoroutine(self._stop())
