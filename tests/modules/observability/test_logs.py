"""Tests for L{iii.modules.observability.logs}."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from twisted.logger import Logger, globalLogPublisher

from iii import __version__
from tests.modules.observability.case import NOW, ObservabilityTestCase

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


class Console:
    """What workers' records look like in the engine's log."""

    def __init__(self, test: ObservabilityTestCase) -> None:
        self.lines: list[tuple[str, str]] = []
        globalLogPublisher.addObserver(self)
        test.addCleanup(globalLogPublisher.removeObserver, self)

    def __call__(self, event: Any) -> None:
        if event["log_namespace"] == "worker":
            self.lines.append((event["log_level"].name, event["log_format"].format(**event)))


class WritingTests(ObservabilityTestCase):
    def test_record(self) -> None:
        """A record has the worker's name, the members of its data, and the trace of the call that wrote it."""
        data = {"message": "order placed", "data": {"order": 42, "_caller_worker_id": "mine"}}
        self.assertIsNone(self.ask("engine::log::warn", data, traceparent=TRACEPARENT))
        now = NOW * 10**9
        self.assertEqual(
            self.kept(),
            [
                {
                    "timestamp_unix_nano": now,
                    "observed_timestamp_unix_nano": now,
                    "severity_number": 13,
                    "severity_text": "WARN",
                    "body": "order placed",
                    "attributes": {"order": 42, "_caller_worker_id": "mine"},
                    "trace_id": TRACE,
                    "span_id": SPAN,
                    "resource": {"service.name": "iii"},
                    "service_name": "shop",
                    "instrumentation_scope_name": "iii",
                    "instrumentation_scope_version": __version__,
                }
            ],
        )

    def test_said_by_the_caller(self) -> None:
        """What the call says about service and trace holds; a span of another trace is not taken over."""
        data = {"message": "m", "trace_id": "f" * 32, "service_name": "orders"}
        self.ask("engine::log::info", data, traceparent=TRACEPARENT)
        (record,) = self.kept()
        self.assertEqual((record["trace_id"], record["span_id"], record["service_name"]), ("f" * 32, None, "orders"))

    def test_levels(self) -> None:
        """Each level has its function."""
        levels = ["trace", "debug", "info", "warn", "error"]
        for level in levels:
            self.write(level, level)
        self.assertEqual([record["severity_text"].lower() for record in self.kept()], levels)
        self.assertEqual([record["severity_number"] for record in self.kept()], [1, 5, 9, 13, 17])

    def test_data(self) -> None:
        """Data that is no object is kept as an attribute, and none is none."""
        for data in ("text", [1], 0, None, {}):
            self.write("m", data=data)
        self.write("m")
        attributes = [record["attributes"] for record in self.kept()]
        self.assertEqual(attributes, [{"data": "text"}, {"data": [1]}, {"data": 0}, {}, {}, {}])

    def test_awkward_data(self) -> None:
        """What some readers of a listing could not take is made such that they can."""
        call = '{"type":"invokefunction","function_id":"engine::log::info","data":{"message":"m","data":{"n":1e400}}}'
        self.worker.connection.received(call.encode())
        deep = {"message": "deep", "data": json.loads('{"a":' * 121 + "1" + "}" * 121)}
        self.assertIsNone(self.ask("engine::log::info", deep))
        first, second = self.kept()
        self.assertEqual(first["attributes"], {"n": None})
        self.assertTrue(second["attributes"]["data"].startswith('{"a"'))

    def test_bad_entries(self) -> None:
        """A record without a message, or with something that is none, is refused by name."""
        for data in ({}, {"message": None}, {"message": 7}, {"message": "m", "trace_id": 7}):
            code, message = self.ask("engine::log::info", data)
            self.assertEqual(code, "deserialization_error")
            self.assertIn("engine::log::info", message)

    def test_nameless(self) -> None:
        """A worker that has not said who it is writes as nobody."""
        self.worker.connection.announcement = None
        self.write("m")
        self.assertEqual([record["service_name"] for record in self.kept()], ["unknown"])

    def test_hoarding(self) -> None:
        """A record does not keep the frame in memory with which it came."""
        self.write("m", data={"a": "x" * 1000}, more="y" * 100_000)
        (record,) = self.module._logs.store.newest_first()
        self.assertEqual(bytes(record.attributes), b'{"a":"' + b"x" * 1000 + b'"}')
        self.assertLess(self.module._logs.store.used_bytes, 2000)


