"""The trigger type C{stream}: an item has changed, or something was sent (spec/stream.md, 5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec
from msgspec import Raw, Struct
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.engine import Engine
from iii.core.errors import TriggerRefused
from iii.core.functions import Caller
from iii.core.reactions import Event, Reactions
from iii.core.tracing import continued
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.stream.events import StreamEvent

UNTRACED = "iii:devtools:"
"""How streams begin that show traces, which must not be about themselves."""


class Config(Struct):
    """What a trigger wants to hear of."""

    stream_name: str | None = None
    group_id: str | None = None
    item_id: str | None = None
    condition_function_id: str | None = None


@attrs.frozen(eq=False)
class Listener:
    """
    A live trigger.

    @ivar item: C{None} for all items.
    """

    trigger: Trigger
    stream: str
    group: str | None
    item: str | None
    condition: str | None


@implementer(ITriggerProvider)
class StreamTriggers:
    """Calls functions for the events that they want, in order for each item."""

    log = Logger()
    description = "Stream trigger"

    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "stream_name": {"type": "string"},
            "group_id": {"type": ["string", "null"], "description": "only this group; empty or absent: all"},
            "item_id": {"type": ["string", "null"], "description": "only this item; empty or absent: all"},
            "condition_function_id": {
                "type": ["string", "null"],
                "description": "called first with the same payload; false leaves the function out",
            },
        },
        "required": ["stream_name"],
    }
    request_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "type": {"const": "stream"},
            "timestamp": {"type": "integer", "description": "milliseconds since the epoch"},
            "streamName": {"type": "string"},
            "groupId": {"type": "string"},
            "id": {"type": ["string", "null"], "description": "the item; null for what was sent to a whole group"},
            "event": {
                "type": "object",
                "properties": {
                    "type": {"enum": ["create", "update", "delete", "event"]},
                    "data": {"description": "the value, of a deletion the removed one; not with `event`"},
                    "event": {
                        "type": "object",
                        "properties": {"type": {"type": "string"}, "data": {}},
                        "description": "what stream::send was called with; only with `event`",
                    },
                },
                "required": ["type"],
            },
        },
        "required": ["type", "timestamp", "streamName", "groupId", "id", "event"],
    }

    def __init__(self, engine: Engine) -> None:
        self._reactions = Reactions(engine, self.log)
        self._listeners: dict[str, Listener] = {}
        self._places: dict[tuple[str, str | None], dict[str, Listener]] = {}  # by stream and group, then by id

    def register(self, trigger: Trigger) -> None:
        """
        Call the trigger's function from now on.

        @raise TriggerRefused: Its config is no object of texts, or names no stream.
        """
        listener = _listener(trigger)
        if trigger.id in self._listeners:
            self.unregister(trigger)
        self._listeners[trigger.id] = listener
        self._places.setdefault((listener.stream, listener.group), {})[trigger.id] = listener
        self._reactions.begin(trigger)

    def unregister(self, trigger: Trigger) -> None:
        """Call it no more."""
        listener = self._listeners.pop(trigger.id)
        place = listener.stream, listener.group
        del self._places[place][trigger.id]
        if not self._places[place]:
            del self._places[place]
        self._reactions.end(listener.trigger)

    def fire(self, event: StreamEvent, caller: Caller) -> None:
        """
        Let those react that want to hear of an event.

        @param caller: Who has caused it.
        """
        happened: Event | None = None
        for listener in list(self._matching(event)):
            if happened is None:
                happened = _event(event, caller)
            self._reactions.fire(listener.trigger, listener.condition, happened)

    def _matching(self, event: StreamEvent) -> Iterator[Listener]:
        for group in (None, event.group):
            for listener in self._places.get((event.stream, group), {}).values():
                if listener.item is None or listener.item == event.item:
                    yield listener


def _event(event: StreamEvent, caller: Caller) -> Event:
    key = event.stream, event.group, event.item
    if event.stream.startswith(UNTRACED):
        return Event(key, Raw(event.text))
    return Event(key, Raw(event.text), continued(caller.traceparent), caller.baggage)


def _listener(trigger: Trigger) -> Listener:
    try:
        config = msgspec.json.decode(trigger.config, type=Config)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise TriggerRefused(f"Failed to deserialize stream trigger: {error}") from error
    if config.stream_name is None:
        raise TriggerRefused("Failed to deserialize stream trigger: `stream_name` is required")
    return Listener(
        trigger,
        config.stream_name,
        config.group_id or None,
        config.item_id or None,
        config.condition_function_id or None,
    )
