from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from iii.modules.cron.store import FUTURE, KEPT, Claim, KvCronStore, MemoryRows, OneShot, OneShots, SqliteRows
from iii.storage.schema import CRON_JOB, CRON_ONE_SHOT
from iii.wire.messages import NULL
from tests.modules.cron.store_contract import CronStoreContract
from tests.storage.case import StoreCase

TTL_MS = 1000


class MemoryTests(CronStoreContract, TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1e9
        self.now = int(1e9)
        self.store = KvCronStore(MemoryRows(), self.clock, TTL_MS)
        self.store.start()

    async def pass_ttl(self) -> None:
        self.clock.advance(1.001)


class SqliteTests(CronStoreContract, StoreCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.clock.rightNow = 1e9
        self.now = int(1e9)
        self.file = self.open()
        self.store = self.of("cron_locks")

    def of(self, index: str) -> Any:
        store = KvCronStore(SqliteRows(self.file, CRON_JOB, index), self.clock, TTL_MS)
        store.start()
        return store

    async def pass_ttl(self) -> None:
        self.clock.advance(1.001)

    async def test_again(self) -> None:
        """What it knows is there when the store is opened again."""
        await self.claim(0)
        await self.store.pause("paused")
        await self.close(self.file)
        self.file = self.open()
        self.store = self.of("cron_locks")
        self.assertIs(await self.claim(0, "b"), Claim.DONE)
        self.assertIs(await self.claim(1, "b"), Claim.HELD)
        self.assertEqual(await self.store.paused(), {"paused"})

    async def test_index(self) -> None:
        """Under another name, nothing is known."""
        await self.claim(0)
        self.store = self.of("other")
        self.assertIs(await self.claim(0, "b"), Claim.TAKEN)

    async def test_old_jobs(self) -> None:
        """Jobs that have not run for more than a year are forgotten at the start, unless they are paused."""
        await self.claim(0)
        await self.claim(0, key="paused", exclusive=False)
        await self.store.pause("paused")
        self.clock.advance(KEPT + 1)
        self.store = self.of("cron_locks")
        self.assertIsNone(await self.store.last("job"))
        self.assertEqual(await self.store.paused(), {"paused"})
        await self.close(self.file)
        self.file = self.open()
        self.assertEqual([key for key, _ in SqliteRows(self.file, CRON_JOB, "cron_locks").load()], ["paused"])

    async def test_finished(self) -> None:
        """A job that ran once and is over is known for a day."""
        await self.claim(0)
        await self.store.finished("job")
        await self.store.finished("unknown")
        self.clock.advance(FUTURE - 1)
        self.store = self.of("cron_locks")
        self.assertIs(await self.claim(0), Claim.DONE)
        self.clock.advance(1)
        self.store = self.of("cron_locks")
        self.assertEqual(await self.store.last("job"), None)

    async def test_one_shots(self) -> None:
        """One-shots are there when the store is opened again, until they are forgotten."""
        wanted = OneShot("t", "f", "default", NULL, NULL)
        await OneShots(SqliteRows(self.file, CRON_ONE_SHOT, "i")).keep("k", wanted)
        await self.close(self.file)
        self.file = self.open()
        one_shots = OneShots(SqliteRows(self.file, CRON_ONE_SHOT, "i"))
        self.assertEqual([(key, found.function_id) for key, found in one_shots.load()], [("k", "f")])
        await one_shots.forget("k")
        self.assertEqual(one_shots.load(), [])
