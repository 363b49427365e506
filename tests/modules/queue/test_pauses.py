"""Tests for pausing queues and topics (docs/queue.md)."""

from __future__ import annotations

from tests.core.fakes import connect
from tests.modules.queue.test_topics import TopicCase

PAUSE, RESUME = "engine::queue::pause", "engine::queue::resume"


class PauseTests(TopicCase):
    settings = {"absent_subscriber_ms": 100_000}

    def paused(self) -> bool:
        found: bool = self.ask("engine::queue::topic_stats", {"topic": "orders"})["paused"]
        return found

    def unsubscribe(self) -> None:
        """Take back the trigger, and wait until nothing is left of the subscription."""
        self.worker.send("unregistertrigger", id="t", trigger_type="durable:subscriber")
        for _ in range(12):
            self.turn(1)
        self.assertEqual(list(self.module.dispatcher.queues), ["__fn_queue::default"])

    def test_topic(self) -> None:
        """A paused topic delivers nothing, also to subscribers that come later, until it is resumed."""
        self.subscribe(self.worker, "f", "1")
        self.assertEqual(self.ask(PAUSE, {"topic": "orders"}), {"queue": "orders", "paused": True})
        other = connect(self.engine, "other")
        self.subscribe(other, "g", "2")
        self.publish(1)
        self.assertEqual((self.payloads(), self.payloads(other), self.paused()), ([], [], True))
        self.assertEqual(self.ask(RESUME, {"queue": "orders"}), {"queue": "orders", "paused": False})
        self.turn()
        self.assertEqual((self.payloads(), self.payloads(other), self.paused()), ([1], [1], False))

    def test_comes_back(self) -> None:
        """A topic stays paused when its last subscriber goes and comes back; a restart makes no difference."""
        self.subscribe(self.worker, "f")
        self.ask(PAUSE, {"queue": "orders"})
        self.unsubscribe()
        self.subscribe(self.worker, "f")
        self.assertTrue(self.paused())
        self.restart()
        self.subscribe(self.worker, "f")
        self.assertTrue(self.paused())
        self.ask(RESUME, {"queue": "orders"})
        self.restart()
        self.subscribe(self.worker, "f")
        self.assertFalse(self.paused())

    def test_nobody_left(self) -> None:
        """A paused topic can be resumed when nobody subscribes to it."""
        self.subscribe(self.worker, "f")
        self.ask(PAUSE, {"queue": "orders"})
        self.unsubscribe()
        self.assertEqual(self.ask(RESUME, {"queue": "orders"}), {"queue": "orders", "paused": False})
        self.subscribe(self.worker, "f")
        self.assertFalse(self.paused())

    def test_same_name(self) -> None:
        """Pausing a named queue does not pause a topic that is called the same."""
        self.worker.register("f")
        self.subscribe(self.worker, "g", topic="default")
        self.ask(PAUSE, {"queue": "default"})
        self.enqueue(1)
        self.publish(2, topic="default")
        self.assertEqual(self.payloads(), [2])

    def test_unknown(self) -> None:
        """What is not there can be neither paused nor resumed."""
        for function_id in (PAUSE, RESUME):
            self.assertEqual(self.ask(function_id, {"queue": "x"}), ("queue_not_found", "Queue 'x' not found"))

    def test_cannot_write(self) -> None:
        """When the store takes nothing, the caller is told, and nothing changes."""
        self.subscribe(self.worker, "f")
        self.store._connection.execute("PRAGMA query_only = ON")
        self.assertEqual(self.ask(PAUSE, {"queue": "orders"})[0], "pause_failed")
        self.assertFalse(self.paused())
