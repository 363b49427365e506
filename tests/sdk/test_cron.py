"""Cron jobs of workers on published SDKs (spec/cron.md, 1 and 4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet import reactor

from tests.integration.engine import EngineProcess
from tests.integration.redis import RedisServer
from tests.sdk.contract import Contract, Handle, needs, on_each_sdk
from tests.sdk.environments import NEWEST
from tests.sdk.sdk import Ability, Sdk


class CronContract(Contract):
    sdk: Sdk
    in_table = False

    async def setUp(self) -> None:
        self.require(self.sdk)
        self._engine = await EngineProcess.for_test(self, reactor, [{"name": "iii-cron"}])
        self.client = await self.connect(self._engine)
        self.worker = await self.start()

    @property
    def engine(self) -> EngineProcess:
        return self._engine

    async def start(self, name: str = "worker") -> Handle:
        worker = await self.start_worker(self._engine.url, self.sdk, name)
        await worker.worker.ready(self.client)
        return worker

    async def schedule(self, worker: Handle, function: str = "worker::watch", **config: Any) -> None:
        await worker.do("register_trigger", key="job", type="cron", function_id=function, config=config)

    async def slots(self, worker: Handle) -> list[str]:
        return [each["data"]["scheduled_time"] for each in await worker.received("watch")]

    async def has_slots(self, worker: Handle, number: int) -> bool:
        return len(await self.slots(worker)) >= number

    async def jobs(self) -> list[Any]:
        jobs: list[Any] = (await self.client.call("engine::cron::list", {}))["jobs"]
        return jobs

    async def test_job(self) -> None:
        """A worker is called each second, until it unregisters."""
        await self.schedule(self.worker, expression="* * * * * *")
        await self.eventually("it was called twice", lambda: self.has_slots(self.worker, 2))
        (job,) = await self.jobs()
        for each in await self.worker.received("watch"):
            data = each["data"]
            self.assertEqual(set(data) - {"_caller_worker_id"}, {"trigger", "job_id", "scheduled_time", "actual_time"})
            self.assertEqual((data["trigger"], data["job_id"]), ("cron", job["id"]))
        await self.worker.do("unregister", key="job")
        await self.eventually("the job has ended", self.none)
        slots = await self.slots(self.worker)
        self.assertEqual(len(slots), len(set(slots)))

    async def none(self) -> bool:
        return not await self.jobs()

    @needs(Ability.REFUSAL_HEARD)
    async def test_refusal(self) -> None:
        """A worker logs why its expression is refused."""
        await self.schedule(self.worker, expression="0 0 25 * * *")

        async def told() -> bool:
            return "hour: 25 is not a value from 0 to 23" in self.worker.worker.log

        await self.eventually("the worker logs it", told)
        self.assertEqual(await self.jobs(), [])

    async def test_replicas(self) -> None:
        """Two replicas that schedule the same have one job, and share its runs."""
        other = await self.start("other")
        await self.schedule(self.worker, expression="* * * * * *")
        await self.schedule(other, expression="* * * * * *")
        await self.eventually("it was called", lambda: self.has_slots(self.worker, 3))
        slots = await self.slots(self.worker)
        self.assertEqual(len(slots), len(set(slots)))
        self.assertEqual(len(await self.jobs()), 1)
        await other.worker.stop()
        await self.eventually("it goes on", lambda: self.has_slots(self.worker, len(slots) + 2))

    async def test_engine_killed(self) -> None:
        """When the engine comes back after C{kill -9}, the SDK registers the job again, and it goes on."""
        await self.schedule(self.worker, expression="* * * * * *")
        await self.eventually("it was called", lambda: self.has_slots(self.worker, 2))
        await self._engine.kill()
        await self._engine.start()
        self.client = await self.connect(self._engine)
        self.worker = self.worker.with_client(self.client)
        await self.worker.worker.ready(self.client)
        before = len(await self.slots(self.worker))
        await self.eventually("it goes on", lambda: self.has_slots(self.worker, before + 2))
        slots = await self.slots(self.worker)
        self.assertEqual(len(slots), len(set(slots)))

    async def test_one_shot(self) -> None:
        """A job with C{at} runs on the process that has taken the place of the one that scheduled it."""
        at = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
        await self.schedule(self.worker, at=at)
        await self.eventually("the job is there", self.jobs)
        await self.worker.worker.stop()
        self.worker = await self.start()
        await self.eventually("it has run", lambda: self.has_slots(self.worker, 1))
        await self.eventually("it has gone", self.none)
        self.assertEqual(len(await self.slots(self.worker)), 1)


class SharedCronContract(Contract):
    """Two engines on one Redis, with a replica of a worker on each."""

    sdk: Sdk
    in_table = False

    async def setUp(self) -> None:
        self.require(self.sdk)
        self.redis = await RedisServer.for_test(self, reactor)
        adapter = {"name": "redis", "config": {"redis_url": self.redis.url}}
        self.workers: list[Handle] = []
        for name in ("one", "two"):
            engine = await EngineProcess.for_test(self, reactor, [{"name": "iii-cron", "config": {"adapter": adapter}}])
            self.client = await self.connect(engine)
            worker = await self.start_worker(engine.url, self.sdk, name)
            await worker.worker.ready(self.client)
            self.workers.append(worker)
            # What a job is known by: the function must have one name on both.
            await worker.do("register_function", id="job")
            config = {"expression": "* * * * * *"}
            await worker.do("register_trigger", key="job", type="cron", function_id="job", config=config)
        (job,) = await self.eventually("the job is there", self.jobs)
        self.key = job["key"]  # the same on both

    async def jobs(self) -> list[Any]:
        jobs: list[Any] = (await self.client.call("engine::cron::list", {}))["jobs"]
        return jobs

    async def runs(self) -> list[str]:
        """The slots that were run, on whichever engine."""
        found: list[str] = []
        for worker in self.workers:
            history = await worker.call("engine::cron::history", payload={"id": self.key})
            found += [run["scheduled_time"] for run in history["runs"] if run["outcome"] == "succeeded"]
        return found

    async def test_redis_restarted(self) -> None:
        """Each time is run on one engine; that goes on when Redis was killed and has come back."""
        await self.eventually("it has run", lambda: self.more_than(2))
        await self.redis.kill()
        await self.eventually("runs fail meanwhile", self.failed)
        await self.redis.start()
        before = len(await self.runs())
        await self.eventually("it goes on", lambda: self.more_than(before + 2))
        runs = await self.runs()
        self.assertEqual(len(runs), len(set(runs)))

    async def more_than(self, number: int) -> bool:
        return len(await self.runs()) > number

    async def failed(self) -> bool:
        history = await self.workers[0].call("engine::cron::history", payload={"id": self.key})
        return any("no lock" in (run["reason"] or "") for run in history["runs"])


globals().update(on_each_sdk(CronContract, NEWEST), **on_each_sdk(SharedCronContract, NEWEST))
