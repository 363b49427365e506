"""
What operators do: dead letters are delivered again or discarded, waiting jobs are cancelled, subscriptions are ended
(spec/queue.md, 8).  Pausing is in C{pauses.py}.

All of it goes over rows in pieces, each in one transaction.  A job that is just being moved is left alone by whoever
else comes upon it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from iii.modules.queue.delivery import BEGIN
from iii.modules.queue.dispatcher import Dispatcher
from iii.modules.queue.jobs import DEAD, READY, Change, Job, Key
from iii.modules.queue.queues import Queue
from iii.modules.queue.topics import Topics, internal_name
from iii.storage.errors import StorageError
from iii.storage.schema import JOB
from iii.storage.sqlite import STOPPING
from iii.wire.messages import ErrorBody

PIECE = 256
"""Jobs that are moved or removed in one transaction."""
FOR_EVER = 2**62
"""Milliseconds since the epoch that never come."""
_error = msgspec.json.Decoder(ErrorBody).decode


class Filter(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters: all given members must match.  A misspelt one would select all, so it is refused."""

    function_id: str | None = None
    namespace: str | None = None
    error_code: str | None = None
    error_contains: str | None = None
    failed_after_ms: int | None = None
    failed_before_ms: int | None = None

    def span(self, now_ms: int) -> tuple[int, int]:
        """The moments between which they have failed, both included."""
        first = 0 if self.failed_after_ms is None else max(0, min(self.failed_after_ms, now_ms + 1))
        last = now_ms if self.failed_before_ms is None else min(self.failed_before_ms - 1, now_ms)
        return first, max(-1, last)

    def wants(self, job: Job) -> bool:
        """Whether a dead letter is one of these."""
        error = error_of(job)
        return (
            (self.function_id is None or job.function_id == self.function_id)
            and (self.namespace is None or job.namespace == self.namespace)
            and (self.error_code is None or error.code == self.error_code)
            and (self.error_contains is None or self.error_contains in error.message)
            and (self.failed_after_ms is None or job.failed_ms >= self.failed_after_ms)
            and (self.failed_before_ms is None or job.failed_ms < self.failed_before_ms)
        )


def error_of(job: Job) -> ErrorBody:
    """The failure that a job has met, if any."""
    return _error(job.error) if job.error else ErrorBody("", "")


