"""
The embedded store: one SQLite file, one thread that writes to it, one for queries that take long (DESIGN.md, 7).

What is to be written gathers in a batch while L{Writer} commits the one before; a commit ends with an fsync, and only
then the writers are answered.  So the more is written at one time, the fewer fsyncs each write costs.

Reading and deciding happen in the reactor's thread: what is decided and not yet committed lies over what the file has.
A failed commit takes back all that was decided since, for all of it may rest on what has failed.  From then on the
store counts as failing, until something has been committed; because nobody may write meanwhile it tries by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iii.storage.batch import Batch, Change, Key, Pending, Row
from iii.storage.cache import Cache
from iii.storage.errors import CannotOpenStore, StorageError, StoreBusy, StoreFull
from iii.storage.file import StoreFile
from iii.storage.queries import Queries, Reader
from iii.storage.schema import Table
from iii.storage.writer import Outcome, Writer, storage_error

T = TypeVar("T")
STOPPING = "the engine is stopping"
TRIAL_INTERVAL = 5.0
"""Seconds until a store that is failing tries again whether it can commit."""


class Store(Service):
    """
    A store of this engine, for the reactor's thread.

    @ivar failing: Why the last commit has failed; C{None}: it has not.
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
        on_failed_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param from_thread: Calls in the reactor's thread.
        @param max_bytes: Of the file; above, rows are only removed.
        @param backlog_bytes: Of what waits to be committed.
        """
        self._file, self._max_bytes, self._backlog_bytes = file, max_bytes, backlog_bytes
        self._writer = Writer(file, clock, from_thread, self._ended, max_bytes)
        self._error = partial(storage_error, file)
        self._queries = Queries(from_thread, self._error)
        self._reader: sqlite3.Connection | None = None
        self._overlay: dict[Table, dict[Key, Pending]] = {}
        self._caches: dict[Table, Cache] = {}
        self._waiting_bytes = 0
        self.failing: StorageError | None = None
        self._clock, self._on_failed_commit = clock, on_failed_commit
        self._trial: IDelayedCall | None = None

    @property
    def path(self) -> Path:
        """Its file."""
        return self._file.path

    # Starting and stopping.

    def startService(self) -> None:
        """Open the file.  L{iii.storage.errors.CannotOpenStore} ends the start."""
        self._file.open()
        self._reader = self._file.connect(read_only=True)
        self._queries.start(self._file.connect(read_only=True), f"queries {self._file.directory.name}")
        self._writer.start()
        super().startService()
        self.log.info("store: {path}", path=str(self._file.path))

    def stopService(self) -> Deferred[None]:
        """Answer what is asked, commit what waits, then close the file."""
        super().stopService()
        if self._trial is not None:
            self._trial.cancel()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._queries.stop()
        error = await self._writer.stop()
        assert self._reader is not None
        self._reader.close()
        try:
            self._file.close(clean=error is None)
        except OSError as failed:
            error = failed
        if error is not None:
            self.log.error("{path}: closing failed: {error}", path=str(self._file.path), error=str(error))

    # Reading.

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
        if not self.running:
            return fail(StorageError(STOPPING))
        waiting: Deferred[T] = Deferred()
        self._writer.read(read, waiting)
        return waiting

    # Writing.

    def write(self, *changes: Change) -> Deferred[None]:
        """
        Put rows, or remove them, all in one transaction.

        @return: Fires when all is on disk; else fails with L{StorageError}, and nothing has changed.
        """
        size, grows = _measured(changes)
        if self._waiting_bytes and self._waiting_bytes + size > self._backlog_bytes:
            return fail(StoreBusy(self._backlog_bytes))
        if grows and self._writer.bytes_used >= self._max_bytes:
            return fail(StoreFull("engine.limits.store_bytes", self._max_bytes))
        return self._write(changes, size)

    def record(self, *changes: Change) -> Deferred[None]:
        """L{write} what has happened already: not refused for what is in the store, or waits to be."""
        return self._write(changes, _measured(changes)[0])

    def _write(self, changes: tuple[Change, ...], size: int) -> Deferred[None]:
        if not self.running:
            return fail(StorageError(STOPPING))
        self._waiting_bytes += size
        waiting: Deferred[None] = Deferred()
        batch = self._writer.write(changes, size, waiting)
        for table, key, values in changes:
            if table.overlaid:
                self._overlay.setdefault(table, {})[key] = Pending(values, batch)
        return waiting

    def _ended(self, outcome: Outcome) -> None:
        """A batch is committed, or has failed; tell everybody in the order in which they asked."""
        batch, error = outcome.batch, outcome.error
        if error is None:
            self._waiting_bytes -= batch.size
            if batch.rows or batch.removed:
                self.failing = None
            # What is read meanwhile waits in this batch, too, and is answered after the changes that it has seen.
            for waiting in batch.waiting:
                waiting.callback(None)
            self._lift(batch)
            self._remember(batch)
            following = None
        else:
            following = self._writer.take_back()
            if following is not None:
                self._commit_failed(error)
                self._overlay.clear()
            self._fail(batch, error)
            if following is not None:
                self._fail(following, error)
        for (_, reading), found in zip(batch.readers, outcome.read, strict=True):
            reading.callback(found)
        if following is not None:
            for read, reading in following.readers:
                self.snapshot(read).chainDeferred(reading)

    def _fail(self, batch: Batch, error: StorageError) -> None:
        self._waiting_bytes -= batch.size
        self._lift(batch)
        for waiting in batch.waiting:
            waiting.errback(Failure(error))

    def _commit_failed(self, error: StorageError) -> None:
        self.failing = error
        self._on_failed_commit()
        self._try_later()

    def _try_later(self) -> None:
        if self._trial is None and self.running:
            self._trial = self._clock.callLater(TRIAL_INTERVAL, self._try)

    def _try(self) -> None:
        """See whether something can be written: while the engine counts as not ready perhaps nobody writes."""
        self._trial = None
        if self.failing is not None:
            self.snapshot(self._file.try_to_write).addCallbacks(self._succeeded, self._failed_again)

    def _succeeded(self, _: object) -> None:
        self.failing = None

    def _failed_again(self, failure: Failure) -> None:
        failure.trap(StorageError, CannotOpenStore, OSError)
        self._try_later()

    def _lift(self, batch: Batch) -> None:
        """The file has the truth about a batch's rows, unless a later batch changes them, too."""
        for tables in (batch.rows, batch.removed):
            for table, keys in tables.items():
                overlay = self._overlay.get(table)
                if overlay is None:
                    continue
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


def _measured(changes: tuple[Change, ...]) -> tuple[int, bool]:
    """Return the bytes of changes, about, and whether the store grows by them."""
    size, grows = 0, False
    for table, key, values in changes:
        size += _size(key)
        if values is not None:
            size, grows = size + table.size(values), True
    return size, grows


def _size(values: Row) -> int:
    size = 0
    for value in values:
        size += len(value) if isinstance(value, (str, bytes)) else 8
    return size
