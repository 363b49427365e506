"""
Log records out of C{LOGS} frames: OTLP as JSON, in all the forms that SDKs send (spec/observability.md, 3.2 and 3.5).

What is wrong in one record costs that record, what is wrong in a resource what is known about it: never the frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from iii.modules.observability.records import NOTHING, LogRecord, severity_text

PREFIX = 4
"""Bytes in front of the JSON."""
HIGHEST_SEVERITY = 24
MAX_RECORDS = 10_000
"""Of one frame; SDKs send some hundreds.  More are dropped: reading them would keep everybody waiting."""
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_SCALARS: Mapping[str, type] = {"stringValue": str, "intValue": int, "doubleValue": float, "boolValue": bool}

Resource = tuple[str, Raw]
"""The name of the service that wrote, and all that is known about it, as a JSON object of texts."""


class BadFrame(Exception):
    """A telemetry frame is none; the text says why."""


class _BadRecord(Exception):
    """One record of a frame is none."""


_UNREADABLE = (_BadRecord, KeyError, ValueError, TypeError, OverflowError, AttributeError)


def log_records(frame: bytes, now_nano: int) -> tuple[list[LogRecord], int]:
    """
    Return the records of a frame, and how many more it has that cannot be read.

    @param now_nano: When it came, in nanoseconds since the epoch.
    @raise BadFrame: It is not JSON, or not of this shape.
    """
    try:
        content = msgspec.json.decode(frame[PREFIX:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error
    records: list[LogRecord] = []
    bad = 0
    for resource, scope, sent in _sent(content):
        if len(records) >= MAX_RECORDS:
            bad += 1
            continue
        try:
            records.append(_record(resource, scope, sent, now_nano))
        except _UNREADABLE:
            bad += 1
    return records, bad


def _sent(content: Any) -> Iterator[tuple[Resource, Any, Any]]:
    """Return each record with its resource and scope."""
    for of_resource in _items(content, "resourceLogs"):
        resource = _resource(of_resource.get("resource") if isinstance(of_resource, dict) else None)
        for of_scope in _items(of_resource, "scopeLogs"):
            for record in _items(of_scope, "logRecords"):
                yield resource, of_scope.get("scope"), record


def _resource(sent: Any) -> Resource:
    try:
        texts = {key: _text(value) for key, value in _attributes(sent.get("attributes") if sent else None).items()}
        return texts.get("service.name", ""), Raw(msgspec.json.encode(texts))
    except _UNREADABLE:
        return "", NOTHING


def _items(container: Any, key: str) -> list[Any]:
    items = container.get(key) if isinstance(container, dict) else None
    if items is None and isinstance(container, dict):
        return []
    if not isinstance(items, list):
        raise BadFrame(f"expected an object with a list `{key}`")
    return items


def _record(resource: Resource, scope: Any, sent: Any, now: int) -> LogRecord:
    service, known = resource
    number = int(sent.get("severityNumber") or 0)
    if not 0 <= number <= HIGHEST_SEVERITY:
        raise _BadRecord
    observed = _time(sent.get("observedTimeUnixNano")) or now
    attributes = _attributes(sent.get("attributes"))
    said = scope if isinstance(scope, dict) else {}
    return LogRecord(
        timestamp_unix_nano=_time(sent.get("timeUnixNano")) or observed,
        observed_timestamp_unix_nano=now,
        severity_number=number,
        severity_text=str(sent.get("severityText") or "") or severity_text(number),
        body=_text(_value(sent.get("body") or {})),
        attributes=Raw(msgspec.json.encode(attributes)),
        trace_id=_id(sent.get("traceId")) or _id(attributes.get("trace_id")),
        span_id=_id(sent.get("spanId")) or _id(attributes.get("span_id")),
        resource=known,
        service_name=_text(attributes.get("service.name")) or service or "unknown",
        instrumentation_scope_name=_text(said["name"]) if said.get("name") else UNSET,
        instrumentation_scope_version=_text(said["version"]) if said.get("version") else UNSET,
    )


def _time(value: Any) -> int:
    time = int(value or 0)
    if not 0 <= time < 2**63:
        raise _BadRecord
    return time


def _id(value: Any) -> str | None:
    """Return a trace's or span's id; absent, empty and all zeros mean none."""
    return value.lower() if isinstance(value, str) and value.strip("0") else None


def _attributes(listed: Any) -> dict[str, Any]:
    if listed is None:
        return {}
    return {str(item["key"]): _value(item.get("value") or {}) for item in listed}


def _value(wrapped: Any) -> Any:
    """Return a value without what says its type; the empty object is null."""
    for name, kind in _SCALARS.items():
        if wrapped.get(name) is not None:
            given = wrapped[name]
            value = given is True or given == "true" if kind is bool else _text(given) if kind is str else kind(given)
            return _ANSI.sub("", value) if isinstance(value, str) else value
    if "arrayValue" in wrapped:
        return [_value(item) for item in wrapped["arrayValue"].get("values") or []]
    if "kvlistValue" in wrapped:
        return _attributes(wrapped["kvlistValue"].get("values"))
    return wrapped.get("bytesValue")


def _text(value: Any) -> str:
    """Return a text as it is, nothing as none, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
