"""Tests for L{iii.modules.observability.triggers}."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.logger import Logger

from tests.core.fakes import FakeWorker, connect
from tests.modules.observability.case import ObservabilityTestCase


class LogTriggerTests(ObservabilityTestCase):
    def heard(self, listener: FakeWorker) -> list[str]:
        """The texts that came to the trigger's function."""
        return [call["data"]["body"] for call in listener.received("invokefunction")]

    def test_payload(self) -> None:
        """The function gets the record with all twelve members, texts where the record has nothing."""
        listener = self.listener(metadata={"m": 1})
        self.write("hello", data={"a": 1})
        (call,) = listener.received("invokefunction")
        (record,) = self.kept()
        self.assertEqual(call["data"], {**record, "trace_id": "", "span_id": ""})
        self.assertEqual(len(call["data"]), 12)
        self.assertEqual(call["metadata"], {"m": 1})

    def test_minimum(self) -> None:
        """A level is a minimum, however it is written; C{all}, none, and what is no text, are everything."""
        everything = ["trace", "debug", "info", "warn", "error"]
        configs: dict[str, tuple[Any, list[str]]] = {
            "none": (None, everything),
            "empty": ({}, everything),
            "all": ({"level": "all"}, everything),
            "number": ({"level": 3}, everything),
            "trace": ({"level": "trace"}, everything),
            "warn": ({"level": "WARN"}, ["warn", "error"]),
            "error": ({"level": "error"}, ["error"]),
            "old": ({"level": "all", "severity_min": 10}, ["warn", "error"]),
        }
        listener = connect(self.engine, "listener")
        for name, (config, _) in configs.items():
            listener.register(name)
            listener.register_trigger(name, "log", name, config=config)
        for level in everything:
            self.write(level, level)
        calls = listener.received("invokefunction")
        for name, (_, expected) in configs.items():
            self.assertEqual([call["data"]["body"] for call in calls if call["function_id"] == name], expected, name)

    def test_unknown_level(self) -> None:
        """A level that there is not is refused, with those that there are."""
        listener = self.listener({"level": "loud"})
        (refusal,) = listener.received("triggerregistrationresult")
        self.assertEqual(refusal["error"]["code"], "trigger_registration_failed")
        self.assertEqual(refusal["error"]["message"], "`level` is loud; it can be all, trace, debug, info, warn, error")

    def test_engine_lines(self) -> None:
        """What the engine logs itself is delivered, too."""
        listener = self.listener({"level": "warn"})
        Logger().warn("odd")
        self.assertEqual(self.heard(listener), ["odd"])

    def test_namespace(self) -> None:
        """The function is called in the namespace that its trigger names."""
        listener = connect(self.engine, "elsewhere", namespace="orders")
        listener.register("on_log")
        listener.register_trigger("t", "log", "on_log", namespace="orders")
        self.write("m")
        self.assertEqual(self.heard(listener), ["m"])

    def test_unregistered(self) -> None:
        """A trigger that has ended hears nothing more."""
        listener = self.listener()
        listener.send("unregistertrigger", id="t")
        self.write("m")
        self.assertEqual(self.heard(listener), [])

    def test_loop_in_trace(self) -> None:
        """What a handler writes in the trace of its delivery, at any time, is kept and does not call it again."""
        listener = self.listener()
        self.write("first")
        (call,) = listener.received("invokefunction")
        listener.answer(call)
        listener.call("engine::log::info", {"message": "seen"}, traceparent=call["traceparent"])
        trace = call["traceparent"].split("-")[1]
        listener.call("engine::log::info", {"message": "seen", "trace_id": trace})
        self.assertEqual(self.heard(listener), ["first"])
        self.assertEqual(self.bodies(), ["first", "seen", "seen"])

    def test_loop_without_trace(self) -> None:
        """What a worker writes without a trace while it handles a record, or right after, does not call it again."""
        listener = self.listener()
        self.write("first")
        listener.call("engine::log::info", {"message": "meanwhile"})
        self.write("of another worker")
        self.assertEqual(self.heard(listener), ["first", "of another worker"])
        for call in listener.received("invokefunction"):
            listener.answer(call)
        listener.call("engine::log::info", {"message": "right after"})
        self.assertEqual(self.heard(listener)[2:], [])
        self.clock.advance(1)
        listener.call("engine::log::info", {"message": "later"})
        self.assertEqual(self.heard(listener)[2:], ["later"])

    def test_loop_of_two(self) -> None:
        """Nor do two handlers that log call each other for ever, in the traces of their deliveries or without any."""
        one = self.listener({"level": "error"})
        other = connect(self.engine, "other")
        other.register("also_on_log")
        other.register_trigger("u", "log", "also_on_log", config={"level": "error"})
        self.write("first", "error")
        for worker in (one, other):
            (call,) = worker.received("invokefunction")
            worker.call("engine::log::error", {"message": "in the trace"}, traceparent=call["traceparent"])
            worker.call("engine::log::error", {"message": "without"})
        self.assertEqual((self.heard(one), self.heard(other)), (["first"], ["first"]))

    def test_loop_through_telemetry(self) -> None:
        """A record without a trace in telemetry may be of any worker that handles one."""
        listener = self.listener()
        self.write("first")
        frame = b'LOGS{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"%b"}}]}]}]}'
        self.engine.telemetry_received(frame % b"meanwhile")
        listener.connection.received(frame % b"of the worker", True)
        self.assertEqual(self.heard(listener), ["first"])
        self.worker.connection.received(frame % b"of another worker", True)
        self.assertEqual(self.heard(listener), ["first", "of another worker"])
        for call in listener.received("invokefunction"):
            listener.answer(call)
        self.clock.advance(1)
        self.engine.telemetry_received(frame % b"later")
        self.assertEqual(self.heard(listener)[2:], ["later"])

    def test_too_many(self) -> None:
        """A connection has so many of them and no more: each multiplies every record."""
        for number in range(101):
            self.worker.register_trigger(str(number), "log", "f")
        (refusal,) = self.worker.received("triggerregistrationresult")
        self.assertEqual((refusal["id"], "100 triggers" in refusal["error"]["message"]), ("100", True))

    def test_replaced(self) -> None:
        """A trigger that is registered again counts once, and has its new level."""
        for _ in range(150):
            listener = self.listener({"level": "error"})
        self.write("m")
        self.assertEqual(self.heard(listener), [])

    def test_many_failures(self) -> None:
        """Deliveries that fail do not fill the log, however many do."""
        self.worker.register_trigger("t", "log", "nobody")
        for _ in range(50):
            self.write("m")
        self.assertEqual(self.ask("engine::logs::list", {"severity_min": 13})["total"], 1)

    def test_failing_handler(self) -> None:
        """A handler that fails is a line in the log, which is not delivered: it would fail again."""
        listener = self.listener()
        self.write("m")
        (call,) = listener.received("invokefunction")
        listener.answer(call, error={"code": "boom", "message": "no"})
        self.assertEqual(self.heard(listener), ["m"])
        (warning,) = self.ask("engine::logs::list", {"severity_min": 13})["logs"]
        self.assertEqual(warning["body"], "on_log failed on a log record: boom: no")

    def test_no_handler(self) -> None:
        """A trigger for a function that nobody serves is no loop, either."""
        self.worker.register_trigger("t", "log", "nobody")
        self.write("m")
        self.assertEqual(self.ask("engine::logs::list")["total"], 2)


class SlowTests(ObservabilityTestCase):
    limits: ClassVar = {"log_deliveries": 2}

    def test_slow(self) -> None:
        """Of a handler that does not keep up, records are left out and counted; when it has caught up, all is well."""
        listener = self.listener()
        for body in "abc":
            self.write(body)
        calls = listener.received("invokefunction")
        self.assertEqual([call["data"]["body"] for call in calls], ["a", "b"])
        self.assertEqual(self.engine.counters.limit_hits, {"log_deliveries": 1})
        for call in calls:
            listener.answer(call)
        self.write("d")
        self.assertEqual([call["data"]["body"] for call in listener.received("invokefunction")], ["a", "b", "d"])


class DisabledTests(ObservabilityTestCase):
    settings: ClassVar = {"enabled": False}

    def test_no_type(self) -> None:
        """Without observability there is no such trigger type, and functions still answer."""
        self.listener()
        self.write("m")
        self.assertEqual(self.bodies(), [])
        trigger = self.engine.triggers.find("t")
        assert trigger is not None
        self.assertIn("no provider", trigger.reason)
