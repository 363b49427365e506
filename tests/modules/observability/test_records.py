"""Tests for L{iii.modules.observability.records}."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.config.blocks.observability import ObservabilitySettings
from iii.modules.observability.records import LogRecord, LogStore, severity_text
from tests.core.fakes import make_engine


class LogStoreTests(SynchronousTestCase):
    def store(self, log_store_bytes: int = 100_000, **settings: Any) -> LogStore:
        self.clock = Clock()
        self.engine = make_engine(self.clock, log_store_bytes=log_store_bytes)
        return LogStore(ObservabilitySettings(**settings), self.engine, self.clock)

    def record(self, body: str) -> LogRecord:
        now = int(self.clock.seconds() * 1e9)
        return LogRecord(now, now, 9, "INFO", body)

    def bodies(self, store: LogStore) -> list[str]:
        return [record.body for record in store.newest_first()]

    def test_count(self) -> None:
        """At the number, the oldest record makes room; that is no limit that was hit, but how a ring works."""
        store = self.store(logs_max_count=2)
        for body in "abc":
            store.add(self.record(body))
        self.assertEqual(self.bodies(store), ["c", "b"])
        self.assertEqual(self.engine.counters.limit_hits, {})

    def test_bytes(self) -> None:
        """At the bytes, as many of the oldest make room as are needed, and are counted."""
        store = self.store(log_store_bytes=1500)
        for body in ("a", "b", "c" * 1000):
            store.add(self.record(body))
        self.assertEqual(self.bodies(store), ["c" * 1000])
        self.assertEqual(self.engine.counters.limit_hits, {"log_store_bytes": 2})
        self.assertLess(store.used_bytes, 1500)

    def test_all_counts(self) -> None:
        """Whatever a writer makes long counts, in bytes, not characters."""
        self.store()
        usual = self.record("").size
        for name in (
            "body", "severity_text", "trace_id", "span_id", "service_name", "instrumentation_scope_name",
            "instrumentation_scope_version",
        ):  # fmt: skip
            record = self.record("")
            setattr(record, name, "€" * 1000)
            self.assertGreater(record.size, usual + 2900, name)

    def test_too_large(self) -> None:
        """A record that is larger than the store is counted and drops nothing but itself."""
        store = self.store(log_store_bytes=1500)
        store.add(self.record("a"))
        store.add(self.record("b" * 2000))
        self.assertEqual(self.bodies(store), ["a"])
        self.assertEqual(self.engine.counters.limit_hits, {"log_store_bytes": 1})

    def test_age(self) -> None:
        """Records are gone when they are too old."""
        store = self.store(logs_retention_seconds=60)
        store.add(self.record("a"))
        self.clock.advance(40)
        store.add(self.record("b"))
        self.clock.advance(40)
        self.assertEqual(self.bodies(store), ["b"])

    def test_no_age(self) -> None:
        """Without a retention they stay."""
        store = self.store(logs_retention_seconds=0)
        store.add(self.record("a"))
        self.clock.advance(10**9)
        self.assertEqual(self.bodies(store), ["a"])

    def test_nothing_left(self) -> None:
        """Dropping and clearing give all bytes back."""
        store = self.store(logs_max_count=1)
        for body in "abc":
            store.add(self.record(body))
        self.assertEqual(store.used_bytes, self.record("c").size)
        store.clear()
        self.assertEqual((store.used_bytes, len(store)), (0, 0))


class SeverityTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """Each level has four numbers; outside of them there is no text."""
        self.assertEqual(
            [severity_text(number) for number in (0, 1, 4, 5, 9, 13, 17, 20, 21, 24, 25, -3)],
            ["", "TRACE", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "ERROR", "FATAL", "FATAL", "", ""],
        )
