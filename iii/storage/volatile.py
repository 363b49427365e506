"""The same tables in memory: gone when the engine stops (C{store_method: in_memory} of the queues)."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute

from iii.storage.batch import Batch, Change, Pending, Row
from iii.storage.errors import StorageError, StoreFull
from iii.storage.queries import Reader, outcome_of
from iii.storage.schema import MIGRATIONS, PAGE, Table

T = TypeVar("T")


class VolatileStore:
    """A L{iii.storage.sqlite.Store} whose writes are committed at once, in memory, bounded in bytes."""

    def __init__(self, max_bytes: int) -> None:
        """@param max_bytes: Of all rows and indexes (C{engine.limits.memory_store_bytes})."""
        self._max_bytes = max_bytes
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.execute(f"PRAGMA max_page_count = {max(max_bytes // PAGE, 64)}")
        self._connection.executescript("".join(MIGRATIONS))

    def write(self, *changes: Change) -> Deferred[None]:
        """Put rows, or remove them, in one transaction."""
        return execute(self._write, *changes)

    def _write(self, *changes: Change) -> None:
        batch = Batch()
        for change in changes:
            batch.add(change)
        connection = self._connection
        connection.execute("BEGIN")
        try:
            for statement, parameters in batch.statements():
                connection.execute(statement, parameters)
            connection.execute("COMMIT")
        except BaseException as error:  # a defect, too: what follows must not end up in this transaction
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._error(error) from error
            raise

    def _error(self, error: sqlite3.Error) -> StorageError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return StoreFull("engine.limits.memory_store_bytes", self._max_bytes)
        return StorageError(str(error))

    def record(self, *changes: Change) -> Deferred[None]:
        """Likewise: the bound of memory holds for all."""
        return self.write(*changes)

    def pending(self, table: Table, key: tuple[Any, ...]) -> Pending | None:
        """Nothing ever waits to be committed."""
        return None

    def read(self, statement: str, parameters: Row) -> list[Row]:
        """
        Return what is there.

        @raise StorageError: That cannot be read.
        """
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def query(self, read: Reader[T]) -> Deferred[T]:
        """Read; see L{iii.storage.sqlite.Store.query}."""
        found: Deferred[Any] = execute(outcome_of, partial(read, self._connection), self._error)
        return found
