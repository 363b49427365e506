"""Workers that do not read, on real sockets (DESIGN.md, 4: nothing can deadlock, and a worker that blocks survives)."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.engine import EngineProcess
from tests.sdk.client import RemoteError
from tests.sdk.environments import SDKS
from tests.sdk.stage import Worker as SdkWorker
from tests.worker import Worker, connect

CALLS, SIZE = 200, 256 * 1024
TIMEOUT = 60


class MutualCallsTests(TestCase):
    timeout = TIMEOUT

    async def setUp(self) -> None:
        self.engine = await EngineProcess.for_test(self, reactor)
        self.a, self.b, self.c = [await self.worker(name) for name in "abc"]

    async def worker(self, name: str) -> Worker:
        worker = await connect(reactor, self.engine.worker_port)
        self.addCleanup(worker.close)
        await worker.serve(name)
        return worker

    async def test_full_in_both_directions(self) -> None:
        """
        Two workers call each other with far more than their buffers hold and read nothing meanwhile.  A third one does
        not notice; each call ends, those that found no room with an error that says so; then both work as before.
        """
        for worker in (self.a, self.b):
            worker.transport.pauseProducing()
        data = {"text": "x" * SIZE}
        calls = [caller.call(callee, data) for _ in range(CALLS) for caller, callee in ((self.a, "b"), (self.b, "a"))]
        ended = DeferredList([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)
        for number in range(50):
            self.assertEqual((await self.c.call("c", number))["got"], number)
            await deferLater(reactor, 0.01)
        for worker in (self.a, self.b):
            worker.transport.resumeProducing()
        outcomes = {"answered": 0, "refused": 0}
        for success, outcome in await ended:
            if success:
                self.assertEqual(len(outcome["got"]["text"]), SIZE)
                outcomes["answered"] += 1
            else:
                self.assertIsNotNone(outcome.check(RemoteError), outcome)
                self.assertEqual(outcome.value.code, "worker_overloaded")
                self.assertIn("does not read", str(outcome.value))
                outcomes["refused"] += 1
        self.assertGreater(outcomes["answered"], 0)
        self.assertGreater(outcomes["refused"], 0)  # else nothing was full, and this test shows nothing
        for caller, callee in ((self.a, "b"), (self.b, "a")):
            self.assertEqual((await caller.call(callee, 1))["got"], 1)


class BlockedWorkerTests(TestCase):
    timeout = TIMEOUT

    async def test_blocked(self) -> None:
        """A worker whose process stands still answers what came meanwhile when it goes on; it is not cut off."""
        engine = await EngineProcess.for_test(self, reactor, settings={"ping_interval_ms": 1000})
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        worker = SdkWorker(reactor, SDKS[0], "worker", directory)
        worker.start(engine.url)
        self.addCleanup(worker.kill)
        await worker.ready(client)
        before = await self.worker_id(client)
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            calls = [Deferred.fromCoroutine(client.call("worker::echo", {"number": number})) for number in range(20)]
            await deferLater(reactor, 5)  # several pings
            self.assertFalse(any(call.called for call in calls))
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        answers = [await call for call in calls]
        self.assertEqual([answer["number"] for answer in answers], list(range(20)))
        self.assertEqual(await self.worker_id(client), before)

    async def worker_id(self, client: Worker) -> Any:
        info = await client.call("engine::workers::info", {"name": "worker"})
        return info["worker"]["id"]
