"""Tests for L{iii.core.ordered}."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.ordered import OrderedCalls
from tests.core.fakes import connect, make_engine


class OrderedCallsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = make_engine(self.clock, ordered_backlog=2, call_timeout=60.0)
        self.worker = connect(self.engine, "w")
        self.worker.register("f")
        self.calls = OrderedCalls(self.engine)
        self.ended: list[Any] = []

    def invoke(self, key: str, number: int, function_id: str = "f") -> None:
        def complete(call: Any, result: Raw, error: Any) -> None:
            self.ended.append((number, None if error is None else error.code))

        self.calls.invoke(key, function_id, Raw(b"%d" % number), complete)

    def came(self) -> list[int]:
        """What the worker was asked since the last time."""
        self.clock.advance(0)
        self.asked = self.worker.received("invokefunction")
        self.worker.edge.frames.clear()
        return [call["data"] for call in self.asked]

    def test_one_after_the_other(self) -> None:
        """The next call of a key is made when the one before is answered, in order."""
        for number in (1, 2, 3):
            self.invoke("k", number)
        for number in (1, 2, 3):
            self.assertEqual(self.came(), [number])
            self.worker.answer(self.asked[0], result=None)
        self.assertEqual(self.ended, [(1, None), (2, None), (3, None)])

    def test_keys(self) -> None:
        """Calls of different keys do not wait for each other."""
        for number, key in enumerate("aba"):
            self.invoke(key, number)
        self.assertEqual(self.came(), [0, 1])

    def test_failures(self) -> None:
        """An error, a worker that goes, and one that does not answer in time let the next call through, too."""
        for number in (1, 2, 3):
            self.invoke("k", number)
        self.came()
        self.worker.answer(self.asked[0], error={"code": "boom", "message": ""})
        self.assertEqual(self.came(), [2])
        self.clock.advance(61)
        self.assertEqual(self.came(), [3])
        self.worker.leave()
        self.assertEqual(self.ended, [(1, "boom"), (2, "TIMEOUT"), (3, "invocation_stopped")])

    def test_not_found(self) -> None:
        """A call that ends at once lets the next through; many of them do not pile up on the stack."""
        for number in range(5000):
            self.invoke("k", number, "nobody")
            self.clock.advance(0)
        self.assertEqual(len(self.ended), 5000)

    def test_backlog(self) -> None:
        """So many wait; one more ends with an error, and is counted."""
        for number in range(4):
            self.invoke("k", number)
        self.assertEqual(self.ended, [(3, "backlog_full")])
        self.assertEqual(self.engine.counters.limit_hits, {"ordered_backlog": 1})
        self.invoke("other", 9)
        self.assertEqual(self.came(), [0, 9])

    def test_while_next_is_due(self) -> None:
        """A call that comes when the next one is about to be made comes after it."""
        self.invoke("k", 1)
        self.invoke("k", 2)
        self.came()
        self.worker.answer(self.asked[0], result=None)
        self.invoke("k", 3)
        self.assertEqual(self.came(), [2])
        self.worker.answer(self.asked[0], result=None)
        self.assertEqual(self.came(), [3])

    def test_nothing_stays(self) -> None:
        """When all is answered, nothing is kept of a key."""
        self.invoke("k", 1)
        self.came()
        self.assertEqual(len(self.calls), 1)
        self.worker.answer(self.asked[0], result=None)
        self.assertEqual(len(self.calls), 0)

    def test_failing_completion(self) -> None:
        """What follows a call may fail; the next call is made all the same."""
        self.calls.invoke("k", "f", Raw(b"1"), lambda *_: 1 / 0)  # type: ignore[arg-type, return-value]
        self.invoke("k", 2)
        self.came()
        self.worker.answer(self.asked[0], result=None)
        self.assertEqual(self.came(), [2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_unwanted(self) -> None:
        """A call that is not wanted any more when its turn comes is not made, and lets the next one through."""
        self.invoke("k", 1)
        self.calls.invoke("k", "f", Raw(b"2"), lambda *_: self.fail("not made"), wanted=lambda: False)
        self.invoke("k", 3)
        self.came()
        self.worker.answer(self.asked[0], result=None)
        self.clock.advance(0)
        self.assertEqual(self.came(), [3])
