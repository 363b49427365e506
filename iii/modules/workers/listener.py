"""A listener of the worker port: C{iii-worker-manager} (spec/worker-protocol.md, 1 and 14.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.engine import Engine
from iii.core.functions import FunctionDeclaration
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.workers.protocol import SocketProtocol
from iii.wire.listen import IReactor, Tls, listen, port_of
from iii.wire.outbox import Flusher
from iii.wire.websocket import FastWebSocketServerFactory

SERVICE_RESTART = 1012
"""Close code after which every published SDK reconnects; after 1000, 1001 or none, old ones never do (spec, 15)."""
SILENT_SECONDS = 300.0
"""A peer of which nothing at all has come for so long is dropped, though its kernel acknowledges our pings."""
STOP_TIMEOUT = 5.0
"""Seconds in which a worker can read what was sent to it when the listener stops; then it is cut off."""


class WorkerFactory(FastWebSocketServerFactory):
    """
    All sockets of one listener.

    @ivar origins: Of browsers that may connect, beside loopback.
    """

    log = Logger()

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
        )
        self.engine, self.token, self.origins = engine, token, origins
        interval = max(1.0, ping_interval)
        self._rounds = round(interval)
        self._silent_rounds = max(2, round(SILENT_SECONDS / interval))
        self._buckets: list[dict[SocketProtocol, None]] = [{} for _ in range(self._rounds)]
        self._turn = 0
        self.sockets: dict[SocketProtocol, None] = {}
        self._all_closed: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self.engine.sockets >= self.engine.limits.connections:
            self.engine.counters.connections_refused += 1
            self.engine.counters.hit("connections")
            return None
        return super().buildProtocol(addr)

    def opened(self, protocol: SocketProtocol) -> None:
        """A socket has connected; the handshake comes."""
        self.sockets[protocol] = None
        self.engine.sockets += 1

    def established(self, protocol: SocketProtocol) -> None:
        """A socket is open: from now on it is pinged, one part of all each second."""
        protocol.bucket = len(self.sockets) % self._rounds
        self._buckets[protocol.bucket][protocol] = None

    def closed(self, protocol: SocketProtocol) -> None:
        """A socket is gone."""
        del self.sockets[protocol]
        self.engine.sockets -= 1
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
        """Close every socket so that its worker reconnects; fires when all are gone."""
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


@implementer(IModule)
class WorkerListener(Service):
    """Listens for workers.  Stopping closes every connection in order."""

    log = Logger()
    description = "WebSocket listener for workers"
    internal = True
    functions: Sequence[FunctionDeclaration] = ()
    trigger_types: Mapping[str, ITriggerProvider] = MappingProxyType({})

    def __init__(self, factory: WorkerFactory, host: str, port: int, tls: Tls | None, reactor: IReactor) -> None:
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
        self._listening = listen(self._reactor, "workers", self._host, self._port, self._factory, self._tls)
        self._pings.start(1.0, now=False)
        self.log.info("workers: listening on {host}:{port}", host=self._host, port=self.port)

    def stop_accepting(self) -> Deferred[None] | None:
        """Close the port; what is connected stays."""
        listening, self._listening = self._listening, None
        return listening.stopListening() if listening is not None else None

    def busy(self) -> bool:
        """Workers' calls are counted by the engine."""
        return False

    async def _stop(self) -> None:
        await maybeDeferred(self.stop_accepting)
        closed = self._factory.close_all()
        cut = self._reactor.callLater(STOP_TIMEOUT, self._factory.abort_all)
        await closed
        if cut.active():
            cut.cancel()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._pings.running:
            self._pings.stop()
        return Deferred.fromCoroutine(self._stop())
