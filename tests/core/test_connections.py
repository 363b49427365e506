"""Tests for L{iii.core.connections}: calls between workers, and what happens when one goes."""

from __future__ import annotations

from typing import Any

from twisted.logger import formatEvent, globalLogPublisher

from iii.core.announcement import Announcement
from iii.core.connections import Connection, MiB
from tests.core.case import ID, PARENT, CallerAndCallee
from tests.core.fakes import FakeWorker, connect


class CallTests(CallerAndCallee):
    def test_call(self) -> None:
        """A call goes to the callee under the caller's id, and the answer back, each with what belongs to it."""
        self.caller.call("f", [1, {"a": None}], invocation_id=ID, metadata={"m": 1})
        invocation = self.invocation()
        self.assertEqual(
            invocation,
            {"invocation_id": ID, "function_id": "f", "data": [1, {"a": None}], "metadata": {"m": 1}},
        )
        self.callee.answer(invocation, result={"r": None})
        self.assertEqual(
            self.caller.received("invocationresult"),
            [{"invocation_id": ID, "function_id": "f", "result": {"r": None}}],
        )

    def test_caller_worker_id(self) -> None:
        """Objects name their caller, whatever they named before; other payloads are left alone."""
        self.caller.call("f", {"a": 1, "_caller_worker_id": "x"})
        self.assertEqual(self.invocation()["data"], {"a": 1, "_caller_worker_id": self.caller.id})
        for data in ([], "text", 1, None):
            self.caller.call("f", data)
            invocation = self.invocation()
            self.assertEqual(invocation["data"], data)
            self.callee.answer(invocation)

    def test_no_data(self) -> None:
        """A call without a payload is one with null."""
        self.caller.send("invokefunction", function_id="f", invocation_id=ID)
        self.assertIsNone(self.invocation()["data"])

    def test_no_result(self) -> None:
        """A result that is absent or null is left out of the answer."""
        for outcome in ({}, {"result": None}):
            self.caller.call("f")
            self.callee.answer(self.invocation(), **outcome)
        for answer in self.caller.received("invocationresult"):
            self.assertEqual(set(answer), {"invocation_id", "function_id"})

    def test_error(self) -> None:
        """An error reaches the caller with everything in it, and wins over a result."""
        error = {"code": "c", "message": "m", "stacktrace": "s"}
        self.caller.call("f", invocation_id=ID)
        self.callee.answer(self.invocation(), error=error, result=1)
        (answer,) = self.caller.received("invocationresult")
        self.assertEqual(answer, {"invocation_id": ID, "function_id": "f", "error": error})

    def test_void(self) -> None:
        """A void call, in either form, reaches the callee with an id, and is not answered."""
        for members in ({"action": {"type": "void"}}, {"action": {"type": "void"}, "invocation_id": ID}, {}):
            self.caller.send("invokefunction", function_id="f", data={}, **members)
            invocation = self.invocation()
            self.assertEqual(len(invocation["invocation_id"]), 36)
            self.assertNotIn("action", invocation)
            self.callee.answer(invocation, result=1)
        self.assertEqual(self.caller.received("invocationresult"), [])
        self.assertEqual(self.callee.connection.pending, {})

    def test_void_error(self) -> None:
        """A void call that fails is not answered either."""
        self.caller.send("invokefunction", function_id="missing", data={}, action={"type": "void"})
        self.assertEqual(self.caller.received("invocationresult"), [])

    def test_not_found(self) -> None:
        """A function that nobody serves is an error that says where else it is."""
        connect(self.engine, namespace="b").register("g")
        connect(self.engine, namespace="a").register("g")
        for function_id, namespace, hint in (
            ("x", "default", ""),
            ("f", "n", " It is registered in namespace(s): default."),
            ("g", "default", " It is registered in namespace(s): a, b."),
        ):
            call = self.caller.call(function_id, namespace=namespace)
            message = f"Function {function_id} not found in namespace {namespace}.{hint}"
            self.assertEqual(self.caller.outcome(call), ("function_not_found", message))

    def test_namespace(self) -> None:
        """A call goes to the namespace that it names, else to C{default}, whatever the caller's own."""
        there = connect(self.engine, namespace="orders")
        there.register("f")
        there.call("f")
        self.invocation()
        self.caller.call("f", namespace="orders")
        self.assertNotIn("namespace", there.received("invokefunction")[0])

    def test_blank_namespace(self) -> None:
        """A blank namespace is an error, for which only a call with an id has room."""
        call = self.caller.call("f", namespace=" ", action={"type": "void"})
        self.assertEqual(self.caller.outcome(call)[0], "INVALID_NAMESPACE")
        self.caller.send("invokefunction", function_id="f", namespace="")
        self.assertEqual(len(self.caller.received("invocationresult")), 1)

    def test_trace(self) -> None:
        """Trace context goes to the callee; the caller gets its own back, valid or not."""
        self.caller.call("f", traceparent=PARENT, baggage="a=b")
        invocation = self.invocation()
        self.assertEqual((invocation["traceparent"], invocation["baggage"]), (PARENT, "a=b,iii.function.id=f"))
        self.callee.answer(invocation, traceparent="other", baggage="other")
        self.caller.call("f", traceparent="nonsense")
        invocation = self.invocation()
        self.assertNotIn("traceparent", invocation)
        self.callee.answer(invocation, error={"code": "c", "message": "m"})
        answers = self.caller.received("invocationresult")
        self.assertEqual([each.get("traceparent") for each in answers], [PARENT, "nonsense"])
        self.assertEqual([each.get("baggage") for each in answers], ["a=b", None])

    def test_itself(self) -> None:
        """A worker can call itself."""
        call = self.callee.call("f")
        self.callee.answer(self.invocation(), result=1)
        self.assertEqual(self.callee.outcome(call), 1)

    def test_order(self) -> None:
        """Calls of one caller reach one callee in their order."""
        self.caller.call("f", 1)
        self.caller.call("f", 2)
        self.assertEqual([each["data"] for each in self.callee.received("invokefunction")], [1, 2])

    def test_counted(self) -> None:
        """Calls are counted, also those that fail."""
        self.caller.call("f")
        self.caller.call("x")
        self.assertEqual((self.engine.counters.calls, self.engine.unanswered()), (2, 1))


