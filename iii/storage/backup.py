"""Copying a store while an engine uses it, by SQLite's online backup."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from iii.storage.errors import StorageError
from iii.storage.file import sync
from iii.storage.schema import APPLICATION_ID

PAGES = 2000
"""Pages that are copied before progress is told."""


def back_up(source: Path, target: Path, progress: Callable[[int, int], object]) -> int:
    """
    Copy what is committed in a store now to a new file, which is a store's file by itself.  The engine goes on.

    @param progress: Told how many pages are still to be copied, and of how many.
    @return: The copy's size in bytes.  It is on disk, and checked.
    @raise StorageError: There is no store, C{target} exists or cannot be written, or the copy is damaged.  Then there
        is no new file.
    """
    if target.exists():
        raise StorageError(f"{target} exists; nothing is overwritten")
    if not source.exists():
        raise StorageError(f"{source} does not exist: nothing has been stored there yet, or the path is wrong")
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
        _copy(source, unfinished, progress)
        size = unfinished.stat().st_size
        os.link(unfinished, target)  # unlike rename, it never replaces a file
        sync(target.parent)
    except OSError as error:
        raise StorageError(f"{error.filename}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise StorageError(f"copying {source} to {target}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return size


def _copy(source: Path, target: Path, progress: Callable[[int, int], object]) -> None:
    origin = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, isolation_level=None)
    copy = sqlite3.connect(target, isolation_level=None)
    try:
        origin.execute("BEGIN")  # what is copied is what it is now, however long that takes
        if origin.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StorageError(f"{source} is no store of iii")
        origin.backup(copy, pages=PAGES, progress=lambda status, remaining, total: progress(remaining, total))
        copy.execute("PRAGMA journal_mode = DELETE")
        found = [row[0] for row in copy.execute("PRAGMA integrity_check(3)")]
        if found != ["ok"]:
            raise StorageError(f"the store is damaged: {'; '.join(found)}")
    finally:
        copy.close()
        origin.close()
    sync(target)
