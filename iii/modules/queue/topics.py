"""
Topics and their subscriptions (spec/queue.md, 4).

Each (topic, namespace, function) that has a trigger is a subscription with a queue of its own, and gets one copy of
each message.  A subscription is on disk and stays when its worker goes: its copies wait until it is back, for as long
and as many as the settings allow.  It ends when its trigger is unregistered on purpose.  What then still waits is kept
as long as for one that is away, in case it comes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import attrs
import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from iii.config.blocks.queue import QueueSettings, QueueStore
from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.core.functions import Caller, json_schema
from iii.core.ids import ordered_id
from iii.core.tracing import with_function
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.queue.delivery import Line
from iii.modules.queue.dispatcher import Dispatcher
from iii.modules.queue.errors import PublishFailed, TopicNotSet
from iii.modules.queue.jobs import IStore, Job
from iii.modules.queue.pauses import Pauses
from iii.modules.queue.queues import Queue
from iii.modules.queue.retry import Policy
from iii.modules.queue.subscribing import (
    SubscriberConfig,
    SubscriberTrigger,
    Wish,
    subscriber_config,
    subscriber_policy,
    wish,
)
from iii.storage.errors import StorageError
from iii.storage.schema import SUBSCRIPTION

_until_at = re.compile(r"(?:[^\\@]|\\.)*", re.DOTALL)
_escape = re.compile(r"\\(.)", re.DOTALL)
TOUCH_MS = 3_600_000
"""So often it is noted that a subscriber is there."""


class Publish(msgspec.Struct):
    """A message for all subscribers of a topic."""

    topic: str
    data: Raw


@attrs.define(eq=False)
class Subscription:
    """
    One function that subscribes to a topic.

    @ivar wishes: What its live triggers ask for, by their ids, the latest last.
    @ivar seen_ms: When it was last known to be there.
    @ivar removed: Its row is to go; registering again takes that back.
    @ivar unsaved: Its row could not be written, or could not be removed.
    """

    topic: str
    namespace: str
    function_id: str
    queue: Queue
    seen_ms: int
    removed: bool = False
    unsaved: bool = False
    wishes: dict[str, Wish] = attrs.field(factory=dict)
    latest: SubscriberConfig = attrs.field(factory=SubscriberConfig)

    @property
    def key(self) -> tuple[str, str, str]:
        """Of its row."""
        return self.topic, self.namespace, self.function_id


@implementer(ITriggerProvider)
class Topics:
    """
    The trigger type C{durable:subscriber}, and publishing.

    @ivar subscriptions: By topic, then namespace and function.
    """

    log = Logger()
    description = "Queue core module"

    configuration_schema: Mapping[str, Any] = json_schema(SubscriberTrigger)

    def __init__(
        self, dispatcher: Dispatcher, store: IStore, pauses: Pauses, settings: QueueSettings, engine: Engine
    ) -> None:
        self._dispatcher, self._store, self._settings, self._engine = dispatcher, store, settings, engine
        self._pauses = pauses
        self._defaults: QueueStore = settings.adapter.config  # type: ignore[assignment]
        self._complaints = Complaints(self.log, engine.clock)
        self.subscriptions: dict[str, dict[tuple[str, str], Subscription]] = {}

    def start(self) -> None:
        """Take up the subscriptions that are on disk; their subscribers are still to come."""
        for topic, namespace, function_id, settings, seen_ms in self._store.read(
            "SELECT topic, namespace, function_id, settings, seen_ms FROM subscription ORDER BY position", ()
        ):
            latest, _ = subscriber_config(msgspec.json.decode(settings))
            self._add(topic, namespace, function_id, seen_ms, latest)

    # Subscriptions.

    def register(self, trigger: Trigger) -> None:
        """
        Deliver to the trigger's function.

        @raise TriggerRefused: It names no topic.
        """
        wanted = wish(trigger.config)
        if wanted.problems:
            self._complaints.warn(
                "{function} subscribes to {topic}: {problems}",
                function=trigger.function_id, topic=wanted.topic, problems="; ".join(wanted.problems),
            )  # fmt: skip
        place = trigger.namespace, trigger.function_id
        subscription = self.subscriptions.get(wanted.topic, {}).get(place)
        if subscription is None:
            subscription = self._add(wanted.topic, *place, 0, wanted.config)
        changed = subscription.latest != wanted.config or not subscription.wishes
        subscription.wishes.pop(trigger.id, None)
        subscription.wishes[trigger.id] = wanted
        subscription.latest = wanted.config
        subscription.removed = False
        if changed:
            self._seen(subscription)
        self._apply(subscription)

    def unregister(self, trigger: Trigger) -> None:
        """Deliver no more for this trigger.  Unless its worker has gone, its subscription ends if it was the last."""
        for subscription in self._of(wish(trigger.config).topic, trigger):
            del subscription.wishes[trigger.id]
            if subscription.wishes:
                self._apply(subscription)
                continue
            subscription.queue.line.attended = False
            self._seen(subscription)
            if trigger.owner is None or not trigger.owner.closed:
                # The trigger may be in the middle of being replaced; decide on the next turn.
                self._engine.clock.callLater(0, self._end_if_removed, subscription, trigger)

    def _of(self, topic: str, trigger: Trigger) -> list[Subscription]:
        found = self.subscriptions.get(topic, {}).get((trigger.namespace, trigger.function_id))
        return [found] if found is not None and trigger.id in found.wishes else []

    def _end_if_removed(self, subscription: Subscription, trigger: Trigger) -> None:
        if not subscription.wishes and self._engine.triggers.find(trigger.id) is not trigger:
            subscription.removed = True
            self._save(subscription)

    async def end(self, subscription: Subscription) -> bool:
        """
        Make no more copies for a function.  Those that wait stay, as for one that is away.

        @return: C{False}: it has subscribed again meanwhile.
        @raise StorageError: That could not be written, and the subscription is as it was.
        """
        subscription.removed = True
        await self._store.write((SUBSCRIPTION, subscription.key, None))
        if not subscription.removed:
            return False
        of_topic = self.subscriptions.get(subscription.topic, {})
        place = subscription.namespace, subscription.function_id
        if of_topic.get(place) is subscription:
            del of_topic[place]
            if not of_topic:
                del self.subscriptions[subscription.topic]
        return True

    def _add(
        self, topic: str, namespace: str, function_id: str, seen_ms: int, latest: SubscriberConfig
    ) -> Subscription:
        name = internal_name(topic, namespace, function_id)
        queue = self._dispatcher.queues.get(name)
        if queue is None:
            queue = Queue(name, topic, Line(self._policy(latest, None)), topic=True)
            self._dispatcher.add(queue)
            self._pauses.hold(queue)
        queue.line.attended = False
        subscription = Subscription(topic, namespace, function_id, queue, seen_ms, latest=latest)
        self.subscriptions.setdefault(topic, {})[namespace, function_id] = subscription
        return subscription

    def _apply(self, subscription: Subscription) -> None:
        """Deliver as the triggers of a subscription ask for."""
        wishes = list(subscription.wishes.values())
        queue = subscription.queue
        queue.line.follow(self._policy(subscription.latest, wishes))
        condition = wishes[-1].condition
        queue.line.ask(None if condition is None else (subscription.namespace, condition))
        queue.line.attended = True
        self._dispatcher.serve(queue)

    def _policy(self, latest: SubscriberConfig, wishes: list[Wish] | None) -> Policy:
        each = [latest] if wishes is None else [wanted.config for wanted in wishes]
        concurrency = sum(config.concurrency or self._defaults.concurrency for config in each)
        return subscriber_policy(latest, concurrency, self._defaults)

    def touch(self) -> None:
        """Note which subscribers are there, now and then, and write again what could not be written."""
        now = self._dispatcher.now_ms()
        for subscription in [each for of_topic in self.subscriptions.values() for each in of_topic.values()]:
            if subscription.wishes and now - subscription.seen_ms >= TOUCH_MS:
                self._seen(subscription)
            elif subscription.unsaved:
                self._save(subscription)

    def _seen(self, subscription: Subscription) -> None:
        """A subscriber is there, or was until now."""
        subscription.seen_ms = self._dispatcher.now_ms()
        self._save(subscription)

    def _save(self, subscription: Subscription) -> None:
        subscription.unsaved = False
        if subscription.removed:
            Deferred.fromCoroutine(self.end(subscription)).addErrback(self._not_saved, subscription)
            return
        settings = msgspec.json.encode(subscription.latest).decode()
        row = SUBSCRIPTION, subscription.key, (settings, subscription.seen_ms)
        self._store.write(row).addErrback(self._not_saved, subscription)

    def _not_saved(self, failure: Failure, subscription: Subscription) -> None:
        failure.trap(StorageError)
        subscription.unsaved = True
        self._complaints.warn(
            "the subscription of {function} to {topic} cannot be stored: {error}",
            function=subscription.function_id, topic=subscription.topic, error=str(failure.value),
        )  # fmt: skip

    # Publishing.

    def publish(self, given: Publish, caller: Caller) -> Deferred[None] | None:
        """C{iii::durable::publish}: fires when the copies for all subscribers are on disk, in one transaction."""
        if not given.topic:
            raise TopicNotSet
        subscriptions = self.subscriptions.get(given.topic)
        if not subscriptions:
            return None
        now, data, baggage = self._dispatcher.now_ms(), bytes(given.data), caller.baggage
        jobs, copies = self._dispatcher.jobs, []
        for subscription in subscriptions.values():
            queue = subscription.queue
            if not subscription.wishes and queue.unfinished >= self._settings.absent_subscriber_max_jobs:
                self._engine.counters.hit("absent_subscriber_max_jobs")
                self._complaints.warn(
                    "{function} misses a message of {topic}: {count} wait for it already",
                    function=subscription.function_id, topic=given.topic, count=queue.unfinished,
                )  # fmt: skip
                continue
            job = jobs.new(
                queue.name,
                id=ordered_id(now),
                namespace=subscription.namespace,
                function_id=subscription.function_id,
                data=data,
                created_ms=now,
                due_ms=now,
                traceparent=caller.traceparent,
                baggage=None if baggage is None else with_function(baggage, subscription.function_id),
            )
            copies.append((queue, job))
        if not copies:
            return None
        for queue, _ in copies:
            queue.coming += 1
        return jobs.write(*(jobs.row(job) for _, job in copies)).addCallbacks(
            partial(self._published, copies), partial(_not_published, copies)
        )

    def _published(self, copies: list[tuple[Queue, Job]], _: None) -> None:
        for queue, job in copies:
            queue.coming -= 1
            self._dispatcher.arrived(queue, job)


def _not_published(copies: list[tuple[Queue, Job]], failure: Failure) -> None:
    for queue, _ in copies:
        queue.coming -= 1
    failure.trap(StorageError)
    raise PublishFailed(str(failure.value))


def internal_name(topic: str, namespace: str, function_id: str) -> str:
    """The name of a subscriber's queue (spec/queue.md, 9)."""
    return f"{_escaped(f'{topic}::{function_id}')}@{_escaped(namespace)}"


def topic_of(name: str, function_ids: Iterable[str]) -> str:
    """
    Return the topic of an internal name.

    @param function_ids: Functions that its jobs are for, the subscriber among them: a job that was redriven may be for
        another one.
    """
    subscriber = _until_at.match(name)
    assert subscriber is not None
    text = _escape.sub(r"\1", subscriber[0])
    ends = [end for function_id in function_ids if text.endswith(end := f"::{function_id}")]
    return text.removesuffix(max(ends, key=len, default=""))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("@", "\\@")
