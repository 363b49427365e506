"""Queues in a real engine: across a crash, across an orderly stop, and with the configurations that are refused."""

from __future__ import annotations

import json
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

from tests.integration.engine import EngineProcess
from tests.integration.process import eventually
from tests.sdk.client import RemoteError
from tests.worker import Worker, connect

QUEUES = {
    "one": {"concurrency": 1, "backoff_ms": 10, "max_retries": 1},
    "payment": {"type": "fifo", "message_group_field": "account"},
}


class QueueTests(TestCase):
    timeout = 120

    async def start(self, settings: dict[str, Any] | None = None, **config: Any) -> None:
        module = {"name": "iii-queue", "config": {"queue_configs": QUEUES, **config}}
        self.engine = await EngineProcess.for_test(self, reactor, [module], settings)
        await self.connect()

    async def connect(self) -> None:
        self.worker: Worker = await connect(reactor, self.engine.worker_port)
        self.worker.held = []
        self.addCleanup(self.worker.sendClose)

    async def enqueue(self, data: Any, queue: str = "one") -> str:
        call = {"queue": queue, "function_id": "f", "data": data}
        answer = await self.worker.call("engine::queue::enqueue", call)
        receipt: str = answer["messageReceiptId"]
        return receipt

    async def held(self, count: int) -> list[Any]:
        """Wait until so many jobs have come, and return their payloads."""

        async def come() -> bool:
            return len(self.worker.held or []) >= count

        await eventually(reactor, f"{count} jobs come", come, 20)
        return [call["data"] for call in self.worker.held or []]

    async def test_crash(self) -> None:
        """What was acknowledged is there after SIGKILL, what ran runs again, and groups keep their order."""
        await self.start()
        for number in range(3):
            await self.enqueue({"n": number})
            await self.enqueue({"account": "a", "n": number}, "payment")
        await self.worker.serve("f")
        await self.held(2)
        await self.engine.kill()
        await self.engine.start()
        await self.connect()
        await self.worker.serve("f")
        for number in range(3):
            found = await self.held(2 * number + 2)
            for call in self.worker.held[2 * number :]:
                self.worker.answer(call)
        plain = [each["n"] for each in found if "account" not in each]
        payments = [each["n"] for each in found if "account" in each]
        self.assertEqual((plain, payments), ([0, 1, 2], [0, 1, 2]))

    async def test_stop(self) -> None:
        """An orderly stop waits for what runs, and starts nothing more; the rest runs after the next start."""
        await self.start()
        await self.worker.serve("f")
        for number in range(2):
            await self.enqueue(number)
        await self.held(1)
        stopped = Deferred.fromCoroutine(self.engine.stop())

        async def stopping() -> bool:
            try:
                return (await treq.get(f"{self.engine.api_url}/readyz", agent=Agent(reactor))).code == 503
            except ConnectionRefusedError:
                return True  # it closes its ports in the turn in which it stops to start jobs

        await eventually(reactor, "it stops", stopping, 20)
        self.worker.answer(self.worker.held[0])
        await stopped
        await self.engine.start()
        await self.connect()
        await self.worker.serve("f")
        self.assertEqual(await self.held(1), [1])

    async def test_topic(self) -> None:
        """A topic keeps messages for a subscriber that is away, across a restart of the engine."""
        await self.start()
        await self.worker.serve("f")
        trigger = {"type": "registertrigger", "id": "t", "trigger_type": "durable:subscriber", "function_id": "f"}
        await self.subscribe(trigger)
        self.worker.transport.abortConnection()
        await self.connect()
        await self.worker.call("iii::durable::publish", {"topic": "orders", "data": 1})
        await self.engine.stop()
        await self.engine.start()
        await self.connect()
        await self.worker.call("iii::durable::publish", {"topic": "orders", "data": 2})
        await self.worker.serve("f")
        await self.subscribe(trigger)
        self.assertEqual(await self.held(2), [1, 2])

    async def subscribe(self, trigger: dict[str, Any]) -> None:
        self.worker.sendMessage(json.dumps({**trigger, "config": {"topic": "orders"}}).encode())
        await self.worker.call("engine::queue::list_topics", {})  # so the trigger is there

    async def test_in_memory(self) -> None:
        """In memory, queues do the same, but for surviving."""
        await self.start(adapter={"name": "builtin", "config": {"store_method": "in_memory"}})
        await self.worker.serve("f")
        receipt = await self.enqueue(1)
        await self.held(1)
        self.assertEqual((await self.worker.call("engine::queue::job", {"message_id": receipt}))["state"], "running")
        self.worker.answer(self.worker.held[0])
        await eventually(reactor, "it is gone", self.empty, 20)

    async def test_deadline(self) -> None:
        """A stop waits no longer than it may; what still runs then runs again, which is no failure of it."""
        await self.start({"drain_timeout_ms": 300})
        await self.worker.serve("f")
        receipt = await self.enqueue(1)
        await self.held(1)
        await self.engine.stop()
        await self.engine.start()
        await self.connect()
        await self.worker.serve("f")
        self.assertEqual(await self.held(1), [1])
        job = await self.worker.call("engine::queue::job", {"message_id": receipt})
        self.assertEqual((job["state"], job["attempts"], job["interruptions"]), ("running", 0, 0))

    async def test_metrics(self) -> None:
        """What waits and runs is in the metrics."""
        await self.start()
        await self.worker.serve("f")
        for number in range(3):
            await self.enqueue(number)
        await self.held(1)
        for state, count in (("ready", 2), ("running", 1), ("dead", 0)):
            figure = await self.engine.figure(f'iii_queue_depth{{kind="queue",queue="one",state="{state}"}}')
            self.assertEqual(figure, count)

    async def test_other_provider(self) -> None:
        """With C{enabled: false} a worker provides the queues; while ours run, such a worker sees them in the list."""
        await self.start()
        self.assertIn("iii-queue", await self.workers())
        await self.start(enabled=False)
        self.assertNotIn("iii-queue", await self.workers())
        with self.assertRaises(RemoteError) as caught:
            await self.enqueue(1)
        self.assertEqual(caught.exception.code, "function_not_found")
        await self.worker.serve("engine::queue::enqueue")
        provided = {"type": "registertriggertype", "id": "durable:subscriber", "description": "theirs"}
        self.worker.sendMessage(json.dumps(provided).encode())
        other: Worker = await connect(reactor, self.engine.worker_port)
        self.addCleanup(other.sendClose)
        call = other.call("f", {"a": 1}, action={"type": "enqueue", "queue": "mine"})
        enqueued = Deferred.fromCoroutine(call)
        (request,) = await self.held(1)
        self.worker.answer(self.worker.held[0])
        self.assertEqual(await enqueued, {"messageReceiptId": request["messageReceiptId"]})
        self.assertEqual((request["queue"], request["function_id"], request["data"]), ("mine", "f", {"a": 1}))

    async def workers(self) -> set[str]:
        """The ids and names of all workers."""
        rows = (await self.worker.call("engine::workers::list", {}))["workers"]
        return {row[key] for row in rows for key in ("id", "name")}

    async def empty(self) -> bool:
        stats = await self.worker.call("engine::queue::topic_stats", {"topic": "one"})
        return stats["depth"] == 0
