"""The embedded stores of values do what every store of values does."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from iii.storage.memory import MemoryValues
from iii.storage.schema import STATE
from iii.storage.sqlite_values import SqliteValues
from tests.storage.case import CACHE_BYTES, StoreCase
from tests.storage.values_contract import LIST_BYTES, ValuesContract


class MemoryValuesTests(ValuesContract, TestCase):
    def setUp(self) -> None:
        self.values = MemoryValues(2**30, LIST_BYTES)


class SqliteValuesTests(ValuesContract, StoreCase):
    def setUp(self) -> None:
        super().setUp()
        self.values = SqliteValues(self.open(backlog_bytes=2**26), STATE, LIST_BYTES, CACHE_BYTES)
