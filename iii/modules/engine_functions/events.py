"""
The trigger types C{engine::functions-available} and C{engine::workers-available} (spec/engine-functions.md, 9).

Changes of the functions are gathered for a moment and then told at once: a worker that connects registers many.
"""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec import UNSET, Raw, UnsetType
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.complaints import Complaints
from iii.core.connections import Connection
from iii.core.engine import Engine
from iii.core.errors import TriggerRefused
from iii.core.invocations import Call
from iii.core.ordered import OrderedCalls
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.engine_functions.functions import FunctionRow, function_row
from iii.modules.engine_functions.names import given
from iii.wire.messages import ErrorBody

GATHERING = 0.3
"""Seconds from the first change of the functions to the event; it tells what has changed by then."""


MAX_PER_OWNER = 100
"""Triggers of one connection and type: each one multiplies every event."""


class FunctionsChanged(msgspec.Struct, tag_field="event", tag="functions_changed"):
    """All functions, those of the engine included, after some have come or gone."""

    functions: list[FunctionRow]


class WorkerEvent(msgspec.Struct):
    """
    A worker has connected (`worker_connected`, before it has a name), said who it is (`worker_metadata_updated`) or
    gone (`worker_disconnected`).
    """

    event: str
    worker_id: str
    name: str | UnsetType = UNSET
    namespace: str | UnsetType = UNSET


@implementer(ITriggerProvider)
class EventType:
    """
    A trigger type whose triggers take any config and all fire at once.

    @ivar triggers: Those that are live, by id.
    """

    log = Logger()

    def __init__(self, engine: Engine, description: str) -> None:
        self.description = description
        self.triggers: dict[str, Trigger] = {}
        self._engine, self._ordered = engine, OrderedCalls(engine)
        self._complaints = Complaints(self.log, engine.clock)

    def register(self, trigger: Trigger) -> None:
        """
        Call the trigger's function from now on.

        @raise TriggerRefused: Its owner has too many.
        """
        others = sum(other.owner is trigger.owner for other in self.triggers.values())
        if trigger.id not in self.triggers and others >= MAX_PER_OWNER:
            raise TriggerRefused(f"a connection may have {MAX_PER_OWNER} triggers of type {trigger.trigger_type}")
        self.triggers[trigger.id] = trigger

    def unregister(self, trigger: Trigger) -> None:
        """Call it no more."""
        del self.triggers[trigger.id]

    def fire(self, event: msgspec.Struct) -> None:
        """Call all functions.  They run concurrently, and what they return does not matter."""
        payload = Raw(msgspec.json.encode(event))
        for trigger in list(self.triggers.values()):
            self._engine.invoke(
                trigger.function_id, payload, self._ended, namespace=trigger.namespace, metadata=trigger.metadata
            )

    def fire_in_order(self, event: msgspec.Struct, source: str) -> None:
        """Likewise, but a function gets an event of a source when it has dealt with the source's earlier ones."""
        payload = Raw(msgspec.json.encode(event))
        for trigger in list(self.triggers.values()):
            self._ordered.invoke(
                (trigger.id, source),
                trigger.function_id,
                payload,
                self._ended,
                namespace=trigger.namespace,
                metadata=trigger.metadata,
                wanted=partial(self._live, trigger),
            )

    def _live(self, trigger: Trigger) -> bool:
        return self.triggers.get(trigger.id) is trigger

    def _ended(self, call: Call, result: Raw, error: ErrorBody | None) -> None:
        if error is not None:
            self._complaints.warn(
                "{function} failed on an event: {code}: {text}",
                function=call.function_id, code=error.code, text=error.message,
            )  # fmt: skip


class FunctionChanges:
    """Fires when functions have come or gone; what has changed back by then was no change."""

    def __init__(self, engine: Engine, clock: IReactorTime) -> None:
        self.type = EventType(engine, "Functions have been registered or are gone")
        self._functions, self._clock = engine.functions, clock
        self._changed: set[tuple[str, str]] = set()
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Follow the functions from now on."""
        self._functions.observers.append(self._noticed)

    def stop(self) -> None:
        """Follow them no more."""
        self._functions.observers.remove(self._noticed)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _noticed(self, namespace: str, function_id: str) -> None:
        self._changed ^= {(namespace, function_id)}
        if self._timer is None:
            self._timer = self._clock.callLater(GATHERING, self._tell)

    def _tell(self) -> None:
        self._timer = None
        if self._changed and self.type.triggers:
            self.type.fire(FunctionsChanged([function_row(function) for function in self._functions]))
        self._changed.clear()


class WorkerChanges:
    """Fires when a worker connects, says who it is, or goes."""

    def __init__(self, engine: Engine) -> None:
        self.type = EventType(engine, "A worker has connected, said who it is, or gone")
        self._engine = engine

    def start(self) -> None:
        """Follow the connections from now on."""
        self._engine.on_connected.append(self._connected)
        self._engine.on_disconnected.append(self._disconnected)

    def stop(self) -> None:
        """Follow them no more."""
        self._engine.on_connected.remove(self._connected)
        self._engine.on_disconnected.remove(self._disconnected)

    def announced(self, connection: Connection) -> None:
        """A worker has said who it is."""
        self._fire("worker_metadata_updated", connection)

    def _connected(self, connection: Connection) -> None:
        self._fire("worker_connected", connection)

    def _disconnected(self, connection: Connection) -> None:
        self._fire("worker_disconnected", connection)

    def _fire(self, event: str, connection: Connection) -> None:
        if self.type.triggers:
            said = WorkerEvent(event, connection.id, given(connection.name), given(connection.namespace))
            self.type.fire_in_order(said, connection.id)
