"""
The tables of a store, and how a file of an older version becomes one of this version.

Rows are written by their key: putting one replaces the row with that key and leaves it where it stands.  C{position} is
SQLite's own row number, so that rows come back in the order in which their keys were first put.

Jobs are told apart by their position, which the queues give to them.  What a job costs is mostly its indexes: those
that concern few jobs are partial.  Its payload is the last column: it may be large, and SQLite would go through it to
what stands behind.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import attrs

APPLICATION_ID = 0x69696953
"""In the file's header: this is a store of iii, and nobody else's database."""
PAGE = 4096
"""Bytes of a page of the file, by SQLite's default."""
SMALL = 100
"""Bytes that the columns of a row count which cannot be large."""


@attrs.frozen(eq=False)
class Table:
    """
    One table as its users see it.

    @ivar key: The columns that tell rows apart.
    @ivar values: The others.
    @ivar large: Those of them whose size counts; the others together count C{SMALL}.
    @ivar overlaid: Somebody wants to know what is decided about its rows and not yet committed.
    @ivar partial: Its columns are some of the table's: putting a row changes these, and only where there is one.
    """

    name: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    large: tuple[str, ...] = attrs.field(default=attrs.Factory(lambda table: table.values, takes_self=True))
    overlaid: bool = True
    partial: bool = False
    _large: tuple[int, ...] = attrs.field(init=False)

    @_large.default
    def _positions(self) -> tuple[int, ...]:
        return tuple(map(self.values.index, self.large))

    def size(self, values: tuple[Any, ...]) -> int:
        """The bytes of what a row has in these columns, about."""
        size = SMALL
        for position in self._large:
            value = values[position]
            if value.__class__ is bytes or value.__class__ is str:
                size += len(value)
        return size

    @cache  # noqa: B019 (tables are made once, in this file)
    def put(self, count: int) -> str:
        """The statement that puts so many rows; its parameters are theirs, one row after the other."""
        columns = (*self.key, *self.values)
        row = f"({', '.join('?' * len(columns))})"
        if self.partial:
            changes = ", ".join(f"{name} = new.column{at}" for at, name in enumerate(columns, 1) if name in self.values)
            equal = " AND ".join(f"{self.name}.{name} = new.column{at}" for at, name in enumerate(self.key, 1))
            return f"UPDATE {self.name} SET {changes} FROM (VALUES {', '.join([row] * count)}) AS new WHERE {equal}"
        changes = ", ".join(f"{name} = excluded.{name}" for name in self.values)
        return (
            f"INSERT INTO {self.name} ({', '.join(columns)}) VALUES {', '.join([row] * count)} "
            f"ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changes}"
        )

    @cache  # noqa: B019
    def remove(self, count: int) -> str:
        """The statement that removes so many rows; its parameters are their keys."""
        row = f"({', '.join('?' * len(self.key))})"
        equal = " AND ".join(f"row.{name} = gone.column{number}" for number, name in enumerate(self.key, 1))
        return (  # a plain IN (VALUES …) would read the whole table
            f"DELETE FROM {self.name} WHERE rowid IN (SELECT row.rowid FROM "
            f"(VALUES {', '.join([row] * count)}) AS gone CROSS JOIN {self.name} AS row ON {equal})"
        )


STATE = Table("state", ("scope", "key"), ("value",))
STREAM = Table("stream", ("stream", "item_group", "item"), ("value",))
CRON_JOB = Table("cron_job", ("lock_index", "job"), ("state",))
CRON_ONE_SHOT = Table("cron_one_shot", ("lock_index", "job"), ("definition",))
JOB = Table(
    "job",
    ("position",),
    (
        "id", "queue", "state", "rank", "message_group", "namespace", "function_id", "traceparent", "baggage",
        "attempts", "interruptions", "due_ms", "created_ms", "failed_ms", "error", "data",
    ),
    large=("id", "namespace", "function_id", "baggage", "error", "data"),
    overlaid=False,
)  # fmt: skip
JOB_OUTCOME = Table(
    "job",
    ("position",),
    ("state", "attempts", "interruptions", "due_ms", "failed_ms", "error"),
    large=("error",),
    overlaid=False,
    partial=True,
)
"""What of a job changes when it has run: its payload, which may be megabytes, is neither read nor written."""
SUBSCRIPTION = Table("subscription", ("topic", "namespace", "function_id"), ("settings", "seen_ms"))
PAUSED_QUEUE = Table("paused_queue", ("queue",), ("since_ms",))
DEDUPLICATION = Table("deduplication", ("queue", "key"), ("id", "until_ms"))

MIGRATIONS = (
    """
    CREATE TABLE state (
        position INTEGER PRIMARY KEY, scope TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, UNIQUE (scope, key)
    ) STRICT;
    CREATE TABLE stream (
        position INTEGER PRIMARY KEY, stream TEXT NOT NULL, item_group TEXT NOT NULL, item TEXT NOT NULL,
        value BLOB NOT NULL, UNIQUE (stream, item_group, item)
    ) STRICT;
    CREATE TABLE cron_job (
        position INTEGER PRIMARY KEY, lock_index TEXT NOT NULL, job TEXT NOT NULL, state BLOB NOT NULL,
        UNIQUE (lock_index, job)
    ) STRICT;
    CREATE TABLE cron_one_shot (
        position INTEGER PRIMARY KEY, lock_index TEXT NOT NULL, job TEXT NOT NULL, definition BLOB NOT NULL,
        UNIQUE (lock_index, job)
    ) STRICT;
    CREATE TABLE job (
        position INTEGER PRIMARY KEY, id TEXT NOT NULL, queue TEXT NOT NULL, state INTEGER NOT NULL,
        rank INTEGER NOT NULL, message_group TEXT NOT NULL, namespace TEXT NOT NULL, function_id TEXT NOT NULL,
        traceparent TEXT, baggage TEXT, attempts INTEGER NOT NULL, interruptions INTEGER NOT NULL,
        due_ms INTEGER NOT NULL, created_ms INTEGER NOT NULL, failed_ms INTEGER NOT NULL, error TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    CREATE INDEX job_id ON job (id);
    CREATE INDEX job_line ON job (queue, state, rank);
    CREATE INDEX job_due ON job (queue, due_ms) WHERE state = 1;
    CREATE INDEX job_dead ON job (queue, failed_ms) WHERE state = 2;
    CREATE INDEX job_group ON job (queue, message_group) WHERE message_group <> '' AND state < 2;
    CREATE TABLE subscription (
        position INTEGER PRIMARY KEY, topic TEXT NOT NULL, namespace TEXT NOT NULL, function_id TEXT NOT NULL,
        settings TEXT NOT NULL, seen_ms INTEGER NOT NULL, UNIQUE (topic, namespace, function_id)
    ) STRICT;
    CREATE TABLE paused_queue (
        position INTEGER PRIMARY KEY, queue TEXT NOT NULL UNIQUE, since_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE deduplication (
        position INTEGER PRIMARY KEY, queue TEXT NOT NULL, key TEXT NOT NULL, id TEXT NOT NULL,
        until_ms INTEGER NOT NULL, UNIQUE (queue, key)
    ) STRICT;
    CREATE INDEX deduplication_until ON deduplication (until_ms);
    """,
)
"""From each version to the next; a released one is never changed.  The first makes the tables of an empty file."""

VERSION = len(MIGRATIONS)
