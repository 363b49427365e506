"""Tests for how long subscriptions last, whatever the store and the workers do (spec/queue.md, 4; docs/queue.md)."""

from __future__ import annotations

from tests.core.fakes import connect
from tests.modules.queue.test_topics import TopicCase


class SubscriptionCase(TopicCase):
    settings = {"absent_subscriber_ms": 100_000}

    def set_writable(self, writable: bool) -> None:
        """Let the store take writes, or none."""
        self.store._connection.execute(f"PRAGMA query_only = {'OFF' if writable else 'ON'}")

    def stored(self) -> list[tuple[object, ...]]:
        """The subscriptions that are on disk."""
        return self.store.read("SELECT topic, function_id, seen_ms FROM subscription", ())


class CannotWriteTests(SubscriptionCase):
    def test_leaves(self) -> None:
        """A subscriber that leaves while the store takes nothing was there until then, and that is stored later."""
        other = connect(self.engine, "other")
        self.subscribe(other, "f")
        self.turn(50)
        self.set_writable(False)
        other.leave()
        self.turn()
        self.set_writable(True)
        for _ in range(12):
            self.turn(1)
        self.assertEqual(self.stored(), [("orders", "f", 1_000_050_000)])
        self.publish(1)
        self.assertEqual(len(self.rows()), 1)
