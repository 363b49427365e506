"""The listener for stream clients, by default on port 3112 (spec/stream.md, 6)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import Raw
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from iii.config.blocks.stores import StreamSettings
from iii.core.complaints import Complaints
from iii.core.invocations import CallFailed
from iii.modules.stream.clients import Clients, Surroundings
from iii.modules.stream.events import StreamEvent
from iii.modules.stream.handshake import ContextTooLarge, Request, check_token, context_of, question
from iii.modules.stream.protocol import ClientProtocol
from iii.wire.listen import IReactor, Tls
from iii.wire.messages import NULL
from iii.wire.outbox import Flusher
from iii.wire.server import STOP_TIMEOUT, PeerFactory, PeerListener, Refused

HANDSHAKE_TIMEOUT = 10.0
"""Seconds in which a client must have sent the head of its request."""

NEVER = 2**62
"""Hard limit of the outboxes: clients themselves are cut off, by another rule (L{iii.modules.stream.client})."""


class ClientFactory(PeerFactory):
    """
    All sockets of the listener, and who may become one.

    @ivar origins: Of browsers that may connect, beside loopback.
    """

    log = Logger()

    def __init__(
        self,
        settings: StreamSettings,
        surroundings: Surroundings,
        reactor: IReactor,
        *,
        token: str | None,
        origins: Collection[str],
        ping_interval: float,
    ) -> None:
        """@param ping_interval: Seconds between two pings of one client."""
        limits = surroundings.engine.limits
        super().__init__(
            ClientProtocol,
            reactor,
            Flusher(reactor, self._dropped),
            message_bytes=limits.stream_message_bytes,
            outbox_bytes=limits.stream_buffer_bytes // 2,
            outbox_hard_bytes=NEVER,
            handshake_timeout=HANDSHAKE_TIMEOUT,
            ping_interval=ping_interval,
        )
        self.token, self.origins = token, origins
        self.clients = Clients(surroundings)
        self._settings, self._surroundings = settings, surroundings
        self._engine = surroundings.engine
        self._complaints = Complaints(self.log, reactor)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if len(self.sockets) + self.clients.leaving >= self._engine.limits.stream_connections:
            self.refused()
            self._engine.counters.hit("stream_connections")
            return None
        return super().buildProtocol(addr)

    def refused(self) -> None:
        """A client is not let in."""
        self._engine.counters.stream_connections_refused += 1

    def _dropped(self, peer: object) -> None:
        self._engine.counters.peers_dropped += 1
        self._engine.counters.stream_clients_dropped += 1
        self._engine.counters.hit("stream_buffer_bytes")

    async def admit(self, request: Request) -> Raw:
        """
        Decide whether a client may connect.

        @return: The context of its connection, JSON.
        @raise Refused: It may not.
        """
        function_id, fail_open = self._settings.auth_function, self._settings.auth_fail_open
        if function_id is None:
            check_token(request, self.token)
            return NULL
        timeout = self._settings.handler_timeout_ms / 1000
        try:
            answer = await self._engine.call(function_id, question(request), timeout=timeout)
        except CallFailed as error:
            self._complaints.warn(
                "the auth function {function} failed, so that a client is {fate}: {error}",
                function=function_id,
                fate="let in without a context" if fail_open else "refused",
                error=str(error),
            )
            if fail_open:
                return NULL
            raise Refused(403, "the auth function failed") from error
        try:
            return context_of(answer, self._engine.limits.stream_context_bytes, fail_open=fail_open)
        except ContextTooLarge:
            self._engine.counters.hit("stream_context_bytes")
            raise


class StreamListener(PeerListener):
    """Listens for stream clients.  Stopping closes every connection in order, and calls the leave handlers."""

    what = "streams"

    def __init__(self, factory: ClientFactory, host: str, port: int, tls: Tls | None, reactor: IReactor) -> None:
        super().__init__(factory, host, port, tls, reactor)
        self._clients = factory.clients

    def deliver(self, event: StreamEvent) -> None:
        """Send an event to the clients that it concerns: to be the backend's C{observer}."""
        self._clients.deliver(event)

    async def _stop(self) -> None:
        await super()._stop()
        ended = self._clients.all_ended().addTimeout(STOP_TIMEOUT, self._reactor)
        try:
            await ended
        except TimedOut:
            self.log.warn("stopping although leave handlers of {count} clients are still to be called",
                          count=self._clients.leaving)  # fmt: skip
