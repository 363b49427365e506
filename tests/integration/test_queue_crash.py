"""
What queues and topics have acknowledged survives SIGKILL of the engine and of workers (spec/queue.md, 16).

Producers enqueue and publish; workers, processes of their own, note what they do before they do it
(C{queue_worker.py}).  At random moments the engine, a worker, or both are killed.  Then what was acknowledged is
compared with what was delivered.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration import queue_worker
from tests.integration.engine import EngineProcess
from tests.integration.process import ChildProcess, eventually
from tests.integration.queue_worker import DOOM, DOOMED, JOB, STARTED, SUBSCRIBERS, SUCCEEDED, TOPIC, own_job
from tests.sdk.client import Client, connect

SOAK = bool(os.environ.get("III_SOAK"))
ROUNDS = 1000 if SOAK else 50
ROUNDS_UNTIL_CHECK = 10
PRODUCERS = 8
WORKERS = ("ann", "bob", "eve")
LONGEST_BURST = 4
DRAIN_SECONDS = 120.0
ROOT = Path(queue_worker.__file__).resolve().parents[2]
PLAIN, FIFO, DEAD = "crash-plain", "crash-fifo", "crash-dead"
NEVER_DEAD = {"max_retries": 10**6, "backoff_ms": 1}
QUEUES = [
    {
        "name": "iii-queue",
        "config": {
            "queue_configs": {
                PLAIN: {**NEVER_DEAD, "concurrency": 16},
                FIFO: {**NEVER_DEAD, "concurrency": 8, "type": "fifo", "message_group_field": "group"},
                DEAD: {"max_retries": 2, "backoff_ms": 1},
            }
        },
    }
]


class Producer:
    """
    Enqueues and publishes until its connection is cut or it is told to stop, a burst at a time.

    Keys are numbered in the order in which their jobs were sent on one connection: C{PRODUCER/KIND/NUMBER}.

    @ivar acknowledged: The keys whose jobs were acknowledged, by kind.
    @ivar receipts: What the dead letters of doomed jobs must be called.
    @ivar stopped: Make no further burst.
    """

    def __init__(self, number: int, chance: random.Random) -> None:
        self.acknowledged: defaultdict[str, list[str]] = defaultdict(list)
        self.receipts: dict[str, str] = {}
        self.stopped = False
        self._number, self._chance = number, chance
        self._numbers: Counter[str] = Counter()

    async def run(self, client: Client) -> None:
        self.stopped = False
        kinds = (self._plain, self._fifo, self._fifo, self._doomed, self._publish)
        while not self.stopped:
            kind = self._chance.choice(kinds)
            # All of them are sent before the first is answered.
            burst = [Deferred.fromCoroutine(kind(client)) for _ in range(self._chance.randint(1, LONGEST_BURST))]
            for succeeded, failure in await DeferredList(burst, consumeErrors=True):
                if not succeeded and failure.check(ConnectionClosed):
                    return
                if not succeeded:
                    failure.raiseException()
            await deferLater(reactor, self._chance.uniform(0.0, 0.02))

    async def _plain(self, client: Client) -> None:
        key = self._key(PLAIN)
        await client.enqueue(PLAIN, self._function(), {"key": key})
        self.acknowledged[PLAIN].append(key)

    async def _fifo(self, client: Client) -> None:
        kind = f"{FIFO}-{self._chance.randrange(3)}"
        key = self._key(kind)
        await client.enqueue(FIFO, self._function(), {"key": key, "group": f"{self._number}/{kind}"})
        self.acknowledged[kind].append(key)

    async def _doomed(self, client: Client) -> None:
        key = self._key(DEAD)
        self.receipts[key] = await client.enqueue(DEAD, DOOMED, {"key": key})

    async def _publish(self, client: Client) -> None:
        key = self._key(TOPIC)
        await client.call("iii::durable::publish", {"topic": TOPIC, "data": {"key": key}})
        self.acknowledged[TOPIC].append(key)

    def _function(self) -> str:
        return self._chance.choice((JOB, own_job(self._chance.choice(WORKERS))))

    def _key(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{self._number}/{kind}/{self._numbers[kind]}"


class Deliveries:
    """
    What the workers have noted, each line read once.

    @ivar succeeded: Function and key of each delivery that has ended well.
    @ivar count: How many jobs in groups have been started.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self.succeeded: set[tuple[str, str]] = set()
        self.count = 0
        self._last: dict[tuple[int, str], int] = {}

    def check(self, acknowledged: set[str]) -> list[str]:
        """
        Read what is new, and return where a group was not in order.

        In one life of the engine a group never goes back; and no job starts before each earlier one of its group that
        was acknowledged has succeeded.

        @param acknowledged: The keys of jobs in groups that are not known to have succeeded, and newer ones.
        """
        open_jobs: defaultdict[str, set[int]] = defaultdict(set)
        for key in acknowledged:
            group, number = _place(key)
            open_jobs[group].add(number)
        wrong = []
        for epoch, what, function_id, key in self._new():
            if what == STARTED and FIFO in key:
                self.count += 1
                group, number = _place(key)
                if self._last.get((epoch, group), 0) > number:
                    wrong.append(f"{key} started after {self._last[epoch, group]} of its group")
                if overtaken := [each for each in open_jobs[group] if each < number]:
                    wrong.append(f"{key} started before {overtaken} of its group had succeeded")
                self._last[epoch, group] = number
            elif what == SUCCEEDED:
                self.succeeded.add((function_id, key))
                if FIFO in key:
                    group, number = _place(key)
                    open_jobs[group].discard(number)
        return wrong

    def _new(self) -> list[tuple[int, str, str, str]]:
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        return [tuple(json.loads(line)) for line in data.splitlines()]


