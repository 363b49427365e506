"""Tests for L{iii.core.budget}."""

from __future__ import annotations

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from iii.core.budget import Budget, Kept, detach, detached, size_of
from iii.core.errors import TooManyRegistrations
from iii.wire.messages import ABSENT, RegisterFunction


class BudgetTests(SynchronousTestCase):
    def test_limit(self) -> None:
        """Bytes can be taken up to the limit, and again when they were given back."""
        budget = Budget(10)
        budget.take(10)
        self.assertEqual((budget.room(0), budget.room(1)), (True, False))
        self.assertRaises(TooManyRegistrations, budget.take, 1)
        budget.release(4)
        self.assertTrue(budget.room(4))
        self.assertEqual(budget.used, 6)


class KeptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.budget = Budget(10)
        self.kept: Kept[str] = Kept(self.budget)

    def test_kept(self) -> None:
        """Keys stay in their order, and take the bytes behind them."""
        self.kept.keep("b", 3)
        self.kept.keep("a", 4)
        self.assertEqual((list(self.kept), len(self.kept), "a" in self.kept), (["b", "a"], 2, True))
        self.assertEqual(self.budget.used, 7)
        del self.kept["b"]
        self.assertEqual((list(self.kept), self.budget.used), (["a"], 4))

    def test_replaced(self) -> None:
        """What replaces a key takes what it is larger by; smaller it may always be."""
        self.kept.keep("a", 8)
        self.kept.keep("a", 10)
        self.assertRaises(TooManyRegistrations, self.kept.check, "a", 11)
        self.assertRaises(TooManyRegistrations, self.kept.keep, "a", 11)
        self.assertEqual(self.budget.used, 10)
        self.kept.keep("a", 9)
        self.assertEqual(self.budget.used, 9)


class MessageTests(SynchronousTestCase):
    def test_size(self) -> None:
        """Texts count as UTF-8, payloads as they are."""
        self.assertEqual(size_of("é", Raw(b"[1]"), None, ABSENT), 5)

    def test_detached(self) -> None:
        """Payloads are the same afterwards; one that is not there stays the one that is left out."""
        message = RegisterFunction("f", metadata=Raw(b"[1]"))
        detach(message)
        self.assertEqual(bytes(message.metadata), b"[1]")
        self.assertIs(message.request_format, ABSENT)

    def test_unreadable(self) -> None:
        """An integer that Python does not read by default becomes null; the largest that it reads stays."""
        text = b'{"a": 1, "n": %s}'
        self.assertEqual(bytes(detached(Raw(text % (b"9" * 4301)))), b'{"a":1,"n":null}')
        self.assertEqual(bytes(detached(Raw(text % (b"9" * 4300)))), text % (b"9" * 4300))
