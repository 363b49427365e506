"""Tests for the record of what has become of jobs."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail

from iii.modules.queue.ledger import LINGER
from iii.storage.batch import Change
from iii.storage.errors import StoreFull
from tests.modules.queue.case import QueueTestCase


class LingerTests(QueueTestCase):
    """When what has become of jobs is written."""

    linger = LINGER

    def setUp(self) -> None:
        super().setUp()
        self.worker.register("f")

    def test_ends_together(self) -> None:
        """The ends of jobs are written together, a short while after the first one."""
        for number in range(3):
            self.enqueue(number)
        for job in self.jobs():
            self.answer(job)
        self.assertEqual(len(self.rows()), 3)
        self.turn(LINGER)
        self.assertEqual(self.rows(), [])

    def test_room_at_once(self) -> None:
        """The next job does not wait for that."""
        for number in range(11):
            self.enqueue(number)
        self.answer(self.jobs()[0])
        self.assertEqual((len(self.jobs()), len(self.rows())), (11, 11))

    def test_retry(self) -> None:
        """What a job waits for is written at once, with the ends that wait."""
        self.enqueue(1)
        self.enqueue(2)
        self.answer(self.jobs()[0])
        self.fail_job(self.jobs()[1])
        self.assertEqual(self.rows("state, attempts"), [(1, 1)])

    def test_listing(self) -> None:
        """A listing does not show what has ended."""
        self.enqueue(1)
        self.answer(self.jobs()[0])
        self.assertEqual(self.ask("engine::queue::jobs", {"queue": "default"}), [])

    def test_stop(self) -> None:
        """What waits is written when the engine stops."""
        self.enqueue(1)
        self.answer(self.jobs()[0])
        self.module.stopService()
        self.assertEqual(self.rows(), [])

    def test_full_memory(self) -> None:
        """In memory that is full, the ends of jobs make room for the retries of others, and all goes on."""
        self.enqueue("a" * 10_000)
        self.enqueue("b")
        (large, small), record = self.jobs(), self.store.record

        def full(*changes: Change) -> Deferred[None]:
            no_room = self.rows() and any(values is not None for _, _, values in changes) and len(self.rows()) > 1
            return fail(StoreFull("engine.limits.memory_store_bytes", 1)) if no_room else record(*changes)

        self.patch(self.store, "record", full)
        self.fail_job(small)
        self.answer(large)
        self.turn(1)
        self.assertEqual(self.rows("state, attempts"), [(0, 0)])
        self.turn(1)
        self.assertEqual(self.rows("state, attempts"), [(1, 1)])
        self.enqueue("c")
        self.assertEqual(self.payloads()[-1], "c")
        self.flushLoggedErrors()