def _place(key: str) -> tuple[str, int]:
    group, _, number = key.rpartition("/")
    return group, int(number)


class CrashTests(TestCase):
    timeout = 14400

    async def test_killed_under_load(self) -> None:
        """
        Engine and workers killed at any moment, many times: every acknowledged job is done, no group of a FIFO queue
        runs out of order, no job is there twice, dead letters are complete, and the file is sound.
        """
        self.seed = random.randrange(2**32)
        self.chance = random.Random(self.seed)
        self.engine = EngineProcess(reactor, Path(self.mktemp()).resolve(), QUEUES)
        self.addCleanup(self.engine.kill)
        self.epoch = 0
        await self._start_engine()
        self.workers: dict[str, ChildProcess] = {}
        self.addCleanup(lambda: gatherResults([Deferred.fromCoroutine(each.kill()) for each in self.workers.values()]))
        for name in WORKERS:
            self._start_worker(name)
        await eventually(reactor, "the topic has its subscribers", self._subscribed, 30)
        self.producers = [Producer(number, self.chance) for number in range(PRODUCERS)]
        self.deliveries = Deliveries(self.engine.directory / "deliveries")
        for number in range(1, ROUNDS + 1):
            await self._round(number)
        done = len(self.deliveries.succeeded)
        self.assertGreater(done, 10 * ROUNDS)
        self.assertGreater(self.deliveries.count, ROUNDS)
        self.assertGreater(sum(len(producer.receipts) for producer in self.producers), ROUNDS)
        await self.client.close()

    async def _round(self, number: int) -> None:
        check = number % ROUNDS_UNTIL_CHECK == 0
        running = [Deferred.fromCoroutine(producer.run(self.client)) for producer in self.producers]
        await deferLater(reactor, self.chance.uniform(0.0, 0.3))
        worker, engine = (False, True) if check else self.chance.choice(((True, False), (False, True), (True, True)))
        if worker:
            await self._replace_worker(self.chance.choice(WORKERS))
        if engine:
            await self.engine.kill()
        for producer in self.producers:
            producer.stopped = True
        await gatherResults(running)
        if check:
            self._check_file()
        if engine:
            await self._start_engine()
        if check:
            await self._check_deliveries(f"seed {self.seed}, round {number}")

    async def _replace_worker(self, name: str) -> None:
        await self.workers[name].kill()
        self._start_worker(name)

    async def _start_engine(self) -> None:
        self.epoch += 1
        (self.engine.directory / "epoch").write_text(str(self.epoch))
        await self.engine.start()
        self.client = await connect(reactor, self.engine.worker_port)

    def _start_worker(self, name: str) -> None:
        directory = self.engine.directory
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        process = self.workers[name] = ChildProcess(reactor, f"the worker {name}", directory / f"{name}.log")
        command = [sys.executable, "-m", "tests.integration.queue_worker", str(self.engine.worker_port), name]
        process.start(command, directory, variables)

    async def _subscribed(self) -> bool:
        for worker in self.workers.values():
            worker.check()
        query = {"trigger_type": "durable:subscriber"}
        listed = await self.client.call("engine::registered-triggers::list", query)
        return {row["function_id"] for row in listed["registered_triggers"]} == set(SUBSCRIBERS)

    async def _drained(self) -> bool:
        for worker in self.workers.values():
            worker.check()
        for name in (PLAIN, FIFO, DEAD, TOPIC):
            if (await self.client.call("engine::queue::jobs", {"queue": name, "state": "ready", "limit": 1})) or (
                await self.client.call("engine::queue::jobs", {"queue": name, "state": "delayed", "limit": 1})
            ):
                return False
            stats = await self.client.call("engine::queue::topic_stats", {"topic": name})
            if stats["depth"]:
                return False
        return True

    async def _check_deliveries(self, when: str) -> None:
        """Let the workers do all that waits, and compare what they did with what was acknowledged."""
        await eventually(reactor, f"all jobs are done ({when})", self._drained, DRAIN_SECONDS)
        in_groups, missing = set(), []
        for producer in self.producers:
            for kind, keys in producer.acknowledged.items():
                in_groups.update(keys if kind.startswith(FIFO) else ())
        self.assertEqual(self.deliveries.check(in_groups), [], when)
        done = {key for _, key in self.deliveries.succeeded}
        for producer in self.producers:
            for kind, keys in producer.acknowledged.items():
                if kind == TOPIC:
                    missing += [
                        (f, key) for key in keys for f in SUBSCRIBERS if (f, key) not in self.deliveries.succeeded
                    ]
                else:
                    missing += [key for key in keys if key not in done]
            producer.acknowledged.clear()
        self.assertEqual(missing, [], when)
        await self._check_dead_letters(when)

    async def _check_dead_letters(self, when: str) -> None:
        letters: list[dict[str, Any]] = []
        while page := await self.client.call(
            "engine::queue::dlq_messages", {"topic": DEAD, "offset": len(letters), "limit": 500}
        ):
            letters += page
        keys = Counter(letter["payload"]["key"] for letter in letters)
        self.assertEqual([key for key, count in keys.items() if count > 1], [], when)
        found = {letter["payload"]["key"]: letter for letter in letters}
        for producer in self.producers:
            for key, receipt in producer.receipts.items():
                self.assertIn(key, found, when)
                self.assertEqual(found[key]["id"], receipt, when)
        for letter in letters:
            self.assertIn(DOOM, letter["error"], when)
            self.assertEqual(letter["retries"], 2, when)
        for name in (PLAIN, FIFO, TOPIC):
            stats = await self.client.call("engine::queue::topic_stats", {"topic": name})
            self.assertEqual(stats["dlq_depth"], 0, f"{name}, {when}")

    def _check_file(self) -> None:
        """Check a copy of the file as the crash has left it: it is sound, and has no job twice, in whatever states."""
        copy = Path(self.mktemp()).resolve()
        shutil.copytree(self.engine.directory / "data", copy)
        with contextlib.closing(sqlite3.connect(copy / "store.db")) as connection:
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            jobs = connection.execute("SELECT queue, id, data FROM job").fetchall()
        shutil.rmtree(copy)
        for what, found in (
            ("id", Counter((queue, id) for queue, id, _ in jobs)),
            ("key", Counter((queue, json.loads(data)["key"]) for queue, _, data in jobs)),
        ):
            self.assertEqual([each for each, count in found.items() if count > 1], [], what)
