"""The embedded stores of values do what every store of values does."""

from __future__ import annotations

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from iii.storage import sqlite_values
from iii.storage.errors import StorageError
from iii.storage.memory import MemoryValues
from iii.storage.schema import STATE
from iii.storage.sqlite_values import SqliteValues
from tests.storage.case import CACHE_BYTES, StoreCase, failure_of
from tests.storage.values_contract import LIST_BYTES, ValuesContract


class MemoryValuesTests(ValuesContract, TestCase):
    def setUp(self) -> None:
        self.values = MemoryValues(2**30, LIST_BYTES)


class SqliteValuesTests(ValuesContract, StoreCase):
    def setUp(self) -> None:
        super().setUp()
        self.values = SqliteValues(self.open(backlog_bytes=2**26), STATE, LIST_BYTES, CACHE_BYTES)

    async def test_many_snapshots(self) -> None:
        """Snapshots of one collection at one moment are read once, but each gets a list of its own."""
        read = []
        self.patch(sqlite_values, "_rows", lambda text: read.append(text) or [("k", "1")])
        first, second, other = await gatherResults(
            [self.values.snapshot(("a",)), self.values.snapshot(("a",)), self.values.snapshot(("b",))]
        )
        self.assertEqual(first, [("k", b"1")])
        first.clear()
        self.assertEqual((second, other), ([("k", b"1")], [("k", b"1")]))
        self.assertEqual(len(read), 2)

    async def test_removed_twice_in_vain(self) -> None:
        """What is removed when it is being removed already shares the fate of that, also when it fails."""
        await self.values.put(("s",), "k", b"1")
        store = self.stores[0]
        first = self.values.delete(("s",), "k")
        second = self.values.delete(("s",), "k")
        wrong = store.write((STATE, ("s", "wrong"), (None,)))
        for failing in (first, second, wrong):
            await failure_of(failing, StorageError)
        self.assertEqual(await self.values.get(("s",), "k"), b"1")
