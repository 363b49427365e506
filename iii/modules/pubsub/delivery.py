"""
Bringing messages to subscribers.

Nobody waits for a subscriber, and none waits for another.  Each one has so many messages under way at most; what comes
beyond is dropped for it alone, and counted.  A message is delivered at most once.
"""

from __future__ import annotations

from functools import partial

import attrs
import msgspec
from msgspec import Raw
from twisted.logger import Logger

from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.core.invocations import Call
from iii.core.tracing import continued, with_function
from iii.modules.pubsub.topics import Subscription
from iii.wire.messages import ErrorBody

FALSE = Raw(b"false")
_encode = msgspec.json.Encoder().encode


class Envelope(msgspec.Struct):
    """What a subscriber with a pattern gets: it could not tell topics apart otherwise."""

    topic: str
    data: Raw


@attrs.define(eq=False)
class Message:
    """
    What was published.

    @ivar traceparent: The publisher's, if it had one; likewise C{baggage}.
    @ivar conditions: How many are asked about it and have not answered.
    """

    topic: str
    data: Raw
    traceparent: str | None = None
    baggage: str | None = None
    conditions: int = 0
    _envelope: Raw | None = None

    def payload(self, subscription: Subscription) -> Raw:
        """Return what a subscriber's functions are called with; made once for all of its kind."""
        if subscription.pattern is None:
            return self.data
        if self._envelope is None:
            self._envelope = Raw(_encode(Envelope(self.topic, self.data)))
        return self._envelope


class Deliveries:
    """Calls the functions of subscribers."""

    log = Logger()

    def __init__(self, engine: Engine) -> None:
        self._engine, self._counters = engine, engine.counters
        self._most, self._most_bytes = engine.limits.pubsub_deliveries, engine.limits.reaction_backlog_bytes
        self._waiting_bytes = 0  # of the messages that we keep until a condition has answered
        self._complaints = Complaints(self.log, engine.clock)

    def deliver(self, subscription: Subscription, message: Message) -> None:
        """Bring a message to a subscriber, if its condition lets it through."""
        trigger = subscription.trigger
        if subscription.under_way >= self._most:
            self._counters.pubsub_dropped += 1
            self._counters.hit("pubsub_deliveries")
            self._complaints.warn(
                "{function} misses messages on {topic}: it has {count} unanswered (`engine.limits.pubsub_deliveries`)",
                function=trigger.function_id, topic=message.topic, count=self._most,
            )  # fmt: skip
            return
        if subscription.condition is None:
            subscription.under_way += 1
            self._call(subscription, message)
            return
        if not self._kept(message):
            self._counters.pubsub_dropped += 1
            self._counters.hit("reaction_backlog_bytes")
            self._complaints.warn(
                "{function} misses messages on {topic}: too many wait for conditions, such as {condition} "
                "(`engine.limits.reaction_backlog_bytes`)",
                function=trigger.function_id, topic=message.topic, condition=subscription.condition,
            )  # fmt: skip
            return
        subscription.under_way += 1
        self._engine.invoke(
            subscription.condition,
            message.payload(subscription),
            partial(self._decided, subscription, message),
            namespace=trigger.namespace,
            traceparent=_traceparent(message),
            baggage=_baggage(message, subscription.condition),
        )

    def _kept(self, message: Message) -> bool:
        """Keep a message for one more condition, if there is room; its bytes count once."""
        if not message.conditions:
            size = len(message.data)
            if self._waiting_bytes and self._waiting_bytes + size > self._most_bytes:
                return False
            self._waiting_bytes += size
        message.conditions += 1
        return True

    def _decided(
        self, subscription: Subscription, message: Message, call: Call, result: Raw, error: ErrorBody | None
    ) -> None:
        message.conditions -= 1
        if not message.conditions:
            self._waiting_bytes -= len(message.data)
        if error is None and result != FALSE:
            self._call(subscription, message)
            return
        subscription.under_way -= 1
        if error is not None:
            self._counters.pubsub_failed += 1
            self._complaints.warn(
                "{function} is not called for a message on {topic}: its condition {condition} failed: {code}: {text}",
                function=subscription.trigger.function_id, topic=message.topic, condition=call.function_id,
                code=error.code, text=error.message,
            )  # fmt: skip

    def _call(self, subscription: Subscription, message: Message) -> None:
        trigger = subscription.trigger
        self._counters.pubsub_deliveries += 1
        self._engine.invoke(
            trigger.function_id,
            message.payload(subscription),
            partial(self._ended, subscription),
            namespace=trigger.namespace,
            metadata=trigger.metadata,
            traceparent=_traceparent(message),
            baggage=_baggage(message, trigger.function_id),
        )

    def _ended(self, subscription: Subscription, call: Call, result: Raw, error: ErrorBody | None) -> None:
        subscription.under_way -= 1
        if error is not None:
            self._counters.pubsub_failed += 1
            self._complaints.warn(
                "{function} failed on a message: {code}: {text}",
                function=call.function_id, code=error.code, text=error.message,
            )  # fmt: skip


def _traceparent(message: Message) -> str | None:
    return None if message.traceparent is None else continued(message.traceparent)


def _baggage(message: Message, function_id: str) -> str | None:
    return None if message.baggage is None else with_function(message.baggage, function_id)
