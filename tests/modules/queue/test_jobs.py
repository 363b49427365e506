"""Tests for how jobs are found on disk."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from iii.modules.queue.jobs import JobStore
from iii.storage.volatile import VolatileStore


class PlannedStore(VolatileStore):
    """
    A store that notes how it reads.

    @ivar plans: Of each statement, in SQLite's words.
    """

    def __init__(self) -> None:
        super().__init__(2**20)
        self.plans: list[str] = []

    def read(self, statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        self.plans += [row[-1] for row in super().read(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        return super().read(statement, parameters)


class FindingTests(SynchronousTestCase):
    def test_by_id(self) -> None:
        """A message is found by its receipt, without going over its queue, however long that is."""
        store = PlannedStore()
        jobs = JobStore(store)
        jobs.dead_by_id("q", "i", 1)
        jobs.unfinished_by_id("q", "i", 1)
        self.assertEqual(
            [plan for plan in store.plans if "SEARCH" in plan], ["SEARCH job USING INDEX job_id (id=?)"] * 2
        )
