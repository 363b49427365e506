"""Tests for L{iii.modules.pubsub.delivery}."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.engine import Engine
from iii.core.limits import Limits
from iii.core.triggers import Trigger
from iii.modules.pubsub.delivery import Deliveries, Message
from iii.modules.pubsub.topics import Pattern, Subscription


class RecordingEngine(Engine):
    """Keeps what functions are called with; nobody answers."""

    def __init__(self) -> None:
        super().__init__(Clock(), Limits())
        self.payloads: list[tuple[str, Raw]] = []

    def invoke(self, function_id: str, data: Raw, *arguments: Any, **options: Any) -> Any:
        self.payloads.append((function_id, data))


class EncodedOnceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.engine = RecordingEngine()
        self.deliveries = Deliveries(self.engine)

    def deliver(self, message: Message, *subscriptions: Subscription) -> list[Raw]:
        """Return what was passed on, for each of the subscribers."""
        for subscription in subscriptions:
            self.deliveries.deliver(subscription, message)
        return [data for _, data in self.engine.payloads]

    def subscription(self, **wanted: Any) -> Subscription:
        trigger = Trigger("id", "subscribe", "f")
        return Subscription(trigger, wanted.get("topic"), wanted.get("pattern"), wanted.get("condition"))

    def test_topic(self) -> None:
        """Subscribers of a topic, and their conditions, get the publisher's own bytes: nothing is encoded."""
        message = Message("t", Raw(b'{"id" : 1}'))
        subscriptions = [self.subscription(topic="t"), self.subscription(topic="t", condition="c")]
        for payload in self.deliver(message, *subscriptions):
            self.assertIs(payload, message.data)

    def test_pattern(self) -> None:
        """For those with patterns topic and data are encoded once, whatever their number and their patterns."""
        message = Message("t", Raw(b'{"id" : 1}'))
        patterns = [self.subscription(pattern=Pattern(text)) for text in ("*", "#", "t")]
        asked = self.subscription(pattern=Pattern("*"), condition="c")
        first, *others = self.deliver(message, *patterns, asked)
        self.assertEqual(bytes(first), b'{"topic":"t","data":{"id" : 1}}')
        self.assertEqual(len(others), 3)
        for payload in others:
            self.assertIs(payload, first)