class AnswerTests(CallerAndCallee):
    def test_only_from_the_callee(self) -> None:
        """An answer is taken from the connection that was asked, and from no other."""
        call = self.caller.call("f")
        invocation = self.invocation()
        connect(self.engine).answer(invocation, result="wrong")
        self.caller.answer(invocation, result="wrong")
        self.assertEqual(self.caller.received("invocationresult"), [])
        self.callee.answer(invocation, result="right")
        self.assertEqual(self.caller.outcome(call), "right")

    def test_once(self) -> None:
        """The first answer counts; others are dropped and counted."""
        call = self.caller.call("f")
        invocation = self.invocation()
        self.callee.answer(invocation, result=1)
        self.callee.answer(invocation, result=2)
        self.assertEqual(self.caller.outcome(call), 1)
        self.assertEqual(self.engine.counters.late_answers, 1)

    def test_any_form_of_the_id(self) -> None:
        """Ids are compared as UUIDs."""
        self.caller.call("f", invocation_id=ID.upper())
        self.callee.send("invocationresult", invocation_id=ID.replace("-", ""), function_id="f", result=1)
        self.assertEqual(self.caller.outcome(ID), 1)

    def test_malformed(self) -> None:
        """An answer that cannot be read ends the call that it names."""
        self.caller.call("f", invocation_id=ID)
        self.callee.send("invocationresult", invocation_id=ID, function_id="f", error={"code": 1})
        self.assertEqual(self.caller.outcome(ID)[0], "invocation_error")
        self.assertEqual(self.callee.connection.pending, {})

    def test_malformed_from_others(self) -> None:
        """From another connection it ends nothing."""
        self.caller.call("f", invocation_id=ID)
        self.caller.send("invocationresult", invocation_id=ID, function_id="f", error={"code": 1})
        self.assertEqual(self.caller.received("invocationresult"), [])

    def test_id_reused(self) -> None:
        """A caller that uses an id again gives up the first call; each answer finds its own call."""
        self.caller.call("f", 1, invocation_id=ID)
        self.caller.call("f", 2, invocation_id=ID)
        self.assertEqual(self.caller.outcome(ID)[0], "invocation_error")
        self.caller.edge.frames.clear()
        first, second = self.callee.received("invokefunction")
        self.assertNotEqual(first["invocation_id"], second["invocation_id"])
        self.callee.answer(first, result="first")
        self.assertEqual(self.caller.received("invocationresult"), [])
        self.callee.answer(second, result="second")
        self.assertEqual(self.caller.outcome(ID), "second")

    def test_same_id_of_two_callers(self) -> None:
        """Two callers may use one id."""
        other = connect(self.engine)
        self.caller.call("f", 1, invocation_id=ID)
        other.call("f", 2, invocation_id=ID)
        for invocation in self.callee.received("invokefunction"):
            self.callee.answer(invocation, result=invocation["data"])
        self.assertEqual((self.caller.outcome(ID), other.outcome(ID)), (1, 2))

    def test_id_written_otherwise(self) -> None:
        """An answer counts in whatever form it writes the call's UUID; what is no UUID is nobody's answer."""
        for write in (str.upper, lambda each: each.replace("-", ""), lambda each: "{" + each + "}"):
            call = self.caller.call("f")
            self.callee.send("invocationresult", invocation_id=write(call), function_id="f", result=1)
            self.assertEqual(self.caller.outcome(call), 1)
        self.callee.send("invocationresult", invocation_id="inv-1", function_id="f", result=1)
        self.assertEqual(self.engine.counters.late_answers, 1)

    def test_timeout(self) -> None:
        """A call that is not answered in time ends, and a late answer is dropped."""
        call = self.caller.call("f")
        invocation = self.invocation()
        self.clock.advance(59.9)
        self.assertEqual(self.caller.received("invocationresult"), [])
        self.clock.advance(0.5)
        self.assertEqual(self.caller.outcome(call), ("TIMEOUT", "f did not answer within 60 s"))
        self.callee.answer(invocation, result=1)
        self.caller.outcome(call)
        counters = self.engine.counters
        self.assertEqual((counters.calls_timed_out, counters.late_answers, self.engine.unanswered()), (1, 1, 0))

    def test_answered_in_time(self) -> None:
        """A call that was answered does not time out."""
        call = self.caller.call("f")
        self.callee.answer(self.invocation(), result=1)
        self.clock.advance(61)
        self.assertEqual(self.caller.outcome(call), 1)


