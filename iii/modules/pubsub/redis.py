"""
Topics that several engines share through Redis (spec/pubsub.md, 4.2).

A channel is the topic, after the prefix of the configuration; a message is the JSON text of the data, so traces are not
continued.  What an engine publishes comes to its own subscribers through Redis, too, once for each engine, topic and
pattern, however many subscribers there are.  While the connection is broken messages are missed; that is said, and
counted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.modules.pubsub.delivery import Deliveries, Message
from iii.modules.pubsub.exchange import IExchange
from iii.modules.pubsub.topics import MAX_TOPIC, Pattern, Subscription
from iii.storage.errors import StorageError
from iii.storage.redis import RedisLink
from iii.storage.redis_subscriber import Listener, RedisSubscriber
from iii.storage.updates import DEEPEST
from iii.wire.messages import nested_deeper

_json = msgspec.json.Decoder(Raw).decode


@implementer(IExchange)
class RedisExchange:
    """Subscribers of this engine get what any engine, or program, publishes on one Redis."""

    log = Logger()

    def __init__(
        self, engine: Engine, deliveries: Deliveries, link: RedisLink, subscriber: RedisSubscriber, prefix: str
    ) -> None:
        """
        @param link: Somebody else starts and stops it.
        @param prefix: Of all channels.
        """
        self._engine, self._deliveries, self._link, self._subscriber = engine, deliveries, link, subscriber
        self._prefix = prefix
        self._complaints = Complaints(self.log, engine.clock)
        self._topics: dict[str, tuple[Listener, list[Subscription]]] = {}
        self._patterns: dict[Pattern, tuple[Listener, list[Subscription]]] = {}
        self._refused: dict[Listener, Callable[[], Deferred[None]]] = {}
        subscriber.on_gap = self._gap

    def start(self) -> None:
        self._subscriber.start()

    async def stop(self) -> None:
        await self._subscriber.stop()

    async def publish(self, message: Message) -> None:
        await self._link.execute("PUBLISH", self._prefix + message.topic, bytes(message.data))

    def subscribed(self, subscription: Subscription) -> None:
        pattern, topic = subscription.pattern, subscription.topic
        if pattern is not None:
            if pattern not in self._patterns:
                subscriptions: list[Subscription] = []
                listener: Listener = partial(self._received, pattern, subscriptions)
                self._patterns[pattern] = listener, subscriptions
                self._listen(partial(self._subscriber.psubscribe, self._glob(pattern), listener), listener)
            self._patterns[pattern][1].append(subscription)
            return
        assert topic is not None
        if topic not in self._topics:
            subscriptions = []
            listener = partial(self._received, None, subscriptions)
            self._topics[topic] = listener, subscriptions
            self._listen(partial(self._subscriber.subscribe, self._channel(topic), listener), listener)
        self._topics[topic][1].append(subscription)

    def unsubscribed(self, subscription: Subscription) -> None:
        pattern, topic = subscription.pattern, subscription.topic
        if pattern is not None:
            listener, subscriptions = self._patterns[pattern]
            subscriptions.remove(subscription)
            if not subscriptions:
                del self._patterns[pattern]
                if self._refused.pop(listener, None) is None:
                    self._subscriber.punsubscribe(self._glob(pattern), listener)
            return
        assert topic is not None
        listener, subscriptions = self._topics[topic]
        subscriptions.remove(subscription)
        if not subscriptions:
            del self._topics[topic]
            if self._refused.pop(listener, None) is None:
                self._subscriber.unsubscribe(self._channel(topic), listener)

    def _listen(self, ask: Callable[[], Deferred[None]], listener: Listener) -> None:
        """Subscribe at Redis.  When that is refused the subscriber tells why in the log; we ask again, see C{_gap}."""

        def refused(failure: Failure) -> None:
            failure.trap(StorageError)
            self._refused[listener] = ask

        ask().addErrback(refused)

    def _channel(self, topic: str) -> bytes:
        return (self._prefix + topic).encode()

    def _glob(self, pattern: Pattern) -> bytes:
        return (Pattern.escaped(self._prefix) + pattern.glob).encode()

    def _received(
        self, pattern: Pattern | None, subscriptions: list[Subscription], channel: bytes, data: bytes
    ) -> None:
        try:
            topic = channel.decode()[len(self._prefix) :]
            if len(topic) > MAX_TOPIC:
                raise ValueError(f"its topic has more than {MAX_TOPIC} characters")
            data.decode()
            _json(data)
            if nested_deeper(data, DEEPEST):
                raise ValueError(f"nested deeper than {DEEPEST} levels")
        except (ValueError, RecursionError) as error:
            self._complaints.warn(
                "a message on the Redis channel {channel} is left out: {error}",
                channel=channel.decode(errors="replace"), error=str(error),
            )  # fmt: skip
            return
        if pattern is not None and not pattern.matches(topic):
            return
        message = Message(topic, Raw(data))
        for subscription in list(subscriptions):
            self._deliveries.deliver(subscription, message)

    def _gap(self) -> None:
        self._engine.counters.pubsub_gaps += 1
        self.log.warn("pub/sub: subscribed at Redis again; messages published meanwhile are lost")
        refused, self._refused = self._refused, {}
        for listener, ask in refused.items():  # perhaps it is allowed now
            self._listen(ask, listener)
