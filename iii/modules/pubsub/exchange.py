"""How messages get from publishers to the subscribers of this engine: directly, or through Redis."""

from __future__ import annotations

from zope.interface import Interface, implementer

from iii.modules.pubsub.delivery import Deliveries, Message
from iii.modules.pubsub.topics import Subscription, Topics


class IExchange(Interface):
    """What the module publishes and subscribes with."""

    def start() -> None:
        """Begin to work.  L{iii.storage.errors.CannotOpenStore} ends the start."""

    async def stop() -> None:
        """End the work."""

    async def publish(message: Message) -> None:
        """
        Pass on a message.  It returns when the message is on its way, not when it has been dealt with.

        @raise StorageError: Nobody may have got it.
        """

    def subscribed(subscription: Subscription) -> None:
        """A subscription begins."""

    def unsubscribed(subscription: Subscription) -> None:
        """It ends."""


@implementer(IExchange)
class LocalExchange:
    """Subscribers of this engine get what is published on this engine."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._topics, self._deliveries = Topics(), deliveries

    def start(self) -> None:
        """Nothing is to be opened."""

    async def stop(self) -> None:
        """Likewise."""

    async def publish(self, message: Message) -> None:
        for subscription in self._topics.subscribers(message.topic):
            self._deliveries.deliver(subscription, message)

    def subscribed(self, subscription: Subscription) -> None:
        self._topics.add(subscription)

    def unsubscribed(self, subscription: Subscription) -> None:
        self._topics.remove(subscription)
