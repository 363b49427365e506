"""
A disk as the tests of the line have it: jobs in a dictionary, and what is being written.  And a store that can be slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from iii.modules.queue.delivery import END, Line, Piece
from iii.modules.queue.jobs import DEAD, DELAYED, READY, Job
from iii.storage.batch import Batch, Change, Pending, Row
from iii.storage.errors import StorageError
from iii.storage.schema import Table
from iii.storage.volatile import VolatileStore


def job(position: int, **members: Any) -> Job:
    """Return a job; its id is C{j} and its position."""
    group = members.pop("group", "")
    given: dict[str, Any] = {
        "id": f"j{position}", "queue": "q", "state": READY, "rank": 0, "group": group, "namespace": "default",
        "function_id": "f", "data": b"null", "traceparent": None, "baggage": None, "attempts": 0, "interruptions": 0,
        "due_ms": 0, "created_ms": 0, "failed_ms": 0, "error": "", **members,
    }  # fmt: skip
    return Job(position, **given)


@attrs.define(eq=False)
class Disk:
    """
    What is committed, and what is being written, in order.

    @ivar rows: By position.
    @ivar writing: Changes: the position, the row or C{None}, and what to call when it is committed.
    """

    rows: dict[int, Job] = attrs.field(factory=dict)
    writing: list[tuple[int, Job | None, Callable[[], None]]] = attrs.field(factory=list)

    def write(self, position: int, row: Job | None, then: Callable[[], None] = lambda: None) -> None:
        """Begin to write a copy of a row, or to remove it."""
        self.writing.append((position, None if row is None else attrs.evolve(row), then))

    def commit(self) -> None:
        """Finish the first change."""
        position, row, then = self.writing.pop(0)
        if row is None:
            self.rows.pop(position, None)
        else:
            self.rows[position] = row
        then()

    def crash(self) -> None:
        """Lose what is being written."""
        self.writing.clear()

    def answer(self, line: Line, piece: Piece, now_ms: int) -> None:
        """Read a piece for a line."""
        rows = [attrs.evolve(row) for _, row in sorted(self.rows.items())]
        if piece.kind == "retrying":
            line.read_retrying([row.position for row in rows if row.state == DELAYED])
        elif piece.kind == "ready":
            found = sorted(
                (
                    row
                    for row in rows
                    if row.state == READY
                    and (row.rank, row.position) >= piece.start
                    and row.target not in piece.without
                ),
                key=lambda row: (row.rank, row.position),
            )[: piece.count]
            last = found[-1] if found else None
            line.read_ready(piece, found, (last.rank, last.position + 1) if last and len(found) == piece.count else END)
        elif piece.kind == "due":
            delayed = sorted((row for row in rows if row.state == DELAYED), key=lambda row: (row.due_ms, row.position))
            found = [row for row in delayed if row.due_ms <= now_ms and (row.due_ms, row.position) >= piece.start]
            later = [row.due_ms for row in delayed if row.due_ms > now_ms]
            line.read_due(piece, found[: piece.count], min(later, default=None))
        else:
            of_group = [row for row in rows if row.group == piece.group and row.state != DEAD]
            line.read_group(piece, [row for row in of_group if row.position >= piece.start[1]][: piece.count], now_ms)

    def load(self, line: Line) -> None:
        """Let a line begin with what is there."""
        delayed = [row for row in self.rows.values() if row.state == DELAYED]
        line.load(
            min((row.due_ms for row in delayed), default=None),
            sorted({row.group for row in delayed if row.group}),
        )


class SlowStore(VolatileStore):
    """
    A store that commits at once, or, while it is held, when it is told to; then it can refuse to.

    @ivar fail_reads: It cannot read.
    """

    def __init__(self) -> None:
        super().__init__(2**30)
        self.fail_reads = False
        self._held: Batch | None = None
        self._changes: list[Change] = []

    @property
    def held(self) -> bool:
        """What is written waits."""
        return self._held is not None

    def hold(self) -> None:
        """Let what is written from now on wait."""
        self._held, self._changes = Batch(), []

    def write(self, *changes: Change) -> Deferred[None]:
        if self._held is None:
            return super().write(*changes)
        self._changes += changes
        for change in changes:
            self._held.add(change)
        waiting: Deferred[None] = Deferred()
        self._held.waiting.append(waiting)
        return waiting

    def pending(self, table: Table, key: tuple[Any, ...]) -> Pending | None:
        if self._held is not None:
            for changed, place, values in reversed(self._changes):
                if (changed, place) == (table, key):
                    return Pending(values, self._held)
        return None

    def read(self, statement: str, parameters: Row) -> list[Row]:
        if self.fail_reads:
            raise StorageError("disk I/O error")
        return super().read(statement, parameters)

    def commit(self) -> None:
        """Commit what waits; who waits for that is told by L{release}."""
        changes, self._changes = self._changes, []
        self._write(*changes)

    def release(self, *, refused: bool = False, hold: bool = False) -> bool:
        """
        Commit what waits, or refuse it all.

        @param hold: What is written because of that waits again.
        @return: Whether there was something.
        """
        batch, changes = self._held, self._changes
        assert batch is not None
        self._held, self._changes = Batch() if hold else None, []
        if not refused:
            self._write(*changes)
        for waiting in batch.waiting:
            if refused:
                waiting.errback(Failure(StorageError("refused")))
            else:
                waiting.callback(None)
        return bool(batch.waiting)

    def crash(self) -> None:
        """Lose what waits."""
        self._held = None
