"""Tests for L{iii.core.complaints}."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iii.core.complaints import Complaints


class ComplaintsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[Any] = []
        self.complaints = Complaints(Logger(observer=self.events.append), self.clock)

    def texts(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def test_first(self) -> None:
        """A warning is logged at once."""
        self.complaints.warn("{id} is odd", id="x")
        self.assertEqual(self.texts(), ["x is odd"])

    def test_many(self) -> None:
        """Of those within a second one is logged; the next one says how many were not."""
        for _ in range(4):
            self.complaints.warn("{id} is odd", id="x")
        self.clock.advance(1)
        self.complaints.warn("odd")
        self.clock.advance(1)
        self.complaints.warn("odd again")
        self.assertEqual(self.texts(), ["x is odd", "odd (and 3 more warnings before it)", "odd again"])

    def test_error(self) -> None:
        """An error is logged as one, and counts like a warning."""
        self.complaints.error("{path}: full", path="store.db")
        self.complaints.warn("odd")
        self.assertEqual(self.texts(), ["store.db: full"])
        self.assertEqual(self.events[0]["log_level"], LogLevel.error)

    def test_harmless(self) -> None:
        """What terminals could obey does not reach the log, nor does very much."""
        self.complaints.warn("{id}, {number}", id="\x1b[2J{x}" + 1000 * "x", number=1)
        (text,) = self.texts()
        self.assertTrue(text.startswith(r"'\x1b[2J{x}x") and text.endswith("…', 1"), text)
        self.assertLess(len(text), 250)
