"""Tests for the tables in memory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.storage.errors import StorageError, StoreFull
from iii.storage.schema import STREAM
from iii.storage.volatile import VolatileStore

SELECT = "SELECT item, value FROM stream ORDER BY position"


def put(item: str, value: bytes | None) -> tuple[object, ...]:
    return STREAM, ("s", "g", item), None if value is None else (value,)


class VolatileStoreTests(SynchronousTestCase):
    def test_changes(self) -> None:
        """Rows are put, replaced and removed at once."""
        store = VolatileStore(2**20)
        self.successResultOf(store.write(put("a", b"1"), put("b", b"2")))
        self.successResultOf(store.write(put("a", b"3"), put("b", None)))
        self.assertEqual(store.read(SELECT, ()), [("a", b"3")])
        self.assertEqual(self.successResultOf(store.query(lambda file: file.execute(SELECT).fetchall())), [("a", b"3")])
        self.assertEqual(self.successResultOf(store.query(lambda file: file.execute(SELECT).fetchall())), [("a", b"3")])
        self.assertIsNone(store.pending(STREAM, ("s", "g", "a")))

    def test_all_or_nothing(self) -> None:
        """Changes of which one fails are not made."""
        store = VolatileStore(2**20)
        wrong = STREAM, ("s", "g", None), (b"1",)
        self.failureResultOf(store.write(put("a", b"1"), wrong), StorageError)
        self.assertEqual(store.read(SELECT, ()), [])
        self.successResultOf(store.write(put("a", b"1")))

    def test_full(self) -> None:
        """It takes no more than it may, says so, and takes more when something has been removed."""
        store = VolatileStore(2**20)
        self.successResultOf(store.write(put("a", bytes(700_000))))
        error = self.failureResultOf(store.write(put("b", bytes(700_000))), StoreFull).value
        self.assertIn("engine.limits.memory_store_bytes", str(error))
        self.successResultOf(store.write(put("a", None)))
        self.successResultOf(store.write(put("b", bytes(700_000))))

    def test_defect(self) -> None:
        """Also after a value that no row can hold, what comes next is written, and nothing of what came with it."""
        store = VolatileStore(2**20)
        self.failureResultOf(store.write(put("a", b"1"), put("b", 2**70)), OverflowError)  # type: ignore[arg-type]
        self.successResultOf(store.write(put("c", b"1")))
        self.assertEqual(store.read(SELECT, ()), [("c", b"1")])

    def test_cannot_read(self) -> None:
        """What cannot be read is told as with a file."""
        store = VolatileStore(2**20)
        self.assertRaises(StorageError, store.read, "SELECT nothing", ())
        self.failureResultOf(store.query(lambda file: file.execute("SELECT nothing")), StorageError)
