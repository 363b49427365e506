"""Pub/sub as a module (spec/pubsub.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import attrs
import msgspec
from msgspec import Meta, Raw
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from zope.interface import implementer

from iii.core.engine import Engine
from iii.core.errors import EngineError, InvalidInput
from iii.core.functions import Caller, FunctionDeclaration
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.pubsub.delivery import Message
from iii.modules.pubsub.exchange import IExchange
from iii.modules.pubsub.topics import MAX_TOPIC
from iii.modules.pubsub.triggers import SubscribeTriggers
from iii.storage.errors import StoreFailed, failing_as
from iii.wire.messages import ABSENT


@attrs.define(str=False)
class TopicNotSet(EngineError):
    """A message was published on the empty topic."""

    code: ClassVar[str] = "topic_not_set"
    text: ClassVar[str] = "Topic is not set"


@attrs.define(str=False)
class PublishFailed(StoreFailed):
    """A message could not be passed on; perhaps nobody has got it."""

    code: ClassVar[str] = "PUBLISH_ERROR"
    text: ClassVar[str] = "Failed to publish: {cause}"


class Publication(msgspec.Struct):
    """What to publish, and on which topic."""

    topic: str
    data: Annotated[Raw, Meta(description="required; any JSON, also null")] = msgspec.field(
        default_factory=lambda: ABSENT
    )


@implementer(IModule)
class PubSubModule(Service):
    """C{publish} and the trigger type C{subscribe}."""

    description = "Fire-and-forget topics"
    internal = False

    def __init__(self, engine: Engine, exchange: IExchange) -> None:
        """@param exchange: As the settings say."""
        self._engine, self._exchange = engine, exchange
        self.functions: Sequence[FunctionDeclaration] = [
            FunctionDeclaration(
                id="publish",
                description="Publishes an event",
                input=Publication,
                handler=self.publish,
            )
        ]
        self.trigger_types: Mapping[str, ITriggerProvider] = {"subscribe": SubscribeTriggers(exchange)}

    def startService(self) -> None:
        self._exchange.start()
        super().startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._exchange.stop())

    async def publish(self, given: Publication, caller: Caller) -> None:
        """
        C{publish}.  Without a subscriber it succeeds, too.

        @raise TopicNotSet: The topic is empty.
        @raise PublishFailed: With Redis: there is no connection, or no answer.
        """
        if not given.data:
            raise InvalidInput("publish", "missing field `data`")
        if not given.topic:
            raise TopicNotSet
        if len(given.topic) > MAX_TOPIC:
            raise InvalidInput("publish", f"`topic` has more than {MAX_TOPIC} characters")
        self._engine.counters.pubsub_messages += 1
        with failing_as(PublishFailed):
            await self._exchange.publish(Message(given.topic, given.data, caller.traceparent, caller.baggage))
