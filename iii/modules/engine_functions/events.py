"""
The trigger types C{engine::functions-available} and C{engine::workers-available} (spec/engine-functions.md, 9).

Changes of the functions are gathered for a moment and then told at once: a worker that connects registers many.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.connections import Connection
from iii.core.engine import Engine
from iii.core.invocations import Call
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.engine_functions.functions import FunctionRow, function_row
from iii.modules.engine_functions.names import given
from iii.wire.messages import ErrorBody

FUNCTIONS_AVAILABLE = "engine::functions-available"
WORKERS_AVAILABLE = "engine::workers-available"
GATHERING = 0.3
"""Seconds from the first change of the functions to the event; it tells what has changed by then."""


class FunctionsChanged(msgspec.Struct, tag_field="event", tag="functions_changed"):
    """All functions, those of the engine included, after some have come or gone."""

    functions: list[FunctionRow]


class WorkerEvent(msgspec.Struct):
    """
    A worker has connected (C{worker_connected}, before it has a name), said who it is (C{worker_metadata_updated}) or gone
    (C{worker_disconnected}).
    """

    event: str
    worker_id: str
    name: str | UnsetType = UNSET
    namespace: str | UnsetType = UNSET


@implementer(ITriggerProvider)
class EventType:
    """A trigger type whose triggers take any config and all fire at once."""

    log = Logger()

    def __init__(self, engine: Engine, type_id: str, description: str) -> None:
        self.description = description
        self._engine, self._type_id = engine, type_id
        self._triggers: dict[str, Trigger] = {}

    def __bool__(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._triggers)

    def register(self, trigger: Trigger) -> None:
        """Call the trigger's function from now on."""
        self._triggers[trigger.id] = trigger

    def unregister(self, trigger: Trigger) -> None:
        """Call it no more."""
        del self._triggers[trigger.id]

    def fire(self, event: msgspec.Struct) -> None:
        """Call all functions; they run concurrently, and what they return does not matter."""
        if not self._triggers:
            return
        payload = Raw(msgspec.json.encode(event))
        for trigger in list(self._triggers.values()):
            self._engine.invoke(
                trigger.function_id, payload, self._ended, namespace=trigger.namespace, metadata=trigger.metadata
            )

    def _ended(self, call: Call, result: Raw, error: ErrorBody | None) -> None:
        if error is not None:
            self.log.warn(
                "{function} failed on an event of {type}: {code}: {message}",
                function=call.function_id, type=self._type_id, code=error.code, message=error.message,
            )  # fmt: skip
