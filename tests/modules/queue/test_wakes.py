"""Tests for the timer of all queues."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.queue.wakes import Wakes


class WakesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.woken = Clock(), list[str]()
        self.wakes: Wakes[str] = Wakes(self.clock, self.woken.append)

    def test_in_time(self) -> None:
        """A thing is woken at its moment, once; of several moments, at the first one."""
        for thing, moment in (("a", 3000), ("b", 2000), ("a", 1000), ("a", 5000)):
            self.wakes.at(thing, moment)
        self.clock.advance(0.999)
        self.assertEqual(self.woken, [])
        self.clock.advance(0.001)
        self.assertEqual(self.woken, ["a"])
        self.clock.pump([1, 1, 1, 1, 1])
        self.assertEqual(self.woken, ["a", "b"])
        self.assertEqual((len(self.wakes), self.clock.getDelayedCalls()), (0, []))

    def test_again(self) -> None:
        """What is woken may name its next moment at once."""
        self.wakes = Wakes(self.clock, self.wake_again)
        self.wakes.at("a", 1000)
        self.clock.pump([1, 1])
        self.assertEqual(self.woken, ["a", "a"])
        self.wakes.stop()

    def wake_again(self, thing: str) -> None:
        self.woken.append(thing)
        self.wakes.at(thing, int(self.clock.seconds() * 1000) + 1000)

    def test_nearer_and_nearer(self) -> None:
        """A thing whose moment comes nearer again and again is remembered once, and woken once."""
        self.wakes.at("b", 2000)
        for moment in range(100_000, 1000, -1):
            self.wakes.at("a", moment)
        self.assertLess(len(self.wakes._order), 200)
        self.clock.pump([1, 1, 100])
        self.assertEqual((self.woken, self.clock.getDelayedCalls()), (["a", "b"], []))

    def test_stop(self) -> None:
        """After stopping nobody is woken."""
        self.wakes.at("a", 1000)
        self.wakes.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
