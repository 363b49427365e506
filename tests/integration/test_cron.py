"""Cron on real engines: what outlives one, and several on one Redis (spec/cron.md, 5)."""

from __future__ import annotations

import json
import os
import signal
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from iii.modules.cron.redis import RedisCronStore
from iii.storage.redis import RedisLink
from tests.integration.engine import EngineProcess
from tests.integration.process import ProcessFailed, eventually
from tests.integration.redis import RedisServer
from tests.modules.cron.store_contract import CronStoreContract
from tests.worker import Worker, connect

EVERY_SECOND = {"expression": "* * * * * *"}
TTL_MS = 3000


class RedisStoreTests(CronStoreContract, TestCase):
    """The contract of the stores, on a real server."""

    timeout = 60

    async def setUp(self) -> None:
        server = await RedisServer.for_test(self, reactor)
        link = RedisLink(server.url, reactor)
        link.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(link.stop()))
        self.store = RedisCronStore(link, reactor, 1000)
        self.now = int(reactor.seconds())

    async def pass_ttl(self) -> None:
        await deferLater(reactor, 1.1)


class CronCase(TestCase):
    timeout = 120

    async def worker(self, engine: EngineProcess, config: Any = None, *, answers: bool = True) -> Worker:
        """Return a worker that serves C{job} and keeps its calls; with a config, it registers a trigger for it."""
        worker: Worker = await connect(reactor, engine.worker_port)
        self.addCleanup(worker.close)
        worker.held = Answered(worker) if answers else []
        if config is not None:
            trigger = {"type": "registertrigger", "id": str(uuid.uuid4()), "trigger_type": "cron"}
            worker.sendMessage(json.dumps({**trigger, "function_id": "job", "config": config}).encode())
        await worker.serve("job")
        return worker

    async def eventually(self, what: str, check: Any, seconds: float = 20.0) -> Any:
        async def checked() -> Any:
            return check()

        return await eventually(reactor, what, checked, seconds)


