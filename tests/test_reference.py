"""Tests for L{tests.reference}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.reference import PAGE, reference


class ReferenceTests(SynchronousTestCase):
    def test_up_to_date(self) -> None:
        """C{docs/configuration.md} is what C{python -m tests.reference} writes."""
        self.assertEqual(PAGE.read_text(), reference())

    def test_mappings(self) -> None:
        """What a mapping with names of the user's own contains is described, too."""
        self.assertIn("| `missing_function_timeout_ms` |", reference())
