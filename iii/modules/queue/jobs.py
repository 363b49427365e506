"""
Jobs, and the rows that they are in the store.

A job is in one of three states on disk: it may run, it may run later, or it is a dead letter.  That it runs is never on
disk: a crash leaves it where it was, and it runs again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import attrs
import msgspec
from twisted.internet.defer import Deferred

from iii.storage.batch import Pending
from iii.storage.errors import StorageError
from iii.storage.queries import Reader
from iii.storage.schema import JOB, JOB_OUTCOME, Table

READY, DELAYED, DEAD = range(3)
STATES = ("ready", "delayed", "dead")
INLINE = 16 * 1024
"""Bytes of payload that a waiting job has in memory; a larger one is read when it is needed."""

Target = tuple[str, str]
"""The namespace and id of a function."""
Key = tuple[int, int]
"""Where a job stands: rank, or the moment when it may run, and position."""
Change = tuple[Table, tuple[Any, ...], tuple[Any, ...] | None]
T = TypeVar("T")


class IStore(Protocol):
    """What the queues need of a store: L{iii.storage.sqlite.Store}, or one in memory."""

    def write(self, *changes: Change) -> Deferred[None]: ...
    def record(self, *changes: Change) -> Deferred[None]: ...
    def read(self, statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]: ...
    def query(self, read: Reader[T]) -> Deferred[T]: ...
    def pending(self, table: Table, key: tuple[Any, ...]) -> Pending | None: ...


@attrs.define(eq=False)
class Job:
    """
    One job, or one subscriber's copy of a message of a topic.

    @ivar position: Where it stands in its queue; later ones have higher positions.
    @ivar id: The receipt, or the message's id; the same in all states.
    @ivar queue: The internal name of its queue (spec/queue.md, 9).
    @ivar rank: Lower ones come first: 0 less its priority.
    @ivar group: Its message group; empty outside of FIFO queues.
    @ivar data: The payload, JSON; C{None}: it is large, and on disk.
    @ivar attempts: Deliveries that have failed.
    @ivar interruptions: Deliveries that ended because the worker went.
    @ivar due_ms: The earliest time at which it may run, in milliseconds since the epoch; may be in the past.
    @ivar failed_ms: When it became a dead letter.
    @ivar error: The latest failure, an C{ErrorBody} as JSON.
    """

    position: int
    id: str
    queue: str
    state: int
    rank: int
    group: str
    namespace: str
    function_id: str
    traceparent: str | None
    baggage: str | None
    attempts: int
    interruptions: int
    due_ms: int
    created_ms: int
    failed_ms: int
    error: str
    data: bytes | None

    @property
    def target(self) -> Target:
        """Whom it is for."""
        return self.namespace, self.function_id


_COLUMNS = ", ".join(
    f"CASE WHEN length(data) <= {INLINE} THEN data END" if name == "data" else name for name in (*JOB.key, *JOB.values)
)
_FROM = f"SELECT {_COLUMNS} FROM job WHERE"
_OTHERS = "AND namespace || char(0) || function_id NOT IN (SELECT value FROM json_each(?))"
_WAITING_SINCE = """
    WITH RECURSIVE ranks (rank) AS (
        SELECT min(rank) FROM job WHERE queue = ?1 AND state = 0
        UNION ALL
        SELECT (SELECT min(rank) FROM job WHERE queue = ?1 AND state = 0 AND rank > ranks.rank)
        FROM ranks WHERE rank IS NOT NULL
    )
    SELECT
        (SELECT min(due_ms) FROM job WHERE queue = ?1 AND state = 1),
        min((SELECT due_ms FROM job WHERE queue = ?1 AND state = 0 AND rank = ranks.rank ORDER BY position LIMIT 1))
    FROM ranks
