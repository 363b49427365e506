"""Tests for serving many queues beside each other."""

from __future__ import annotations

from iii.modules.queue.delivery import Line, Piece
from iii.modules.queue.queues import Queue
from iii.modules.queue.retry import Policy
from tests.modules.queue.case import QueueTestCase


class BrokenLine(Line):
    """One that has a defect, and counts how often it shows."""

    seen = 0

    def wanted(self, now_ms: int) -> Piece | None:
        """Fail."""
        self.seen += 1
        raise IndexError


class NamesTests(QueueTestCase):
    def test_named(self) -> None:
        """Queues are found by what users call them, until they are removed."""
        dispatcher = self.module.dispatcher
        first, second = (Queue(name, "orders", Line(Policy()), topic=True) for name in ("a", "b"))
        for queue in (first, second):
            dispatcher.add(queue)
        self.assertEqual((dispatcher.named("orders"), dispatcher.names()), ([first, second], ["default", "orders"]))
        dispatcher.remove(first)
        self.assertEqual(
            (dispatcher.named("orders"), list(dispatcher.queues)), ([second], ["__fn_queue::default", "b"])
        )
        dispatcher.remove(second)
        self.assertEqual((dispatcher.named("orders"), dispatcher.names()), ([], ["default"]))


class ServeTests(QueueTestCase):
    def test_defect(self) -> None:
        """A queue that cannot be served is tried again, and keeps no other one from being served."""
        self.worker.register("f")
        line = BrokenLine(Policy())
        dispatcher = self.module.dispatcher
        dispatcher.serve(Queue("broken", "broken", line))
        dispatcher.serve(dispatcher.queues["__fn_queue::default"])
        self.turn()
        self.enqueue(1)
        self.assertEqual((line.seen, self.payloads()), (1, [1]))
        self.turn(1)
        self.assertEqual((line.seen, len(self.flushLoggedErrors(IndexError))), (2, 2))
