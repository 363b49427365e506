"""Tests for L{iii.modules.observability.otlp}."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.observability.otlp import BadFrame, log_records
from iii.modules.observability.records import LogRecord
from iii.wire.messages import value_of

NOW = 5_000
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def frame(*records: Any, resource: Any = None, scope: Any = None) -> bytes:
    """Return a frame with records of one resource and scope."""
    of_scope = {"scope": scope, "logRecords": list(records)}
    content = {"resourceLogs": [{"resource": resource, "scopeLogs": [of_scope]}]}
    return b"LOGS" + json.dumps(content).encode()


def attribute(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


class LogRecordsTests(SynchronousTestCase):
    def read(self, *records: Any, **others: Any) -> list[LogRecord]:
        read, self.bad = log_records(frame(*records, **others), NOW)
        return read

    def one(self, record: Any, **others: Any) -> LogRecord:
        (read,) = self.read(record, **others)
        self.assertEqual(self.bad, 0)
        return read

    def test_whole(self) -> None:
        """A record as the Python SDK sends it."""
        record = self.one(
            {
                "timeUnixNano": "1760000000000000000",
                "observedTimeUnixNano": "1760000000000100000",
                "severityNumber": 9,
                "severityText": "INFO",
                "body": {"stringValue": "order placed"},
                "traceId": TRACE,
                "spanId": SPAN,
                "attributes": [attribute("order", intValue=42), attribute("service.name", stringValue="orders")],
            },
            resource={
                "attributes": [attribute("service.name", stringValue="iii-python-sdk"), attribute("n", intValue=1)]
            },
            scope={"name": "logger", "version": "1"},
        )
        self.assertEqual(record.timestamp_unix_nano, 1760000000000000000)
        self.assertEqual(record.observed_timestamp_unix_nano, NOW)
        self.assertEqual((record.severity_number, record.severity_text, record.body), (9, "INFO", "order placed"))
        self.assertEqual((record.trace_id, record.span_id, record.service_name), (TRACE, SPAN, "orders"))
        self.assertEqual(value_of(record.attributes), {"order": 42, "service.name": "orders"})
        self.assertEqual(value_of(record.resource), {"service.name": "iii-python-sdk", "n": "1"})
        self.assertEqual((record.instrumentation_scope_name, record.instrumentation_scope_version), ("logger", "1"))

    def test_least(self) -> None:
        """A record may be nearly empty; the text of its level is derived from the number, as Node's have none."""
        record = self.one({"severityNumber": 17, "traceId": "0" * 32, "spanId": ""})
        self.assertEqual((record.severity_text, record.body, record.service_name), ("ERROR", "", "unknown"))
        self.assertEqual((record.trace_id, record.span_id, record.timestamp_unix_nano), (None, None, NOW))

    def test_trace_in_attributes(self) -> None:
        """Without ids of its own, a record has those that the SDK's logger puts into its attributes."""
        record = self.one(
            {"attributes": [attribute("trace_id", stringValue=TRACE), attribute("span_id", stringValue=SPAN)]}
        )
        self.assertEqual((record.trace_id, record.span_id), (TRACE, SPAN))

    def test_values(self) -> None:
        """Attributes keep their types, numbers sent as texts included; Node's C{{}} is null."""
        values = {
            "text": {"stringValue": "\x1b[31mred\x1b[0m"},
            "empty": {"stringValue": ""},
            "number": {"intValue": "-7"},
            "double": {"doubleValue": 1.5},
            "yes": {"boolValue": True},
            "no": {"boolValue": False},
            "list": {"arrayValue": {"values": [{"intValue": 1}, {}]}},
            "map": {"kvlistValue": {"values": [attribute("k", stringValue="v")]}},
            "bytes": {"bytesValue": "AAE="},
            "nothing": {},
        }
        record = self.one({"attributes": [attribute(key, **value) for key, value in values.items()]})
        self.assertEqual(
            value_of(record.attributes),
            {
                "text": "red", "empty": "", "number": -7, "double": 1.5, "yes": True, "no": False, "list": [1, None],
                "map": {"k": "v"}, "bytes": "AAE=", "nothing": None,
            },
        )  # fmt: skip

    def test_body_of_any_type(self) -> None:
        """A body that is no text is shown as JSON."""
        body = {"kvlistValue": {"values": [attribute("a", intValue=1)]}}
        self.assertEqual(self.one({"body": body}).body, '{"a":1}')

    def test_bad_records(self) -> None:
        """One record that is none does not cost the others."""
        bad: list[Any] = [
            7, {"timeUnixNano": "soon"}, {"attributes": 3}, {"severityNumber": [1]}, {"timeUnixNano": -1},
            {"severityNumber": -1}, {"severityNumber": 25}, {"observedTimeUnixNano": "-1"},
            {"observedTimeUnixNano": 2**63},
        ]  # fmt: skip
        self.assertEqual([record.body for record in self.read(*bad, {"body": {"stringValue": "good"}})], ["good"])
        self.assertEqual(self.bad, len(bad))

    def test_bad_resource(self) -> None:
        """A resource that cannot be read costs only what is known about the writer."""
        bad: list[Any] = [7, {"attributes": 3}, {"attributes": [{}]}, {"attributes": [None]}, {"attributes": ["key"]}]
        for resource in bad:
            record = self.one({"body": {"stringValue": "good"}}, resource=resource)
            self.assertEqual((record.body, record.service_name, bytes(record.resource)), ("good", "unknown", b"{}"))

    def test_many(self) -> None:
        """Of a frame with very many records the first ones are taken."""
        self.assertEqual(len(self.read(*[{}] * 10_001)), 10_000)
        self.assertEqual(self.bad, 1)

    def test_wrong_kinds(self) -> None:
        """A flag may be a text; a text that is none is shown as JSON."""
        values = {"no": {"boolValue": "false"}, "yes": {"boolValue": "true"}, "text": {"stringValue": {"a": 1}}}
        record = self.one({"attributes": [attribute(key, **value) for key, value in values.items()]})
        self.assertEqual(value_of(record.attributes), {"no": False, "yes": True, "text": '{"a":1}'})

    def test_nothing(self) -> None:
        """An empty object is a frame with no records."""
        self.assertEqual(log_records(b"LOGS{}", NOW), ([], 0))

    def test_bad_frames(self) -> None:
        """What is no JSON, or JSON of another shape, is no frame."""
        for bad in (
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"resourceLogs":{}}',
            b'{"resourceLogs":[1]}',
            b'"\xff"',
            b"[" * 10_000,
        ):
            with self.assertRaises(BadFrame):
                log_records(b"LOGS" + bad, NOW)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["resourceLogs", "resource", "scopeLogs", "scope", "logRecords", "attributes", "key", "value",
                     "body", "stringValue", "intValue", "kvlistValue", "arrayValue", "values", "timeUnixNano", "name"]
                ),
                inner,
                max_size=4,
            ),
            max_leaves=30,
        )
    )  # fmt: skip
    def test_anything(self, content: Any) -> None:
        """Whatever comes, it is read or refused."""
        of_scope = {"scopeLogs": [{"logRecords": [content]}]}
        for sent in (content, {"resourceLogs": [of_scope]}, {"resourceLogs": [{"resource": content, **of_scope}]}):
            try:
                log_records(b"LOGS" + json.dumps(sent).encode(), NOW)
            except BadFrame:
                pass