"""
"""Some steps in an index for each priority, however many jobs there are."""
_encode = msgspec.json.encode


class JobStore:
    """The rows of jobs."""

    def __init__(self, store: IStore) -> None:
        self._store = store
        self._last_position: int

    def start(self) -> None:
        """Look where new jobs stand: behind all that are there.  Until then there are none."""
        found: int | None = self._store.read("SELECT max(position) FROM job", ())[0][0]
        self._last_position = found or 0

    # Making.

    def next_position(self) -> int:
        """Return where a new job stands."""
        self._last_position += 1
        return self._last_position

    def new(
        self,
        queue: str,
        *,
        id: str,
        namespace: str,
        function_id: str,
        data: bytes,
        created_ms: int,
        due_ms: int,
        traceparent: str | None,
        baggage: str | None,
        rank: int = 0,
        group: str = "",
    ) -> Job:
        """Return a job that has just been created, and may run when it is due.  It stands behind all others."""
        return Job(  # by place: names would cost 0.6 us more
            self.next_position(), id, queue, DELAYED if due_ms > created_ms else READY, rank, group, namespace,
            function_id, traceparent, baggage, 0, 0, due_ms, created_ms, 0, "", data,
        )  # fmt: skip

    # Writing.

    def write(self, *changes: Change) -> Deferred[None]:
        """Make changes in one transaction."""
        return self._store.write(*changes)

    def record(self, *changes: Change) -> Deferred[None]:
        """Likewise, also when the store has no room for more jobs: what has happened must be written."""
        return self._store.record(*changes)

    def row(self, job: Job) -> Change:
        """The change that stores a new job, which has its payload with it."""
        assert job.data is not None
        values = (
            job.id, job.queue, job.state, job.rank, job.group, job.namespace, job.function_id, job.traceparent,
            job.baggage, job.attempts, job.interruptions, job.due_ms, job.created_ms, job.failed_ms, job.error,
            job.data,
        )  # fmt: skip
        return JOB, (job.position,), values

    def outcome(self, job: Job) -> Change:
        """The change that stores what has become of a job."""
        values = job.state, job.attempts, job.interruptions, job.due_ms, job.failed_ms, job.error
        return JOB_OUTCOME, (job.position,), values

    def data(self, job: Job) -> bytes:
        """
        A job's payload, also a large one.

        @raise StorageError: It cannot be read.
        """
        if job.data is not None:
            return job.data
        return self._store.read("SELECT data FROM job WHERE position = ?", (job.position,))[0][0]  # type: ignore[no-any-return]

    # Reading what is committed.  L{StorageError} when that fails.

    def ready(self, queue: str, start: Key, count: int) -> list[Job]:
        """Return jobs that may run, by rank and position, from C{start} on."""
        rank, position = start
        rows = self._store.read(
            f"{_FROM} queue = ? AND state = 0 AND rank = ? AND position >= ? ORDER BY position LIMIT ?",
            (queue, rank, position, count),
        )
        if len(rows) < count:
            rows += self._store.read(
                f"{_FROM} queue = ? AND state = 0 AND rank > ? ORDER BY rank, position LIMIT ?",
                (queue, rank, count - len(rows)),
            )
        return _jobs(rows)

    def ready_for_others(
        self, queue: str, start: Key, count: int, scan: int, without: Iterable[Target]
    ) -> tuple[list[Job], Key | None]:
        """
        Likewise, but without those for some functions.

        @param scan: So many rows are looked at.
        @return: What was found, and where to go on; C{None} at the end.
        """
        rank, position = start
        ends = self._store.read(
            "SELECT rank, position FROM job WHERE queue = ? AND state = 0 AND rank = ? AND position >= ? "
            "ORDER BY position LIMIT 1 OFFSET ?",
            (queue, rank, position, scan),
        ) or self._store.read(
            "SELECT rank, position FROM job WHERE queue = ? AND state = 0 AND rank > ? ORDER BY rank, position LIMIT 1",
            (queue, rank),
        )
        last = ends[0][1] - 1 if ends and ends[0][0] == rank else 2**62
        excluded = _encode(["\0".join(target) for target in without]).decode()
        found = _jobs(
            self._store.read(
                f"{_FROM} queue = ? AND state = 0 AND rank = ? AND position BETWEEN ? AND ? {_OTHERS} "
                "ORDER BY position LIMIT ?",
                (queue, rank, position, last, excluded, count),
            )
        )
        if len(found) == count:
            return found, (rank, found[-1].position + 1)
        return found, ends[0] if ends else None

    def due(self, queue: str, start: Key, now_ms: int, count: int) -> list[Job]:
        """Return delayed jobs that may run by now, by that moment and position, from C{start} on."""
        moment, position = start
        rows = self._store.read(
            f"{_FROM} queue = ? AND state = 1 AND due_ms = ? AND position >= ? ORDER BY position LIMIT ?",
            (queue, moment, position, count),
        )
        if len(rows) < count:
            rows += self._store.read(
                f"{_FROM} queue = ? AND state = 1 AND due_ms > ? AND due_ms <= ? ORDER BY due_ms, position LIMIT ?",
                (queue, moment, now_ms, count - len(rows)),
            )
        return _jobs(rows)

    def next_due(self, queue: str, after_ms: int) -> int | None:
        """Return when the next delayed job may run, of those that may not yet."""
        found: int | None = self._store.read(
            "SELECT min(due_ms) FROM job WHERE queue = ? AND state = 1 AND due_ms > ?", (queue, after_ms)
        )[0][0]
        return found

    def waiting_since(self, queue: str) -> int | None:
        """Return the earliest moment since when a job may run, or from when on; C{None} without one."""
        moments = self._store.read(_WAITING_SINCE, (queue,))[0]
        return min((moment for moment in moments if moment is not None), default=None)

    def of_group(self, queue: str, group: str, start: int, count: int) -> list[Job]:
        """Return a group's jobs that are no dead letters, by position, from C{start} on."""
        return _jobs(
            self._store.read(
                f"{_FROM} queue = ? AND message_group = ? AND message_group <> '' AND state < 2 AND position >= ? "
                "ORDER BY position LIMIT ?",
                (queue, group, start, count),
            )
        )

    def delayed_groups(self, queue: str, count: int) -> list[str]:
        """Return the groups whose first job waits for a retry."""
        rows = self._store.read(
            "SELECT DISTINCT message_group FROM job WHERE queue = ? AND state = 1 AND message_group <> '' LIMIT ?",
            (queue, count),
        )
        return [group for (group,) in rows]

    def delayed_positions(self, queue: str, count: int) -> list[int]:
        """Return the positions of delayed jobs."""
        rows = self._store.read(
            "SELECT position FROM job WHERE queue = ? AND state = 1 ORDER BY position LIMIT ?", (queue, count)
        )
        return [position for (position,) in rows]

    def counts(self) -> list[tuple[str, int, int]]:
        """Return how many jobs each queue has in each state."""
        return self._store.read("SELECT queue, state, count(*) FROM job GROUP BY queue, state", ())

    def dead_by_id(self, queue: str, job_id: str, count: int) -> list[Job]:
        """Return a queue's dead letters of this id, which callers may use again, by position."""
        return self._by_id("state = 2", queue, job_id, count)

    def unfinished_by_id(self, queue: str, job_id: str, count: int) -> list[Job]:
        """Return a queue's jobs of this id that are no dead letters, by position."""
        return self._by_id("state < 2", queue, job_id, count)

    def _by_id(self, condition: str, queue: str, job_id: str, count: int) -> list[Job]:
        return _jobs(
            self._store.read(
                f"{_FROM} id = ? AND queue = ? AND +{condition} ORDER BY position LIMIT ?", (job_id, queue, count)
            )
        )

    def dead(self, queue: str, start: Key, count: int, until_ms: int = 2**62) -> list[Job]:
        """Return dead letters, oldest failure first, after C{start}, which failed until then."""
        moment, position = start
        rows = self._store.read(
            f"{_FROM} queue = ? AND state = 2 AND failed_ms = ? AND position > ? ORDER BY position LIMIT ?",
            (queue, moment, position, count),
        )
        if len(rows) < count:
            rows += self._store.read(
                f"{_FROM} queue = ? AND state = 2 AND failed_ms > ? AND failed_ms <= ? "
                "ORDER BY failed_ms, position LIMIT ?",
                (queue, moment, until_ms, count - len(rows)),
            )
        return _jobs(rows)

    async def query(self, read: Reader[T]) -> T:
        """Read what takes long, beside all else.  What was to be written before is in it, unless that has failed."""
        try:
            await self._store.write()
        except StorageError:
            pass  # whoever wrote is told; what can be read is worth reading
        return await self._store.query(read)


def _jobs(rows: Iterable[tuple[Any, ...]]) -> list[Job]:
    return [Job(*row) for row in rows]


def select(connection: sqlite3.Connection, condition: str, parameters: Sequence[object]) -> list[Job]:
    """Return jobs in a snapshot, with their whole payloads."""
    columns = ", ".join((*JOB.key, *JOB.values))
    return _jobs(connection.execute(f"SELECT {columns} FROM job WHERE {condition}", parameters))
