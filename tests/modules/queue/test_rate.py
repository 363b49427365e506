"""Tests for how many jobs may start in a time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.config.blocks.queue import RateLimit
from iii.modules.queue.rate import Rate


class RateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.rate = Rate(RateLimit(jobs=2, per_ms=1000))

    def taken(self, now_ms: int) -> int:
        """Take all that there is."""
        taken = 0
        while self.rate.take(now_ms):
            taken += 1
        return taken

    def test_burst(self) -> None:
        """So many as one interval allows start at once, also after a long while."""
        self.assertEqual((self.taken(5000), self.taken(1_000_000)), (2, 2))

    def test_next(self) -> None:
        """The next one starts when its part of the interval has passed, and not before that is said to be."""
        self.assertEqual((self.taken(5000), self.rate.next_ms(5000)), (2, 5501))
        self.assertEqual((self.taken(5400), self.taken(self.rate.next_ms(5400))), (0, 1))

    def test_not_started(self) -> None:
        """What has not started after all takes nothing away."""
        self.taken(5000)
        self.rate.give_back()
        self.assertEqual((self.rate.next_ms(5000), self.taken(5000)), (5000, 1))

    def test_clock_goes_back(self) -> None:
        """When the clock is put back, nothing is lost or won."""
        self.taken(5000)
        self.assertEqual((self.taken(1000), self.taken(1500)), (0, 1))
