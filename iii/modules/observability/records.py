"""Log records, and the store of the latest ones (spec/observability.md, 5 and 7.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec
from msgspec import UNSET, Raw, UnsetType
from twisted.internet.interfaces import IReactorTime

from iii.config.blocks.observability import ObservabilitySettings
from iii.core.engine import Engine

NOTHING = Raw(b"{}")

LEVELS = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17}
"""Severity numbers of the levels that functions and triggers name (OpenTelemetry, Logs Data Model)."""

_TEXTS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_FIXED = 200
"""Bytes of a record beside its texts, roughly."""


def severity_text(number: int) -> str:
    """Return the name of a severity number; of one that is none, nothing."""
    return _TEXTS[(number - 1) // 4] if 1 <= number <= 24 else ""


class LogRecord(msgspec.Struct):
    """
    One log record, as C{engine::logs::list} shows it.

    @ivar timestamp_unix_nano: When it was written, if its writer says so, else when it came.
    @ivar observed_timestamp_unix_nano: When it came.
    @ivar attributes: A JSON object.
    @ivar resource: A JSON object: what is known about the writer.
    """

    timestamp_unix_nano: int
    observed_timestamp_unix_nano: int
    severity_number: int
    severity_text: str
    body: str
    attributes: Raw = msgspec.field(default_factory=lambda: NOTHING)
    trace_id: str | None = None
    span_id: str | None = None
    resource: Raw = msgspec.field(default_factory=lambda: NOTHING)
    service_name: str = "unknown"
    instrumentation_scope_name: str | UnsetType = UNSET
    instrumentation_scope_version: str | UnsetType = UNSET

    @property
    def size(self) -> int:
        """About how many bytes it keeps.  All that its writer chose counts, ids and names too."""
        return _FIXED + len(msgspec.json.encode(self))


class LogStore:
    """
    The latest log records, in memory, bounded in number, bytes and age.

    @ivar used_bytes: What the records keep.
    """

    def __init__(self, settings: ObservabilitySettings, engine: Engine, clock: IReactorTime) -> None:
        self._clock, self._counters = clock, engine.counters
        self._max_count, self._max_bytes = settings.logs_max_count, engine.limits.log_store_bytes
        self._retention = settings.logs_retention_seconds
        self._records: deque[LogRecord] = deque()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: LogRecord) -> None:
        """Keep a record; the oldest ones make room for it.  One that is larger than the store is dropped itself."""
        size = record.size
        if size > self._max_bytes:
            self._counters.hit("log_store_bytes")
            return
        if len(self._records) >= self._max_count:
            self._drop_oldest()
        while self.used_bytes + size > self._max_bytes:
            self._drop_oldest()
            self._counters.hit("log_store_bytes")
        self._records.append(record)
        self.used_bytes += size

    def newest_first(self) -> Iterator[LogRecord]:
        """The records that are not too old."""
        if self._retention:
            oldest = (self._clock.seconds() - self._retention) * 1e9
            while self._records and self._records[0].observed_timestamp_unix_nano < oldest:
                self._drop_oldest()
        return reversed(self._records)

    def clear(self) -> None:
        """Forget all records."""
        self._records.clear()
        self.used_bytes = 0

    def _drop_oldest(self) -> None:
        self.used_bytes -= self._records.popleft().size
