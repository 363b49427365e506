"""Tests for L{tests.reference}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.reference import PAGE, reference


class ReferenceTests(SynchronousTestCase):
    def test_up_to_date(self) -> None:
        """C{docs/configuration.md} is what C{python -m tests.reference} writes."""
        self.assertEqual(PAGE.read_text(), reference())
