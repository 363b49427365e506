"""Which files are opened as a store, and which are refused and left as they are."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from iii.storage import file as file_module
from iii.storage.errors import CannotOpenStore
from iii.storage.file import FILE, LOCK, StoreFile
from iii.storage.schema import APPLICATION_ID, MIGRATIONS, VERSION

GOLDEN = Path(__file__).parent / "golden"


class OpenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.path = self.directory / FILE

    def open(self) -> StoreFile:
        store = StoreFile(self.directory)
        store.open()
        self.addCleanup(store.close, clean=False)
        return store

    def refusal(self) -> str:
        """Return why the store is refused; the file, if there is one, must stay as it is."""
        before = self.path.read_bytes() if self.path.is_file() else None
        error = self.assertRaises(CannotOpenStore, StoreFile(self.directory).open)
        self.assertEqual(self.path.read_bytes() if self.path.is_file() else None, before)
        self.assertIn(str(self.path), str(error))
        return str(error)

    def database(self, script: str) -> None:
        """Make a database as another program would."""
        self.directory.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path)
        connection.executescript(script)
        connection.close()

    def crashed_store(self) -> None:
        """Leave a store behind as an engine that was killed after a write does."""
        store = StoreFile(self.directory)
        store.open()
        store.written()
        connection = store.connect()
        connection.executemany(
            "INSERT INTO state (scope, key, value) VALUES ('s', ?, ?)", [(f"k{n}", b"1" * 1000) for n in range(200)]
        )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        store.close(clean=False)

    def test_new(self) -> None:
        """What does not exist is made, whatever is missing of its path, for its owner only."""
        self.directory = self.directory / "a" / "b"
        self.open()
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)

    def test_every_connection_is_durable(self) -> None:
        """Each connection has the write-ahead log with an fsync for every commit."""
        store = self.open()
        for read_only in (True, False):
            connection = store.connect(read_only=read_only)
            self.addCleanup(connection.close)
            self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
            self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))

    def test_no_durable_log(self) -> None:
        """Where SQLite offers no write-ahead log, the store is refused."""
        self.open()
        in_memory = StoreFile(self.directory)
        in_memory.path = Path(":memory:")  # has none
        error = self.assertRaises(CannotOpenStore, in_memory.connect)
        self.assertIn("durable write-ahead log", str(error))

    def test_empty_file(self) -> None:
        """An empty file is a new store."""
        self.directory.mkdir()
        self.path.touch()
        self.open()

    def test_killed_while_new(self) -> None:
        """A file whose maker was killed before it had tables becomes a store like a new one, and stays one."""
        self.database("PRAGMA journal_mode = WAL; PRAGMA user_version = 0")
        self.assertGreater(self.path.stat().st_size, 0)
        store = StoreFile(self.directory)
        store.open()
        store.close(clean=True)
        self.open()

    def test_owner_only(self) -> None:
        """Also in a directory that others can read, nobody else can read the files."""
        self.directory.mkdir(mode=0o755)
        connection = self.open().connect()
        self.addCleanup(connection.close)
        connection.execute("INSERT INTO state (scope, key, value) VALUES ('', '', x'00')")
        for path in self.directory.iterdir():
            self.assertEqual((path.name, path.stat().st_mode & 0o777), (path.name, 0o600))

    def test_twice(self) -> None:
        """A store that somebody has open is refused, and who has it is said."""
        self.open()
        error = self.assertRaises(CannotOpenStore, StoreFile(self.directory).open)
        self.assertIn(f"another engine has it open (process {os.getpid()})", str(error))

    def test_again(self) -> None:
        """A refused or closed store can be opened by the next."""
        store = StoreFile(self.directory)
        store.open()
        self.assertRaises(CannotOpenStore, StoreFile(self.directory).open)
        store.close(clean=True)
        self.open()

    def test_other_program(self) -> None:
        """The database of another program is refused, with or without an id of its own."""
        self.database("CREATE TABLE theirs (a)")
        self.assertIn("the database of another program", self.refusal())
        self.path.unlink()
        self.database("PRAGMA application_id = 77")
        self.assertIn("the database of another program", self.refusal())

    def test_newer(self) -> None:
        """A store of a newer version is refused."""
        self.database(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION + 1}")
        self.assertIn(f"its format is {VERSION + 1}; this version knows those up to {VERSION}", self.refusal())

    def test_garbage(self) -> None:
        """What is no database is refused."""
        self.directory.mkdir()
        self.path.write_bytes(b"no database at all" * 1000)
        self.assertIn("damaged, or no store", self.refusal())

    def test_directory_is_a_file(self) -> None:
        """A path that cannot be a directory is refused."""
        self.directory.write_text("")
        self.refusal()

    def test_locked(self) -> None:
        """A file that another program has locked is refused."""
        self.patch(file_module, "BUSY_TIMEOUT", 0.05)
        StoreFile(self.directory).open()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("INSERT INTO state (scope, key, value) VALUES ('', '', x'00')")
        (self.directory / LOCK).unlink()
        self.assertIn("another program has locked it", self.refusal())

    def test_damaged(self) -> None:
        """After an unclean stop the file is checked, and a damaged one refused."""
        self.crashed_store()
        with self.path.open("r+b") as file:
            for page in range(2, 12):
                file.seek(page * 4096 + 100)
                file.write(b"\xff" * 600)
        self.assertIn("damaged", self.refusal())

    def test_after_a_crash(self) -> None:
        """After an unclean stop a sound file is opened, and it is said that it was checked."""
        self.crashed_store()
        store = self.open()
        connection = store.connect()
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("SELECT count(*) FROM state").fetchone(), (200,))

    def test_after_a_crash_of_the_machine(self) -> None:
        """When the machine was started since, or nobody knows, indexes are compared with their tables, too."""
        self.crashed_store()
        connection = sqlite3.connect(self.path)
        connection.executescript(
            "INSERT INTO job VALUES (1, 'i', 'q', 0, 0, '', 'default', 'f', NULL, NULL, 0, 0, 0, 0, 0, '', x'31');"
            "PRAGMA writable_schema = ON;"
            "UPDATE sqlite_schema SET sql = replace(sql, 'state = 1', 'state = 0') WHERE name = 'job_due'"
        )
        connection.close()
        started = Path(self.mktemp())
        self.patch(file_module, "BOOT_ID", started)
        self.assertIn("missing from index", self.refusal())
        started.write_text("another")
        self.assertIn("missing from index", self.refusal())
        self.patch(file_module, "BOOT_ID", Path("/proc/sys/kernel/random/boot_id"))
        self.open()

    def test_only_the_log_is_left(self) -> None:
        """Of a file that is gone SQLite would throw the log away, in which the latest changes are."""
        store = self.open()
        connection = store.connect()
        self.addCleanup(connection.close)
        connection.execute("INSERT INTO state (scope, key, value) VALUES ('s', 'k', x'31')")
        store.close(clean=False)
        log_file = self.path.with_name(f"{FILE}-wal")
        before = log_file.read_bytes()
        self.path.unlink()
        self.assertIn("missing or empty", self.refusal())
        self.path.touch()
        self.assertIn("missing or empty", self.refusal())
        self.assertEqual(log_file.read_bytes(), before)
        self.assertTrue(before)

    def test_not_checked(self) -> None:
        """After a clean stop, or when nothing was written, nothing is checked."""
        store = StoreFile(self.directory)
        store.open()
        store.close(clean=False)
        self.patch(StoreFile, "_check", lambda *_: self.fail("checked"))
        store.open()
        store.written()
        store.close(clean=True)
        self.open()

    def test_foreign_files(self) -> None:
        """Other files in the directory stay."""
        self.directory.mkdir()
        other = self.directory / "stream%3Achat.bin"
        other.write_bytes(b"theirs")
        self.open()
        self.assertEqual(other.read_bytes(), b"theirs")


class MigrationTests(SynchronousTestCase):
    def test_golden_files(self) -> None:
        """A file of every version, from the first on, is opened with all its data."""
        self.assertEqual(
            sorted(path.name for path in GOLDEN.iterdir()), [f"v{number}.db" for number in range(1, VERSION + 1)]
        )
        for path in GOLDEN.iterdir():
            directory = Path(self.mktemp()).resolve()
            directory.mkdir()
            shutil.copy(path, directory / FILE)
            store = StoreFile(directory)
            store.open()
            connection = store.connect()
            found = connection.execute("SELECT scope, key, value FROM state ORDER BY position").fetchall()
            self.assertEqual(found, [("users", "u2", b'{"n":2}'), ("users", "u1", b"null"), ("", "a\0b", b'"x"')])
            found = connection.execute("SELECT stream, item_group, item, value FROM stream").fetchall()
            self.assertEqual(found, [("chat", "room:1", "m1", b'{"t":"hi"}')])
            found = connection.execute("SELECT lock_index, job, state FROM cron_job").fetchall()
            self.assertEqual(found, [("cron_locks", "k", b'{"last":1000,"paused":true}')])
            found = connection.execute(
                "SELECT lock_index, job, definition ->> 'function_id' FROM cron_one_shot"
            ).fetchall()
            self.assertEqual(found, [("cron_locks", "k2", "f")])
            found = connection.execute("SELECT position, queue, state, data, error FROM job").fetchall()
            dead = (2, "order.created::mail::on@default", 2, b"null", '{"code":"invocation_failed","message":"boom"}')
            self.assertEqual(found, [(1, "__fn_queue::default", 0, b'{"to":"ann"}', ""), dead])
            for table, row in (
                ("subscription", (1, "order.created", "default", "mail::on", "{}", 1000)),
                ("paused_queue", (1, "__fn_queue::default", 1000)),
                ("deduplication", (1, "__fn_queue::default", "k", "5f0b7a10-0000-4000-8000-000000000001", 2000)),
            ):
                self.assertEqual(connection.execute(f"SELECT * FROM {table}").fetchall(), [row])
            connection.close()
            store.close(clean=True)

    def test_in_one_transaction(self) -> None:
        """When a step fails, the file stays in the version in which it was."""
        directory = Path(self.mktemp()).resolve()
        store = StoreFile(directory)
        store.open()
        store.close(clean=True)
        self.patch(file_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (a); CREATE TABLE more (a);"))
        self.patch(file_module, "VERSION", VERSION + 1)
        self.assertRaises(CannotOpenStore, StoreFile(directory).open)
        connection = sqlite3.connect(directory / FILE)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (VERSION,))
        self.assertEqual(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'more'").fetchall(), [])