class Answered(list[dict[str, Any]]):
    """Calls that a worker answers as they come, and keeps."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def append(self, call: dict[str, Any]) -> None:
        super().append(call)
        self._worker.answer(call)


class FileTests(CronCase):
    """With the embedded store."""

    async def start(self) -> EngineProcess:
        return await EngineProcess.for_test(self, reactor, [{"name": "iii-cron"}])

    async def test_one_shot_after_kill(self) -> None:
        """A job with C{at} survives C{kill -9} and runs, once, on the engine that comes after."""
        engine = await self.start()
        at = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
        await (await self.worker(engine, {"at": at})).call("engine::cron::list", {})
        await engine.kill()
        await engine.start()
        worker = await self.worker(engine)
        await self.eventually("the job has run", lambda: len(worker.held or ()) == 1)
        listing = await worker.call("engine::cron::list", {})
        self.assertEqual(listing["jobs"], [])
        await engine.stop()
        await engine.start()
        worker = await self.worker(engine, {"at": at})
        self.assertEqual((await worker.call("engine::cron::list", {}))["jobs"][0]["next_runs"], [])
        await deferLater(reactor, 1.5)
        self.assertEqual(worker.held, [])

    async def test_killed_each_second(self) -> None:
        """However often the engine is killed, no slot is run twice."""
        engine = await self.start()
        slots: list[str] = []
        for _ in range(3):
            worker = await self.worker(engine, EVERY_SECOND)
            await self.eventually("a slot was run", lambda worker=worker: len(worker.held or ()) >= 2)
            slots += [call["data"]["scheduled_time"] for call in worker.held or ()]
            await engine.kill()
            await engine.start()
        self.assertEqual(len(slots), len(set(slots)), slots)


class TwoEngineTests(CronCase):
    """Two engines on one Redis, with a replica of a worker on each; their triggers have different ids."""

    async def setUp(self) -> None:
        self.redis = await RedisServer.for_test(self, reactor)
        adapter = {"name": "redis", "config": {"redis_url": self.redis.url, "lock_ttl_ms": TTL_MS}}
        module = {"name": "iii-cron", "config": {"adapter": adapter}}
        self.engines = [await EngineProcess.for_test(self, reactor, [module]) for _ in range(2)]

    async def crew(self, config: Any, *, answers: bool = True) -> None:
        self.workers = [await self.worker(engine, config, answers=answers) for engine in self.engines]

    def calls(self, *indexes: int) -> list[dict[str, Any]]:
        return [call for index in indexes or (0, 1) for call in self.workers[index].held or ()]

    def slots(self, *indexes: int) -> list[str]:
        return sorted(call["data"]["scheduled_time"] for call in self.calls(*indexes))

    def check_once(self) -> None:
        slots = self.slots()
        self.assertEqual(len(slots), len(set(slots)), slots)

    async def more_slots(self, number: int, what: str) -> None:
        before = len(self.slots())
        await self.eventually(what, lambda: len(self.slots()) >= before + number)

    async def test_once_per_slot(self) -> None:
        """Each slot is run on one engine only."""
        await self.crew(EVERY_SECOND)
        await self.more_slots(6, "six slots were run")
        self.check_once()

    async def test_one_engine_goes(self) -> None:
        """When one engine is killed, the other goes on."""
        await self.crew(EVERY_SECOND)
        await self.more_slots(2, "two slots were run")
        await self.engines[0].kill()
        before = len(self.slots(1))
        await self.eventually("the other goes on", lambda: len(self.slots(1)) >= before + 3)
        self.check_once()

    async def test_redis_restarted(self) -> None:
        """While Redis is away nothing is run; when it is back, the engines go on, and no slot was run twice."""
        await self.crew(EVERY_SECOND)
        await self.more_slots(2, "two slots were run")
        await self.redis.kill()
        await deferLater(reactor, 2.5)
        await self.redis.start()
        await self.more_slots(3, "they go on")
        self.check_once()

    async def test_stopped_holder(self) -> None:
        """
        An engine that is stopped (SIGSTOP) while it runs a job loses the lock; the other runs the next slots.  Woken
        up, it neither releases the other's lock nor runs what was run.
        """
        await self.crew(EVERY_SECOND, answers=False)
        await self.eventually("a slot is run", lambda: self.calls())
        holder = 0 if self.calls(0) else 1
        other = 1 - holder
        self.assertEqual(self.calls(other), [])
        os.kill(self.engines[holder].pid, signal.SIGSTOP)
        self.addCleanup(os.kill, self.engines[holder].pid, signal.SIGCONT)
        await self.eventually("the other takes over", lambda: self.calls(other))
        (key,) = await self.redis.execute("KEYS", "cron_lock:*")  # type: ignore[misc]
        token = await self.redis.execute("GET", key)
        os.kill(self.engines[holder].pid, signal.SIGCONT)
        for call in self.calls(holder):
            self.workers[holder].answer(call)
        await self.workers[holder].call("engine::cron::list", {})  # it is awake, and has taken the answer
        await deferLater(reactor, 2 * TTL_MS / 1000)  # the other renews its lock meanwhile
        self.assertEqual(await self.redis.execute("GET", key), token)
        self.assertEqual(len(self.calls()), 2)
        for worker in self.workers:
            held, worker.held = worker.held or [], Answered(worker)
            for call in held:
                worker.held.append(call)
        await self.more_slots(2, "they go on")
        self.check_once()

    async def test_lock_during_restart(self) -> None:
        """A run that goes on while Redis is restarted keeps its lock, although Redis has forgotten everything."""
        await self.crew(EVERY_SECOND, answers=False)
        await self.eventually("a slot is run", lambda: self.calls())
        await self.redis.execute("FLUSHALL")
        await self.redis.kill()
        await self.redis.start()

        async def locked() -> bool:
            return bool(await self.redis.execute("KEYS", "cron_lock:*"))

        await eventually(reactor, "the lock is there again", locked)
        self.assertLessEqual(len(self.calls()), 2)  # one slot may fall between forgetting and renewing

    async def test_queue(self) -> None:
        """With C{overlap: queue}, runs on both engines come one after the other."""
        await self.crew({**EVERY_SECOND, "overlap": "queue"}, answers=False)
        await self.eventually("a slot is run", lambda: self.calls())
        await deferLater(reactor, 2.2)
        (first,) = self.calls()
        worker = next(worker for worker in self.workers if worker.held)
        worker.answer(first)
        await self.eventually("the next slot is run", lambda: len(self.calls()) == 2)
        await deferLater(reactor, 1.2)
        self.assertEqual(len(self.calls()), 2)
        self.check_once()

    async def test_pause(self) -> None:
        """A job that is paused on one engine is paused on both."""
        await self.crew(EVERY_SECOND)
        await self.more_slots(1, "a slot was run")
        (job,) = (await self.workers[0].call("engine::cron::list", {}))["jobs"]
        await self.workers[0].call("engine::cron::pause", {"id": job["id"]})
        (other,) = (await self.workers[1].call("engine::cron::list", {}))["jobs"]
        self.assertEqual((other["key"], other["paused"]), (job["key"], True))
        before = len(self.slots())
        await deferLater(reactor, 2.5)
        self.assertLessEqual(len(self.slots()), before + 1)  # one may have been claimed already
        await self.workers[1].call("engine::cron::resume", {"id": other["id"]})
        await self.more_slots(2, "it goes on")

    async def test_missed_once(self) -> None:
        """What was missed while all engines were down is run by one of them."""
        config = {"expression": "*/3 * * * * *", "missed": "once"}
        await self.crew(config)
        await self.more_slots(1, "a slot was run")
        for engine in self.engines:
            await engine.kill()
        slots = self.slots()
        await deferLater(reactor, 4)
        for engine in self.engines:
            await engine.start()
        await self.crew(config)
        await self.eventually("it is run", lambda: self.slots())
        histories = [await worker.call("engine::cron::list", {}) for worker in self.workers]
        key = histories[0]["jobs"][0]["key"]
        runs = [(await worker.call("engine::cron::history", {"id": key}))["runs"] for worker in self.workers]
        caught_up = [run for each in runs for run in each if run["outcome"] == "succeeded"]
        self.assertGreaterEqual(len(caught_up), 1)
        both = slots + self.slots()
        self.assertEqual(len(both), len(set(both)), both)


class StartTests(TestCase):
    timeout = 60

    async def test_no_redis(self) -> None:
        """Without its Redis, the engine does not start, and says why."""
        adapter = {"name": "redis", "config": {"redis_url": "redis://127.0.0.1:1"}}
        try:
            await EngineProcess.for_test(self, reactor, [{"name": "iii-cron", "config": {"adapter": adapter}}])
        except ProcessFailed as failed:
            self.assertIn("Failed to connect to Redis at redis://127.0.0.1:1", str(failed))
        else:
            self.fail("it has started")
        self._cleanups.clear()
