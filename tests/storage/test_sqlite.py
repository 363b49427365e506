"""The writing thread, its batches, and what is decided before it is committed."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from threading import Event

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from iii.storage.errors import StorageError, StoreBusy, StoreFull
from iii.storage.schema import JOB, JOB_OUTCOME, STATE, STREAM
from iii.storage.sqlite import TRIAL_INTERVAL, Store
from tests.storage.case import StoreCase, failure_of

WRONG = (None,)
"""Value columns that the table refuses: the commit fails."""


class WriteTests(StoreCase):
    def put(self, store: Store, key: str, value: bytes = b"1", scope: str = "s") -> Deferred[None]:
        return store.write((STATE, (scope, key), (value,)))

    def stored(self, columns: str = "key") -> list[tuple[object, ...]]:
        """Return what another process would see now."""
        connection = sqlite3.connect(self.directory / "store.db")
        try:
            return connection.execute(f"SELECT {columns} FROM state ORDER BY position").fetchall()
        finally:
            connection.close()

    async def test_acknowledged_when_committed(self) -> None:
        """When a write is answered, others see it."""
        store = self.open()
        seen: list[object] = []
        waiting = self.put(store, "k").addCallback(lambda _: seen.append(self.stored()))
        self.assertEqual(self.stored(), [])
        await waiting
        self.assertEqual(seen, [[("k",)]])

    async def test_order_of_answers(self) -> None:
        """Writes are answered in the order in which they came, whatever batch they are in."""
        store, answered = self.open(), []
        writes = []
        for number in range(300):
            writes.append(
                self.put(store, f"k{number % 7}").addCallback(lambda _, number=number: answered.append(number))
            )
            if number % 50 == 0:
                await self.put(store, "between")
        await gatherResults(writes)
        self.assertEqual(answered, list(range(300)))

    async def test_grouped(self) -> None:
        """What is written in one turn of the reactor is committed together."""
        store = self.open()
        batches = set()
        writes = [self.put(store, f"k{number}") for number in range(500)]
        for number in range(500):
            pending = store.pending(STATE, ("s", f"k{number}"))
            assert pending is not None
            batches.add(id(pending.batch))
        await gatherResults(writes)
        self.assertEqual(len(batches), 1)
        self.assertEqual(len(self.stored()), 500)

    async def test_places(self) -> None:
        """A row keeps its place when it is put again, and gets a new one after a removal, also within a batch."""
        store = self.open()
        for key in "abcd":
            self.put(store, key)
        self.put(store, "a", b"2")
        store.write((STATE, ("s", "b"), None))
        await self.put(store, "b", b"3")
        self.assertEqual(self.stored("key, value"), [("a", b"2"), ("c", b"1"), ("d", b"1"), ("b", b"3")])
        store.write((STATE, ("s", "c"), None))
        await self.put(store, "c", b"4")
        self.assertEqual([row[0] for row in self.stored()], ["a", "d", "b", "c"])

    async def test_all_or_nothing(self) -> None:
        """The changes of one write are committed together, or none of them."""
        store = self.open()
        stream = STREAM, ("st", "g", "i"), (b"1",)
        await failure_of(store.write((STATE, ("s", "k"), (b"1",)), (*stream[:2], WRONG)), StorageError)
        self.assertEqual(self.stored(), [])
        await store.write((STATE, ("s", "k"), (b"1",)), stream)
        self.assertEqual(self.stored(), [("k",)])

    async def test_decided(self) -> None:
        """What is decided can be read before it is committed, and from the file afterwards."""
        store = self.open()
        waiting = self.put(store, "k")
        pending = store.pending(STATE, ("s", "k"))
        assert pending is not None
        self.assertEqual(pending.values, (b"1",))
        self.assertEqual(store.read("SELECT key FROM state", ()), [])
        await waiting
        await deferLater(reactor, 0)  # all writes of the batch have been answered
        self.assertIsNone(store.pending(STATE, ("s", "k")))
        self.assertEqual(store.read("SELECT key FROM state", ()), [("k",)])

    async def test_failed_commit(self) -> None:
        """A failed commit fails what was decided after it, too, and takes that back; later writes are committed."""
        store = self.open()
        await self.put(store, "before")
        failing = store.write((STATE, ("s", "wrong"), WRONG))
        same_batch = self.put(store, "same")
        await failure_of(failing, StorageError)
        await failure_of(same_batch, StorageError)
        self.assertIsNone(store.pending(STATE, ("s", "same")))
        await self.put(store, "after")
        self.assertEqual(self.stored(), [("before",), ("after",)])
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    async def test_what_rests_on_a_failed_commit(self) -> None:
        """What was decided while a commit failed is not committed: it may rest on what was taken back."""
        store = self.open()
        failing = store.write((STATE, ("s", "a"), WRONG))
        store._writer.notify()  # the thread takes the batch now
        while store._writer._next:
            await deferLater(reactor, 0)
        resting = self.put(store, "b")
        await failure_of(failing, StorageError)
        await failure_of(resting, StorageError)
        self.assertEqual(self.stored(), [])
        self.assertEqual(store._overlay.get(STATE, {}), {})

    async def test_failing(self) -> None:
        """A failed commit is counted and makes the store count as failing, until the next one succeeds."""
        counted: list[None] = []
        store = self.open(on_failed_commit=partial(counted.append, None))
        self.assertIsNone(store.failing)
        await failure_of(store.write((STATE, ("s", "wrong"), WRONG)), StorageError)
        self.assertIn("store.db: NOT NULL constraint failed", str(store.failing))
        await store.snapshot(lambda connection: None)
        self.assertIsNotNone(store.failing)
        await self.put(store, "k")
        self.assertIsNone(store.failing)
        self.assertEqual(len(counted), 1)

    async def test_failing_tries_again(self) -> None:
        """A store that is failing finds out by itself when it can commit again: perhaps nobody writes meanwhile."""
        clock, file = Clock(), self.directory / "store.db"
        store = self.open(clock=clock)
        aside = file.rename(self.directory / "aside")
        waiting = self.put(store, "k")
        clock.advance(0)
        await failure_of(waiting, StorageError)
        for _ in range(2):
            await self.trial(store, clock)
            self.assertIn("somebody has removed the file", str(store.failing))
        aside.rename(file)
        await self.trial(store, clock)
        self.assertIsNone(store.failing)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(self.stored(), [])

    async def trial(self, store: Store, clock: Clock) -> None:
        """Let the time until the next trial pass, and wait for its end."""
        (planned,) = clock.getDelayedCalls()
        clock.advance(TRIAL_INTERVAL - 0.1)
        self.assertTrue(planned.active())
        clock.advance(0.1)
        self.assertFalse(planned.active())
        ended = store.snapshot(lambda connection: None).addErrback(lambda _: None)
        clock.advance(0)
        await ended

    async def test_trial_writes(self) -> None:
        """A trial goes to the disk: its page is in the log, and the file says what it said."""
        store = self.open()
        await self.put(store, "k")
        log = self.directory / "store.db-wal"
        size, version = log.stat().st_size, store.read("PRAGMA user_version", ())
        await store.snapshot(store._file.try_to_write)
        self.assertGreater(log.stat().st_size, size)
        self.assertEqual(store.read("PRAGMA user_version", ()), version)

    async def test_failures_do_not_fill_the_log(self) -> None:
        """However many commits fail, few of them are logged."""
        store, logged = self.open(), []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        for _ in range(20):
            await failure_of(store.write((STATE, ("s", "wrong"), WRONG)), StorageError)
        texts = [formatEvent(event) for event in logged if event["log_level"] == LogLevel.error]
        self.assertIn("a commit has failed: NOT NULL constraint failed", texts[0])
        self.assertLess(len(texts), 10)

    async def test_defect_in_the_thread(self) -> None:
        """What fails in the writing thread unexpectedly fails its batch and is logged; the thread goes on."""
        store = self.open()
        await failure_of(self.put(store, "k", 2**70), StorageError)  # type: ignore[arg-type]  # no number of SQLite's
        self.assertEqual(len(self.flushLoggedErrors(OverflowError)), 1)
        await self.put(store, "after")
        self.assertEqual(self.stored(), [("after",)])

    async def test_cannot_be_measured(self) -> None:
        """A commit is answered also when the file cannot be measured after it, and the next one is committed."""
        store = self.open(max_bytes=100_000)
        store._writer._max_bytes = store._writer.bytes_used + 1  # nearly full: each commit is measured

        def measure(connection: sqlite3.Connection) -> int:
            raise sqlite3.OperationalError("disk I/O error")

        self.patch(store._writer, "_measure", measure)
        await self.put(store, "a")
        await self.put(store, "b")
        self.assertEqual(self.stored(), [("a",), ("b",)])

    async def test_connection_that_is_not_durable(self) -> None:
        """When SQLite offers no durable log for a while, whoever asks gets an error, and the thread goes on."""
        store = self.open()
        await failure_of(store.write((STATE, ("s", "wrong"), WRONG)), StorageError)  # the next one must connect
        self.patch(store._file, "_check_there", lambda: None)
        path, store._file.path = store._file.path, Path(":memory:")
        self.assertIn("durable", await failure_of(store.snapshot(lambda _: None), StorageError))
        self.assertIn("durable", await failure_of(self.put(store, "a"), StorageError))
        store._file.path = path
        await self.put(store, "b")
        self.assertEqual(self.stored(), [("b",)])

    async def test_snapshot(self) -> None:
        """A snapshot has all that is answered before it, and nothing that is answered later."""
        store = self.open()
        told: list[object] = []
        for number in range(20):
            self.put(store, f"k{number}").addCallback(lambda _, number=number: told.append(number))
            if number % 3 == 0:
                store.snapshot(
                    lambda connection: connection.execute("SELECT count(*) FROM state").fetchone()[0]
                ).addCallback(lambda count: told.append(("count", count)))
            if number % 5 == 0:
                await deferLater(reactor, 0)
        await store.snapshot(lambda connection: None)
        answered = 0
        for entry in told:
            if isinstance(entry, tuple):
                self.assertEqual(entry, ("count", answered))
            else:
                answered += 1
        self.assertEqual(answered, 20)

    async def test_read_between_answers(self) -> None:
        """What is read while the writes of a batch are answered is answered after the writes that it has seen."""
        store, told = self.open(), []

        def answered(_: object) -> None:
            told.append("first")
            pending = store.pending(STATE, ("s", "second"))
            assert pending is not None
            self.assertEqual(pending.values, (b"1",))
            pending.committed().addCallback(lambda _: told.append("read"))

        self.put(store, "first").addCallback(answered)
        await self.put(store, "second").addCallback(lambda _: told.append("second"))
        await deferLater(reactor, 0)
        self.assertEqual(told, ["first", "second", "read"])
        self.assertIsNone(store.pending(STATE, ("s", "second")))

    async def test_equal_snapshots(self) -> None:
        """What many want to read at one moment is read once; what is wanted after a write is read after it."""
        store, read = self.open(), []

        def count(connection: sqlite3.Connection) -> int:
            found: int = connection.execute("SELECT count(*) FROM state").fetchone()[0]
            read.append(found)
            return found

        readings = [store.snapshot(count) for _ in range(100)]
        self.assertEqual(set(await gatherResults(readings)), {0})
        self.assertEqual(read, [0])
        await self.put(store, "k")
        self.assertEqual(await store.snapshot(count), 1)

    async def test_snapshot_fails(self) -> None:
        """An error of a reader goes to whoever reads, and to nobody else."""
        store = self.open()
        reading = store.snapshot(lambda connection: connection.execute("SELECT nonsense"))
        waiting = self.put(store, "k")
        self.assertIn("nonsense", await failure_of(reading, StorageError))
        await waiting

    async def test_query(self) -> None:
        """A query has what was answered before; commits go on meanwhile."""
        store = self.open()
        await self.put(store, "before")
        going_on, committed = Event(), Event()

        def read(connection: sqlite3.Connection) -> object:
            going_on.set()
            self.assertTrue(committed.wait(10))
            return connection.execute("SELECT key FROM state ORDER BY key").fetchall()

        reading = store.query(read)
        await deferToThread(going_on.wait, 10)
        await self.put(store, "meanwhile")
        committed.set()
        self.assertEqual(await reading, [("before",), ("meanwhile",)])

    async def test_query_fails(self) -> None:
        """An error of a query goes to whoever asked, and the next one is answered."""
        store = self.open()
        failing = store.query(lambda connection: connection.execute("SELECT nonsense"))
        writing = store.query(lambda connection: connection.execute("DELETE FROM state"))
        self.assertIn("nonsense", await failure_of(failing, StorageError))
        self.assertIn("readonly", await failure_of(writing, StorageError))
        self.assertEqual(await store.query(lambda connection: 1), 1)

    async def test_query_at_the_stop(self) -> None:
        """What was asked for before the stop is answered, nothing later."""
        store = self.open()
        reading = store.query(lambda connection: connection.execute("SELECT count(*) FROM state").fetchone()[0])
        await self.close(store)
        self.assertEqual(await reading, 0)
        self.assertEqual(await failure_of(store.query(lambda _: None), StorageError), "the engine is stopping")

    async def test_backlog(self) -> None:
        """When too much waits to be written, more is refused; one write is taken, whatever its size."""
        store = self.open(backlog_bytes=1000)
        first = self.put(store, "large", b"1" * 5000)
        text = await failure_of(self.put(store, "k"), StoreBusy)
        self.assertEqual(text, "1000 bytes wait to be written already (`engine.limits.store_backlog_bytes`)")
        await gatherResults([first, store.record((STATE, ("s", "k0"), (b"2",)))])  # what has happened is not refused
        await self.put(store, "k")

    async def test_columns(self) -> None:
        """Some columns of a row are changed without the others; where there is no row, none is made."""
        store = self.open()
        columns = "state, attempts, interruptions, due_ms, failed_ms, error, data"
        row = ("i", "q", 0, 0, "", "default", "f", None, None, 0, 0, 0, 0, 0, "", b"1")
        await store.write((JOB, (1,), row), (JOB, (2,), row))
        await store.record((JOB_OUTCOME, (2,), (1, 2, 3, 4, 5, "e")), (JOB_OUTCOME, (3,), (1, 2, 3, 4, 5, "e")))
        found = store.read(f"SELECT position, {columns} FROM job", ())
        self.assertEqual(found, [(1, 0, 0, 0, 0, 0, "", b"1"), (2, 1, 2, 3, 4, 5, "e", b"1")])

    async def test_nothing_written(self) -> None:
        """That there was nothing to write does not show that the disk takes something again."""
        store = self.open()
        await failure_of(store.write((STATE, ("s", "k"), WRONG)), StorageError)
        await store.write()
        self.assertIsNotNone(store.failing)
        await self.put(store, "k")
        self.assertIsNone(store.failing)

    async def test_full(self) -> None:
        """When the file has reached its limit, writes are refused until something is removed."""
        store = self.open(max_bytes=300_000)
        kept = []
        with self.assertRaises(StoreFull) as refused:
            for number in range(1000):
                await self.put(store, f"k{number}", b"1" * 5000)
                kept.append(number)
        self.assertIn("engine.limits.store_bytes", str(refused.exception))
        self.assertLess(len(kept), 100)
        self.assertEqual(len(self.stored()), len(kept))
        await store.record((STATE, ("s", "k0"), (b"2",)))  # what has happened is written all the same
        self.assertEqual(self.stored("value")[0], (b"2",))
        for number in kept[:20]:
            await store.write((STATE, ("s", f"k{number}"), None))
        await self.put(store, "again", b"1" * 5000)

    async def test_stopping(self) -> None:
        """What was asked for before the stop is committed and answered; later writes are refused."""
        store, answered = self.open(), []
        for number in range(100):
            self.put(store, f"k{number}").addCallback(lambda _: answered.append(1))
        reading = store.snapshot(lambda connection: connection.execute("SELECT count(*) FROM state").fetchone()[0])
        await self.close(store)
        self.assertEqual((len(answered), await reading), (100, 100))
        self.assertEqual(await failure_of(self.put(store, "late"), StorageError), "the engine is stopping")
        self.assertEqual(await failure_of(store.snapshot(lambda _: None), StorageError), "the engine is stopping")
        self.assertEqual((self.directory / "lock").read_text(), "")
        self.assertFalse((self.directory / "store.db-wal").exists())

    async def test_stop_that_cannot_be_noted(self) -> None:
        """The engine stops, and leaves the store to others, also when the disk does not take the note of that."""
        store = self.open()
        await self.put(store, "k")

        def note(text: str) -> None:
            raise OSError(5, "Input/output error")

        self.patch(store._file, "_note", note)
        await self.close(store)
        self.open()
        self.assertEqual(self.stored(), [("k",)])

    async def test_the_log_begins_anew(self) -> None:
        """However much is written, the write-ahead log stays bounded."""
        store = self.open(backlog_bytes=2**30)
        for _ in range(12):
            await gatherResults([self.put(store, f"k{number}", b"1" * 20_000) for number in range(100)])
        self.assertLess((self.directory / "store.db-wal").stat().st_size, 15_000_000)
        self.assertEqual(len(self.stored()), 100)


class LostFileTests(StoreCase):
    async def lose(self, store: Store, text: str) -> None:
        """Every write fails with a text, what was committed can be read, and nothing takes the file's place."""
        for _ in range(2):
            self.assertIn(text, await failure_of(store.write((STATE, ("s", "late"), (b"1",))), StorageError))
        self.assertIn(text, await failure_of(store.snapshot(lambda connection: None), StorageError))
        self.assertEqual(store.read("SELECT key FROM state", ()), [("k",)])

    async def test_removed(self) -> None:
        """When somebody removes the file, nothing is acknowledged any more, and no empty one takes its place."""
        store = self.open()
        await store.write((STATE, ("s", "k"), (b"1",)))
        (self.directory / "store.db").unlink()
        await self.lose(store, "somebody has removed the file")
        self.assertFalse((self.directory / "store.db").exists())

    async def test_replaced(self) -> None:
        """Likewise when somebody puts another one there."""
        store = self.open()
        await store.write((STATE, ("s", "k"), (b"1",)))
        other = self.directory / "other"
        other.write_bytes((self.directory / "store.db").read_bytes())
        other.rename(self.directory / "store.db")
        await self.lose(store, "somebody has replaced the file")