class LimitTests(CallerAndCallee):
    def test_pending(self) -> None:
        """A worker gets at most so many calls at a time, 2 here; one more is refused at once."""
        self.caller.call("f")
        self.caller.call("f")
        call = self.caller.call("f")
        self.assertEqual(
            self.caller.outcome(call),
            ("worker_overloaded", "worker callee takes no more calls now: 2 calls are unanswered"),
        )
        self.assertEqual(self.engine.counters.calls_refused, 1)
        self.callee.answer(self.callee.received("invokefunction")[0])
        self.caller.call("f")
        self.assertEqual(len(self.callee.received("invokefunction")), 3)

    def test_full(self) -> None:
        """A worker that does not read gets no more calls."""
        self.callee.edge.full = True
        call = self.caller.call("f")
        self.assertEqual(
            self.caller.outcome(call),
            ("worker_overloaded", "worker callee takes no more calls now: it does not read what is sent to it"),
        )
        self.assertEqual(self.callee.connection.pending, {})

    def test_too_large_for_the_callee(self) -> None:
        """A call that the callee's SDK could not take is an error; the callee does not get it."""
        self.callee.connection.announce(Announcement("python", "0.23.0"))
        call = self.caller.call("f", "x" * MiB)
        code, message = self.caller.outcome(call)
        self.assertEqual(code, "payload_too_large")
        self.assertIn(f"exceeds the {MiB} bytes", message)
        self.assertEqual((self.callee.received("invokefunction"), self.callee.connection.pending), ([], {}))
        self.assertEqual(self.engine.counters.payloads_too_large, 1)

    def test_too_large_for_the_caller(self) -> None:
        """An answer that the caller's SDK could not take is an error."""
        self.caller.connection.announce(Announcement("python", "0.23.0"))
        call = self.caller.call("f")
        self.callee.answer(self.invocation(), result="x" * MiB)
        self.assertEqual(self.caller.outcome(call)[0], "payload_too_large")

    def test_functions(self) -> None:
        """A worker may serve so many functions, 3 here; one more is refused, a known one is not."""
        self.callee.register("g", "h", "i", "f")
        self.assertEqual([function.id for function in self.engine.functions], ["f", "g", "h"])
        self.assertEqual(len(self.callee.received("registrationrejected")), 1)


