"""Tests for L{iii.core.invocations}."""

from __future__ import annotations

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.errors import NotFound
from iii.core.invocations import Call, Deadlines, EngineErrorBody, discard
from iii.wire.messages import ErrorBody


class CallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.outcomes: list[tuple[Raw, ErrorBody | None]] = []
        self.call = Call("f", lambda call, result, error: self.outcomes.append((result, error)), 1.0)

    def test_once(self) -> None:
        """A call ends once; what comes later is nobody's business."""
        self.call.finish(Raw(b"1"), None)
        self.call.finish(Raw(b"2"), None)
        self.call.fail(NotFound("x"))
        ((result, error),) = self.outcomes
        self.assertEqual((bytes(result), error), (b"1", None))

    def test_error(self) -> None:
        """An error of the engine has its code and text."""
        self.call.fail(NotFound("no such thing"))
        self.assertEqual(self.outcomes[0][1], EngineErrorBody("NOT_FOUND", "no such thing"))

    def test_cancelled(self) -> None:
        """Whoever has given up hears nothing."""
        self.call.cancel()
        self.call.finish(Raw(b"1"), None)
        self.assertEqual(self.outcomes, [])

    def test_defect_of_a_completion(self) -> None:
        """A completion that raises is logged, and does not reach whoever ends the call."""

        def fail(call: Call, result: Raw, error: ErrorBody | None) -> None:
            raise ZeroDivisionError

        Call("f", fail, 1.0).finish(Raw(b"1"), None)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.expired: list[str] = []
        self.deadlines = Deadlines(self.clock, lambda call: self.expired.append(call.function_id))

    def add(self, name: str, timeout: float) -> Call:
        call = Call(name, discard, timeout)
        self.deadlines.add(call)
        return call

    def test_expires(self) -> None:
        """A call ends when its time is over, never earlier, and at most a twentieth of a second later."""
        self.add("a", 1.0)
        self.clock.advance(0.999)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.052)
        self.assertEqual(self.expired, ["a"])

    def test_any_order(self) -> None:
        """Calls end in the order of their deadlines, whatever the order in which they were made."""
        for timeout in (3.0, 1.0, 2.0, 1.0):
            self.add(str(timeout), timeout)
        for _ in range(40):
            self.clock.advance(0.1)
        self.assertEqual(self.expired, ["1.0", "1.0", "2.0", "3.0"])

    def test_removed(self) -> None:
        """A call that was answered does not end again."""
        call = self.add("a", 1.0)
        self.add("b", 1.0)
        self.deadlines.remove(call)
        self.deadlines.remove(call)
        self.clock.advance(2)
        self.assertEqual(self.expired, ["b"])

    def test_one_timer(self) -> None:
        """However many calls there are, one timer runs, and none when all is over."""
        for number in range(100):
            self.add("a", 1.0 + number / 7)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(100)
        self.assertEqual((len(self.expired), self.clock.getDelayedCalls()), (100, []))

    def test_zero(self) -> None:
        """A call without any time ends soon."""
        self.add("a", 0.0)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.06)
        self.assertEqual(self.expired, ["a"])

    def test_new_while_expiring(self) -> None:
        """The end of a call may make another, and may end others that were to end with it."""
        calls: list[Call] = []

        def expired(call: Call) -> None:
            self.expired.append(call.function_id)
            for other in calls:
                self.deadlines.remove(other)
            if len(self.expired) == 1:
                self.add("next", 1.0)

        self.deadlines = Deadlines(self.clock, expired)
        calls += [self.add("a", 1.0), self.add("b", 1.0)]
        self.clock.advance(1.1)
        self.assertEqual(len(self.expired), 1)
        self.clock.advance(1.1)
        self.assertEqual(self.expired[1:], ["next"])

    def test_stopped(self) -> None:
        """Once stopped, nothing ends, and no timer runs."""
        self.add("a", 1.0)
        self.deadlines.stop()
        self.deadlines.stop()
        self.clock.advance(2)
        self.assertEqual((self.expired, self.clock.getDelayedCalls()), ([], []))

    def test_few_slots(self) -> None:
        """However long calls may take, only some hundred sets of them are kept."""
        for _ in range(4000):
            self.deadlines.remove(self.add("a", 3600.0))
            self.clock.advance(0.9)
        self.assertLess(len(self.deadlines._slots), 210)

    def test_shortened(self) -> None:
        """A call may be given less time than it had, never more."""
        long, short = self.add("long", 100.0), self.add("short", 1.0)
        self.assertTrue(self.deadlines.shorten(long, 5.0))
        self.assertFalse(self.deadlines.shorten(short, 5.0))
        self.clock.advance(1.1)
        self.assertEqual(self.expired, ["short"])
        self.clock.advance(4.0)
        self.assertEqual(self.expired, ["short", "long"])
