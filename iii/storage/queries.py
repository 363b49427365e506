"""Reading that may take long: in a thread of its own, so that neither commits nor the reactor wait for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from iii.storage.errors import StorageError

T = TypeVar("T")
Reader = Callable[[sqlite3.Connection], T]


def outcome_of(read: Callable[[], object], describe: Callable[[sqlite3.Error], StorageError]) -> object:
    """Return what a reader returns, or its failure: it belongs to whoever reads."""
    try:
        return read()
    except StorageError as error:
        return Failure(error)
    except sqlite3.Error as error:
        return Failure(describe(error))
    except Exception:  # a defect
        return Failure()


class Queries:
    """Reads what is committed, one query after the other."""

    def __init__(self, from_thread: Callable[..., object], describe: Callable[[sqlite3.Error], StorageError]) -> None:
        """
        @param from_thread: Calls in the reactor's thread.
        @param describe: Makes an error of the store of one of SQLite.
        """
        self._from_thread, self._describe = from_thread, describe
        self._asked: SimpleQueue[tuple[Reader[Any], Deferred[Any]] | None] = SimpleQueue()
        self._ended: Deferred[None] = Deferred()

    def start(self, connection: sqlite3.Connection, name: str) -> None:
        """Read with a connection, which is nobody else's."""
        Thread(target=self._run, args=(connection,), name=name, daemon=True).start()

    def ask(self, read: Reader[T]) -> Deferred[T]:
        """
        Read, after what was asked for before.

        @param read: Called in the thread; L{StorageError} and C{sqlite3.Error} go to the caller.
        """
        waiting: Deferred[T] = Deferred()
        self._asked.put((read, waiting))
        return waiting

    def stop(self) -> Deferred[None]:
        """Answer what was asked for, and close the connection; fires when that is done."""
        self._asked.put(None)
        return self._ended

    def _run(self, connection: sqlite3.Connection) -> None:
        while (asked := self._asked.get()) is not None:
            read, waiting = asked
            self._from_thread(waiting.callback, outcome_of(partial(read, connection), self._describe))
        connection.close()
        self._from_thread(self._ended.callback, None)
