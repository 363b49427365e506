"""
The embedded store: one SQLite file, one thread that writes to it, one for queries that take long (DESIGN.md, 7).

What is to be written gathers in a batch while the thread commits the one before; a commit ends with an fsync, and only
then the writers are answered.  So the more is written at one time, the fewer fsyncs each write costs.  The rows of a
batch go into each table by one statement: every step of SQLite gives up the GIL and must get it back, which beside a
busy reactor takes longer than the step (measured: 64 rows by one statement 91,000 rows/s, by C{executemany} 46,000).

Reading and deciding happen in the reactor's thread: what is decided and not yet committed lies over what the file has.
A failed commit takes back all that was decided since, for all of it may rest on what has failed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import Any, NamedTuple, TypeVar

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iii.core.complaints import Complaints
from iii.storage.cache import Cache
from iii.storage.errors import CannotOpenStore, StorageError, StoreBusy, StoreFull
from iii.storage.file import StoreFile
from iii.storage.queries import Queries, Reader, outcome_of
from iii.storage.schema import Table

T = TypeVar("T")
Key = tuple[Any, ...]
Row = tuple[Any, ...]

ROWS = 256
"""Rows of one statement."""
GATHERING = 0.0005
"""
Seconds that a commit waits for as many writes as the one before had: those who were answered then are about to write
again.  A commit costs the same, some 300 µs of CPU and an fsync, whether it has one write or a hundred.
"""
CHECKPOINT_BYTES = 4 * 2**20
"""So much is written to the log before it is copied into the file."""
PAGE = 4096
STOPPING = "the engine is stopping"

NEARLY_FULL = 7 / 8
"""Of the allowed bytes: from there on each commit is measured."""


class Batch:
    """
    What is committed together.

    @ivar rows: What is to be put into each table, by key.
    @ivar removed: The keys that are to be removed from each table before that.
    @ivar size: Bytes of it all.
    """

    __slots__ = ("readers", "removed", "rows", "size", "waiting")

    def __init__(self) -> None:
        self.rows: dict[Table, dict[Key, Row]] = {}
        self.removed: dict[Table, dict[Key, None]] = {}
        self.size = 0
        self.waiting: list[Deferred[None]] = []
        self.readers: list[tuple[Reader[Any], Deferred[Any]]] = []

    def put(self, table: Table, key: Key, row: Row) -> None:
        """Put a row; the last one of a key counts, and stands where the first one after a removal would."""
        rows = self.rows.get(table)
        if rows is None:
            rows = self.rows[table] = {}
        rows[key] = row

    def remove(self, table: Table, key: Key) -> None:
        """Remove a row, also one that was put before."""
        self.rows.get(table, {}).pop(key, None)
        self.removed.setdefault(table, {})[key] = None

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


@attrs.define(eq=False)
class Outcome:
    """How a batch has ended, from the writing thread."""

    batch: Batch
    error: StorageError | None = None
    read: list[object] = attrs.field(factory=list)
    bytes_used: int | None = None


class Store(Service):
    """
    A store of this engine.

    Writes and reads are for the reactor's thread.
    """

    log = Logger()

    def __init__(
        self,
        file: StoreFile,
        clock: IReactorTime,
        from_thread: Callable[..., object],
        *,
        max_bytes: int,
        backlog_bytes: int,
    ) -> None:
        """
        @param from_thread: Calls in the reactor's thread.
        @param max_bytes: Of the file; above, rows are only removed.
        @param backlog_bytes: Of what waits to be committed.
        """
        self._file, self._clock, self._from_thread = file, clock, from_thread
        self._complaints = Complaints(self.log, clock)
        self._max_bytes, self._backlog_bytes = max_bytes, backlog_bytes
        self._overlay: dict[Table, dict[Key, Pending]] = {}
        self._caches: dict[Table, Cache] = {}
        self._waiting_bytes = self._bytes_used = 0
        # Shared with the thread, under the lock.
        self._lock = Lock()
        self._work = Condition(self._lock)
        self._next = Batch()
        self._idle = True
        self._failed = False  # a batch has failed, and what rests on it must not be committed
        self._stopping = False
        self._wanted = 0  # so many writes are waited for
        # The thread's own.
        self._writer: sqlite3.Connection | None = None
        self._written = self._measured_bytes = 0
        self._thread: Thread | None = None
        self._reader: sqlite3.Connection | None = None
        self._queries = Queries(from_thread, self._error)
        self._wake_scheduled = False
        self._closed: Deferred[None] | None = None

    @property
    def path(self) -> Path:
        """Its file."""
        return self._file.path

    # Starting and stopping.

    def startService(self) -> None:
        """Open the file.  L{iii.storage.errors.CannotOpenStore} ends the start."""
        self._file.open()
        self._reader = self._file.connect(read_only=True)
        self._writer = self._file.connect()
        self._bytes_used = self._measure(self._writer)
        super().startService()
        self._queries.start(self._file.connect(read_only=True), f"queries {self._file.directory.name}")
        self._thread = Thread(target=self._write_batches, name=f"store {self._file.directory.name}", daemon=True)
        self._thread.start()
        self.log.info("store: {path}", path=str(self._file.path))

    def stopService(self) -> Deferred[None]:
        """Commit what waits, then close the file."""
        super().stopService()
        self._closed = Deferred()
        self._queries.stop().addCallback(self._stop_writing)
        return self._closed

    def _stop_writing(self, _: None) -> None:
        with self._lock:
            self._stopping = True
            self._work.notify()

    def _thread_ended(self, error: Exception | None) -> None:
        assert self._thread is not None and self._reader is not None and self._closed is not None
        self._thread.join()
        self._reader.close()
        try:
            self._file.close(clean=error is None)
        except OSError as failed:
            error = failed
        if error is not None:
            self.log.error("{path}: closing failed: {error}", path=str(self._file.path), error=str(error))
        self._closed.callback(None)

    # Reading, in the reactor's thread.

    def pending(self, table: Table, key: Key) -> Pending | None:
        """Return what is decided about a row and not yet committed; C{None} when the file has the truth."""
        rows = self._overlay.get(table)
        return None if rows is None else rows.get(key)

    def read(self, statement: str, parameters: Row) -> list[Row]:
        """
        Return what is committed.

        @raise StorageError: The file cannot be read.
        """
        assert self._reader is not None
        try:
            return self._reader.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def remembered(self, table: Table, max_bytes: int) -> Cache:
        """Return what is kept in memory of the last column of a table, from now on up to date with each commit."""
        return self._caches.setdefault(table, Cache(max_bytes))

    def query(self, read: Reader[T]) -> Deferred[T]:
        """
        Read what is committed, in a thread for that; what was answered before this is asked for is in it.

        @param read: See L{Queries.ask}.
        """
        if self.running:
            return self._queries.ask(read)
        return fail(StorageError(STOPPING))

    def snapshot(self, read: Reader[T]) -> Deferred[T]:
        """
        Read between two commits, which wait for it: all writes that are answered before this is are in what it reads,
        and none that is answered later.

        @param read: Called in the writing thread; L{StorageError} and C{sqlite3.Error} go to the caller.  Of equal ones
            that wait for the same moment only one is called, and all get what it returns.
        """
        waiting: Deferred[T] = Deferred()
        if not self.running:
            waiting.errback(StorageError(STOPPING))
            return waiting
        with self._lock:
            self._next.readers.append((read, waiting))
        self._wake()
        return waiting

    # Writing, in the reactor's thread.

    def write(self, *changes: tuple[Table, Key, Row | None]) -> Deferred[None]:
        """
        Put rows, or remove them (C{None} for the value columns), all in one transaction.

        @return: Fires when all is on disk; else fails with L{StorageError}, and nothing has changed.
        """
        size, grows = 0, False
        for _, key, values in changes:
            size += _size(key)
            if values is not None:
                size, grows = size + _size(values), True
        refusal = self._refusal(size, grows=grows)
        waiting: Deferred[None] = Deferred()
        if refusal is not None:
            waiting.errback(refusal)
            return waiting
        self._waiting_bytes += size
        with self._lock:
            batch = self._next
            for table, key, values in changes:
                if values is None:
                    batch.remove(table, key)
                else:
                    batch.put(table, key, key + values)
            batch.size += size
            batch.waiting.append(waiting)
            if len(batch.waiting) == self._wanted:
                self._work.notify()
        for table, key, values in changes:
            overlay = self._overlay.get(table)
            if overlay is None:
                overlay = self._overlay[table] = {}
            overlay[key] = Pending(values, batch)
        self._wake()
        return waiting

    def _refusal(self, size: int, *, grows: bool) -> StorageError | None:
        if not self.running:
            return StorageError(STOPPING)
        if self._waiting_bytes and self._waiting_bytes + size > self._backlog_bytes:
            return StoreBusy(self._backlog_bytes)
        if grows and self._bytes_used >= self._max_bytes:
            return StoreFull("engine.limits.store_bytes", self._max_bytes)
        return None

    def _wake(self) -> None:
        """Let the thread begin when this turn's writes are all there; while it works it finds them by itself."""
        if self._idle and not self._wake_scheduled:
            self._wake_scheduled = True
            self._clock.callLater(0, self._notify)

    def _notify(self) -> None:
        self._wake_scheduled = False
        with self._lock:
            self._work.notify()

    def _ended(self, outcome: Outcome) -> None:
        """A batch is committed, or has failed; tell everybody in the order in which they asked."""
        if outcome.bytes_used is not None:
            self._bytes_used = outcome.bytes_used
        ended = [outcome.batch]
        if outcome.error is not None:
            with self._lock:
                if self._failed:
                    following, self._next = self._next, Batch()
                    self._failed = False
                    ended.append(following)
                    self._overlay.clear()
        for batch in ended:
            self._waiting_bytes -= batch.size
        if outcome.error is None:
            # What is read meanwhile waits in this batch, too, and is answered after the changes that it has seen.
            for waiting in outcome.batch.waiting:
                waiting.callback(None)
            self._lift(outcome.batch)
            self._remember(outcome.batch)
        else:
            for batch in ended:
                self._lift(batch)
            for batch in ended:
                for waiting in batch.waiting:
                    waiting.errback(Failure(outcome.error))
        for (_, reading), found in zip(outcome.batch.readers, outcome.read, strict=True):
            reading.callback(found)
        if len(ended) > 1:
            for read, reading in ended[1].readers:
                self.snapshot(read).chainDeferred(reading)

    def _lift(self, batch: Batch) -> None:
        """The file has the truth about a batch's rows, unless a later batch changes them, too."""
        for tables in (batch.rows, batch.removed):
            for table, keys in tables.items():
                overlay = self._overlay.get(table, {})
                for key in keys:
                    pending = overlay.get(key)
                    if pending is not None and pending.batch is batch:
                        del overlay[key]

    def _remember(self, batch: Batch) -> None:
        """A batch is committed: what is kept in memory of its rows is what it has written."""
        for table, cache in self._caches.items():
            rows = batch.rows.get(table, {})
            for key in batch.removed.get(table, ()):
                if key not in rows:
                    cache.put(key, None)
            for key, row in rows.items():
                cache.put(key, row[-1])

    def _error(self, error: sqlite3.Error) -> StorageError:
        return StorageError(f"{self._file.path}: {error}")

    # The writing thread.

    def _write_batches(self) -> None:
        latest = 0
        while True:
            with self._lock:
                while not self._next and not self._stopping:
                    self._idle = True
                    self._work.wait()
                self._idle = False
                if not self._next:
                    break
                if len(self._next.waiting) < latest and not self._stopping:
                    self._wanted = latest
                    self._work.wait(GATHERING)
                    self._wanted = 0
                batch, self._next = self._next, Batch()
                latest = len(batch.waiting)
                rests_on_failed = self._failed
            outcome = Outcome(batch)
            if rests_on_failed:
                outcome.error = StorageError("a write before this one has failed")
            else:
                self._commit(outcome)
            self._read(outcome)
            self._from_thread(self._ended, outcome)
            if self._written >= CHECKPOINT_BYTES:
                self._checkpoint()
        self._from_thread(self._thread_ended, self._close())

    def _commit(self, outcome: Outcome) -> None:
        statements = outcome.batch.statements()
        if not statements:
            return
        try:
            self._written_from_now()
            connection = self._connection()
            several = len(statements) > 1
            if several:
                connection.execute("BEGIN IMMEDIATE")
            for statement, parameters in statements:
                connection.execute(statement, parameters)
            if several:
                connection.execute("COMMIT")
        except Exception as error:  # a defect, too: without this thread nobody would ever be answered
            if isinstance(error, sqlite3.Error | OSError | StorageError):
                self._tell("a commit has failed", error)
            else:
                self._from_thread(self.log.failure, "a commit has failed", Failure())
            outcome.error = StorageError(f"{self._file.path}: {error}")
            with self._lock:
                self._failed = True
            self._abandon()
            return
        self._written += outcome.batch.size + PAGE * len(statements)
        if self._measured_bytes + self._written >= NEARLY_FULL * self._max_bytes:
            try:
                outcome.bytes_used = self._measure(connection)
            except sqlite3.Error as error:  # what is committed is; the next commit measures again
                self._tell("measuring", error)
                self._abandon()

    def _written_from_now(self) -> None:
        """Note that something is written.  L{StorageError}: the file is not there any more."""
        try:
            self._file.written()
        except CannotOpenStore as error:
            raise StorageError(error.reason) from error

    def _read(self, outcome: Outcome) -> None:
        known: dict[Reader[Any], object] = {}
        for read, _ in outcome.batch.readers:
            if read in known:
                outcome.read.append(known[read])
                continue
            found = known[read] = outcome_of(partial(self._read_one, read), self._error)
            outcome.read.append(found)

    def _read_one(self, read: Reader[Any]) -> object:
        return read(self._connection())

    def _connection(self) -> sqlite3.Connection:
        """Return the connection to write with.  L{StorageError}, C{sqlite3.Error}: there can be none now."""
        if self._writer is None:
            try:
                self._writer = self._file.connect()
            except CannotOpenStore as error:
                raise StorageError(error.reason) from error
        return self._writer

    def _abandon(self) -> None:
        """End a transaction that has failed, and the connection with it: what it knows of the file may be wrong."""
        connection, self._writer = self._writer, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                self._tell("closing a connection", error)

    def _tell(self, what: str, error: Exception) -> None:
        """Log what goes wrong: while the disk is full, each commit does."""
        path = str(self._file.path)
        self._from_thread(
            partial(self._complaints.error, "{path}: {what}: {error}", path=path, what=what, error=str(error))
        )

    def _checkpoint(self) -> None:
        """Copy the log into the file, as far as nobody reads from it, so that it begins anew."""
        try:
            connection = self._connection()
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            used = self._measure(connection)
        except (sqlite3.Error, StorageError) as error:
            self._tell("checkpoint", error)
            self._abandon()
        else:
            self._written = 0
            self._from_thread(setattr, self, "_bytes_used", used)

    def _measure(self, connection: sqlite3.Connection) -> int:
        pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
        free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
        self._measured_bytes = (pages - free) * PAGE
        return self._measured_bytes

    def _close(self) -> Exception | None:
        try:
            connection = self._connection()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.close()
        except (sqlite3.Error, StorageError) as error:
            return error
        return None


def _size(values: Row) -> int:
    size = 0
    for value in values:
        size += len(value) if isinstance(value, (str, bytes)) else 8
    return size
