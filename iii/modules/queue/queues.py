"""What a queue is while the engine runs: its line, and figures."""

from __future__ import annotations

import attrs

from iii.modules.queue.delivery import Line
from iii.modules.queue.jobs import DELAYED, READY


@attrs.define(eq=False)
class Queue:
    """
    A queue at work.

    @ivar name: Its internal name (spec/queue.md, 9), under which its jobs are stored.
    @ivar shown: What users call it: a named queue, or a topic.
    @ivar topic: It belongs to a subscriber of the topic.
    @ivar counts: How many jobs there are in each state; those that run are counted where they are on disk.
    @ivar coming: How many new ones are just being written.
    @ivar delivered: How many jobs have ended well since the start; likewise C{failed}, of deliveries, C{retried}, of
        those of them that are followed by another one, and C{buried}, of jobs that have become dead letters.
    """

    name: str
    shown: str
    line: Line
    topic: bool = False
    counts: list[int] = attrs.field(factory=lambda: [0, 0, 0])
    coming: int = 0
    delivered: int = 0
    failed: int = 0
    retried: int = 0
    buried: int = 0
    scheduled: bool = False

    @property
    def unfinished(self) -> int:
        """Jobs that wait or run, or are about to."""
        return self.counts[READY] + self.counts[DELAYED] + self.coming

    def in_states(self) -> tuple[int, int, int]:
        """How many jobs wait, wait for their moment, and run."""
        running = self.line.running.values()
        delayed = sum(job.state == DELAYED for job in running)
        ready = len(running) - delayed
        return self.counts[READY] - ready, self.counts[DELAYED] - delayed, len(running)
