"""
Calls under way, and their deadlines.

A call is noted before it is sent, ends exactly once, and is forgotten when it has ended.  Its completion is a plain
callable: a Deferred for each call would cost as much as routing it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Raw
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from iii.core.errors import EngineError
from iii.wire.messages import ABSENT, ErrorBody

if TYPE_CHECKING:
    from iii.core.connections import Connection

Completion = Callable[["Call", Raw, ErrorBody | None], None]
"""Called once with the call, its result (C{ABSENT} when there is none) and its error, which wins."""


class Call:
    """
    One call under way.

    @ivar function_id: As the caller named it.
    @ivar invocation_id: The caller's id for it; C{None} for calls that nobody but the engine waits for.
    @ivar traceparent: The caller's, given back to it with the answer; likewise C{baggage}.
    @ivar timeout: Seconds that the callee has.
    @ivar callee: The connection that was asked, once one was; it knows the call as C{wire_id}.
    @ivar slot: The deadlines' bookkeeping.
    """

    __slots__ = (
        "baggage",
        "callee",
        "complete",
        "function_id",
        "invocation_id",
        "slot",
        "timeout",
        "traceparent",
        "wire_id",
    )

    def __init__(
        self,
        function_id: str,
        complete: Completion,
        timeout: float,
        invocation_id: str | None = None,
        traceparent: str | None = None,
        baggage: str | None = None,
    ) -> None:
        self.function_id, self.complete, self.timeout = function_id, complete, timeout
        self.invocation_id, self.traceparent, self.baggage = invocation_id, traceparent, baggage
        self.callee: Connection | None = None
        self.wire_id = ""
        self.slot: set[Call] | None = None

    def finish(self, result: Raw, error: ErrorBody | None) -> None:
        """Tell whoever waits how the call ended; a second end is nobody's business."""
        complete, self.complete = self.complete, discard
        complete(self, result, error)

    def fail(self, error: EngineError) -> None:
        """End the call with an error of the engine."""
        self.finish(ABSENT, error_body(error))

    def cancel(self) -> None:
        """Nobody waits any more.  The callee is not told, and counts as busy with the call until it answers."""
        self.complete = discard


def discard(call: Call, result: Raw, error: ErrorBody | None) -> None:
    """The completion of calls whose outcome nobody wants."""


def error_body(error: EngineError) -> ErrorBody:
    """The one place where an error of the engine becomes an error on the wire."""
    return ErrorBody(error.code, str(error))


class Deadlines:
    """
    Ends calls that were not answered in time.

    Calls are kept in one set for each twentieth of a second, so that noting and forgetting one costs a set operation
    and one timer serves all.  A call ends up to C{RESOLUTION} late, never early.
    """

    RESOLUTION = 0.05

    def __init__(self, clock: IReactorTime, expired: Callable[[Call], None]) -> None:
        self._clock, self._expired = clock, expired
        self._slots: dict[int, set[Call]] = {}
        self._order: list[int] = []
        self._timer: IDelayedCall | None = None

    def add(self, call: Call) -> None:
        """Start the time that a call has."""
        number = int((self._clock.seconds() + call.timeout) / self.RESOLUTION) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
            heapq.heappush(self._order, number)
            if self._order[0] == number:
                self._schedule()
        slot.add(call)
        call.slot = slot

    def remove(self, call: Call) -> None:
        """The call has ended."""
        if call.slot is not None:
            call.slot.discard(call)
            call.slot = None

    def stop(self) -> None:
        """End no more calls."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _schedule(self) -> None:
        self.stop()
        if self._order:
            wait = self._order[0] * self.RESOLUTION - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, wait), self._tick)

    def _tick(self) -> None:
        now = self._clock.seconds() + 1e-9
        while self._order and self._order[0] * self.RESOLUTION <= now:
            slot = self._slots.pop(heapq.heappop(self._order))
            while slot:  # the end of one call may end others of the slot
                call = slot.pop()
                call.slot = None
                self._expired(call)
        self._schedule()
