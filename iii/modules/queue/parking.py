"""
Where on disk the jobs of functions that are not there begin (docs/queue.md).  Pure.

A parked job is not in memory.  Of each function only the first place is known from which on its jobs are to be read
again when it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from iii.modules.queue.jobs import DELAYED, Job, Key, Target

MAX_MISSING = 1000
"""Functions that a line parks jobs for at one time."""


@attrs.define
class Parked:
    """
    The jobs of one function.

    @ivar deadline_ms: When the first of them has waited too long.
    @ivar ready: Where those begin that may run, if there are any; likewise C{due}, of those that may since a moment.
    """

    deadline_ms: int
    ready: Key | None = None
    due: Key | None = None


class Parking:
    """The functions of which jobs of one queue are parked."""

    def __init__(self, limit: int = MAX_MISSING) -> None:
        """@param limit: So many functions."""
        self._limit = limit
        self._parked: dict[Target, Parked] = {}

    def __len__(self) -> int:
        return len(self._parked)

    def __iter__(self) -> Iterator[Target]:
        return iter(self._parked)

    def __contains__(self, target: object) -> bool:
        return target in self._parked

    def begin(self, target: Target, deadline_ms: int) -> bool:
        """Park jobs of a function, until then at the latest.  @return: C{False}: there are too many functions."""
        parked = self._parked.get(target)
        if parked is None:
            if len(self._parked) >= self._limit:
                return False
            self._parked[target] = Parked(deadline_ms)
        else:
            parked.deadline_ms = min(parked.deadline_ms, deadline_ms)
        return True

    def note(self, target: Target, job: Job) -> None:
        """One of its jobs stands there."""
        parked = self._parked[target]
        if job.state == DELAYED:
            place = job.due_ms, job.position
            parked.due = place if parked.due is None else min(parked.due, place)
        else:
            self.pass_over((target,), (job.rank, job.position))

    def pass_over(self, targets: Iterable[Target], start: Key) -> None:
        """From there on jobs are read, and those of these functions left out."""
        for target in targets:
            parked = self._parked[target]
            parked.ready = start if parked.ready is None else min(parked.ready, start)

    def overdue(self, target: Target, now_ms: int) -> bool:
        """Whether some job has waited too long for a function."""
        return self._parked[target].deadline_ms <= now_ms

    def end(self, target: Target) -> Parked | None:
        """Its jobs are to be read again: return from where on; C{None} if there are none."""
        return self._parked.pop(target, None)
