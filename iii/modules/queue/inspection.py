"""What one can see of the queues (spec/queue.md, 8).  Members that are not in the reference come last."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw

from iii.config.blocks.queue import QueueConfig
from iii.modules.queue.dispatcher import Dispatcher
from iii.modules.queue.jobs import DEAD, STATES, Job, JobStore, select
from iii.modules.queue.operations import error_of
from iii.modules.queue.queues import Queue
from iii.modules.queue.topics import Topics
from iii.storage.errors import TooMuchToList

BROKER = "builtin"
State = Literal["ready", "delayed", "running", "dead"]
Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class TopicRow(msgspec.Struct):
    """
    A topic or named queue.

    @ivar subscriber_count: Its live triggers, or a named queue's concurrency.
    @ivar kind: C{queue} or C{topic}.
    """

    name: str
    broker_type: str
    subscriber_count: int
    kind: str
    ready: int
    in_flight: int
    delayed: int
    dead: int
    paused: bool


class Stats(msgspec.Struct):
    """
    How a topic or named queue fares.

    @ivar depth: Jobs that wait or run, but not those that wait for their moment.
    @ivar delivered: Jobs that have ended well since the start; likewise C{failed}, of deliveries.
    """

    depth: int
    consumer_count: int
    dlq_depth: int
    config: None
    ready: int
    in_flight: int
    delayed: int
    paused: bool
    delivered: int
    failed: int


class DlqRow(msgspec.Struct):
    """How many dead letters a topic or named queue has."""

    topic: str
    broker_type: str
    message_count: int


class DeadLetter(msgspec.Struct, omit_defaults=True):
    """
    A dead letter.

    @ivar failed_at: In seconds since the epoch.
    @ivar retries: Deliveries that have failed.
    @ivar size_bytes: Of the payload.
    """

    id: str
    payload: Raw
    error: str
    failed_at: int
    retries: int
    size_bytes: int
    function_id: str
    namespace: str
    error_code: str
    created_at_ms: int
    failed_at_ms: int
    stacktrace: str | None = None


class JobView(msgspec.Struct, omit_defaults=True):
    """
    A job.

    @ivar due_at_ms: The earliest time at which it may run; may be in the past.
    @ivar attempts: Deliveries that have failed.
    @ivar interruptions: Deliveries that ended because the worker went.
    """

    id: str
    queue: str
    state: State
    function_id: str
    namespace: str
    payload: Raw
    attempts: int
    interruptions: int
    created_at_ms: int
    due_at_ms: int
    priority: int = 0
    group: str = ""
    failed_at_ms: int = 0
    error: str = ""


class Inspection:
    """Reads the queues."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        topics: Topics,
        configs: Mapping[str, QueueConfig],
        list_bytes: int,
    ) -> None:
        """@param list_bytes: Of the payloads that one listing may have."""
        self._dispatcher, self._topics, self._configs = dispatcher, topics, configs
        self._jobs: JobStore = dispatcher.jobs
        self._list_bytes = list_bytes

    def queues(self, name: str) -> list[Queue]:
        """Return the named queue of this name, or else those of the subscribers of the topic."""
        alike = self._dispatcher.named(name)
        return [queue for queue in alike if not queue.topic and name in self._configs] or alike

    def _names(self) -> list[str]:
        """All names, those of named queues first."""
        return [*sorted(self._configs), *sorted(set(self._dispatcher.names()) - set(self._configs))]

    def _consumers(self, name: str) -> int:
        if name in self._configs:
            return self._configs[name].concurrency
        return sum(len(each.wishes) for each in self._topics.subscriptions.get(name, {}).values())

    def list_topics(self) -> list[TopicRow]:
        """C{engine::queue::list_topics}."""
        rows = []
        for name in self._names():
            queues = self.queues(name)
            stats = self.stats(name)
            kind = "topic" if queues and queues[0].topic else "queue"
            rows.append(
                TopicRow(
                    name, BROKER, stats.consumer_count, kind, stats.ready, stats.in_flight, stats.delayed,
                    stats.dlq_depth, stats.paused,
                )
            )  # fmt: skip
        return rows

    def stats(self, name: str) -> Stats:
        """C{engine::queue::topic_stats}."""
        queues = self.queues(name)
        states = [queue.in_states() for queue in queues]
        ready, delayed, running = (sum(each[number] for each in states) for number in range(3))
        return Stats(
            depth=ready + running,
            consumer_count=self._consumers(name),
            dlq_depth=sum(queue.counts[DEAD] for queue in queues),
            config=None,
            ready=ready,
            in_flight=running,
            delayed=delayed,
            paused=bool(queues) and all(queue.line.paused for queue in queues),
            delivered=sum(queue.delivered for queue in queues),
            failed=sum(queue.failed for queue in queues),
        )

    def dlq_topics(self) -> list[DlqRow]:
        """C{engine::queue::dlq_topics}."""
        return [DlqRow(name, BROKER, sum(queue.counts[DEAD] for queue in self.queues(name))) for name in self._names()]

    async def dlq_messages(self, name: str, offset: int, limit: int) -> list[DeadLetter]:
        """
        C{engine::queue::dlq_messages}: newest failure first.

        @raise StorageError: Also when they are too much for one message.
        """
        of_queues, parameters = _of(self.queues(name))
        condition = f"{of_queues} AND state = 2 ORDER BY failed_ms DESC, position DESC"
        jobs = await self._select(condition, parameters, offset, limit)
        return [_dead_letter(job) for job in jobs]

    async def jobs(
        self, name: str, state: State | None, function_id: str | None, offset: int, limit: int
    ) -> list[JobView]:
        """C{engine::queue::jobs}: those of one state in the order in which they start, or have failed."""
        queues = self.queues(name)
        running: object = msgspec.json.encode([at for queue in queues for at in queue.line.running]).decode()
        if state == "running":
            condition, parameters = "position IN (SELECT value FROM json_each(?))", [running]
        else:
            condition, parameters = _of(queues)
            if state is not None:  # a literal, so that partial indexes serve
                condition += f" AND state = {STATES.index(state)} AND +position NOT IN (SELECT value FROM json_each(?))"
                parameters.append(running)
        if function_id is not None:
            condition += " AND function_id = ?"
            parameters.append(function_id)
        found = await self._select(f"{condition} ORDER BY {_ORDERS[state]}", parameters, offset, limit)
        return [self._view(job) for job in found]

    async def job(self, message_id: str) -> JobView | None:
        """C{engine::queue::job}: by its receipt."""
        found = await self._select("id = ?", [message_id], 0, 1)
        return self._view(found[0]) if found else None

    def _view(self, job: Job) -> JobView:
        queue = self._dispatcher.queues.get(job.queue)
        state = "running" if queue is not None and job.position in queue.line.running else STATES[job.state]
        error = error_of(job)
        return JobView(
            job.id, job.queue if queue is None else queue.shown, state, job.function_id, job.namespace,  # type: ignore[arg-type]
            Raw(job.data or b""), job.attempts, job.interruptions, job.created_ms, job.due_ms, -job.rank, job.group,
            job.failed_ms, f"{error.code}: {error.message}" if job.error else "",
        )  # fmt: skip

    async def _select(self, condition: str, parameters: Sequence[object], offset: int, limit: int) -> list[Job]:
        given = [*parameters, limit, offset]

        def read(connection: sqlite3.Connection) -> list[Job]:
            connection.execute("BEGIN")  # both see the same rows
            try:
                size = connection.execute(
                    f"SELECT sum(size) FROM (SELECT length(data) AS size FROM job WHERE {condition} LIMIT ? OFFSET ?)",
                    given,
                ).fetchone()[0]
                if (size or 0) > self._list_bytes:
                    raise TooMuchToList(self._list_bytes)
                return select(connection, f"{condition} LIMIT ? OFFSET ?", given)
            finally:
                connection.execute("COMMIT")

        self._dispatcher.ledger.flush()
        return await self._jobs.query(read)


_ORDERS: Mapping[State | None, str] = {
    None: "state, rank, position",
    "ready": "rank, position",
    "delayed": "due_ms, position",
    "running": "position",
    "dead": "failed_ms, position",
}
"""As the indexes have them, so that the jobs of one queue need not be sorted."""


def _of(queues: Sequence[Queue]) -> tuple[str, list[object]]:
    """Return the condition on a job to be in one of these queues, and its parameters."""
    if len(queues) == 1:
        return "queue = ?", [queues[0].name]
    return "queue IN (SELECT value FROM json_each(?))", [msgspec.json.encode([each.name for each in queues]).decode()]


def _dead_letter(job: Job) -> DeadLetter:
    error, data = error_of(job), job.data or b""
    return DeadLetter(
        job.id, Raw(data), f"{error.code}: {error.message}", job.failed_ms // 1000, job.attempts, len(data),
        job.function_id, job.namespace, error.code, job.created_ms, job.failed_ms, error.stacktrace,
    )  # fmt: skip
