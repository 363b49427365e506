"""
What is due next: pure, a heap of the jobs' next times.  The time is passed in, and may jump.

A I{slot} is an instant that a job's expression matches; the job runs at its slot and some seconds, its I{offset}, which
never changes.  Looking costs nothing while nothing is due, however many jobs there are.

Late is not missed: what becomes due while the engine is busy for a moment runs late, several slots of one job once.
When the clock jumps forward, or the machine has slept, the slots that lie further back are missed.  When it jumps back,
nothing happens again: the next slots stay those that they were.
"""

from __future__ import annotations

import heapq
from typing import Generic, NamedTuple, TypeVar

import attrs

from iii.modules.cron.zones import Occurrences

J = TypeVar("J")

LATE = 10
"""Seconds; what is later is missed."""
EARLY = 0.001
"""Seconds; timers are no more exact, and a second later is worse."""


class Due(NamedTuple, Generic[J]):
    """
    A job whose time has come.

    @ivar missed: It came long ago: C{slot} is the first of those that were missed.
    """

    job: J
    slot: int
    missed: bool


@attrs.define(eq=False)
class _Entry(Generic[J]):
    """A job, and what it is due at; when it leaves, its place in the heap stays, and is void."""

    job: J | None
    occurrences: Occurrences
    offset: int
    slot: int | None


class Schedule(Generic[J]):
    """The jobs and their next slots.  Its length is the number of the jobs that have one."""

    def __init__(self) -> None:
        self._entries: dict[J, _Entry[J]] = {}
        self._heap: list[tuple[int, int, _Entry[J]]] = []
        self._number = 0  # orders what is due at the same time, first come first

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, job: J, occurrences: Occurrences, offset: int, since: int) -> None:
        """
        Let a job be due at each of its slots after an instant, and C{offset} seconds.  A job without any is left out.
        """
        self.remove(job)
        self._plan(_Entry(job, occurrences, offset, occurrences.after(since - offset)))

    def remove(self, job: J) -> None:
        """Let a job be due no more, if it is here."""
        entry = self._entries.pop(job, None)
        if entry is not None:
            entry.job = None
            if len(self._heap) > 2 * len(self._entries) + 64:
                self._heap = [each for each in self._heap if each[2].job is not None]
                heapq.heapify(self._heap)

    def next_slot(self, job: J) -> int | None:
        """Return the slot that a job waits for."""
        entry = self._entries.get(job)
        return None if entry is None else entry.slot

    def take(self, now: float) -> Due[J] | None:
        """Return the job that is due first, if one is; it goes on with its next slot."""
        instant = int(now + EARLY)
        while self._heap and self._heap[0][0] <= instant:
            _, _, entry = heapq.heappop(self._heap)
            if entry.job is not None:
                del self._entries[entry.job]  # so that it leaves if its next slot cannot be found
                due = self._advance(entry.job, entry, instant - entry.offset)
                self._plan(entry)
                return due
        return None

    def _advance(self, job: J, entry: _Entry[J], until: int) -> Due[J]:
        """Move an entry to its first slot after an instant, and return what is due of those up to it."""
        first, slot = entry.slot, entry.slot
        assert first is not None and slot is not None
        if slot < until - LATE:
            entry.slot = entry.occurrences.after(until - LATE - 1)
            if entry.slot is None or entry.slot > until:
                return Due(job, first, missed=True)
            slot = entry.slot
        following = entry.occurrences.after(slot)
        while following is not None and following <= until:
            slot, following = following, entry.occurrences.after(following)
        entry.slot = following
        return Due(job, slot, missed=False)

    def _plan(self, entry: _Entry[J]) -> None:
        job = entry.job
        assert job is not None
        if entry.slot is None:
            return
        self._entries[job] = entry
        self._number += 1
        heapq.heappush(self._heap, (entry.slot + entry.offset, self._number, entry))
