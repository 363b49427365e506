"""What all clients of one listener share: who is there, and who gets which event.  No sockets."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.modules.stream.backend import IStreamBackend
from iii.modules.stream.events import Stamps, StreamEvent
from iii.modules.stream.fanout import Fanout
from iii.modules.stream.subscription import Attendance, Overrides, Subscription

T = TypeVar("T")


@attrs.frozen
class Surroundings:
    """
    What clients meet: the rest of the module, and its limits.

    @ivar handler_timeout: Seconds that the handlers of one join or leave may take.
    """

    engine: Engine
    backend: IStreamBackend
    stamps: Stamps
    attendance: Attendance
    overrides: Overrides
    handler_timeout: float

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Wait for something, at most the C{handler_timeout}; then it is cancelled.

        @raise twisted.internet.defer.TimeoutError: It has taken too long.
        """
        waiting = Deferred.fromCoroutine(work)
        return await waiting.addTimeout(self.handler_timeout, self.engine.clock)


class Clients:
    """
    All clients of one listener.

    @ivar leaving: How many are gone and still have leave handlers to be called for them.
    """

    log = Logger()

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings
        self.fanout = Fanout()
        self._complaints = Complaints(self.log, surroundings.engine.clock)
        self._present = 0
        self.leaving = 0
        self._empty: Deferred[None] | None = None

    def connected(self) -> None:
        """A client has connected."""
        self._present += 1
        self.surroundings.engine.counters.stream_connections += 1

    def deliver(self, event: StreamEvent) -> None:
        """Send an event to all clients that it concerns; the backend's C{observer}."""
        receivers = self.fanout.deliver(event)
        if receivers:
            counters = self.surroundings.engine.counters
            counters.stream_events += 1
            counters.stream_deliveries += receivers

    def complain(self, text: str, subscription: Subscription, error: Exception) -> None:
        """Warn about something that strangers can cause, not too often.  @param text: With C{{stream}}, C{{error}}."""
        self._complaints.warn(text, stream=subscription.stream, error=str(error) or type(error).__name__)

    def left(self) -> None:
        """A client is gone; its leave handlers come now."""
        self.leaving += 1

    def ended(self) -> None:
        """A client is gone, and its leave handlers have been called."""
        self._present -= 1
        self.leaving -= 1
        self.surroundings.engine.counters.stream_connections_ended += 1
        if not self._present and self._empty is not None:
            waiting, self._empty = self._empty, None
            waiting.callback(None)

    def all_ended(self) -> Deferred[None]:
        """Fires when the last client is gone."""
        waiting: Deferred[None] = Deferred()
        if self._present:
            self._empty = waiting
        else:
            waiting.callback(None)
        return waiting
