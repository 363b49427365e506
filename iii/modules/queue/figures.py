"""Figures of the queues for C{/metrics} (spec/queue.md, 16)."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan

from iii.core.figures import Figure
from iii.modules.queue.dispatcher import Dispatcher
from iii.modules.queue.jobs import DEAD
from iii.modules.queue.queues import Queue
from iii.storage.errors import StorageError

MAX_SHOWN = 200
"""Named queues and topics that are shown apart, the former first; the others are together, as C{…}."""
MAX_NAME = 200
"""Characters of a name that are shown."""
LABELS = ("queue", "kind")
OTHERS = ("…", "")
COUNTERS = (
    ("delivered", "queue_delivered", "Messages whose function has answered without an error."),
    ("failed", "queue_failed", "Deliveries that have failed."),
    ("retried", "queue_retries", "Those of them after which there is another one."),
    ("buried", "queue_dead_letters", "Messages that have become dead letters."),
)
"""Members of L{Queue}, what they are called outside, and what they are."""

Labels = tuple[str, ...]


class Figures:
    """Reads all queues.  The subscribers of one topic are taken together."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def read(self) -> Iterator[Figure]:
        """Return what there is to tell now."""
        shown = self._shown()
        depths: dict[Labels, float] = {}
        for labels, queues in shown.items():
            states = [queue.in_states() for queue in queues]
            for number, state in enumerate(("ready", "delayed", "running")):
                depths[(*labels, state)] = sum(each[number] for each in states)
            depths[(*labels, "dead")] = sum(queue.counts[DEAD] for queue in queues)
        yield Figure("queue_depth", "gauge", "Messages in queues, by state.", (*LABELS, "state"), depths)
        text = "How long the message has been able to run that waits or runs for longest; 0 without one."
        ages = {labels: self._age(queues) for labels, queues in shown.items() if labels != OTHERS}
        yield Figure("queue_oldest_seconds", "gauge", text, LABELS, ages)
        for member, name, text in COUNTERS:
            sums = {labels: sum(getattr(queue, member) for queue in queues) for labels, queues in shown.items()}
            yield Figure(name, "counter", text, LABELS, sums)

    def _shown(self) -> dict[Labels, list[Queue]]:
        """Return the queues by their labels."""
        shown: dict[Labels, list[Queue]] = {}
        for queue in sorted(self._dispatcher.queues.values(), key=lambda queue: (queue.topic, queue.shown)):
            labels: Labels = queue.shown[:MAX_NAME], "topic" if queue.topic else "queue"
            if labels not in shown and len(shown) >= MAX_SHOWN:
                labels = OTHERS
            shown.setdefault(labels, []).append(queue)
        return shown

    def _age(self, queues: list[Queue]) -> float:
        """Return how long something has waited, in seconds; NaN when that cannot be read."""
        now = self._dispatcher.now_ms()
        try:
            moments = [self._dispatcher.jobs.waiting_since(queue.name) for queue in queues if queue.unfinished]
        except StorageError:
            return nan
        return max((now - moment for moment in moments if moment is not None and moment < now), default=0) / 1000
