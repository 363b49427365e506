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
from twisted.logger import Logger

from iii.core.errors import EngineError
from iii.wire.messages import ABSENT, ErrorBody

if TYPE_CHECKING:
    from iii.core.connections import Connection

log = Logger()

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
    @ivar deadline: When its time is over, on the engine's clock.
    @ivar cut: Its worker came back after a cut, and has less time than it had.
    @ivar slot: The deadlines' bookkeeping; C{None} when the call is not under way at a worker.
    """

    __slots__ = (
        "baggage",
        "callee",
        "complete",
        "cut",
        "deadline",
        "function_id",
        "invocation_id",
        "slot",
        "timeout",
        "traceparent",
        "wire_id",
    )

    deadline: float

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
        self.cut = False
        self.slot: set[Call] | None = None

    def finish(self, result: Raw, error: ErrorBody | None) -> None:
        """Tell whoever waits how the call ended; a second end is nobody's business."""
        complete, self.complete = self.complete, discard
        try:
            complete(self, result, error)
        except Exception:  # a defect of whoever called must not reach the callee's connection, or other calls
            log.failure("what follows the call of {function} has failed", function=self.function_id)

    def fail(self, error: EngineError) -> None:
        """End the call with an error of the engine."""
        self.finish(ABSENT, error_body(error))

    def cancel(self) -> None:
        """Nobody waits any more.  The callee is not told, and counts as busy with the call until it answers."""
        self.complete = discard


def discard(call: Call, result: Raw, error: ErrorBody | None) -> None:
    """The completion of calls whose outcome nobody wants."""


class CallFailed(Exception):
    """
    A call of C{Engine.call} ended with an error.  Raised by a built-in function, it goes to the caller as it is.

    @ivar error: As the callee or the engine gave it.
    """

    def __init__(self, error: ErrorBody) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.error = error


class EngineErrorBody(ErrorBody):
    """An error that the engine made, whatever codes workers give to theirs."""


def error_body(error: EngineError) -> ErrorBody:
    """The one place where an error of the engine becomes an error on the wire."""
    return EngineErrorBody(error.code, str(error))


class Deadlines:
    """
    Ends calls that were not answered in time.

    Calls are kept in one set for each short span of time, so that noting and forgetting one costs a set operation and
    one timer serves all.  The span is a two-hundredth of the time that a call has, at least C{FINEST}: so late a call
    may end, never early, and so many sets are there for each length of time that is in use.
    """

    FINEST = 0.05

    def __init__(self, clock: IReactorTime, expired: Callable[[Call], None]) -> None:
        self._clock, self._expired = clock, expired
        self._slots: dict[float, set[Call]] = {}
        self._order: list[float] = []
        self._timer: IDelayedCall | None = None
        # Where the latest call was put; the next one nearly always goes there, too.
        self._latest_timeout = self._latest_until = -1.0
        self._latest_slot: set[Call] = set()

    def add(self, call: Call) -> None:
        """Start the time that a call has."""
        timeout = call.timeout
        deadline = call.deadline = self._clock.seconds() + timeout
        if timeout != self._latest_timeout or deadline >= self._latest_until:
            self._latest_until, self._latest_slot = self._slot_for(deadline, timeout)
            self._latest_timeout = timeout
        self._latest_slot.add(call)
        call.slot = self._latest_slot

    def shorten(self, call: Call, seconds: float) -> bool:
        """Give a call so much time from now on, unless it has less; C{False} if it has."""
        deadline = self._clock.seconds() + seconds
        if call.deadline <= deadline:
            return False
        self.remove(call)
        call.deadline = deadline
        _, call.slot = self._slot_for(deadline, seconds)
        call.slot.add(call)
        return True

    def _slot_for(self, deadline: float, seconds: float) -> tuple[float, set[Call]]:
        """Return the set of the calls that end with one of that deadline, and when they do."""
        span = self.FINEST if seconds <= 200 * self.FINEST else seconds / 200
        until = (deadline // span + 1) * span
        slot = self._slots.get(until)
        if slot is None:
            slot = self._slots[until] = set()
            heapq.heappush(self._order, until)
            if self._order[0] == until:
                self._schedule()
        return until, slot

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
            wait = self._order[0] - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, wait), self._tick)

    def _tick(self) -> None:
        now = self._clock.seconds() + 1e-9
        while self._order and self._order[0] <= now:
            slot = self._slots.pop(heapq.heappop(self._order))
            while slot:  # the end of one call may end others of the slot
                call = slot.pop()
                call.slot = None
                self._expired(call)
        self._schedule()
