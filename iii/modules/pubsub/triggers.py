"""The trigger type C{subscribe} (spec/pubsub.md, 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.errors import TriggerRefused
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.pubsub.exchange import IExchange
from iii.modules.pubsub.topics import MAX_TOPIC, Pattern, Subscription


class SubscribeConfig(msgspec.Struct):
    """What a trigger wants: messages on a topic, or on the topics that a pattern matches."""

    topic: str | None = None
    pattern: str | None = None
    condition_function_id: str | None = None


_config = msgspec.json.Decoder(SubscribeConfig).decode


@implementer(ITriggerProvider)
class SubscribeTriggers:
    """Subscribes the functions of triggers."""

    log = Logger()
    description = "Subscribe to a topic"

    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "topic": {"type": "string", "minLength": 1, "description": "compared exactly"},
            "pattern": {
                "type": "string",
                "minLength": 1,
                "description": "instead of a topic: words between dots, * for one and # for any number; "
                "the function gets {topic, data}",
            },
            "condition_function_id": {
                "type": ["string", "null"],
                "description": "called first with the same payload; false leaves the message out",
            },
        },
        "oneOf": [{"required": ["topic"]}, {"required": ["pattern"]}],
    }

    def __init__(self, exchange: IExchange) -> None:
        self._exchange = exchange
        self._subscriptions: dict[str, Subscription] = {}

    def register(self, trigger: Trigger) -> None:
        """
        Call the trigger's function for messages from now on.

        @raise TriggerRefused: Its config is none.
        """
        subscription = _read(trigger)
        if trigger.id in self._subscriptions:
            self.unregister(trigger)
        self._subscriptions[trigger.id] = subscription
        self._exchange.subscribed(subscription)

    def unregister(self, trigger: Trigger) -> None:
        """Call it no more; others go on."""
        self._exchange.unsubscribed(self._subscriptions.pop(trigger.id))


def _read(trigger: Trigger) -> Subscription:
    try:
        config = _config(trigger.config)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise TriggerRefused(f"Failed to parse trigger config: {error}") from error
    wanted = config.topic or config.pattern
    if not wanted or (config.topic and config.pattern):
        raise TriggerRefused("a trigger of type subscribe needs a `topic`, or a `pattern`, that is not empty")
    if len(wanted) > MAX_TOPIC:
        raise TriggerRefused(f"a topic or pattern has at most {MAX_TOPIC} characters")
    pattern = None if config.topic else Pattern(wanted)
    return Subscription(trigger, config.topic or None, pattern, config.condition_function_id)
