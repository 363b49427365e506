"""Tests for L{iii.modules.stream.local}, on each kind of values."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from iii.interfaces import IValues
from iii.modules.stream.events import Stamps, StreamEvent
from iii.modules.stream.local import LocalBackend
from iii.storage.memory import MemoryValues
from iii.storage.schema import STREAM
from iii.storage.sqlite_values import SqliteValues
from tests.modules.stream.contract import StreamBackendContract
from tests.storage.case import StoreCase


class LocalContract(StreamBackendContract):
    def use(self, values: IValues) -> None:
        self.told: list[StreamEvent] = []
        self.backend = LocalBackend(values, Stamps(reactor))
        self.backend.observer = self.told.append
        self.backend.start()


class MemoryTests(LocalContract, TestCase):
    def setUp(self) -> None:
        self.use(MemoryValues(10**6, 10**6))


class SqliteTests(LocalContract, StoreCase):
    def setUp(self) -> None:
        super().setUp()
        self.use(SqliteValues(self.open(), STREAM, 10**6, 10**6))
