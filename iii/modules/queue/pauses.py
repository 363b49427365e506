"""
Which queues are paused, also after a restart (docs/queue.md).

What is paused is a named queue or a topic as users know it, not what it consists of at the moment: a subscriber that
comes to a paused topic waits, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from iii.modules.queue.dispatcher import Dispatcher
from iii.modules.queue.errors import QueueNotFound
from iii.modules.queue.jobs import IStore
from iii.modules.queue.named import PREFIX
from iii.modules.queue.queues import Queue
from iii.storage.schema import PAUSED_QUEUE

TOPIC = "topic::"
"""Stands before the name of a topic on disk, where a named queue has its internal name."""


class Pauses:
    """Pauses and resumes queues."""

    def __init__(self, dispatcher: Dispatcher, store: IStore) -> None:
        self._dispatcher, self._store = dispatcher, store
        self._paused: set[str] = set()

    def start(self) -> None:
        """Take up what is on disk.  L{iii.storage.errors.StorageError}: it cannot be read."""
        self._paused = {name for (name,) in self._store.read("SELECT queue FROM paused_queue", ())}

    def hold(self, queue: Queue) -> None:
        """Let a queue that comes up start no jobs if it is paused."""
        queue.line.paused = _stored_name(queue) in self._paused

    async def pause(self, name: str, queues: Sequence[Queue]) -> None:
        """
        Start no more jobs; those that run go on.

        @param queues: Those of this name.
        @raise QueueNotFound: There are none.
        @raise StorageError: Nothing has changed.
        """
        if not queues:
            raise QueueNotFound(name)
        names, now = {_stored_name(queue) for queue in queues}, self._dispatcher.now_ms()
        await self._store.write(*((PAUSED_QUEUE, (each,), (now,)) for each in names))
        self._paused |= names
        for queue in self._dispatcher.queues.values():
            self.hold(queue)

    async def resume(self, name: str, queues: Sequence[Queue]) -> None:
        """
        Start jobs again.

        @param queues: Those of this name; of a topic that is paused, they may all have gone.
        @raise QueueNotFound: There are none, and nothing of this name is paused.
        @raise StorageError: Nothing has changed.
        """
        names = {_stored_name(queue) for queue in queues} or {PREFIX + name, TOPIC + name} & self._paused
        if not names:
            raise QueueNotFound(name)
        await self._store.write(*((PAUSED_QUEUE, (each,), None) for each in names))
        self._paused -= names
        for queue in self._dispatcher.queues.values():
            if _stored_name(queue) in names:
                self.hold(queue)
                self._dispatcher.serve(queue)


def _stored_name(queue: Queue) -> str:
    return TOPIC + queue.shown if queue.topic else queue.name
