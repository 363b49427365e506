"""Tests for L{iii.core.shown}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.core.shown import shown


class ShownTests(SynchronousTestCase):
    def test_shown(self) -> None:
        """Plain texts stay as they are; others are literals, and long ones are cut."""
        for text, expected in (
            ("orders::create", "orders::create"),
            ("é x", "é x"),
            ("", "''"),
            ("a\nb", r"'a\nb'"),
            ("\x1b[31m", r"'\x1b[31m'"),
            ("\u202eabc", r"'\u202eabc'"),
            (201 * "x", 200 * "x" + "…"),
        ):
            self.assertEqual(shown(text), expected)
