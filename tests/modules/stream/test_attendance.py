"""Tests for L{iii.modules.stream.attendance}."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.engine import Module
from iii.modules.stream.attendance import Attendants
from iii.modules.stream.subscription import Subscription
from tests.core.fakes import connect, make_engine

PAYLOAD = {"subscription_id": "c0ffee", "stream_name": "chat", "group_id": "r1", "id": "m1", "context": {"user": "ann"}}


class AttendanceTests(SynchronousTestCase):
    fail_open = False

    def setUp(self) -> None:
        self.engine = make_engine(Clock())
        self.attendants = Attendants(self.engine, fail_open=self.fail_open)
        types = {"stream:join": self.attendants.join, "stream:leave": self.attendants.leave}
        self.engine.add_module(Module("m", "m", "", False), trigger_types=types)
        self.worker = connect(self.engine, "w")
        self.worker.register("gate", "gate2", "bye", "ask")

    def trigger(self, config: Any = None, id: str = "t", function: str = "gate", **members: Any) -> None:
        self.worker.register_trigger(id, "stream:join", function, config=config, **members)

    def join(self, stream: str = "chat", item: str | None = "m1", context: bytes = b'{"user":"ann"}') -> Deferred[bool]:
        subscription = Subscription("c0ffee", stream, "r1", item, Raw(context))
        return Deferred.fromCoroutine(self.attendants.joining(subscription))

    def calls(self) -> list[dict[str, Any]]:
        calls = self.worker.received("invokefunction")
        self.worker.edge.frames.clear()
        return calls

    def verdict(self, **outcome: Any) -> bool:
        """Return whether a client may join when the function answers so."""
        waiting = self.join()
        (call,) = self.calls()
        self.assertNoResult(waiting)
        self.worker.answer(call, **outcome)
        return self.successResultOf(waiting)

    def test_nobody(self) -> None:
        """Without triggers everybody may join."""
        self.assertTrue(self.successResultOf(self.join()))

    def test_payload(self) -> None:
        """The function is told who wants to see what, and gets the trigger's metadata, but no trace."""
        self.trigger(metadata={"m": 1})
        self.join()
        self.join(item=None, context=b"null")
        calls = self.calls()
        self.assertEqual([call["data"] for call in calls], [PAYLOAD, {**PAYLOAD, "id": None, "context": None}])
        self.assertEqual(calls[0]["metadata"], {"m": 1})
        self.assertNotIn("traceparent", calls[0])

    def test_verdicts(self) -> None:
        """Only C{unauthorized} in an object refuses; no result does not."""
        self.trigger()
        for allowing in ({}, *({"result": value} for value in (None, {}, {"unauthorized": False}, True, "no", [1]))):
            self.assertTrue(self.verdict(**allowing), allowing)
        self.assertTrue(self.verdict(result={"unauthorized": None, "other": True}))
        for refusing in (True, "yes", 1):
            self.assertFalse(self.verdict(result={"unauthorized": refusing}))

    def test_failure(self) -> None:
        """A function that fails or is not there refuses."""
        self.trigger()
        self.assertEqual(self.verdict(error={"code": "boom", "message": ""}), self.fail_open)
        self.trigger(function="nobody")
        self.assertEqual(self.successResultOf(self.join()), self.fail_open)

    def test_all_asked(self) -> None:
        """All functions are called, and one refusal is enough."""
        self.trigger(id="1")
        self.trigger(id="2", function="gate2")
        for verdicts in ((True, False), (False, True), (False, False)):
            waiting = self.join()
            calls = self.calls()
            self.assertEqual([call["function_id"] for call in calls], ["gate", "gate2"])
            for call, unauthorized in zip(calls, verdicts, strict=True):
                self.worker.answer(call, result={"unauthorized": unauthorized})
            self.assertEqual(self.successResultOf(waiting), not any(verdicts))

    def test_stream(self) -> None:
        """A trigger may be about one stream."""
        self.trigger({"stream_name": "chat"})
        self.join("other")
        self.assertEqual(self.calls(), [])
        self.join("chat")
        self.assertEqual(len(self.calls()), 1)

    def test_condition(self) -> None:
        """A condition that is false leaves the function out, which then says nothing."""
        self.trigger({"condition_function_id": "ask"})
        waiting = self.join()
        (asked,) = self.calls()
        self.assertEqual((asked["function_id"], asked["data"]), ("ask", PAYLOAD))
        self.worker.answer(asked, result=False)
        self.assertTrue(self.successResultOf(waiting))
        waiting = self.join()
        self.worker.answer(self.calls()[0], result=True)
        (call,) = self.calls()
        self.assertEqual(call["function_id"], "gate")
        self.worker.answer(call, result={"unauthorized": True})
        self.assertFalse(self.successResultOf(waiting))

    def test_failing_condition(self) -> None:
        """A condition that fails refuses, as the function would."""
        self.trigger({"condition_function_id": "nobody"})
        self.assertEqual(self.successResultOf(self.join()), self.fail_open)

    def test_any_config(self) -> None:
        """What is no object is taken for no wish; wrong types in an object are refused."""
        for config in (None, "x", 1, [], {}, {"stream_name": "", "condition_function_id": None, "more": 1}):
            self.trigger(config)
            self.assertTrue(self.verdict())
        self.trigger({"stream_name": 1})
        (refusal,) = self.worker.received("triggerregistrationresult")
        self.assertEqual(refusal["error"]["code"], "trigger_registration_failed")

    def test_registered_again(self) -> None:
        """Registering an id again replaces what was there."""
        self.trigger()
        self.trigger(function="gate2")
        self.join()
        self.assertEqual([call["function_id"] for call in self.calls()], ["gate2"])

    def test_unregistered(self) -> None:
        """A trigger that has ended is not asked."""
        self.trigger()
        self.worker.send("unregistertrigger", id="t")
        self.assertTrue(self.successResultOf(self.join()))

    def test_too_many(self) -> None:
        """A connection has a bounded number of them."""
        for number in range(101):
            self.trigger({"stream_name": f"s{number}"}, str(number))
        (refusal,) = self.worker.received("triggerregistrationresult")
        self.assertEqual(refusal["error"]["message"], "a connection may have 100 triggers of type stream:join")
        self.trigger({"stream_name": "other"}, "0")
        self.assertEqual(len(self.worker.received("triggerregistrationresult")), 1)

    def test_namespace(self) -> None:
        """Function and condition are called in the namespace that the trigger names."""
        other = connect(self.engine, "o", namespace="orders")
        other.register("gate", "ask")
        self.trigger({"condition_function_id": "ask"}, namespace="orders")
        self.join()
        (asked,) = other.received("invokefunction")
        other.answer(asked)
        self.assertEqual([call["function_id"] for call in other.received("invokefunction")], ["ask", "gate"])

    def test_cancelled(self) -> None:
        """Who waits may give up: the calls are then nobody's."""
        self.trigger()
        waiting = self.join()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.worker.answer(self.calls()[0], result={"unauthorized": True})

    def leave(self) -> Deferred[None]:
        subscription = Subscription("c0ffee", "chat", "r1", "m1", Raw(b'{"user":"ann"}'))
        return Deferred.fromCoroutine(self.attendants.left(subscription))

    def test_leave(self) -> None:
        """The functions for leaves are told likewise, and waited for; what they answer means nothing."""
        self.worker.register_trigger("l", "stream:leave", "bye", config={"stream_name": "chat"}, metadata=1)
        self.worker.register_trigger("n", "stream:leave", "nobody")
        self.worker.register_trigger("o", "stream:leave", "gate", config={"stream_name": "other"})
        for outcome in ({"result": {"unauthorized": True}}, {"error": {"code": "boom", "message": ""}}):
            waiting = self.leave()
            (call,) = self.calls()
            self.assertEqual((call["function_id"], call["data"], call["metadata"]), ("bye", PAYLOAD, 1))
            self.assertNoResult(waiting)
            self.worker.answer(call, **outcome)
            self.assertIsNone(self.successResultOf(waiting))


class FailOpenTests(AttendanceTests):
    """The same when the settings let clients in whatever happens to the functions."""

    fail_open = True
