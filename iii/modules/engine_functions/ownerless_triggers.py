"""
C{engine::register_trigger} and C{engine::unregister_trigger}: triggers that outlive the worker that asked for them, and
end with the engine (spec/engine-functions.md, 5).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from iii.core.budget import detached
from iii.core.engine import Engine
from iii.core.errors import TooManyTriggers, TriggerRefused
from iii.core.functions import Caller
from iii.core.ids import new_id
from iii.core.registrations import MAX_ID
from iii.core.shown import shown
from iii.core.triggers import Trigger
from iii.wire.messages import ABSENT, NULL, ErrorBody, is_null

PATIENCE = 10.0
"""Seconds that a worker has to say whether it takes a trigger of a type that it provides; silence is consent."""


class NewTrigger(msgspec.Struct):
    """What shall call which function."""

    trigger_type: Annotated[str, Meta(max_length=MAX_ID)]
    function_id: Annotated[str, Meta(description="in namespace `default`; it need not exist yet", max_length=MAX_ID)]
    config: Annotated[Raw, Meta(description="what the trigger type asks for")] = field(default_factory=lambda: NULL)
    metadata: Annotated[Raw, Meta(description="goes to the function beside payloads")] = field(default_factory=Raw)
    trigger_namespace: Annotated[
        Annotated[str, Meta(max_length=MAX_ID)] | None,
        Meta(description="of the type's provider; `default` without one"),
    ] = None


class Registered(msgspec.Struct):
    """The trigger's id, for `engine::unregister_trigger`."""

    id: str


class OldTrigger(msgspec.Struct):
    """Which trigger to end; its type need not be given."""

    id: str
    trigger_type: str | None = None


class Removed(msgspec.Struct):
    """Whether there was such a trigger."""

    removed: bool


class OwnerlessTriggers:
    """Makes and ends triggers on request."""

    log = Logger()

    def __init__(self, engine: Engine, clock: IReactorTime) -> None:
        self._engine, self._clock = engine, clock
        self._unanswered: dict[str, Deferred[ErrorBody | None]] = {}  # bounded as the triggers themselves are

    async def register(self, wanted: NewTrigger, caller: Caller) -> Registered:
        """
        C{engine::register_trigger}.

        @raise TriggerRefused: The type's provider does not accept it; nothing is stored.
        @raise TooManyTriggers: A limit of the engine is reached.
        """
        engine = self._engine
        trigger = Trigger(
            id=new_id(),
            trigger_type=wanted.trigger_type,
            function_id=wanted.function_id,
            config=NULL if is_null(wanted.config) else detached(wanted.config),
            metadata=ABSENT if is_null(wanted.metadata) else detached(wanted.metadata),
            trigger_namespace=wanted.trigger_namespace,
            report=self._answered,
        )
        self._check_limits(trigger.size)
        engine.triggers.register(trigger)
        if trigger.binding is not None:
            provider = engine.triggers.provider(trigger.binding.provider_key)
            if provider is not None and provider.connection is not None:
                await self._accepted(trigger)
        return Registered(trigger.id)

    def _check_limits(self, size: int) -> None:
        limits, triggers = self._engine.limits, self._engine.triggers
        if triggers.ownerless >= limits.ownerless_triggers:
            self._engine.counters.hit("ownerless_triggers")
            raise TooManyTriggers(limits.ownerless_triggers)
        if triggers.ownerless_bytes + size > limits.ownerless_trigger_bytes:
            self._engine.counters.hit("ownerless_trigger_bytes")
            raise TooManyTriggers(limits.ownerless_trigger_bytes, "bytes of triggers")

    async def _accepted(self, trigger: Trigger) -> None:
        """Wait until a worker has said that it takes a trigger, or has been silent for long enough."""
        waiting = self._unanswered[trigger.id] = Deferred()
        silence = self._clock.callLater(PATIENCE, self._settle, trigger.id, None)
        error = await waiting
        if silence.active():
            silence.cancel()
        if error is not None:
            self._engine.triggers.remove(trigger)  # still there: it has just been spoken of
            raise TriggerRefused(f"{error.code}: {error.message}")

    def _answered(self, trigger: Trigger, error: ErrorBody | None) -> None:
        """The type's provider has answered, in time or later: it may come when the trigger has long been registered."""
        if trigger.id in self._unanswered:
            self._settle(trigger.id, error)
        elif error is not None:
            self.log.warn(
                "trigger {id} of type {type} is parked, its provider refuses it: {code}: {text}",
                id=trigger.id, type=shown(trigger.trigger_type), code=shown(error.code), text=shown(error.message),
            )  # fmt: skip

    def _settle(self, trigger_id: str, error: ErrorBody | None) -> None:
        self._unanswered.pop(trigger_id).callback(error)

    def stop(self) -> None:
        """Wait for nobody any more."""
        for trigger_id in list(self._unanswered):
            self._settle(trigger_id, None)

    def unregister(self, which: OldTrigger, caller: Caller) -> Removed:
        """C{engine::unregister_trigger}: end a trigger, whoever owns it and whether it fires or not."""
        trigger = self._engine.triggers.find(which.id)
        if trigger is not None:
            self._engine.remove_trigger(trigger)
        if which.id in self._unanswered:
            self._settle(which.id, None)
        return Removed(trigger is not None)
