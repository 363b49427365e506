"""A cable between workers and an engine, which can be cut."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol

from tests.integration.engine import HOST


class Cable(Factory):
    """Listens on a port of its own, to which workers connect, and forwards each connection to the engine."""

    noisy = False

    def __init__(self, reactor: Any, engine_port: int) -> None:
        self._endpoint = TCP4ClientEndpoint(reactor, HOST, engine_port)
        self._listening = reactor.listenTCP(0, self, interface=HOST)
        self._connections: list[tuple[End, End]] = []  # the worker's side, the engine's
        self._left_open: list[End] = []

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self._listening.getHost().port}"

    @property
    def connected(self) -> bool:
        """Whether a worker has connected since the last cut; its connection for telemetry does not count."""
        return any(worker_side.head.startswith(b"GET / ") for worker_side, _ in self._connections)

    @property
    def answers(self) -> list[bytes]:
        """What the engine sent first on each connection, if it has sent something, since the last L{cut}."""
        return [engine_side.head for _, engine_side in self._connections if engine_side.head]

    def buildProtocol(self, address: object) -> Protocol:
        return End(self._join)

    async def _join(self, worker_side: End) -> None:
        worker_side.transport.pauseProducing()
        try:
            engine_side: End = await self._endpoint.connect(Factory.forProtocol(End))
        except ConnectError:
            worker_side.transport.abortConnection()
            return
        worker_side.peer, engine_side.peer = engine_side, worker_side
        self._connections.append((worker_side, engine_side))
        worker_side.transport.resumeProducing()

    def cut(self) -> None:
        """Break all connections: both sides notice at once."""
        for connection in self._connections:
            for end in connection:
                end.cut()
        self._connections.clear()

    def cut_worker_side(self) -> list[End]:
        """
        Break all connections so that only the workers notice: the engine's sockets stay open, and silent.

        @return: The sides that are still open, to be broken later by L{End.cut}.
        """
        return self._cut_one_side([(worker, engine) for worker, engine in self._connections])

    def cut_engine_side(self) -> list[End]:
        """Break all connections so that only the engine notices; otherwise like L{cut_worker_side}."""
        return self._cut_one_side([(engine, worker) for worker, engine in self._connections])

    def _cut_one_side(self, connections: list[tuple[End, End]]) -> list[End]:
        self._connections.clear()
        for first, second in connections:
            first.peer = second.peer = None
            first.cut()
            self._left_open.append(second)
        return [second for _, second in connections]

    async def remove(self) -> None:
        self.cut()
        for end in self._left_open:
            end.cut()
        await self._listening.stopListening()


class End(Protocol):
    """
    One side of a connection.  What comes is written to its peer, or lost while it has none.

    @ivar head: What came first.
    """

    def __init__(self, join: Any = None) -> None:
        self.peer: End | None = None
        self._join = join
        self.head = b""

    def connectionMade(self) -> None:
        if self._join is not None:
            Deferred.fromCoroutine(self._join(self))

    def cut(self) -> None:
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.head = self.head or data
        if self.peer is not None:
            self.peer.transport.write(data)

    def connectionLost(self, reason: object) -> None:
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.peer = None
            peer.transport.abortConnection()
