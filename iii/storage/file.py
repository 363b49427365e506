"""
Opening a store's file so that one engine has it, and only if it is what it should be.

The directory of a store has C{store.db} with SQLite's companions C{-wal} and C{-shm}, and C{lock}.  An engine holds a
lock (flock(2)) on C{lock} while it runs, and its process id stands there.  From its first write on it says there that
it has written, and since which start of the machine, until an orderly stop; who finds that at the start checks the
file.  A process that is killed leaves nothing half written, so if only that has happened a quick check is enough.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from pathlib import Path

from twisted.logger import Logger

from iii.storage.errors import CannotOpenStore
from iii.storage.schema import APPLICATION_ID, MIGRATIONS, VERSION

FILE = "store.db"
LOCK = "lock"
OURS = (FILE, f"{FILE}-wal", f"{FILE}-shm", LOCK)
WRITING = "writing"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BUSY_TIMEOUT = 5.0
"""Seconds that a write waits for another program, such as the sqlite3 shell, that has locked the file."""
STATEMENTS = 512
"""Prepared statements that are kept: one for each table and number of rows."""
FULL = 2
"""C{PRAGMA synchronous}: every commit is on disk when it returns."""

log = Logger()


class StoreFile:
    """
    The directory and file of one store, from L{open} to L{close}.

    @ivar directory: Where it is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / FILE
        self._lock: int | None = None
        self._noted = self._boot = ""
        self._inode: tuple[int, int] | None = None  # of the file that was opened

    def open(self) -> None:
        """
        Take the store for this process, check it, and bring it to this version.

        @raise CannotOpenStore: Somebody else has it, or it is not what it should be.  Nothing has changed then.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._boot = boot_id()
            check = self._take_lock()
            for name in sorted(
                entry.name for entry in self.directory.iterdir() if entry.is_file() and entry.name not in OURS
            ):
                log.warn("{path} is no part of the store and is left alone", path=str(self.directory / name))
        except OSError as error:
            self._release()
            raise self._refusal(error.strerror or str(error)) from error
        except CannotOpenStore:
            self._release()
            raise
        try:
            self._prepare(check)
            self._note(f"{os.getpid()} open")
            found = self.path.stat()
            self._inode = found.st_dev, found.st_ino
        except sqlite3.Error as error:
            self._release()
            raise self._refusal(_reason(error)) from error
        except OSError as error:
            self._release()
            raise self._refusal(error.strerror or str(error)) from error
        except CannotOpenStore:
            self._release()
            raise

    def written(self) -> None:
        """
        Something is about to be written: from now on only an orderly stop is a clean one.

        @raise CannotOpenStore: The file is not there any more, so that what is written would be lost.
        """
        self._check_there()
        note = f"{os.getpid()} {WRITING} {self._boot}"
        if self._noted != note:
            self._note(note)

    def try_to_write(self, connection: sqlite3.Connection) -> None:
        """
        Commit a page that says what is there already.  C{sqlite3.Error}, C{OSError}, L{CannotOpenStore}: nothing can be
        written now.
        """
        self.written()
        connection.execute(f"PRAGMA user_version = {VERSION}")

    def close(self, *, clean: bool) -> None:
        """
        Leave the store to others.

        @param clean: All connections to it are closed in order; the next start need not check it.
        @raise OSError: That could not be noted, so that the next start may check it.
        """
        try:
            if clean:
                self._note("")
        finally:
            self._release()

    def _check_there(self) -> None:
        """L{CannotOpenStore} when the file is removed or replaced: SQLite would go on with what is nowhere."""
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            raise self._refusal("somebody has removed the file; stop the engine, and restore a backup") from error
        if self._inode is not None and (found.st_dev, found.st_ino) != self._inode:
            raise self._refusal("somebody has replaced the file; stop the engine")

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        """
        Return a connection that commits each statement by itself, to be used by one thread at a time.

        @raise CannotOpenStore: SQLite cannot open it, or does not do what an acknowledgement needs.
        """
        if self._inode is not None:
            self._check_there()
        try:
            return self._connected(read_only)
        except sqlite3.Error as error:
            raise self._refusal(_reason(error)) from error

    def _connected(self, read_only: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS,
        )
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        connection.execute("PRAGMA synchronous = FULL")
        synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or synchronous != FULL:
            connection.close()
            raise self._refusal(f"SQLite does not offer a durable write-ahead log there (journal mode {mode})")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # the writer does that between two batches
        connection.execute("PRAGMA journal_size_limit = 67108864")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        return connection

    def _refusal(self, reason: str) -> CannotOpenStore:
        return CannotOpenStore(str(self.path), reason)

    def _take_lock(self) -> str | None:
        """Return by what the file is to be checked, when the last process that had it did not stop in order."""
        self._lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        process, doing, boot = (*os.read(self._lock, 100).decode(errors="replace").split(" "), "", "")[:3]
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._refusal(f"another engine has it open (process {process or 'unknown'})") from error
        if doing != WRITING:
            return None
        return "quick_check" if boot and boot == self._boot else "integrity_check"

    def _note(self, text: str) -> None:
        assert self._lock is not None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text.encode(), 0)
        os.fsync(self._lock)
        self._noted = text

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare(self, check: str | None) -> None:
        new = not self.path.exists() or self.path.stat().st_size == 0
        log_file = self.path.with_name(f"{FILE}-wal")
        if new and log_file.exists() and log_file.stat().st_size:
            # SQLite would throw it away.
            raise self._refusal(
                f"missing or empty, while {log_file.name} has changes that belong to it; put it back, or restore a "
                f"backup and remove {log_file.name}, or move both away to start empty"
            )
        if new:
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))  # SQLite would let others read it
        else:
            self._identify()
        connection = self.connect()
        try:
            if check is not None and not new:
                self._check(connection, check)
            self._migrate(connection)
        finally:
            connection.close()
        sync(self.directory)

    def _identify(self) -> None:
        """Refuse what is no store of this version or an older one, before anything is written to it."""
        connection = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)
        try:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        finally:
            connection.close()
        if application != APPLICATION_ID and (application or tables):
            raise self._refusal("the database of another program; move it away, or name another directory")
        if version > VERSION:
            raise self._refusal(
                f"written by a newer version (its format is {version}; this version knows those up to {VERSION})"
            )

    def _check(self, connection: sqlite3.Connection, check: str) -> None:
        log.warn("{path}: the last stop was unclean; checking the store ({check})", path=str(self.path), check=check)
        begun = time.monotonic()
        found = [row[0] for row in connection.execute(f"PRAGMA {check}(3)")]
        if found != ["ok"]:
            raise self._refusal(f"damaged ({'; '.join(found)}); restore a backup, or move it away to start empty")
        log.info("{path}: checked in {seconds:.1f} s: ok", path=str(self.path), seconds=time.monotonic() - begun)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Go from the file's version to this one in one transaction."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == VERSION:
            return
        if version:
            log.info("{path}: from format {old} to {new}", path=str(self.path), old=version, new=VERSION)
        steps = "".join(MIGRATIONS[version:])
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
        connection.executescript(f"BEGIN IMMEDIATE; {steps} {marks} COMMIT")


def boot_id() -> str:
    """What tells this start of the machine from others; empty where the system does not say."""
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


def sync(path: Path) -> None:
    """Put a file's contents, or the names in a directory, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return f"damaged, or no store ({error}); restore a backup, or move it away to start empty"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"another program has locked it ({error})"
    return str(error)
