"""
Random histories of the embedded store, in which commits fail now and then: what was answered must be what a plain
dictionary would have answered, had only the changes been made that succeeded.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections import deque
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from iii.storage import sqlite
from iii.storage.errors import StorageError
from iii.storage.file import StoreFile
from iii.storage.schema import STREAM
from iii.storage.sqlite import Store
from iii.storage.sqlite_values import SqliteValues
from iii.storage.writer import Outcome, Writer
from tests.storage.case import CACHE_BYTES, LIST_BYTES, StoreCase

HISTORIES = 400 if os.environ.get("III_SOAK") else 40
COLLECTIONS = [("a", "x"), ("a", "y"), ("", ""), ("a:x", "y")]
KEYS = ["k", "", "k\0", "é"]


class FailingWriter(Writer):
    """
    A writer whose commits fail by chance, before anything is written or instead of the last step.

    @ivar chance: Of C{random}; C{None}: none fails.
    """

    chance: random.Random | None = None

    def _commit(self, outcome: Outcome) -> None:
        if self.chance is not None and outcome.batch.rows and self.chance.random() < 0.15:
            table, rows = next(iter(outcome.batch.rows.items()))
            wrong = (None,) * (len(table.key) + len(table.values))
            rows[("wrong",)] = wrong  # the table refuses nulls
        super()._commit(outcome)


class SlowReports:
    """Takes what the writing thread says to the reactor's thread in order, one thing at a time, and late."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._said = chance, deque[Any]()

    def from_thread(self, *call: Any) -> None:
        self._said.append(call)
        reactor.callFromThread(reactor.callLater, self._chance.choice((0, 0, 0.001)), self._take)

    def _take(self) -> None:
        function, *arguments = self._said.popleft()
        function(*arguments)


@attrs.define
class Step:
    """One thing that was asked for, and what came of it."""

    kind: str
    place: tuple[tuple[str, str], str]
    value: bytes | None = None
    result: Any = None
    failed: bool = False


class HistoryTests(StoreCase):
    timeout = 600

    async def test_histories(self) -> None:
        """Answers, final content and its order are those of the changes that succeeded, in the order of asking."""
        seen_failures = 0
        for number in range(HISTORIES):
            seed = random.randrange(2**32)
            try:
                seen_failures += await self.history(random.Random(seed), failing=number % 2 == 1)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
        self.assertGreater(seen_failures, HISTORIES)

    def setUp(self) -> None:
        super().setUp()
        self.patch(sqlite, "Writer", FailingWriter)

    async def history(self, chance: random.Random, *, failing: bool) -> int:

        self.directory = Path(self.mktemp()).resolve()
        reports = SlowReports(chance)
        store = Store(StoreFile(self.directory), reactor, reports.from_thread, max_bytes=2**30, backlog_bytes=2**20)
        store._writer.chance = chance if failing else None
        store.startService()
        values = SqliteValues(store, STREAM, LIST_BYTES, chance.choice((0, 2000, CACHE_BYTES)))
        steps: list[Step] = []
        waiting: list[Deferred[None]] = []
        for _ in range(chance.randrange(1, 150)):
            step = Step(
                chance.choice(("put", "put", "put", "delete", "get")), (chance.choice(COLLECTIONS), chance.choice(KEYS))
            )
            if step.kind == "put":
                step.value = b'"%d"' % chance.randrange(1000)
            steps.append(step)
            waiting.append(self.do(values, step))
            if chance.random() < 0.2:
                await deferLater(reactor, chance.choice((0, 0, 0.001)))
        await DeferredList(waiting)
        model = self.replay(steps, exact=not failing)
        store._writer.chance = None
        for collection in COLLECTIONS:
            expected = [(key, value) for (where, key), value in model.items() if where == collection]
            self.assertEqual(await values.items(collection), expected)
            self.assertEqual(await values.snapshot(collection), expected)
        collections = sorted({where for where, _ in model})
        self.assertEqual(await values.collections(), collections)
        self.assertEqual(await values.collections(("a",)), [each for each in collections if each[0] == "a"])
        await store.stopService()
        connection = sqlite3.connect(self.directory / "store.db")
        rows = connection.execute("SELECT stream, item_group, item, value FROM stream ORDER BY position").fetchall()
        connection.close()
        self.assertEqual(rows, [(*where, key, value) for (where, key), value in model.items()])
        return sum(step.failed for step in steps)

    def do(self, values: SqliteValues, step: Step) -> Deferred[None]:
        def answered(result: Any) -> None:
            step.result = result

        def failed(failure: Any) -> None:
            failure.trap(StorageError)
            step.failed = True

        asked = {
            "put": lambda: values.put(*step.place, step.value or b""),
            "delete": lambda: values.delete(*step.place),
            "get": lambda: values.get(*step.place),
        }[step.kind]()
        return asked.addCallbacks(answered, failed)

    def replay(self, steps: list[Step], *, exact: bool) -> dict[Any, bytes]:
        """
        Apply to a dictionary what has succeeded.

        @param exact: No commit has failed, so that what was read is certain, too.
        """
        model: dict[Any, bytes] = {}
        for number, step in enumerate(steps):
            if step.failed:
                self.assertFalse(exact, f"step {number} failed")
                continue
            if step.kind != "get" or exact:
                self.assertEqual(step.result, model.get(step.place), f"step {number}: {step}")
            if step.kind == "put":
                assert step.value is not None
                model[step.place] = step.value
            elif step.kind == "delete":
                model.pop(step.place, None)
        return model
