"""Tests for L{iii.core.reattach}: calls under way when a connection breaks off."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.announcement import Announcement
from iii.core.reattach import ANSWER_TIMEOUT, PATIENCE
from tests.core.fakes import FakeWorker, connect, make_engine


class ReattachTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = make_engine(self.clock, outbox_bytes=1000)
        self.caller, self.callee = connect(self.engine, "caller"), connect(self.engine, "callee")
        self.callee.register("f")
        self.call = self.caller.call("f")
        (self.invocation,) = self.callee.received("invokefunction")

    def come_back(self, lost: FakeWorker, token: str | None = None) -> FakeWorker:
        worker = FakeWorker(self.engine)
        worker.send(
            "reattach", previous_worker_id=lost.id, reattach_token=lost.connection.token if token is None else token
        )
        return worker

    def test_callee_comes_back(self) -> None:
        """The answer counts from the connection that has taken over, once."""
        self.callee.cut()
        again = self.come_back(self.callee)
        again.answer(self.invocation, result=7)
        again.answer(self.invocation, result=8)
        self.assertEqual(self.caller.outcome(self.call), 7)
        self.assertEqual(self.engine.unanswered(), 0)

    def test_before_the_cut_is_noticed(self) -> None:
        """It does not matter whether the engine has noticed the cut before the worker is back."""
        again = self.come_back(self.callee)
        self.assertEqual(self.callee.edge.ended, "abort")
        again.answer(self.invocation, result=7)
        self.callee.cut()
        self.assertEqual(self.caller.outcome(self.call), 7)

    def test_callee_stays_away(self) -> None:
        """Without the worker the call ends after a few seconds, not before."""
        self.callee.cut()
        self.clock.advance(PATIENCE - 0.1)
        self.assertEqual(self.caller.received("invocationresult"), [])
        self.assertEqual(self.engine.unanswered(), 1)
        self.clock.advance(0.2)
        self.assertEqual(self.caller.outcome(self.call), ("invocation_stopped", "Invocation stopped"))
        self.assertEqual(self.engine.unanswered(), 0)

    def test_too_late(self) -> None:
        """Whoever comes back later finds nothing to take over."""
        self.callee.cut()
        self.clock.advance(PATIENCE)
        self.come_back(self.callee).answer(self.invocation, result=7)
        self.assertEqual(self.caller.outcome(self.call)[0], "invocation_stopped")

    def test_leaving_in_order(self) -> None:
        """A worker that says goodbye is not waited for."""
        self.callee.leave()
        self.assertEqual(self.caller.outcome(self.call)[0], "invocation_stopped")

    def test_wrong_token(self) -> None:
        """Only the token proves who it is."""
        self.callee.cut()
        for token in ("", "wrong", self.caller.connection.token):
            self.come_back(self.callee, token).answer(self.invocation, result="forged")
        self.assertEqual(self.caller.received("invocationresult"), [])

    def test_others_cannot_answer(self) -> None:
        """While the call waits, nobody else's answer counts."""
        self.callee.cut()
        self.caller.answer(self.invocation, result="forged")
        self.assertEqual(self.caller.received("invocationresult"), [])

    def test_registrations_do_not_wait(self) -> None:
        """What it had registered is gone with the connection; it registers again."""
        self.callee.cut()
        self.assertEqual(self.caller.outcome(self.caller.call("f"))[0], "function_not_found")

    def test_caller_comes_back(self) -> None:
        """A caller gets its answers on the new connection: those that came while it was away, and later ones."""
        later = self.caller.call("f")
        self.caller.cut()
        self.callee.answer(self.invocation, result=7)
        again = self.come_back(self.caller)
        self.assertEqual(again.outcome(self.call), 7)
        self.callee.answer(self.callee.received("invokefunction")[1], result=8)
        self.assertEqual(again.outcome(later), 8)

    def test_id_used_before_coming_back(self) -> None:
        """A call that the worker makes under an id that its former connection waits for wins, as ever."""
        self.caller.cut()
        again = FakeWorker(self.engine)
        again.call("f", invocation_id=self.call)
        again.send("reattach", previous_worker_id=self.caller.id, reattach_token=self.caller.connection.token)
        self.assertEqual(again.outcome(self.call)[0], "invocation_error")
        again.edge.frames.clear()
        first, second = self.callee.received("invokefunction")
        self.callee.answer(first, result="first")
        self.callee.answer(second, result="second")
        self.assertEqual(again.outcome(self.call), "second")

    def held_call(self) -> tuple[FakeWorker, str]:
        """A worker that has called a function of its own before its namespace is known (spec, 2.1)."""
        worker = FakeWorker(self.engine)
        worker.register("own")
        return worker, worker.call("own")

    def test_held_call(self) -> None:
        """A call that waits for the worker's registrations to apply still does when it is back."""
        lost, call = self.held_call()
        lost.cut()
        again = self.come_back(lost)
        again.register("own")
        again.connection.announce(Announcement())
        (invocation,) = again.received("invokefunction")
        again.answer(invocation, result=7)
        self.assertEqual(again.outcome(call), 7)

    def test_held_call_meets_open_gate(self) -> None:
        """When the worker reattaches after its registrations apply, the call is made at once."""
        lost, call = self.held_call()
        lost.cut()
        again = connect(self.engine)
        again.send("reattach", previous_worker_id=lost.id, reattach_token=lost.connection.token)
        self.assertEqual(again.outcome(call)[0], "function_not_found")

    def test_missed_answers_are_bounded(self) -> None:
        """Answers kept for a caller that is away take no more room than may wait to be sent to it."""
        calls = [self.caller.call("f") for _ in range(5)]
        self.caller.cut()
        for invocation in self.callee.received("invokefunction")[1:]:
            self.callee.answer(invocation, result="x" * 300)
        again = self.come_back(self.caller)
        self.assertEqual([each["invocation_id"] for each in again.received("invocationresult")], calls[:2])
        self.assertEqual(self.engine.counters.answers_lost, 3)

    def test_caller_stays_away(self) -> None:
        """When the caller does not come back, the callee still answers in peace."""
        self.caller.cut()
        self.clock.advance(PATIENCE)
        self.callee.answer(self.invocation, result=7)
        self.assertEqual(self.engine.unanswered(), 0)

    def test_deadline_goes_on(self) -> None:
        """A call's deadline holds whatever its connection does."""
        self.engine.call_timeout = 2.0
        call = self.caller.call("f")
        self.callee.cut()
        self.clock.pump([0.5] * 5)
        self.assertEqual(self.caller.outcome(call)[0], "TIMEOUT")
        again = self.come_back(self.callee)
        self.assertEqual(set(again.connection.pending), {self.call})

    def test_lost_on_the_way(self) -> None:
        """A call that the cut has swallowed ends half a minute after the worker is back."""
        self.callee.cut()
        self.come_back(self.callee)
        self.clock.advance(ANSWER_TIMEOUT - 0.1)
        self.assertEqual(self.caller.received("invocationresult"), [])
        self.clock.advance(0.3)
        self.assertEqual(
            self.caller.outcome(self.call),
            (
                "invocation_stopped",
                "the worker's connection was cut, and no answer came within 30 s after it was back",
            ),
        )

    def test_lost_on_the_way_of_two_cuts(self) -> None:
        """A second cut changes neither when such a call ends nor why."""
        self.callee.cut()
        again = self.come_back(self.callee)
        self.clock.advance(1)
        again.cut()
        self.come_back(again)
        self.clock.advance(ANSWER_TIMEOUT - 1.1)
        self.assertEqual(self.caller.received("invocationresult"), [])
        self.clock.advance(0.3)
        self.assertEqual(self.caller.outcome(self.call)[0], "invocation_stopped")

    def test_no_time_is_gained(self) -> None:
        """A call that had less time left keeps just that."""
        self.engine.call_timeout = 8.0
        call = self.caller.call("f")
        self.callee.cut()
        self.clock.advance(4)
        self.come_back(self.callee)
        self.clock.advance(3.9)
        self.assertEqual(len(self.caller.received("invocationresult")), 0)
        self.clock.advance(0.2)
        self.assertEqual(self.caller.outcome(call), ("TIMEOUT", "f did not answer within 8 s"))

    def test_size_limit_is_known(self) -> None:
        """What the SDK can take is known before the worker, back again, has said who it is."""
        old = connect(self.engine, "old", runtime="python", version="0.22.1")
        call = old.call("f")
        old.cut()
        again = self.come_back(old)
        self.callee.answer(self.callee.received("invokefunction")[1], result="x" * 2**20)
        self.assertEqual(again.outcome(call)[0], "payload_too_large")

    def test_twice(self) -> None:
        """A worker may be cut off again and again."""
        worker = self.callee
        for _ in range(3):
            worker.cut()
            self.clock.advance(PATIENCE - 1)
            worker = self.come_back(worker)
        worker.answer(self.invocation, result=7)
        self.assertEqual(self.caller.outcome(self.call), 7)

    def test_limit(self) -> None:
        """So many connections are waited for as there may be; the oldest is given up."""
        engine = make_engine(self.clock, connections=2)
        caller = connect(engine, "caller")
        calls = []
        for name in ("a", "b", "c"):
            callee = connect(engine, name)
            callee.register(name)
            calls.append(caller.call(name))
            callee.cut()
        self.assertEqual([each["invocation_id"] for each in caller.received("invocationresult")], calls[:1])

    def test_stop(self) -> None:
        """When the engine stops, nobody is waited for, and no timer is left."""
        self.callee.cut()
        self.engine.close()
        self.assertEqual(self.caller.outcome(self.call)[0], "invocation_stopped")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cut_while_stopping(self) -> None:
        """Whoever is cut off when no worker can come back any more is not waited for either."""
        self.engine.broken_off.close()
        self.callee.cut()
        self.assertEqual(self.caller.outcome(self.call)[0], "invocation_stopped")
        self.assertEqual(self.engine.unanswered(), 0)

    def test_nothing_under_way(self) -> None:
        """A connection without calls is forgotten at once."""
        other = connect(self.engine, "other")
        other.cut()
        self.assertIsNone(self.engine.broken_off.find(other.id))
