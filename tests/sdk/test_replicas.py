"""Two processes of one worker program, each stopped and started again in turn while calls keep coming."""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from functools import partial
from typing import Any, Literal

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall

from tests.integration.engine import EngineProcess
from tests.sdk.client import RemoteError
from tests.sdk.contract import Contract, Handle, on_each_sdk
from tests.sdk.environments import NEWEST
from tests.sdk.sdk import Sdk
from tests.sdk.stage import Worker

NAME = "twin"
ROUNDS = 2  # in which each replica is stopped once
EVERY = 0.02  # seconds between two calls
MOST_WORK = 0.2  # seconds that one takes
SEED = 20261125
Ending = Literal["stop", "kill"]


@attrs.define
class Asked:
    """One call of the load.  C{pid} is of the process that answered, C{error} the code or status without an answer."""

    key: str
    began: float
    ended: float = 0.0
    pid: int | None = None
    error: str | None = None


@attrs.define
class Replica:
    """
    One process.

    @ivar id: Of its connection.
    @ivar told: When it was told to end.
    @ivar gone: When the engine was seen to list it no longer.
    """

    worker: Worker
    pid: int
    id: str
    told: float = math.inf
    gone: float = math.inf

    def executed(self) -> list[str]:
        """The keys of the calls that it has begun to execute."""
        lines = self.worker.log.splitlines()
        return [line.split()[1] for line in lines if line.startswith("executing ")]


class Load:
    """A call every so often, by a worker through its SDK and over HTTP in turn, however long they take."""

    def __init__(self, case: Contract, caller: Handle) -> None:
        self._case, self._caller, self._dice = case, caller, random.Random(SEED)
        self.asked: list[Asked] = []
        self._running: list[Deferred[None]] = []
        self._loop = LoopingCall(self._next)

    def start(self) -> None:
        self._loop.start(EVERY)

    async def stop(self) -> None:
        """Begin no more calls, and wait until all have ended."""
        if self._loop.running:
            self._loop.stop()
        await gatherResults(self._running, consumeErrors=True)

    def _next(self) -> None:
        asked = Asked(f"{len(self.asked)}-of-the-load", time.monotonic())
        self.asked.append(asked)
        payload = {"key": asked.key, "seconds": self._dice.uniform(0, MOST_WORK)}
        way = self._call if len(self.asked) % 2 else self._visit
        self._running.append(Deferred.fromCoroutine(way(asked, payload)))

    async def _call(self, asked: Asked, payload: dict[str, Any]) -> None:
        try:
            asked.pid = (await self._caller.call(f"{NAME}::work", payload=payload))["pid"]
        except RemoteError as error:
            asked.error = error.code
        asked.ended = time.monotonic()

    async def _visit(self, asked: Asked, payload: dict[str, Any]) -> None:
        response = await self._case.request("POST", f"/{NAME}/visit", json=payload)
        said = await response.json() if response.code != 504 else None
        asked.ended = time.monotonic()
        if response.code == 200:
            asked.pid = said["pid"]
        else:
            asked.error = said["error"]["code"] if said else "504"


class ReplicasContract(Contract):
    """
    A call fails only if the engine had given it to a process which then ended.

    SDKs finish nothing when they are shut down: they close the connection at once, and whatever their handlers still
    answer is not sent.  So after SIGTERM as after SIGKILL the calls under way are lost, and nobody but their caller
    can say whether they may be made again; the other replica must not get them.
    """

    in_table = False

    sdk: Sdk

    async def setUp(self) -> None:
        self.require(self.sdk, NEWEST[0])
        self._engine = await EngineProcess.for_test(self, reactor)
        self.client = await self.connect(self._engine)
        self.caller = await self.start_worker(self._engine.url, NEWEST[0], "caller")
        await self.caller.worker.ready(self.client)
        self.started: list[Replica] = []
        self.replicas = [await self._start() for _ in range(2)]
        self.load = Load(self, self.caller)
        self.addCleanup(self.load.stop)

    @property
    def engine(self) -> EngineProcess:
        return self._engine

    async def test_stop(self) -> None:
        """Stopped with SIGTERM, as when a new version is rolled out."""
        await self._roll("stop")

    async def test_kill(self) -> None:
        """Ended with SIGKILL, as in a crash."""
        await self._roll("kill")

    async def _roll(self, ending: Ending) -> None:
        self.load.start()
        for _ in range(ROUNDS):
            for number in range(2):
                await self._each_answers()
                await self._end(self.replicas[number], ending)
                await self._answered_since(self.replicas[number].gone)
                self.replicas[number] = await self._start()
        await self._each_answers()
        await self.load.stop()
        self._judge()

    def _judge(self) -> None:
        executed_by = defaultdict(list)
        for replica in self.started:
            for key in replica.executed():
                executed_by[key].append(replica.pid)
        for asked in self.load.asked:
            where = executed_by[asked.key]
            if asked.error is None:
                self.assertEqual(where, [asked.pid], f"{asked} was executed once, by the process that answered")
                continue
            # The engine gives up a call when its worker is gone; over HTTP its time may be over before that.
            self.assertIn(asked.error, ("invocation_stopped", "504"), asked)
            ended = [each for each in self.started if asked.began < each.gone and asked.ended > each.told]
            overlapping = {replica.pid for replica in ended}
            self.assertTrue(overlapping, f"{asked} failed while nothing was stopped")
            # What the process had not read yet is in no log.
            self.assertTrue(len(where) <= 1 and overlapping.issuperset(where), f"{asked} was executed by {where}")

    async def _start(self) -> Replica:
        before = await self._ids()
        worker = (await self.start_worker(self._engine.url, self.sdk, NAME)).worker

        async def new_ids() -> set[str]:
            worker.check()
            return await self._ids() - before

        (new_id,) = await self.eventually("the replica is there", new_ids, 30)
        self.started.append(Replica(worker, worker.pid, new_id))
        return self.started[-1]

    async def _end(self, replica: Replica, ending: Ending) -> None:
        replica.told = time.monotonic()
        ended = Deferred.fromCoroutine(replica.worker.stop() if ending == "stop" else replica.worker.kill())

        async def is_gone() -> bool:
            return replica.id not in await self._ids()

        await self.eventually("the engine has noticed", is_gone)
        replica.gone = time.monotonic()
        await ended

    async def _ids(self) -> set[str]:
        """The replicas' connections that the engine lists."""
        rows = (await self.client.call("engine::workers::list", {"search": NAME}))["workers"]
        return {row["id"] for row in rows if row["name"] == NAME}

    async def _each_answers(self) -> None:
        """Wait until each of the replicas has answered a call of the load that began after this."""
        since = time.monotonic()
        for replica in self.replicas:
            await self.eventually("each answers", partial(self._answered, since, replica.pid))

    async def _answered_since(self, since: float) -> None:
        """Wait until the load has gone on for a while."""
        await self.eventually("calls are answered", partial(self._answered, since, None, 10))

    async def _answered(self, since: float, pid: int | None, count: int = 1) -> bool:
        fresh = [asked.pid for asked in self.load.asked if asked.began > since and asked.pid is not None]
        return len([found for found in fresh if pid in (None, found)]) >= count


globals().update(on_each_sdk(ReplicasContract, NEWEST))
