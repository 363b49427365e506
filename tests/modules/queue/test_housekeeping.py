"""Tests for what is looked after now and then: ages and numbers (docs/queue.md)."""

from __future__ import annotations

from typing import Any

from iii.modules.queue import operations
from tests.core.fakes import connect
from tests.modules.queue.test_topics import TopicCase

LOOK = 11
"""Seconds, and one look at ages and numbers."""


class HousekeepingTests(TopicCase):
    queues = {
        "brief": {"max_retries": 1, "dlq_retention_ms": 30_000},
        "long": {"max_retries": 1, "dlq_retention_ms": 86_400_000},
    }
    settings = {"absent_subscriber_ms": 100_000}

    def fill(self, count: int, queue: str, state: int = 0, failed_ms: str = "0") -> None:
        """Put jobs on disk, as if they had come long ago, and start again."""
        numbers = f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {count})"
        columns = "1000 + value, 'd' || value, ?, ?, 0, '', 'default', 'f', NULL, NULL, 0, 0, 0, 0"
        self.store._connection.execute(
            f"INSERT INTO job {numbers} SELECT {columns}, {failed_ms}, '', x'31' FROM n", (queue, state)
        )
        self.restart()

    def wait(self, seconds: int) -> None:
        """Let the queues be looked after."""
        for _ in range(seconds):
            self.turn(1)

    def counted(self, name: str) -> list[Any]:
        """Note how often the store is asked for jobs in one way, and for how many."""
        asked: list[Any] = []
        jobs = self.module.dispatcher.jobs
        ask = getattr(jobs, name)

        def count(*given: Any) -> Any:
            asked.append(given)
            return ask(*given)

        setattr(jobs, name, count)
        return asked

    def test_keys(self) -> None:
        """All deduplication keys that count no more are removed, however many there are."""
        numbers = "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 5000)"
        self.store._connection.execute(
            f"INSERT INTO deduplication (queue, key, id, until_ms) {numbers} SELECT 'q', value, 'i', 1 FROM n"
        )
        self.wait(LOOK)
        self.assertEqual(self.store.read("SELECT count(*) FROM deduplication", ()), [(0,)])

    def test_retention(self) -> None:
        """All dead letters whose time is over are removed, however many there are."""
        self.fill(12 * operations.PIECE, "__fn_queue::brief", 2)
        self.wait(LOOK)
        self.assertEqual(self.rows(), [])

    def test_retention_reads(self) -> None:
        """Dead letters whose time is not over are not looked at."""
        self.fill(5 * operations.PIECE, "__fn_queue::long", 2, "1000000000")
        asked = self.counted("dead")
        self.wait(LOOK)
        self.assertEqual((len(asked), len(self.rows())), (1, 5 * operations.PIECE))

    def test_absent(self) -> None:
        """All that waits for nobody goes when its time is over, however much it is."""
        self.fill(5 * operations.PIECE, "orders::f@default")
        self.wait(100 + LOOK)
        self.assertEqual(self.rows(), [])

    def test_absent_reads(self) -> None:
        """What waits for nobody is looked at only as far as its time is over."""
        self.wait(200)
        other = connect(self.engine, "other")
        self.subscribe(other, "f")
        other.leave()
        for number in range(600):
            self.publish(number)
        asked = self.counted("ready")
        self.wait(LOOK)
        self.assertEqual((len(asked), len(self.rows())), (1, 600))

    def test_absent_running(self) -> None:
        """What still runs for a subscriber that has gone does not keep what is behind it."""
        count = operations.PIECE + 10
        self.subscribe(self.worker, "f", queue_config={"concurrency": operations.PIECE})
        for number in range(count):
            self.publish(number)
        self.worker.send("unregistertrigger", id="t", trigger_type="durable:subscriber")
        self.turn()
        self.assertEqual(len(self.jobs()), operations.PIECE)
        self.wait(100 + LOOK)
        self.assertEqual(len(self.rows()), operations.PIECE)

    def test_stop(self) -> None:
        """What goes over many rows ends when the queues stop, and its caller is told."""
        self.fill(3 * operations.PIECE, "__fn_queue::long", 2)
        asked = self.counted("dead")
        given = {"queue": "long", "filter": {"function_id": "none"}}
        call = self.worker.call("iii::queue::redrive", given)
        self.module.stopService()
        self.turn()
        self.assertEqual((self.worker.outcome(call)[0], len(asked)), ("redrive_failed", 1))
