"""What is written to a store in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from iii.storage.queries import Reader
from iii.storage.schema import Table

Key = tuple[Any, ...]
Row = tuple[Any, ...]
Change = tuple[Table, Key, Row | None]
"""A row that is to be put, by its value columns, or with C{None} removed."""

ROWS = 256
"""Rows of one statement."""


class Batch:
    """
    What is committed together.

    @ivar rows: What is to be put into each table, by key.
    @ivar removed: The keys that are to be removed from each table before that.
    @ivar size: Bytes of it all.
    @ivar waiting: Who wants to know when it is committed.
    @ivar readers: What is to be read right after it, for whom.
    """

    __slots__ = ("readers", "removed", "rows", "size", "waiting")

    def __init__(self) -> None:
        self.rows: dict[Table, dict[Key, Row]] = {}
        self.removed: dict[Table, dict[Key, None]] = {}
        self.size = 0
        self.waiting: list[Deferred[None]] = []
        self.readers: list[tuple[Reader[Any], Deferred[Any]]] = []

    def add(self, change: Change) -> None:
        """
        Put or remove a row, also one that was put before.  The last row of a key counts, and stands where the first one
        after a removal would.
        """
        table, key, values = change
        rows = self.rows.get(table)
        if rows is None:
            rows = self.rows[table] = {}
        if values is None:
            rows.pop(key, None)
            self.removed.setdefault(table, {})[key] = None
        else:
            rows[key] = key + values

    def statements(self) -> list[tuple[str, list[Any]]]:
        """Return what to execute."""
        found = []
        for table, keys in self.removed.items():
            found += _statements(table.remove, list(keys))
        for table, rows in self.rows.items():
            found += _statements(table.put, list(rows.values()))
        return found

    def __bool__(self) -> bool:
        return bool(self.waiting or self.readers)


def _statements(make: Callable[[int], str], rows: list[Row]) -> list[tuple[str, list[Any]]]:
    chunks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    return [(make(len(chunk)), [value for row in chunk for value in row]) for chunk in chunks]


class Pending(NamedTuple):
    """
    What is decided about a row.

    @ivar values: Its value columns; C{None}: it is removed.
    """

    values: Row | None
    batch: Batch

    def committed(self) -> Deferred[None]:
        """Return what fires when it is on disk, or fails as its commit does."""
        waiting: Deferred[None] = Deferred()
        self.batch.waiting.append(waiting)
        return waiting
