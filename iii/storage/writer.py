"""
The thread that writes to a store: it commits one batch while the next one gathers.

The rows of a batch go into each table by one statement: every step of SQLite gives up the GIL and must get it back,
which beside a busy reactor takes longer than the step (measured: 64 rows by one statement 91,000 rows/s, by
C{executemany} 46,000).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from threading import Condition, Thread
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iii.core.complaints import Complaints
from iii.storage.batch import Batch, Change
from iii.storage.errors import CannotOpenStore, StorageError
from iii.storage.file import StoreFile
from iii.storage.queries import Reader, outcome_of
from iii.storage.schema import PAGE

GATHERING = 0.0005
"""
Seconds that a commit waits for as many writes as the one before had: those who were answered then are about to write
again.  A commit costs the same, some 300 µs of CPU and an fsync, whether it has one write or a hundred.
"""
CHECKPOINT_BYTES = 4 * 2**20
"""So much is written to the log before it is copied into the file."""
NEARLY_FULL = 7 / 8
"""Of the allowed bytes: from there on each commit is measured."""


@attrs.define(eq=False)
class Outcome:
    """
    How a batch has ended.

    @ivar read: What its readers have returned, or their failures.
    """

    batch: Batch
    error: StorageError | None = None
    read: list[object] = attrs.field(factory=list)


class Writer:
    """
    Commits what the reactor's thread gives it.

    @ivar bytes_used: Of the file, as far as that matters.
    """

    log = Logger()

    def __init__(
        self,
        file: StoreFile,
        clock: IReactorTime,
        from_thread: Callable[..., object],
        ended: Callable[[Outcome], object],
        max_bytes: int,
    ) -> None:
        """
        @param from_thread: Calls in the reactor's thread.
        @param ended: Told there of every batch, in their order.
        @param max_bytes: Of the file; when it is nearly so large, it is measured after each commit.
        """
        self._file, self._clock, self._from_thread, self._ended = file, clock, from_thread, ended
        self._max_bytes = max_bytes
        self._complaints = Complaints(self.log, clock)
        self.bytes_used = 0
        self._wake_scheduled = False
        self._closed: Deferred[Exception | None] = Deferred()
        self._thread: Thread | None = None
        # Shared by both threads, under the lock of C{_work}.
        self._work = Condition()
        self._next = Batch()
        self._idle = True
        self._failed = False  # a batch has failed, and what rests on it must not be committed
        self._stopping = False
        self._wanted = 0  # so many writes are waited for
        # The writing thread's own.
        self._connected: sqlite3.Connection | None = None
        self._written = self._measured = 0

    # For the reactor's thread.

    def start(self) -> None:
        """Begin.  L{CannotOpenStore}, C{sqlite3.Error}: that cannot be."""
        self._connected = self._file.connect()
        self.bytes_used = self._measure(self._connected)
        self._thread = Thread(target=self._run, name=f"store {self._file.directory.name}", daemon=True)
        self._thread.start()

    def stop(self) -> Deferred[Exception | None]:
        """Commit what waits and close the connection; fires when that is done, with what went wrong."""
        with self._work:
            self._stopping = True
            self._work.notify()
        return self._closed

    def write(self, changes: tuple[Change, ...], size: int, waiting: Deferred[None]) -> Batch:
        """Commit changes together.  @return: What they are in."""
        with self._work:
            batch = self._next
            for change in changes:
                batch.add(change)
            batch.size += size
            batch.waiting.append(waiting)
            if len(batch.waiting) == self._wanted:
                self._work.notify()
        self._wake()
        return batch

    def read(self, reader: Reader[Any], waiting: Deferred[Any]) -> None:
        """Read right after the batch that gathers now."""
        with self._work:
            self._next.readers.append((reader, waiting))
        self._wake()

    def take_back(self) -> Batch | None:
        """
        A batch has failed: return what has gathered since, which is not committed.  What is given from now on is;
        C{None}: that was so already.
        """
        with self._work:
            if not self._failed:
                return None
            self._failed = False
            following, self._next = self._next, Batch()
        return following

    def _wake(self) -> None:
        """Let the thread begin when this turn's writes are all there; while it works it finds them by itself."""
        if self._idle and not self._wake_scheduled:
            self._wake_scheduled = True
            self._clock.callLater(0, self.notify)

    def notify(self) -> None:
        """Let the thread begin now."""
        self._wake_scheduled = False
        with self._work:
            self._work.notify()

    def _thread_ended(self, error: Exception | None) -> None:
        assert self._thread is not None
        self._thread.join()
        self._closed.callback(error)

    # The writing thread.

    def _run(self) -> None:
        latest = 0
        while True:
            with self._work:
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
            self._file.written()
            connection = self._connection()
            several = len(statements) > 1
            if several:
                connection.execute("BEGIN IMMEDIATE")
            for statement, parameters in statements:
                connection.execute(statement, parameters)
            if several:
                connection.execute("COMMIT")
        except Exception as error:  # a defect, too: without this thread nobody would ever be answered
            if isinstance(error, CannotOpenStore | sqlite3.Error | OSError):
                self._tell("a commit has failed", error)
            else:
                self._from_thread(self.log.failure, "a commit has failed", Failure())
            outcome.error = self._error(error)
            with self._work:
                self._failed = True
            self._abandon()
            return
        self._written += outcome.batch.size + PAGE * len(statements)
        if self._measured + self._written >= NEARLY_FULL * self._max_bytes:
            self._measure_again()

    def _read(self, outcome: Outcome) -> None:
        known: dict[Reader[Any], object] = {}
        for reader, _ in outcome.batch.readers:
            if reader not in known:
                known[reader] = outcome_of(partial(self._read_one, reader), self._error)
            outcome.read.append(known[reader])

    def _read_one(self, reader: Reader[Any]) -> object:
        try:
            connection = self._connection()
        except CannotOpenStore as error:
            raise self._error(error) from error
        return reader(connection)

    def _connection(self) -> sqlite3.Connection:
        """Return the connection, made again if need be.  L{CannotOpenStore}, C{sqlite3.Error}: there can be none."""
        if self._connected is None:
            self._connected = self._file.connect()
        return self._connected

    def _abandon(self) -> None:
        """End a transaction that has failed, and the connection with it: what it knows of the file may be wrong."""
        connection, self._connected = self._connected, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                self._tell("closing a connection", error)

    def _checkpoint(self) -> None:
        """Copy the log into the file, as far as nobody reads from it, so that it begins anew."""
        try:
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except (CannotOpenStore, sqlite3.Error) as error:
            self._tell("checkpoint", error)
            self._abandon()
        else:
            self._written = 0
            self._measure_again()

    def _measure_again(self) -> None:
        try:
            used = self._measure(self._connection())
        except (CannotOpenStore, sqlite3.Error) as error:  # what is committed is; the next time it is measured again
            self._tell("measuring", error)
            self._abandon()
        else:
            self._from_thread(setattr, self, "bytes_used", used)

    def _measure(self, connection: sqlite3.Connection) -> int:
        pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
        free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
        self._measured = (pages - free) * PAGE
        return self._measured

    def _close(self) -> Exception | None:
        try:
            connection = self._connection()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.close()
        except (CannotOpenStore, sqlite3.Error) as error:
            return error
        return None

    def _error(self, error: Exception) -> StorageError:
        return storage_error(self._file, error)

    def _tell(self, what: str, error: Exception) -> None:
        """Log what goes wrong: while the disk is full, each commit does."""
        path, reason = str(self._file.path), _reason(error)
        self._from_thread(
            partial(self._complaints.error, "{path}: {what}: {reason}", path=path, what=what, reason=reason)
        )


def storage_error(file: StoreFile, error: Exception) -> StorageError:
    """Make an error of a store of one that was met with its file."""
    return StorageError(f"{file.path}: {_reason(error)}")


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, CannotOpenStore) else str(error)