class LevelTests(ObservabilityTestCase):
    settings: ClassVar = {"level": "warn"}

    def test_engine(self) -> None:
        """Of the engine's own lines, those below the level are not kept; of workers' records, all are."""
        Logger().info("unheard")
        Logger().warn("heard")
        self.write("of a worker", "debug")
        self.assertEqual(
            [record["body"] for record in self.ask("engine::logs::list")["logs"]], ["of a worker", "heard"]
        )


class ConsoleTests(ObservabilityTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.console = Console(self)

    def test_line(self) -> None:
        """A record is one line of the engine's log: worker, text, data and trace, at the record's level."""
        self.ask("engine::log::error", {"message": "lost", "data": {"order": 42}}, traceparent=TRACEPARENT)
        self.assertEqual(self.console.lines, [("error", f'shop: lost {{"order":42}} trace_id={TRACE}')])

    def test_harmless(self) -> None:
        """Nothing in a record can forge a line, or reach a terminal."""
        self.write("a\nb\x1b[2J", trace_id="x\ny", data={"k\n": "{not} a format"})
        ((_, line),) = self.console.lines
        self.assertEqual(len(line.splitlines()), 1)
        self.assertNotIn("\x1b", line)

    def test_long(self) -> None:
        """A long record is cut in the log, not in the store."""
        self.write("x" * 10_000)
        ((_, line),) = self.console.lines
        self.assertLess(len(line), 5000)
        self.assertEqual(self.bodies(), ["x" * 10_000])

    def test_level(self) -> None:
        """What is below the level of the settings is kept and not shown."""
        self.write("fine", "debug")
        self.assertEqual((self.console.lines, self.bodies()), ([], ["fine"]))

    def test_not_twice(self) -> None:
        """The line in the engine's log does not become a record itself."""
        self.write("once")
        self.assertEqual(self.ask("engine::logs::list")["total"], 1)


class DebugLevelTests(ObservabilityTestCase):
    settings: ClassVar = {"level": "iii::queue=error,DEBUG"}

    def test_level(self) -> None:
        """The level that holds for everything decides which records are shown."""
        console = Console(self)
        self.write("fine", "debug")
        self.write("finer", "trace")
        self.assertEqual([line for _, line in console.lines], ["shop: fine"])


class QuietTests(ObservabilityTestCase):
    settings: ClassVar = {"logs_console_output": False}

    def test_quiet(self) -> None:
        """Workers' records can be kept out of the engine's log."""
        console = Console(self)
        self.write("m")
        self.assertEqual((console.lines, self.bodies()), ([], ["m"]))


class OffTests(ObservabilityTestCase):
    settings: ClassVar = {"logs_enabled": False}

    def test_off(self) -> None:
        """Without logs, writing one succeeds and does nothing, and nobody is told."""
        listener, console = self.listener(), Console(self)
        self.write("m")
        self.engine.telemetry_received(b'LOGS{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}')
        Logger().error("of the engine")
        self.assertEqual(self.ask("engine::logs::list")["total"], 0)
        self.assertEqual((console.lines, listener.received("invokefunction")), ([], []))


class SamplingTests(ObservabilityTestCase):
    settings: ClassVar = {"logs_sampling_ratio": 0.25}

    def test_sampling(self) -> None:
        """That share of the calls is written; records that come as telemetry are all kept."""
        chances = iter([0.1, 0.25, 0.9])
        self.module._logs._chance = lambda: next(chances)
        for body in "abc":
            self.write(body)
        self.engine.telemetry_received(b'LOGS{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}')
        self.assertEqual(self.bodies(), ["a", ""])


class FrameTests(ObservabilityTestCase):
    def test_frame(self) -> None:
        """A worker's telemetry is kept and shown like what it writes through functions; of its attributes, its own."""
        console = Console(self)
        attributes = [
            {"key": "service.name", "value": {"stringValue": "stock"}},
            {"key": "log.data", "value": {"kvlistValue": {"values": [{"key": "left", "value": {"intValue": 1}}]}}},
        ]
        record = {"severityNumber": 13, "body": {"stringValue": "low"}, "traceId": TRACE, "attributes": attributes}
        self.worker.connection.received(
            b"LOGS" + json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode(), True
        )
        self.assertEqual(self.bodies(), ["low"])
        self.assertEqual(console.lines, [("warn", f'stock: low {{"left":1}} trace_id={TRACE}')])

    def test_bad_frame(self) -> None:
        """A frame that is none is dropped, with a warning; the worker goes on."""
        self.worker.connection.received(b"LOGS{", True)
        self.write("m")
        warnings = self.ask("engine::logs::list", {"severity_min": 13})["logs"]
        (body,) = [record["body"] for record in warnings]
        self.assertTrue(body.startswith("a LOGS frame of worker shop is dropped: "), body)

    def test_other_telemetry(self) -> None:
        """Traces and metrics are no logs."""
        for prefix in (b"OTLP", b"MTRC"):
            self.worker.connection.received(prefix + b"{", True)
        self.assertEqual(self.ask("engine::logs::list")["total"], 0)


class EngineLogTests(ObservabilityTestCase):
    def test_line(self) -> None:
        """What the engine logs itself is a record."""
        Logger(namespace="iii.test").warn("worker {name} is odd", name="w")
        (record,) = self.ask("engine::logs::list")["logs"]
        self.assertEqual((record["body"], record["severity_text"]), ("worker w is odd", "WARN"))
        self.assertEqual((record["service_name"], record["attributes"]), ("iii", {"target": "iii.test"}))

    def test_failure(self) -> None:
        """Of a failure, the traceback is kept."""
        try:
            raise ZeroDivisionError("of a test")
        except ZeroDivisionError:
            Logger().failure("it broke")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        (record,) = self.ask("engine::logs::list")["logs"]
        self.assertEqual((record["severity_number"], record["severity_text"]), (21, "FATAL"))
        self.assertTrue(record["body"].startswith("it broke\nTraceback"))
        self.assertIn("of a test", record["body"])

    def test_stopped(self) -> None:
        """When the module has stopped, it hears nothing any more."""
        self.module.stopService()
        self.addCleanup(self.module.startService)
        Logger().warn("unheard")
        self.engine.telemetry_received(b'LOGS{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}')
        self.assertEqual(self.ask("engine::logs::list")["total"], 0)


class ListingTests(ObservabilityTestCase):
    def setUp(self) -> None:
        super().setUp()
        for number, level in enumerate(["debug", "info", "error", "info"]):
            self.write(f"m{number}", level, trace_id=f"{number}" * 32, span_id=f"{number}" * 16)
            self.clock.advance(1)

    def test_order(self) -> None:
        """The newest comes first; the answer repeats the query and tells when it was made."""
        answer = self.ask("engine::logs::list", {"limit": 2, "offset": 1})
        self.assertEqual([record["body"] for record in answer["logs"]], ["m2", "m1"])
        self.assertEqual((answer["total"], answer["timestamp"]), (4, (NOW + 4) * 1000))
        self.assertEqual(
            answer["query"],
            {
                "start_time": None, "end_time": None, "trace_id": None, "span_id": None, "severity_min": None,
                "severity_text": None, "offset": 1, "limit": 2,
            },
        )  # fmt: skip

    def test_filters(self) -> None:
        """Each filter leaves out what it does not fit; together they leave what all fit."""
        for expected, query in {
            ("m1", "m2"): {"start_time": (NOW + 1) * 1000, "end_time": (NOW + 2) * 1000},
            ("m3",): {"trace_id": "3" * 32},
            ("m2",): {"span_id": "2" * 16},
            ("m1", "m2", "m3"): {"severity_min": 9},
            ("m1", "m3"): {"severity_text": "Info"},
            (): {"severity_text": "info", "severity_min": 10},
        }.items():
            self.assertEqual(tuple(self.bodies(**query)), expected)

    def test_bad_query(self) -> None:
        """A query that is none is refused."""
        for query in ({"limit": -1}, {"offset": "x"}, {"severity_min": "high"}):
            self.assertEqual(self.ask("engine::logs::list", query)[0], "deserialization_error")

    def test_clear(self) -> None:
        """All records are forgotten."""
        self.assertEqual(self.ask("engine::logs::clear"), {"success": True})
        self.assertEqual(self.ask("engine::logs::list")["total"], 0)
