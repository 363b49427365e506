"""Tests for how long subscriptions last, whatever the store and the workers do (spec/queue.md, 4; docs/queue.md)."""

from __future__ import annotations

from iii.modules.queue.operations import PIECE
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

    def test_ends(self) -> None:
        """A subscription that ends while the store takes nothing ends when it does again, and is whole until then."""
        self.subscribe(self.worker, "f")
        self.set_writable(False)
        self.worker.send("unregistertrigger", id="t", trigger_type="durable:subscriber")
        self.turn()
        self.set_writable(True)
        self.publish(1)
        self.assertEqual(len(self.rows()), 1)
        for _ in range(12):
            self.turn(1)
        self.assertEqual(self.stored(), [])
        self.publish(2)
        self.assertEqual(len(self.rows()), 1)

    def test_comes_back(self) -> None:
        """A subscription that could not be ended goes on when its function subscribes again."""
        self.subscribe(self.worker, "f")
        self.set_writable(False)
        self.worker.send("unregistertrigger", id="t", trigger_type="durable:subscriber")
        self.turn()
        self.set_writable(True)
        self.subscribe(self.worker, "f")
        for _ in range(12):
            self.turn(1)
        self.publish(1)
        self.assertEqual((self.payloads(), len(self.stored())), ([1], 1))

    def test_unsubscribe(self) -> None:
        """Who ends a subscription is told when that cannot be written; it is still there."""
        other = connect(self.engine, "other")
        self.subscribe(other, "f")
        other.leave()
        self.turn()
        self.set_writable(False)
        gone = {"topic": "orders", "function_id": "f"}
        code, message = self.ask("engine::queue::unsubscribe", gone)
        self.assertEqual(code, "jobs_failed", message)
        self.set_writable(True)
        self.publish(1)
        self.assertEqual(len(self.rows()), 1)
        self.assertEqual(self.ask("engine::queue::unsubscribe", gone), {**gone, "unsubscribed": True, "discarded": 1})

    def test_while_discarding(self) -> None:
        """What waits is not discarded any more when its function subscribes again meanwhile."""
        other = connect(self.engine, "other")
        self.subscribe(other, "f")
        other.leave()
        for number in range(2 * PIECE):
            self.publish(number)
        self.store.hold()
        call = self.worker.call("engine::queue::unsubscribe", {"topic": "orders", "function_id": "f"})
        self.turn()
        self.store.release(hold=True)  # the end of the subscription, and the first piece begins
        self.subscribe(connect(self.engine, "other"), "f")
        self.store.release()
        self.turn()
        self.assertEqual((self.worker.outcome(call)["discarded"], len(self.rows())), (PIECE, PIECE))

    def test_while_ending(self) -> None:
        """A function that subscribes again while its subscription is being ended keeps it."""
        self.subscribe(self.worker, "f")
        self.worker.send("unregistertrigger", id="t", trigger_type="durable:subscriber")
        self.store.hold()
        self.turn()
        self.subscribe(self.worker, "f")
        self.store.release()
        self.turn()
        self.publish(1)
        self.assertEqual((self.payloads(), len(self.stored())), ([1], 1))


class AwayTests(SubscriptionCase):
    def test_engine_away(self) -> None:
        """The time in which the engine did not run is not the subscriber's absence, nor of what waits for it."""
        other = connect(self.engine, "other")
        self.subscribe(other, "f")
        other.leave()
        self.publish(1)
        self.subscribe(self.worker, "left")
        self.publish(2)
        self.worker.send("unregistertrigger", id="t", trigger_type="durable:subscriber")
        self.turn()
        before = len(self.rows())
        self.clock.advance(200)
        self.restart()
        for _ in range(99):
            self.turn(1)
        self.assertEqual((len(self.rows()), len(self.stored())), (before, 1))
        for _ in range(11):
            self.turn(1)
        self.assertEqual((self.rows(), self.stored()), ([], []))
