"""Tests for the figures of the queues."""

from __future__ import annotations

from math import isnan

from iii.modules.queue import figures
from tests.modules.queue.case import QueueTestCase


class FigureTests(QueueTestCase):
    queues = {"one": {"max_retries": 2, "concurrency": 1}}

    def setUp(self) -> None:
        super().setUp()
        self.worker.register("f")

    def figures(self, queue: str = "one") -> dict[str, float]:
        """What is told about a queue, by the name of the figure and the labels that are left."""
        read = (figure for source in self.engine.figures for figure in source())
        return {
            " ".join((figure.name, *labels[2:])): value
            for figure in read
            for labels, value in figure.values.items()
            if labels[0] == queue
        }

    def test_depth(self) -> None:
        """Messages are counted by their states."""
        for _ in range(3):
            self.enqueue(queue="one")
        self.enqueue(queue="one", options={"delay_ms": 1000})
        states = {f"queue_depth {state}": count for state, count in (("ready", 2), ("delayed", 1), ("running", 1))}
        self.assertLessEqual({**states, "queue_depth dead": 0}.items(), self.figures().items())

    def test_counters(self) -> None:
        """What has become of messages and deliveries is counted."""
        self.enqueue(1, queue="one")
        self.enqueue(2, queue="one")
        self.answer(self.jobs()[0])
        for job in (1, 2):
            self.fail_job(self.jobs()[job])
            self.turn(1)
        found = self.figures()
        names = ("queue_delivered", "queue_failed", "queue_retries", "queue_dead_letters", "queue_depth dead")
        self.assertEqual([found[name] for name in names], [1, 2, 1, 1, 1])

    def test_oldest(self) -> None:
        """What waits or runs for longest is found, whatever its priority; what may not run yet does not wait."""
        self.enqueue(1, queue="one", options={"delay_ms": 15_000})
        self.assertEqual(self.figures()["queue_oldest_seconds"], 0)
        self.enqueue(2, "missing", queue="one")
        for priority in (3, 7, 1):
            self.turn(1)
            self.enqueue(2, "missing", queue="one", options={"priority": priority})
        self.assertEqual(self.figures()["queue_oldest_seconds"], 3)
        self.turn(1)
        self.assertEqual(self.figures()["queue_oldest_seconds"], 4)
        self.worker.register("missing")
        for job in range(4):
            self.turn()
            self.answer(self.jobs()[job])
        self.assertEqual(self.figures()["queue_oldest_seconds"], 0)
        self.turn(13)
        self.assertEqual(self.figures()["queue_oldest_seconds"], 2)

    def test_unknown(self) -> None:
        """What cannot be read is not known; the rest is."""
        self.enqueue(1, queue="one")
        self.store.fail_reads = True
        found = self.figures()
        self.assertTrue(isnan(found["queue_oldest_seconds"]))
        self.assertEqual(found["queue_depth running"], 1)

    def test_topic(self) -> None:
        """The subscribers of a topic are one, and not the named queue of the same name."""
        for id, function_id in (("1", "f"), ("2", "g")):
            self.worker.register_trigger(id, "durable:subscriber", function_id, config={"topic": "one"})
        self.ask("iii::durable::publish", {"topic": "one", "data": 1})
        (depth,) = (figure for source in self.engine.figures for figure in source() if figure.name == "queue_depth")
        self.assertEqual(depth.labels, ("queue", "kind", "state"))
        counts = {labels[1:]: count for labels, count in depth.values.items() if labels[0] == "one" and count}
        self.assertEqual(counts, {("topic", "running"): 1, ("topic", "ready"): 1})

    def test_bound(self) -> None:
        """So many queues are told apart; the others are together."""
        self.patch(figures, "MAX_SHOWN", 1)
        self.enqueue(1, queue="one")
        self.assertEqual(self.figures("one"), {})
        self.assertEqual(self.figures("…")["queue_depth running"], 1)
        self.assertNotIn("queue_oldest_seconds", self.figures("…"))

    def test_stopped(self) -> None:
        """A module that has stopped tells nothing: its store may be closed."""
        self.module.stopService()
        self.assertEqual(self.engine.figures, [])