class EndTests(CallerAndCallee):
    def test_callee_gone(self) -> None:
        """When the callee goes, its calls end with an error."""
        call = self.caller.call("f")
        self.callee.leave()
        self.assertEqual(self.caller.outcome(call), ("invocation_stopped", "Invocation stopped"))
        self.clock.advance(61)
        self.assertEqual(self.engine.counters.calls_timed_out, 0)

    def test_caller_gone(self) -> None:
        """When the caller goes, the callee is not told, and keeps the call until it answers."""
        self.caller.call("f")
        self.caller.leave()
        self.assertEqual(self.engine.unanswered(), 1)
        self.callee.answer(self.invocation(), result=1)
        self.assertEqual((self.engine.unanswered(), self.caller.received("invocationresult")), (0, []))

    def test_both(self) -> None:
        """A worker that called itself can go."""
        self.callee.call("f")
        self.callee.leave()
        self.assertEqual(self.engine.unanswered(), 0)

    def test_log(self) -> None:
        """The log says when a worker comes, leaves and breaks off; a stranger is not worth a line."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        connect(self.engine, "shop", runtime="node", version="1.2").leave()
        connect(self.engine, "\x1b[2Jshop").cut()
        FakeWorker(self.engine).leave()
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "worker shop is here: node 1.2, namespace default",
                "worker shop has left",
                "worker [2Jshop is here: unknown ?, namespace default",
                "worker [2Jshop has broken off; 0 calls wait for it",
            ],
        )

    def test_twice(self) -> None:
        """It ends once."""
        gone: list[Connection] = []
        self.engine.on_disconnected.append(gone.append)
        self.callee.leave()
        self.callee.leave()
        self.assertEqual(gone, [self.callee.connection])

    def test_everything_is_gone(self) -> None:
        """Nothing of a worker is left, when observers are told."""
        self.callee.provide("own")
        self.callee.register_trigger("1", "own")
        left: list[int] = []
        self.engine.on_disconnected.append(
            lambda _: left.extend(
                (
                    len(self.engine.functions),
                    len(self.engine.triggers),
                    len(list(self.engine.triggers.providers())),
                    len(self.engine.connections),
                )
            )
        )
        self.callee.leave()
        self.assertEqual(left, [0, 0, 0, 1])

    def test_newer_connection(self) -> None:
        """What a newer connection serves outlives the older one."""
        newer = connect(self.engine, "callee")
        newer.register("f")
        self.callee.leave()
        self.caller.call("f")
        self.assertEqual(len(newer.received("invokefunction")), 1)

    def test_closing(self) -> None:
        """A call for a connection that is closing is an error."""
        self.callee.connection.closed = True
        self.assertEqual(self.caller.outcome(self.caller.call("f")), ("channel_send_failed", "channel closed"))


class ReattachTests(CallerAndCallee):
    def reattach(self, worker: FakeWorker, token: str | None) -> None:
        worker.send("reattach", previous_worker_id=self.callee.id, reattach_token=token)

    def test_evicted(self) -> None:
        """A worker that proves which connection it had ends that one before anything else."""
        again = FakeWorker(self.engine)
        self.reattach(again, self.callee.connection.token)
        self.assertEqual(self.callee.edge.ended, "abort")
        self.assertNotIn(self.callee.id, self.engine.connections)
        self.assertEqual(len(self.engine.functions), 0)

    def test_no_proof(self) -> None:
        """Without the token nothing happens, nor with an id that is unknown or the own one."""
        again = FakeWorker(self.engine)
        for token in (None, "x", again.connection.token):
            self.reattach(again, token)
        again.send("reattach", previous_worker_id="x", reattach_token="x")
        again.send("reattach", previous_worker_id=again.id, reattach_token=again.connection.token)
        self.assertIsNone(self.callee.edge.ended)
        self.assertIsNone(again.edge.ended)


class FrameTests(CallerAndCallee):
    def test_first(self) -> None:
        """The first frame names the connection and gives it a token."""
        worker = FakeWorker(self.engine)
        self.assertEqual(
            worker.edge.frames,
            [{"type": "workerregistered", "worker_id": worker.id, "reattach_token": worker.connection.token}],
        )
        self.assertNotEqual(worker.id, worker.connection.token)

    def test_ping(self) -> None:
        """A ping in JSON is answered."""
        self.caller.send("ping")
        self.assertEqual(self.caller.edge.frames[-1], {"type": "pong"})

    def test_ignored(self) -> None:
        """What only the engine sends, services and blank frames are ignored."""
        before = list(self.caller.edge.frames)
        self.caller.send("pong")
        self.caller.send("workerregistered", worker_id="x", reattach_token="y")
        self.caller.send("registrationrejected", code="x", namespace="x", owner_worker_id="")
        self.caller.send("registerservice", id="s")
        self.caller.connection.received(b" \n")
        self.assertEqual((self.caller.edge.frames, self.engine.counters.malformed_frames), (before, 0))

    def test_malformed(self) -> None:
        """What is no message is dropped and counted; the connection goes on."""
        for frame in (b"{", b"[]", b'{"type":"nonsense"}', b'{"type":"invokefunction"}', b"\xff"):
            self.caller.connection.received(frame)
        self.assertEqual(self.engine.counters.malformed_frames, 5)
        self.caller.call("f")
        self.invocation()

    def test_malformed_call(self) -> None:
        """A call that cannot be read is answered if its id can."""
        self.caller.send("invokefunction", invocation_id=ID, function_id=1)
        self.assertEqual(self.caller.outcome(ID)[0], "malformed_message")

    def test_binary(self) -> None:
        """A binary frame is a message like a text, or telemetry, which is counted."""
        self.caller.connection.received(b'{"type":"ping"}', True)
        self.assertEqual(self.caller.edge.frames[-1], {"type": "pong"})
        for prefix in (b"OTLP", b"MTRC", b"LOGS"):
            self.caller.connection.received(prefix + b"\xff", True)
        self.assertEqual(self.engine.counters.telemetry_frames, 3)
        self.caller.connection.received(b"\xff\xfe", True)
        self.assertEqual(self.engine.counters.malformed_frames, 1)

    def test_binary_that_is_no_text(self) -> None:
        """Of a binary frame that is not UTF-8 the call is told, as of any other that cannot be read."""
        call = self.caller.call("f")
        answer = b'{"type":"invocationresult","invocation_id":"%b","function_id":"f","result":"\xff"}'
        self.callee.connection.received(answer % self.invocation()["invocation_id"].encode(), True)
        self.assertEqual(self.caller.outcome(call)[0], "invocation_error")
        self.caller.connection.received(
            b'{"type":"invokefunction","invocation_id":"%b","function_id":"f","data":"\xff"}' % ID.encode(), True
        )
        self.assertEqual(self.caller.outcome(ID)[0], "malformed_message")

    def test_long_trace_context(self) -> None:
        """A trace context of any length is not kept until a call is answered."""
        call = self.caller.call("f", traceparent="x" * 10_000, baggage="k=" + "x" * 10_000)
        self.callee.answer(self.invocation(), result=1)
        self.assertEqual(self.caller.outcome(call), 1)
        self.assertNotIn("baggage", self.caller.received("invocationresult")[-1])

    def test_failing_telemetry(self) -> None:
        """What goes wrong with a telemetry frame is logged, and no matter of the worker."""
        self.engine.on_telemetry.append(lambda frame, sender: 1 / 0)  # type: ignore[arg-type, return-value]
        self.caller.connection.received(b"LOGS{}", True)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.caller.connection.received(b"LOGS" + b" " * self.engine.limits.telemetry_frame_bytes, True)
        self.assertEqual(self.engine.counters.limit_hits, {"telemetry_frame_bytes": 1})
