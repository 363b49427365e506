"""What is looked after now and then: how long things are kept, and how many of them (docs/queue.md)."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from iii.config.blocks.queue import QueueSettings
from iii.modules.queue.dispatcher import Dispatcher
from iii.modules.queue.jobs import DEAD, IStore
from iii.modules.queue.operations import Filter, Operations
from iii.modules.queue.queues import Queue
from iii.modules.queue.topics import Topics
from iii.storage.errors import StorageError
from iii.storage.schema import DEDUPLICATION

EXPIRED_KEYS = 1000
"""Deduplication keys that are removed at one time."""


class Housekeeping:
    """Looks after all queues, every few seconds."""

    log = Logger()

    def __init__(
        self,
        dispatcher: Dispatcher,
        topics: Topics,
        operations: Operations,
        store: IStore,
        settings: QueueSettings,
        clock: IReactorTime,
    ) -> None:
        self._dispatcher, self._topics, self._operations = dispatcher, topics, operations
        self._store, self._settings, self._clock = store, settings, clock
        self._busy: Deferred[None] | None = None
        self._stopped = False
        self._started_ms = 0

    def start(self) -> None:
        """Absence of subscribers counts from now at the earliest."""
        self._started_ms = self._dispatcher.now_ms()

    def stop(self) -> Deferred[None]:
        """Look after nothing more.  @return: Fires when what is being done has ended."""
        self._stopped = True
        ended: Deferred[None] = Deferred()
        if self._busy is None:
            ended.callback(None)
        else:
            self._busy.addBoth(lambda _: ended.callback(None))
        return ended

    def tick(self) -> None:
        """Do what is to be done, unless it is still being done."""
        if self._busy is None:
            self._busy = Deferred.fromCoroutine(self._look_after()).addErrback(
                lambda failure: self.log.failure("looking after the queues has failed", failure)
            )
            self._busy.addBoth(self._done)

    def _done(self, _: object) -> None:
        self._busy = None

    async def _look_after(self) -> None:
        try:
            self._topics.touch()
            await self._forget_keys()
            for queue in list(self._dispatcher.queues.values()):
                if self._stopped:
                    break
                await self._limit_dead_letters(queue)
                if queue.topic and not queue.line.attended:
                    await self._forget_absent(queue)
        except StorageError as error:
            self.log.warn("looking after the queues: {error}", error=str(error))

    async def _forget_keys(self) -> None:
        while True:
            rows = self._store.read(
                "SELECT queue, key FROM deduplication WHERE until_ms <= ? ORDER BY until_ms LIMIT ?",
                (self._dispatcher.now_ms(), EXPIRED_KEYS),
            )
            expired = [row for row in rows if self._store.pending(DEDUPLICATION, row) is None]
            if expired:
                await self._store.write(*((DEDUPLICATION, key, None) for key in expired))
            if len(expired) < EXPIRED_KEYS or self._stopped:
                break
            await deferLater(self._clock, 0)  # others get their turn

    async def _limit_dead_letters(self, queue: Queue) -> None:
        policy = queue.line.policy
        if policy.dlq_retention_ms is not None and queue.counts[DEAD]:
            until = self._dispatcher.now_ms() - policy.dlq_retention_ms
            await self._operations.discard([queue], Filter(failed_before_ms=until))
        if policy.dlq_max_jobs is not None and queue.counts[DEAD] > policy.dlq_max_jobs:
            await self._operations.discard([queue], Filter(), queue.counts[DEAD] - policy.dlq_max_jobs)

    async def _forget_absent(self, queue: Queue) -> None:
        """
        End the subscription of a subscriber that has not come back, and discard what has waited too long for it.  While
        the engine did not run, nobody could come back: both count from its start at the earliest.
        """
        until = self._dispatcher.now_ms() - self._settings.absent_subscriber_ms
        if until >= self._started_ms:
            await self._end_absent(queue, until)
            discarded = await self._operations.expire(queue, until) if queue.unfinished else 0
            if discarded:
                self.log.warn("{topic}: {count} messages for nobody are discarded", topic=queue.shown, count=discarded)
        if not queue.unfinished and not queue.counts[DEAD] and not self._subscribed(queue):
            self._dispatcher.remove(queue)

    async def _end_absent(self, queue: Queue, until: int) -> None:
        for subscription in list(self._topics.subscriptions.get(queue.shown, {}).values()):
            absent = subscription.queue is queue and not subscription.wishes and subscription.seen_ms <= until
            if absent and await self._topics.end(subscription):
                self.log.warn(
                    "{function} has not come back to {topic}: its subscription has ended",
                    function=subscription.function_id, topic=subscription.topic,
                )  # fmt: skip

    def _subscribed(self, queue: Queue) -> bool:
        return any(each.queue is queue for each in self._topics.subscriptions.get(queue.shown, {}).values())
