"""
What triggers do about the changes that they match: state and streams share it (spec/state.md, 5; spec/stream.md, 5.1).

A module knows which of its triggers match an event and fires these.  For each one, a condition function is asked, if it
has one, then its function is called.  Both happen in the turn of the event: a function gets an event when it has dealt
with the earlier ones of the same key, and a slow condition changes no order.  Whoever caused the event waits for
nothing.  An event is delivered at most once; when too much waits, new events are dropped, counted, and a warning says
so.

A trigger may end while events wait for it.  They still reach an equal trigger, such as that of another replica or of
the worker that is back (see L{iii.core.triggers}), in the same order; without one they are dropped.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

import attrs
from msgspec import Raw
from twisted.logger import Logger

from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.core.invocations import Call
from iii.core.ordered import Done, Turns
from iii.core.tracing import with_function
from iii.core.triggers import Trigger
from iii.wire.messages import ErrorBody

FALSE = Raw(b"false")
OVERHEAD = 1000
"""Bytes that a waiting event takes beside its payload, about."""


@attrs.frozen
class Event:
    """
    What has happened.

    @ivar key: Of what it happened to; events of equal keys come one after the other.
    @ivar payload: What conditions and functions are called with, JSON.
    @ivar traceparent: Of their calls (L{iii.core.tracing.continued}); C{None} for calls without a trace.
    @ivar baggage: Of whoever caused it.
    """

    key: Hashable
    payload: Raw
    traceparent: str | None = None
    baggage: str | None = None


class Reactions:
    """
    The reactions of one trigger type.

    @ivar waiting_bytes: What the events take that wait for their turn or for a condition, once for each trigger.
    """

    def __init__(self, engine: Engine, log: Logger) -> None:
        """@param log: Where failures of functions and conditions, and dropped events, are told."""
        self._engine, self._turns = engine, Turns(engine)
        self._complaints = Complaints(log, engine.clock)
        self._live: dict[Hashable, int] = {}
        self.waiting_bytes = 0

    def __len__(self) -> int:
        """How many triggers and keys have an event under way."""
        return len(self._turns)

    def begin(self, trigger: Trigger) -> None:
        """A trigger is live."""
        identity = _identity(trigger)
        self._live[identity] = self._live.get(identity, 0) + 1

    def end(self, trigger: Trigger) -> None:
        """A trigger that has begun is live no longer."""
        identity = _identity(trigger)
        left = self._live.pop(identity) - 1
        if left:
            self._live[identity] = left

    def fire(self, trigger: Trigger, condition: str | None, event: Event) -> None:
        """
        Let a live trigger react to an event that it matches.

        @param condition: Asked first, in the namespace of the trigger's function: C{false} leaves this function out,
            and so does a failure; any other result, or none, lets it be called.
        """
        turn = _identity(trigger), event.key
        size = len(memoryview(event.payload)) + OVERHEAD if condition is not None or turn in self._turns else 0
        if size and self.waiting_bytes and self.waiting_bytes + size > self._engine.limits.reaction_backlog_bytes:
            self._engine.counters.hit("reaction_backlog_bytes")
            self._drop(trigger, "reaction_backlog_bytes")
            return
        self.waiting_bytes += size
        if not self._turns.take(turn, partial(self._react, trigger, condition, event, size)):
            self.waiting_bytes -= size
            self._drop(trigger, "ordered_backlog")

    def _drop(self, trigger: Trigger, limit: str) -> None:
        self._complaints.warn(
            "{function} misses an event: too many wait for it or others to answer (`engine.limits.{limit}`)",
            function=trigger.function_id, limit=limit,
        )  # fmt: skip

    def _react(self, trigger: Trigger, condition: str | None, event: Event, size: int, done: Done) -> None:
        if condition is None:
            self._call(trigger, event, size, done)
        else:
            self._engine.invoke(
                condition,
                event.payload,
                partial(self._decided, trigger, event, size, done),
                namespace=trigger.namespace,
                traceparent=event.traceparent,
                baggage=self._baggage(event, condition),
            )

    def _decided(
        self, trigger: Trigger, event: Event, size: int, done: Done, call: Call, result: Raw, error: ErrorBody | None
    ) -> None:
        if error is None and result != FALSE:
            self._call(trigger, event, size, done)
            return
        self.waiting_bytes -= size
        done()
        if error is not None:
            self._complaints.warn(
                "{function} is not called for an event: its condition {condition} failed: {code}: {text}",
                function=trigger.function_id, condition=call.function_id, code=error.code, text=error.message,
            )  # fmt: skip

    def _call(self, trigger: Trigger, event: Event, size: int, done: Done) -> None:
        self.waiting_bytes -= size
        if _identity(trigger) not in self._live:
            done()
            return
        self._engine.invoke(
            trigger.function_id,
            event.payload,
            partial(self._ended, done),
            namespace=trigger.namespace,
            metadata=trigger.metadata,
            traceparent=event.traceparent,
            baggage=self._baggage(event, trigger.function_id),
        )

    def _ended(self, done: Done, call: Call, result: Raw, error: ErrorBody | None) -> None:
        done()
        if error is not None:
            self._complaints.warn(
                "{function} failed on an event: {code}: {text}",
                function=call.function_id, code=error.code, text=error.message,
            )  # fmt: skip

    def _baggage(self, event: Event, function_id: str) -> str | None:
        return None if event.baggage is None else with_function(event.baggage, function_id)


def _identity(trigger: Trigger) -> Hashable:
    """
    What triggers have in common that get one another's events: without an owner they are alike also when they only have
    the same id.
    """
    return trigger.likeness, trigger.namespace, trigger.function_id
