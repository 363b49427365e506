"""Tests for the bounds of a line; its order is tested on random histories."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from iii.config.blocks.queue import RateLimit
from iii.modules.queue.delivery import Line
from iii.modules.queue.groups import Groups
from iii.modules.queue.jobs import DELAYED, Job
from iii.modules.queue.retry import Policy
from tests.modules.queue.fakes import Disk, job


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = Disk()

    def line(self, window: int = 4, **policy: Any) -> Line:
        return Line(Policy(**policy), window=window)

    def store(self, line: Line, *jobs: Job) -> None:
        """Jobs have come and are on disk."""
        for each in jobs:
            self.disk.rows[each.position] = each
            if each.state == DELAYED:
                line.put_off(each)
            else:
                line.arrived(each)

    def started(self, line: Line, now_ms: int = 0) -> list[int]:
        """Start what starts, reading what is wanted, and return the positions."""
        started = []
        while True:
            while (piece := line.wanted(now_ms)) is not None:
                self.disk.answer(line, piece, now_ms)
            taken = line.next(now_ms)
            if taken is None:
                return started
            started.append(taken.position)

    def test_window(self) -> None:
        """However many come, only some are known; the others are read when these have started."""
        line = self.line(concurrency=1000)
        self.store(line, *(job(number) for number in range(1, 101)))
        self.assertLessEqual(line.waiting, 8)
        self.assertEqual(self.started(line), list(range(1, 101)))

    def test_slow_disk(self) -> None:
        """What has ended and is still being written keeps nothing from being read."""
        line = self.line(concurrency=1)
        self.store(line, *(job(number) for number in range(1, 101)))
        for number in range(1, 101):
            self.assertEqual(self.started(line), [number])
            line.done(line.running[number])

    def test_large_groups(self) -> None:
        """A group that cannot run keeps no jobs in memory, and no other group from running."""
        line = self.line(ordered="groups", concurrency=2)
        self.store(line, *(job(number, group="a") for number in range(1, 101)), job(101, group="b"))
        self.assertEqual(self.started(line), [1, 101])
        first = line.running[1]
        line.failed(first)
        assert line.groups is not None
        self.assertEqual((line.waiting, line.groups.kept), (0, 0))

    def test_slow_groups(self) -> None:
        """However many jobs are kept behind one that runs, the jobs of other groups are read."""
        line = self.line(ordered="groups", concurrency=2)
        self.store(line, *(job(number, group="a") for number in range(1, 41)))
        for number in range(1, 6):
            self.assertEqual(self.started(line), [number])
            line.done(line.running[number])
            self.disk.rows.pop(number)
        self.assertEqual(self.started(line), [6])
        self.store(line, *(job(number, group="b") for number in range(41, 44)))
        for number in range(41, 44):
            self.assertEqual(self.started(line), [number])
            line.done(line.running[number])
            self.disk.rows.pop(number)

    def test_withdrawn_head(self) -> None:
        """When a job whose function is not there is withdrawn, its group no longer waits for that function."""
        line = self.line(ordered="groups")
        delayed = job(1, group="a", function_id="gone", state=DELAYED)
        self.disk.rows = {1: delayed, 2: job(2, group="a")}
        self.disk.load(line)
        self.assertEqual(self.started(line), [1])
        line.park(line.running[1], ("default", "gone"), 99)
        self.assertEqual(self.started(line), [])
        self.assertIsNotNone(line.withdraw(self.disk.rows[1]))
        self.assertEqual(self.started(line), [2])

    def test_withdrawn_in_vain(self) -> None:
        """A job whose removal has failed is in its group again, at its place among those that have not started."""
        line = self.line(ordered="groups")
        self.store(line, *(job(number, group="a") for number in range(1, 4)))
        self.assertIsNotNone(line.withdraw(self.disk.rows[1]))
        line.written(self.disk.rows[1])
        line.arrived(self.disk.rows[1])
        self.assertEqual(self.started(line), [2])
        line.park(line.running[2], ("default", "f"), 99)
        line.release(("default", "f"))
        self.assertEqual(self.started(line), [1])

    def test_many_groups(self) -> None:
        """So many groups are known; more wait until one has ended."""
        line = self.line(ordered="groups", concurrency=10)
        line.groups = Groups(limit=2)
        self.store(line, *(job(number, group=f"g{number}") for number in range(1, 5)))
        self.assertEqual(self.started(line), [1, 2])
        line.done(line.running[1])
        self.disk.rows.pop(1)
        self.assertEqual(self.started(line), [3])

    def test_many_missing(self) -> None:
        """Jobs of so many functions are parked; those of more are not."""
        line = Line(Policy(), max_missing=1)
        self.store(line, job(1, function_id="a"), job(2, function_id="b"))
        self.assertEqual(self.started(line), [1, 2])
        first, second = line.running[1], line.running[2]
        self.assertTrue(line.park(first, first.target, 99))
        self.assertFalse(line.park(second, second.target, 99))
        self.assertEqual(list(line.running), [2])

    def test_missing_condition(self) -> None:
        """When the condition of a queue is not there, one job is tried, and the others stay where they are."""
        line = self.line(concurrency=10)
        line.ask(("default", "want"))
        self.store(line, *(job(number) for number in range(1, 21)))
        first = line.next(0)
        assert first is not None
        line.park(first, ("default", "want"), 99)
        self.store(line, job(21))
        self.assertEqual((self.started(line), line.wanted(0)), ([], None))
        line.release(("default", "want"))
        self.assertEqual(self.started(line), list(range(1, 11)))

    def test_other_condition(self) -> None:
        """What waits for a condition goes on when there is another one, or none."""
        line = self.line()
        line.ask(("default", "want"))
        self.store(line, job(1))
        first = line.next(0)
        assert first is not None
        line.park(first, ("default", "want"), 99)
        line.ask(("default", "want"))
        self.assertEqual(self.started(line), [])
        line.ask(None)
        self.assertEqual(self.started(line), [1])

    def test_hold(self) -> None:
        """Jobs of a function that takes no more calls let others start first, and then stand where they stood."""
        line = self.line(concurrency=2)
        self.store(line, job(1), job(2), job(3, function_id="g"), job(4), job(5, function_id="g"))
        first = line.next(0)
        assert first is not None
        line.hold(first, first.target, 1000)
        self.assertEqual((self.started(line), line.wake_ms(0)), ([3, 5], 1000))
        for number in (3, 5):
            line.done(line.running[number])
        self.assertEqual((self.started(line, 999), self.started(line, 1000)), ([], [1, 2]))

    def test_hold_in_order(self) -> None:
        """Of a queue in order, none starts before one that is held."""
        line = self.line(ordered="queue")
        self.store(line, job(1), job(2, function_id="g"))
        first = line.next(0)
        assert first is not None
        line.hold(first, first.target, 1000)
        self.assertEqual((self.started(line), self.started(line, 1000)), ([], [1]))

    def test_hold_many(self) -> None:
        """Only some of the jobs that are held are known."""
        line = self.line(concurrency=1)
        self.store(line, *(job(number) for number in range(1, 101)), job(101, function_id="g"))
        first = line.next(0)
        assert first is not None
        line.hold(first, first.target, 1000)
        while line.wanted(0) is not None:
            self.assertEqual(self.started(line), [])
        self.assertLessEqual(line._waiting_in_memory, 16)
        for number in range(1, 102):
            self.assertEqual(self.started(line, 1000), [number])
            line.done(self.disk.rows.pop(number))

    def test_hold_withdrawn(self) -> None:
        """A job that is held may be taken out."""
        line = self.line()
        self.store(line, job(1), job(2))
        first = line.next(0)
        assert first is not None
        line.hold(first, first.target, 1000)
        self.assertEqual(self.started(line), [])
        self.assertIs(line.withdraw(job(1)), first)
        self.assertEqual(self.started(line, 1000), [2])

    def test_rate(self) -> None:
        """The line says when the next job may start."""
        line = self.line(rate_limit=RateLimit(jobs=1, per_ms=500))
        self.store(line, job(1), job(2))
        self.assertEqual(self.started(line, 1000), [1])
        self.assertEqual(line.wake_ms(1000), 1501)
        self.assertEqual(self.started(line, 1501), [2])

    def test_next_moment(self) -> None:
        """The line says when the next delayed job may run."""
        line = self.line()
        self.store(line, job(1, state=DELAYED, due_ms=50), job(2, state=DELAYED, due_ms=40))
        self.assertEqual((line.wake_ms(0), self.started(line)), (40, []))
        self.assertEqual((self.started(line, 40), line.wake_ms(40)), ([2], 50))
        self.assertEqual((self.started(line, 50), line.wake_ms(50)), ([1], None))

    def test_unread_come_first(self) -> None:
        """A job that has come due does not overtake earlier ones that are still to be read."""
        self.disk.rows = {1: job(1), 2: job(2, state=DELAYED, due_ms=50)}
        line = self.line(concurrency=1)
        self.disk.load(line)
        piece = line.wanted(50)
        assert piece is not None
        self.disk.answer(line, piece, 50)
        self.assertIsNone(line.next(50))
        self.assertEqual(self.started(line, 50), [1])

    def test_begins_to_be_in_order(self) -> None:
        """A queue that becomes one in order starts nothing before the jobs that failed earlier."""
        line = self.line(concurrency=3)
        self.store(line, *(job(number) for number in range(1, 7)))
        self.assertEqual(self.started(line), [1, 2, 3])
        first, second = line.running[1], line.running[2]
        for each in (first, second):
            line.failed(each)
            each.state, each.due_ms = DELAYED, 50
        line.put_off(first)
        line.follow(Policy(ordered="queue"))
        self.assertEqual(self.started(line), [])
        line.put_off(second)
        line.done(self.disk.rows.pop(3))
        self.assertEqual((self.started(line), self.started(line, 50)), ([], [1]))
        line.done(self.disk.rows.pop(1))
        self.assertEqual(self.started(line, 50), [2])

    def test_order_beside_running(self) -> None:
        """A retry that runs when a queue begins to be in order holds up nothing when it has ended."""
        line = self.line()
        self.store(line, job(1, state=DELAYED), job(2))
        self.assertEqual(self.started(line), [1, 2])
        line.follow(Policy(ordered="queue"))
        self.assertEqual(self.started(line), [])
        self.store(line, job(3))
        for number in (1, 2):
            line.done(self.disk.rows.pop(number))
        self.assertEqual(self.started(line), [3])

    def test_paused(self) -> None:
        """A paused line, or one without anybody to serve it, starts and reads nothing."""
        line = self.line()
        self.store(line, job(1))
        line.paused = True
        self.assertEqual(self.started(line), [])
        line.paused, line.attended = False, False
        self.assertEqual(self.started(line), [])
        line.attended = True
        self.assertEqual(self.started(line), [1])
