"""Tests for L{iii.storage.checks}; those of what uses it test it, too."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.storage.checks import ValueTooDeep, ValueTooLarge, check_depth, check_size, largest_value, page
from iii.storage.updates import DEEPEST


class CheckTests(SynchronousTestCase):
    def test_depth(self) -> None:
        """Brackets in texts do not count."""
        check_depth(b"[" * DEEPEST + b"]" * DEEPEST)
        check_depth(b'"' + b"[" * 1000 + b'"')
        with self.assertRaises(ValueTooDeep):
            check_depth(b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1))

    def test_largest(self) -> None:
        """An answer can hold a value twice, whatever the settings allow."""
        self.assertEqual(largest_value(None, 2**20), (2**20 - 2**16) // 2)
        self.assertEqual(largest_value(2**30, 2**20), (2**20 - 2**16) // 2)
        self.assertEqual(largest_value(100, 2**20), 100)

    def test_size(self) -> None:
        """Spaces between the parts of a value do not count, those in texts do."""
        check_size(b"[1,2]", 5)
        check_size(b"[ 1 , 2 ]", 5)
        with self.assertRaises(ValueTooLarge) as caught:
            check_size(b'" 1 2 " ', 6)
        self.assertEqual((caught.exception.size, caught.exception.limit), (7, 6))


class PageTests(SynchronousTestCase):
    ITEMS = [("b", b"1"), ("a", b"2"), ("é", b"3"), ("z", b"4")]

    def test_all(self) -> None:
        """Without limits items stay in their order."""
        self.assertEqual(page(self.ITEMS, None, None), self.ITEMS)

    def test_pages(self) -> None:
        """Pages are in the order of the keys, by code point, and end."""
        found: list[str] = []
        after: str | None = None
        while items := page(self.ITEMS, after, 3):
            found += [key for key, _ in items]
            after = items[-1][0]
        self.assertEqual(found, ["a", "b", "z", "é"])

    def test_after_what_is_gone(self) -> None:
        """A key need not be there for what comes after it."""
        self.assertEqual(page(self.ITEMS, "aa", None), [("b", b"1"), ("z", b"4"), ("é", b"3")])
