"""A listener of the worker port: C{iii-worker-manager} (spec/worker-protocol.md, 1 and 14.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from zope.interface import implementer

from iii.core.engine import Engine
from iii.core.functions import FunctionDeclaration
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.workers.protocol import SocketProtocol
from iii.wire.outbox import Flusher
from iii.wire.server import PeerFactory, PeerListener, PeerProtocol


class WorkerFactory(PeerFactory):
    """
    All sockets of one listener.

    @ivar origins: Of browsers that may connect, beside loopback.
    """

    def __init__(
        self,
        engine: Engine,
        clock: IReactorTime,
        flusher: Flusher,
        *,
        token: str | None,
        origins: Collection[str],
        handshake_timeout: float,
        ping_interval: float,
    ) -> None:
        limits = engine.limits
        super().__init__(
            SocketProtocol,
            clock,
            flusher,
            message_bytes=limits.message_bytes,
            outbox_bytes=limits.outbox_bytes,
            outbox_hard_bytes=limits.outbox_hard_bytes,
            handshake_timeout=handshake_timeout,
            ping_interval=ping_interval,
        )
        self.engine, self.token, self.origins = engine, token, origins

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self.engine.sockets >= self.engine.limits.connections:
            self.engine.counters.connections_refused += 1
            self.engine.counters.hit("connections")
            return None
        return super().buildProtocol(addr)

    def opened(self, protocol: PeerProtocol) -> None:
        super().opened(protocol)
        self.engine.sockets += 1

    def closed(self, protocol: PeerProtocol) -> None:
        self.engine.sockets -= 1
        super().closed(protocol)


@implementer(IModule)
class WorkerListener(PeerListener):
    """Listens for workers.  Stopping closes every connection in order."""

    what = "workers"
    description = "WebSocket listener for workers"
    internal = True
    functions: Sequence[FunctionDeclaration] = ()
    trigger_types: Mapping[str, ITriggerProvider] = MappingProxyType({})
