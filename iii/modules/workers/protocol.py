"""One WebSocket of the worker port: carries frames between a socket and the core, and decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from zope.interface import implementer

from iii.interfaces import IConnection
from iii.modules.workers.channel import ChannelEnd
from iii.modules.workers.handshake import ChannelPath, Path, TelemetryPath, check_token, destination, known
from iii.wire.messages import TELEMETRY_PREFIXES
from iii.wire.server import PeerProtocol, Refused, check_origin

if TYPE_CHECKING:
    from iii.modules.workers.listener import WorkerFactory

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
class SocketProtocol(PeerProtocol):
    """A socket of the worker port; to the core, a worker's connection."""

    factory: WorkerFactory
    peers = "iii workers"
    _path: Path | None = None
    _role: Role | None = None

    # The handshake.

    def served(self, path: str) -> bool:
        return known(path)

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

    # The open connection.

    def onOpen(self) -> None:
        super().onOpen()
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
