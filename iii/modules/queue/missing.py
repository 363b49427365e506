"""
Functions that are not there: which queues wait for them, and since when (docs/queue.md).

Their jobs stay on disk: L{iii.modules.queue.delivery.Line.park} notes where they begin.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from iii.core.functions import FunctionTable
from iii.modules.queue.jobs import Job, Target
from iii.modules.queue.queues import Queue

FORGET_AFTER = 60
"""Seconds after which it is forgotten since when a function is missing that nothing waits for."""


@attrs.define
class Missing:
    """
    A function that some queue waits for.

    @ivar since_ms: When it was first missed.
    @ivar unused: How many seconds nothing has been parked for it.
    """

    since_ms: int
    queues: dict[Queue, None] = attrs.field(factory=dict)
    unused: int = 0


class MissingFunctions:
    """Lets the jobs of a function go on when that comes, or when they have waited too long."""

    def __init__(self, functions: FunctionTable, serve: Callable[[Queue], None]) -> None:
        """@param serve: Called with a queue of which jobs may go on."""
        self._functions, self._serve = functions, serve
        self._missing: dict[Target, Missing] = {}

    def start(self) -> None:
        """Watch for functions that come."""
        self._functions.observers.append(self._changed)

    def stop(self) -> None:
        """Watch no more, if that was begun."""
        if self._changed in self._functions.observers:
            self._functions.observers.remove(self._changed)

    def deadline_ms(self, queue: Queue, job: Job, target: Target, now_ms: int) -> int:
        """When a job will have waited too long for a function that is not there now."""
        missing = self._missing.get(target)
        since = now_ms if missing is None else missing.since_ms
        return max(job.due_ms, since) + queue.line.policy.missing_function_timeout_ms

    def park(self, queue: Queue, job: Job, target: Target, deadline_ms: int, now_ms: int) -> bool:
        """Let a job that runs wait for a function.  @return: C{False}: its queue waits for too many already."""
        if not queue.line.park(job, target, deadline_ms):
            return False
        self._missing.setdefault(target, Missing(now_ms)).queues[queue] = None
        return True

    def look(self, now_ms: int) -> None:
        """Once a second: end the wait for functions that do not come."""
        for target, missing in list(self._missing.items()):
            waiting = [queue for queue in missing.queues if target in queue.line.parked]
            missing.unused = 0 if waiting else missing.unused + 1
            if missing.unused > FORGET_AFTER:
                del self._missing[target]
            for queue in waiting:
                if queue.line.parked.overdue(target, now_ms):
                    queue.line.release(target)
                    self._serve(queue)

    def _changed(self, namespace: str, function_id: str) -> None:
        target = namespace, function_id
        if target not in self._missing or self._functions.find(namespace, function_id) is None:
            return
        for queue in self._missing.pop(target).queues:
            queue.line.release(target)
            self._serve(queue)
