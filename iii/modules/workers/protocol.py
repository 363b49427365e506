"""One WebSocket of the worker port: carries frames between a socket and the core, and decides nothing."""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from iii.interfaces import IConnection
from iii.modules.workers.channel import ChannelEnd
from iii.modules.workers.handshake import (
    ChannelPath,
    Path,
    Refused,
    TelemetryPath,
    check_origin,
    check_token,
    destination,
    known,
)
from iii.wire.messages import TELEMETRY_PREFIXES
from iii.wire.websocket import FastWebSocketServerProtocol

if TYPE_CHECKING:
    from iii.modules.workers.listener import WorkerFactory

MAX_HEAD = 16 * 2**10
"""Bytes of a handshake's request line and headers."""
USER_TIMEOUT_MS = 120_000
"""
What was sent must be acknowledged by the peer's kernel within this time.  A busy worker's kernel does that until its
receive buffer is full; so long a worker may then still be busy.
"""


LEAVING = (None, 1000, 1001)
"""Close codes of a peer that does not mean to come back; Python's, for one, says 1011 when it has missed a pong."""


class Role(Protocol):
    """What a socket is for, once it is open."""

    def received(self, payload: bytes, is_binary: bool) -> None:
        """A message has come."""

    def ponged(self) -> None:
        """The peer has answered a ping."""

    def left(self) -> None:
        """The connection was closed in order."""

    def lost(self) -> None:
        """The connection has broken off."""


@implementer(IConnection)
class SocketProtocol(FastWebSocketServerProtocol):
    """
    A socket of the worker port; to the core, a worker's connection.

    @ivar bucket: In which round of pings it takes part.
    @ivar address: The peer's address without port.
    """

    factory: WorkerFactory
    bucket = 0
    address: str | None = None
    _path: Path | None = None
    _role: Role | None = None

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

    # The handshake.

    def processHandshake(self) -> None:
        """Refuse what Autobahn would misname, or wait for without a bound; it does the rest of the handshake."""
        head, complete, _ = self.data.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD:
            self.failHandshake("the request's head is too large", 431)
            return
        if complete:
            request_line = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
            if len(request_line) == 3 and not known(request_line[1].partition("?")[0]):
                self.failHandshake("Not Found", 404)
                return
            if len(request_line) == 3 and request_line[2] == "HTTP/1.0":
                self.failHandshake("a WebSocket needs HTTP/1.1", 426)
                return
        super().processHandshake()

    def onConnect(self, request: ConnectionRequest) -> tuple[None, dict[str, str]]:
        factory = self.factory
        try:
            check_origin(request.headers, factory.origins)
            self._path = destination(request.path, self.http_request_uri.partition("?")[2])
            if isinstance(self._path, ChannelPath):
                self._role = ChannelEnd.find(factory.engine.channels, self._path, self)
            else:
                check_token(request.headers, factory.token)
        except Refused as refusal:
            raise ConnectionDeny(refusal.status, refusal.text) from refusal
        return None, {"x-iii-capabilities": "tcp-nodelay"}

    def sendHttpErrorResponse(
        self, code: int, reason: str, responseHeaders: list[tuple[str, str]] | None = None
    ) -> None:
        """Answer with a complete HTTP response; Autobahn's own puts the text into the status line."""
        if "upgrade" in reason.lower() and code == 426:
            code = 400  # spec/worker-protocol.md, 1
            reason = f"{reason}. This port speaks WebSocket (RFC 6455) to iii workers."
        body = f"{reason}\n".encode()
        head = f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        if code == 405:
            head += "allow: GET\r\n"
        if code == 426:
            head += "upgrade: websocket\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)

    # The open connection.

    def onOpen(self) -> None:
        super().onOpen()
        self.factory.established(self)
        if isinstance(self._role, ChannelEnd):
            self._role.opened()
        elif isinstance(self._path, TelemetryPath):
            self._role = Telemetry(self.factory)
        else:
            self._role = self.factory.engine.connected(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert self._role is not None
        self._role.received(payload, isBinary)

    def onPong(self, payload: bytes) -> None:
        if self._role is not None:
            self._role.ponged()

    def outboxDrained(self) -> None:
        super().outboxDrained()
        if isinstance(self._role, ChannelEnd):
            self._role.drained()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        super().onClose(wasClean, code, reason)
        role, self._role = self._role, None
        if role is None:
            return
        if wasClean and code in LEAVING:
            role.left()
        else:
            role.lost()

    # What the core asks for.

    @property
    def full(self) -> bool:
        """So much waits to be sent that calls to this peer are to be refused."""
        return self.outbox.full

    def send(self, frame: bytes) -> None:
        """Send one text message."""
        self.send_text(frame)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.sendPing()

    def close(self, code: int | None) -> None:
        """Send what waits, then close in order."""
        self.sendCloseFrame(code)

    def abort(self) -> None:
        """End the connection at once."""
        self.dropConnection(abort=True)


class Telemetry:
    """A connection to C{/otel}: takes telemetry and nothing else (spec/worker-protocol.md, 3)."""

    def __init__(self, factory: WorkerFactory) -> None:
        self._engine = factory.engine

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Count a telemetry frame; anything else is dropped."""
        if is_binary and payload[:4] in TELEMETRY_PREFIXES:
            self._engine.telemetry_received(payload)

    def ponged(self) -> None:
        """Nothing to do."""

    def left(self) -> None:
        """Nothing to do."""

    lost = left
