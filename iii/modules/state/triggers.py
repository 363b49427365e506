"""The trigger type C{state} (spec/state.md, 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import msgspec
from msgspec import Raw
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.engine import Engine
from iii.core.errors import TriggerRefused
from iii.core.functions import Caller
from iii.core.reactions import Event, Reactions
from iii.core.tracing import continued
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.wire.messages import NULL, is_null

EventType = Literal["state:created", "state:updated", "state:deleted"]


class StateTriggerConfig(msgspec.Struct, frozen=True):
    """Which changes a trigger wants; what is absent or null matches all, everything else exactly."""

    scope: str | None = None
    key: str | None = None
    condition_function_id: str | None = None


class StateEvent(msgspec.Struct, tag_field="type", tag="state"):
    """What conditions and functions are called with."""

    event_type: EventType
    scope: str
    key: str
    old_value: Raw
    new_value: Raw


@attrs.frozen
class Watch:
    """A live trigger, and what it has been registered with."""

    trigger: Trigger
    config: StateTriggerConfig


_config = msgspec.json.Decoder(StateTriggerConfig).decode
_encode = msgspec.json.Encoder().encode


@implementer(ITriggerProvider)
class StateTriggers:
    """
    Calls functions for changes of the values that their triggers name.

    Triggers are found by their scope and key, so that a change costs what its own triggers cost, however many others
    there are.
    """

    log = Logger()
    description = "A value of the state has been set, updated or deleted"

    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "scope": {"type": ["string", "null"], "description": "changes in this scope only"},
            "key": {"type": ["string", "null"], "description": "changes of this key only"},
            "condition_function_id": {
                "type": ["string", "null"],
                "description": "called first with the same payload; false leaves the event out",
            },
        },
    }
    request_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "type": {"const": "state"},
            "event_type": {"type": "string", "enum": ["state:created", "state:updated", "state:deleted"]},
            "scope": {"type": "string"},
            "key": {"type": "string"},
            "old_value": {"description": "null when there was none"},
            "new_value": {"description": "null when it was deleted"},
        },
        "required": ["type", "event_type", "scope", "key", "old_value", "new_value"],
    }

    def __init__(self, engine: Engine, *, enabled: bool = True) -> None:
        """@param enabled: Functions are called; else triggers are taken and stay silent."""
        self._enabled = enabled
        self._reactions = Reactions(engine, self.log)
        self._watches: dict[str, Watch] = {}
        self._by_place: dict[tuple[str | None, str | None], dict[str, Watch]] = {}

    def register(self, trigger: Trigger) -> None:
        """
        Tell the trigger's function of changes from now on.

        @raise TriggerRefused: Its config is none.
        """
        watch = Watch(trigger, _read(trigger.config))
        if trigger.id in self._watches:
            self.unregister(trigger)
        self._watches[trigger.id] = watch
        place = watch.config.scope, watch.config.key
        self._by_place.setdefault(place, {})[trigger.id] = watch
        self._reactions.begin(trigger)

    def unregister(self, trigger: Trigger) -> None:
        """Tell it no more."""
        watch = self._watches.pop(trigger.id)
        place = watch.config.scope, watch.config.key
        at_place = self._by_place[place]
        del at_place[trigger.id]
        if not at_place:
            del self._by_place[place]
        self._reactions.end(watch.trigger)

    def changed(
        self, event_type: EventType, scope: str, key: str, old: bytes | None, new: bytes | None, caller: Caller
    ) -> None:
        """
        Let the triggers react that match a change.  To be called in the order of the changes.

        @param old: The value before; C{None} when there was none; likewise C{new}.
        @param caller: Whose trace they continue.
        """
        if not self._watches or not self._enabled:
            return
        places = ((scope, key), (scope, None), (None, key), (None, None))
        matching = [watch for place in places for watch in self._by_place.get(place, {}).values()]
        if not matching:
            return
        payload = _encode(
            StateEvent(event_type, scope, key, NULL if old is None else Raw(old), NULL if new is None else Raw(new))
        )
        event = Event((scope, key), Raw(payload), continued(caller.traceparent), caller.baggage)
        for watch in matching:
            self._reactions.fire(watch.trigger, watch.config.condition_function_id, event)


def _read(config: Raw) -> StateTriggerConfig:
    try:
        if is_null(config):
            raise TriggerRefused(
                "Failed to parse trigger config: invalid type: null, expected struct StateTriggerConfig"
            )
        return _config(config)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise TriggerRefused(f"Failed to parse trigger config: {error}") from error
