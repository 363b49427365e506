"""Tests for L{iii.core.tracing}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.core.tracing import continued, limit, passed_on, with_function
from iii.wire.messages import InvokeFunction

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class PassedOnTests(SynchronousTestCase):
    def test_both(self) -> None:
        """The parent stays as it is, and the baggage names the function."""
        self.assertEqual(passed_on(PARENT, "a=b", "f"), (PARENT, "a=b,iii.function.id=f"))

    def test_one(self) -> None:
        """One of both is enough."""
        self.assertEqual(passed_on(PARENT, None, "f"), (PARENT, "iii.function.id=f"))
        self.assertEqual(passed_on(None, "a=b", "f"), (None, "a=b,iii.function.id=f"))

    def test_none(self) -> None:
        """Nothing comes of nothing; what is invalid or empty counts as nothing."""
        zeros = "00-" + "0" * 32 + "-b7ad6b7169203331-01"
        for parent in (None, "", "x", PARENT.upper(), "ff" + PARENT[2:], zeros, PARENT + "\n"):
            for baggage in (None, "", "  ", "nonsense"):
                self.assertEqual(passed_on(parent, baggage, "f"), (None, None))


class ContinuedTests(SynchronousTestCase):
    def test_parent(self) -> None:
        """The trace and its flags stay, the span is a new one."""
        first, second = continued(PARENT), continued(PARENT)
        self.assertRegex(first, r"\A00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01\Z")
        self.assertEqual(len({PARENT, first, second}), 3)

    def test_none(self) -> None:
        """Without a valid parent there is a new trace, which is sampled."""
        first, second = continued(None), continued("x")
        self.assertRegex(first, r"\A00-[0-9a-f]{32}-[0-9a-f]{16}-01\Z")
        self.assertNotEqual(first.split("-")[1], second.split("-")[1])


class WithFunctionTests(SynchronousTestCase):
    def test_replaced(self) -> None:
        """An earlier function is replaced, other entries stay, with their properties."""
        self.assertEqual(with_function("iii.function.id=old, a=b;p=1 ,c=d", "new"), "a=b;p=1,c=d,iii.function.id=new")

    def test_encoded(self) -> None:
        """What may not stand in a value is percent-encoded; the separators of ids may."""
        self.assertEqual(with_function(None, 'a::b c,d;e%é"'), "iii.function.id=a::b%20c%2Cd%3Be%25%C3%A9%22")


class LimitTests(SynchronousTestCase):
    def test_limit(self) -> None:
        """What is much too long is dropped, since it is kept as long as its call; what is not is left as it is."""
        message = InvokeFunction("f", traceparent="x" * 513, baggage="k=" + "x" * 8191)
        limit(message)
        self.assertEqual((message.traceparent, message.baggage), (None, None))
        message = InvokeFunction("f", traceparent="not valid", baggage="k=v")
        limit(message)
        self.assertEqual((message.traceparent, message.baggage), ("not valid", "k=v"))
