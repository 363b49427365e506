from __future__ import annotations

import random
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.cron.schedule import LATE, Due, Schedule


class Every:
    """Due at each multiple of a period; counts how often it was asked."""

    def __init__(self, period: int, last: int = 10**12) -> None:
        self.period, self.last, self.asked = period, last, 0

    def after(self, instant: int) -> int | None:
        self.asked += 1
        found = (instant // self.period + 1) * self.period
        return found if found <= self.last else None


def take(schedule: Schedule[str], now: float, limit: int = 1000) -> list[Due[str]]:
    """Take out what is due."""
    return list(islice(iter(lambda: schedule.take(now), None), limit))


class ScheduleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.schedule: Schedule[str] = Schedule()

    def due(self, now: float, limit: int = 100) -> list[tuple[str, int]]:
        """What is due and not missed."""
        found = take(self.schedule, now, limit)
        self.assertFalse([each for each in found if each.missed])
        return [(each.job, each.slot) for each in found]

    def test_due(self) -> None:
        """A job is due at its slot, not before, once, and then at the next."""
        self.schedule.add("job", Every(60), 0, 5)
        self.assertEqual(self.due(59.9), [])
        self.assertEqual(self.due(60.2), [("job", 60)])
        self.assertEqual(self.due(60.3), [])
        self.assertEqual(self.schedule.next_slot("job"), 120)

    def test_strictly_after(self) -> None:
        """A slot at which a job comes is not its own."""
        self.schedule.add("job", Every(60), 0, 60)
        self.assertEqual(self.schedule.next_slot("job"), 120)

    def test_early_timer(self) -> None:
        """A timer that is early by less than a millisecond does not cost a second."""
        self.schedule.add("job", Every(60), 0, 5)
        self.assertEqual(self.due(59.9995), [("job", 60)])

    def test_no_drift(self) -> None:
        """However late one looks, the slots are those of the expression."""
        self.schedule.add("job", Every(10), 0, 0)
        found = [slot for tick in range(1, 100) for _, slot in self.due(tick * 1.07 + 0.3)]
        self.assertEqual(found, list(range(10, 110, 10))[: len(found)])
        self.assertEqual(len(found), 10)

    def test_offset(self) -> None:
        """A job with an offset is due so much later; its slot stays that of the expression."""
        self.schedule.add("job", Every(60), 25, 0)
        self.assertEqual(self.due(24.0), [])
        self.assertEqual(self.due(25.0), [("job", 0)])
        self.assertEqual(self.due(84.9), [])
        self.assertEqual(self.due(85.0), [("job", 60)])

    def test_late(self) -> None:
        """Several slots that pass while the engine is busy are one run, the latest."""
        self.schedule.add("job", Every(1), 0, 0)
        self.assertEqual(self.due(5.5), [("job", 5)])
        self.assertEqual(self.due(6.0), [("job", 6)])

    def test_forward_jump(self) -> None:
        """When the clock jumps forward, a slot that is long past is missed, and the next one lies in the future."""
        self.schedule.add("daily", Every(86400), 0, 0)
        self.assertEqual(take(self.schedule, 86400.0 + LATE + 1), [Due("daily", 86400, True)])
        self.assertEqual(self.schedule.next_slot("daily"), 2 * 86400)

    def test_recent_slot_after_jump(self) -> None:
        """A slot that has just come is due, however many were missed before it."""
        self.schedule.add("job", Every(60), 0, 0)
        self.assertEqual(self.due(36000.0 + LATE), [("job", 36000)])
        self.assertEqual(self.schedule.next_slot("job"), 36060)

    def test_jump_is_cheap(self) -> None:
        """A year of missed seconds is not counted second by second."""
        every = Every(1)
        self.schedule.add("job", every, 0, 0)
        self.assertEqual(self.due(365 * 86400.0), [("job", 365 * 86400)])
        self.assertLess(every.asked, 3 * LATE)

    def test_backward_jump(self) -> None:
        """When the clock jumps back, no slot is due twice."""
        self.schedule.add("job", Every(60), 0, 0)
        self.assertEqual(self.due(600.0), [("job", 600)])
        self.assertEqual([slot for now in range(1, 660) for slot in self.due(float(now))], [])
        self.assertEqual(self.due(660.0), [("job", 660)])

    def test_last_slot(self) -> None:
        """A job without a further slot leaves; one without any never comes."""
        self.schedule.add("job", Every(60, last=60), 0, 0)
        self.schedule.add("never", Every(60, last=60), 0, 100)
        self.assertEqual(len(self.schedule), 1)
        self.assertEqual(self.due(60.0), [("job", 60)])
        self.assertEqual((len(self.schedule), self.schedule.next_slot("job")), (0, None))

    def test_remove(self) -> None:
        """A job that has been removed is due no more, and can come again."""
        self.schedule.add("job", Every(60), 0, 0)
        self.schedule.remove("job")
        self.schedule.remove("job")
        self.schedule.add("job", Every(70), 0, 0)
        self.assertEqual(self.due(65.0), [])
        self.assertEqual(take(self.schedule, 70.0 * 2), [Due("job", 140, False)])

    def test_removed_places(self) -> None:
        """Jobs that come and go leave nothing behind."""
        for number in range(10_000):
            self.schedule.add("job", Every(60), 0, number)
        self.assertLess(len(self.schedule._heap), 100)

    def test_many_removed(self) -> None:
        """When most jobs have gone, those that stay are due in time."""
        dice = random.Random(1)
        periods = {str(number): dice.randrange(1, 5000) for number in range(2000)}
        for name, period in periods.items():
            self.schedule.add(name, Every(period), 0, 0)
        gone = dice.sample(sorted(periods), 1900)
        for name in gone:
            self.schedule.remove(name)
            del periods[name]
        due: dict[str, int] = {}
        for now in range(5000):
            for name, _ in self.due(float(now), 1000):
                due.setdefault(name, now)
        self.assertEqual(due, periods)

    def test_limit(self) -> None:
        """What is due is given out in portions, in the order of its times, then of its coming."""
        for name in "dcba":
            self.schedule.add(name, Every(60), 0, 0)
        self.schedule.add("first", Every(59), 0, 0)
        self.assertEqual([job for job, _ in self.due(60.0, 3)], ["first", "d", "c"])
        self.assertEqual([job for job, _ in self.due(60.0, 3)], ["b", "a"])

    def test_idle(self) -> None:
        """Looking while nothing is due asks nothing of ten thousand jobs."""
        jobs = [Every(86400) for _ in range(10_000)]
        for number, every in enumerate(jobs):
            self.schedule.add(str(number), every, 0, 0)
        asked = sum(each.asked for each in jobs)
        for now in range(1000):
            self.assertEqual(self.due(float(now)), [])
        self.assertEqual(sum(each.asked for each in jobs), asked)

    @given(st.lists(st.floats(-100, 400, allow_nan=False), max_size=60), st.integers(1, 90), st.integers(0, 100))
    @settings(max_examples=200, deadline=None)
    def test_any_clock(self, steps: list[float], period: int, offset: int) -> None:
        """Whatever the clock does, a slot comes once, in order, when its time has come."""
        schedule: Schedule[str] = Schedule()
        now = 1000.0
        schedule.add("job", Every(period), offset, int(now))
        slots: list[int] = []
        for step in steps:
            now += step
            for due in take(schedule, now):
                self.assertLessEqual(due.slot + offset, now + 0.01)
                self.assertEqual(due.slot % period, 0)
                if not due.missed:
                    self.assertGreaterEqual(due.slot + offset, now - LATE - 1)
                slots.append(due.slot)
        self.assertEqual(slots, sorted(set(slots)))

    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(0, 9)), max_size=300))
    @settings(max_examples=100, deadline=None)
    def test_coming_and_going(self, steps: list[tuple[int, int, int]]) -> None:
        """Whatever comes and goes in between, exactly those are due whose time has come, in its order."""
        schedule: Schedule[str] = Schedule()
        present: dict[str, int] = {}
        now = 0
        for name, period, elapsed in steps:
            if period:
                schedule.add(str(name), Every(period), 0, now)
                present[str(name)] = (now // period + 1) * period
            else:
                schedule.remove(str(name))
                present.pop(str(name), None)
            if elapsed < 3:
                now += elapsed * 10
                found = take(schedule, float(now))
                self.assertEqual({each.job for each in found}, {job for job, due in present.items() if due <= now})
                present = {job: due if due > now else schedule.next_slot(job) or 0 for job, due in present.items()}
                self.assertEqual(len(schedule), len(present))