class Operations:
    """Moves and removes jobs of the queues."""

    def __init__(self, dispatcher: Dispatcher, topics: Topics, clock: IReactorTime) -> None:
        self._dispatcher, self._jobs, self._topics, self._clock = dispatcher, dispatcher.jobs, topics, clock
        self._moving: set[int] = set()
        self._stopped: Deferred[None] | None = None

    def stop(self) -> Deferred[None]:
        """Begin no further piece.  @return: Fires when those begun are written."""
        self._stopped = Deferred()
        if not self._moving:
            self._stopped.callback(None)
        return self._stopped

    async def redrive(self, queues: Sequence[Queue], wanted: Filter, limit: int | None = None) -> int:
        """
        Deliver dead letters again, the oldest failure of each queue first, with all their deliveries before them.

        @return: How many.
        @raise StorageError: Some may have been.
        """
        return await self._each_piece(self._revive, queues, wanted, limit)

    async def redrive_one(
        self, queues: Sequence[Queue], message_id: str, data: bytes | None = None, function_id: str | None = None
    ) -> int:
        """
        Deliver one dead letter again, perhaps changed.

        @param data: A new payload.
        @param function_id: A new function, in the same namespace.
        @return: 1, or 0 when it is none.
        """
        for queue in queues:
            for job in self._dead_by_id(queue, message_id):
                if function_id is not None:
                    job.function_id = function_id
                await self._revive(queue, [job], data)
                return 1
        return 0

    async def discard(self, queues: Sequence[Queue], wanted: Filter, limit: int | None = None) -> int:
        """Remove dead letters, the oldest first.  @return: How many."""
        return await self._each_piece(self._remove, queues, wanted, limit)

    async def discard_one(self, queues: Sequence[Queue], message_id: str) -> int:
        """Remove one dead letter.  @return: 1, or 0 when it is none."""
        for queue in queues:
            for job in self._dead_by_id(queue, message_id):
                await self._remove(queue, [job])
                return 1
        return 0

    def _dead_by_id(self, queue: Queue, message_id: str) -> list[Job]:
        found = self._jobs.dead_by_id(queue.name, message_id, PIECE)
        return [job for job in found if job.position not in self._moving][:1]

    async def cancel(self, queues: Sequence[Queue], message_id: str) -> int:
        """Remove a job that waits.  @return: 1, or 0 when there is none, or it runs."""
        for queue in queues:
            for job in self._jobs.unfinished_by_id(queue.name, message_id, PIECE):
                if queue.line.withdraw(job) is not None:
                    await self._remove_withdrawn(queue, [job])
                    return 1
        return 0

    async def unsubscribe(self, topic: str, namespace: str, function_id: str) -> tuple[bool, int]:
        """
        End a subscription whose function is not there, and discard what waits for it; dead letters stay.

        @return: Whether it was one, and how many jobs have been discarded.
        """
        subscription = self._topics.subscriptions.get(topic, {}).get((namespace, function_id))
        if subscription is not None and (subscription.wishes or not await self._topics.end(subscription)):
            return False, 0
        queue = self._dispatcher.queues.get(internal_name(topic, namespace, function_id))
        return subscription is not None, 0 if queue is None else await self.expire(queue, FOR_EVER)

    async def expire(self, queue: Queue, until_ms: int) -> int:
        """
        Remove what has waited since then in a queue that nobody serves, until somebody does.

        @return: How many were removed.
        """
        removed = 0
        async for jobs in self._waiting(queue, until_ms):
            if queue.line.attended:
                break
            taken = [job for job in jobs if queue.line.withdraw(job) is not None]
            await self._remove_withdrawn(queue, taken)
            removed += len(taken)
        return removed

    async def _waiting(self, queue: Queue, until_ms: int) -> AsyncIterator[list[Job]]:
        """Go over jobs that could have run since then, in pieces.  Those that wait in line stand there by age."""
        start = BEGIN
        while found := self._jobs.ready(queue.name, start, PIECE):
            old = [job for job in found if job.due_ms <= until_ms]
            if old:
                yield old
            if len(found) < PIECE or found[-1].due_ms > until_ms:
                break
            start = found[-1].rank, found[-1].position + 1
            await self._breathe()
        start = BEGIN
        while found := self._jobs.due(queue.name, start, until_ms, PIECE):
            yield found
            if len(found) < PIECE:
                break
            start = found[-1].due_ms, found[-1].position + 1
            await self._breathe()

    async def _breathe(self) -> None:
        """Let the reactor do something else.  L{StorageError}: meanwhile the queues were stopped."""
        await deferLater(self._clock, 0)
        if self._stopped is not None:
            raise StorageError(STOPPING)

    async def _remove_withdrawn(self, queue: Queue, jobs: Sequence[Job]) -> None:
        try:
            await self._remove(queue, jobs)
        except StorageError:
            for job in jobs:
                queue.line.written(job)
                queue.counts[job.state] -= 1
                self._dispatcher.arrived(queue, job)
            raise
        for job in jobs:
            queue.line.written(job)
        self._dispatcher.serve(queue)

    async def _each_piece(
        self,
        move: Callable[[Queue, list[Job]], Awaitable[None]],
        queues: Sequence[Queue],
        wanted: Filter,
        limit: int | None,
    ) -> int:
        """Do something with dead letters, the oldest first.  @return: With how many."""
        moved = 0
        async for queue, jobs in self._dead(queues, wanted):
            taken = jobs if limit is None else jobs[: limit - moved]
            await move(queue, taken)
            moved += len(taken)
            if moved == limit:
                break
        return moved

    async def _dead(self, queues: Sequence[Queue], wanted: Filter) -> AsyncIterator[tuple[Queue, list[Job]]]:
        """Go over the dead letters that there are now, in pieces."""
        first, last = wanted.span(self._dispatcher.now_ms())
        for queue in queues:
            start: Key = (first, -1)
            while found := self._jobs.dead(queue.name, start, PIECE, last):
                start = found[-1].failed_ms, found[-1].position
                taken = [job for job in found if job.position not in self._moving and wanted.wants(job)]
                if taken:
                    yield queue, taken
                if len(found) < PIECE:
                    break
                await self._breathe()

    async def _revive(self, queue: Queue, jobs: Sequence[Job], data: bytes | None = None) -> None:
        now = self._dispatcher.now_ms()
        changes: list[Change] = []
        revived: list[Job] = []
        for job in jobs:
            given = self._jobs.data(job) if data is None else data
            new = attrs.evolve(
                job, position=self._jobs.next_position(), state=READY, attempts=0, interruptions=0, due_ms=now,
                failed_ms=0, error="", data=given,
            )  # fmt: skip
            changes += [(JOB, (job.position,), None), self._jobs.row(new)]
            revived.append(new)
        await self._write(jobs, changes)
        for new in revived:
            queue.counts[DEAD] -= 1
            self._dispatcher.arrived(queue, new)

    async def _remove(self, queue: Queue, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        await self._write(jobs, [(JOB, (job.position,), None) for job in jobs])
        for job in jobs:
            queue.counts[job.state] -= 1

    async def _write(self, jobs: Sequence[Job], changes: Sequence[Change]) -> None:
        if self._stopped is not None:
            raise StorageError(STOPPING)
        positions = {job.position for job in jobs}
        self._moving |= positions
        try:
            await self._jobs.write(*changes)
        finally:
            self._moving -= positions
            if self._stopped is not None and not self._moving:
                self._stopped.callback(None)
