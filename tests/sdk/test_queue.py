"""
Named queues and durable topics, with workers on published SDKs (spec/queue.md, 3 to 8).

The queues are those that the SDKs' own suites assume (spec/queue.md, 7), and some whose jobs are soon tried again.
"""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from tests.sdk.client import RemoteError
from tests.sdk.contract import Handle, Needs, OneSdk, on_each_sdk
from tests.sdk.environments import SDKS
from tests.sdk.sdk import Ability
from tests.sdk.stage import Stage, Theatre

STANDARD = {"type": "standard", "max_retries": 3, "concurrency": 5}
BACKOFF_MS = 50
QUEUES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("default", "test-orders", "test-multi", "test-chain", "test-chain-entry"), STANDARD),
    "test-sequential": {**STANDARD, "concurrency": 1},
    "payment": {"type": "fifo", "message_group_field": "transaction_id"},
    "test-fifo-groups": {
        "type": "fifo",
        "message_group_field": "group_id",
        "concurrency": 2,
        "max_retries": 5,
        "backoff_ms": BACKOFF_MS,
    },
    **{f"test-retries-{number}": {"max_retries": number, "backoff_ms": BACKOFF_MS} for number in (0, 2, 4)},
}
MODULES = ({"name": "iii-queue", "config": {"queue_configs": QUEUES}},)
WORKERS = tuple(sdk for sdk in SDKS if sdk.runtime in ("python", "node"))  # the worker in Rust does not enqueue


class QueueContract(OneSdk):
    theatre = Theatre(lambda reactor, directory: Stage(reactor, directory, MODULES, WORKERS))
    in_table = False

    async def setUp(self) -> None:
        await super().setUp()
        self.key = self.unique("key")
        self._subscribed: list[str] = []

    async def enqueue(self, queue: str, function: str = "receive", **data: Any) -> str:
        """Have the worker put a job for a function of its own into a queue, and return the receipt."""
        request = {"payload": {"key": self.key, **data}, "enqueue": queue}
        receipt: str = (await self.worker.call(self.worker.id(function), **request))["messageReceiptId"]
        return receipt

    async def subscribe(
        self, topic: str, function: str = "receive", type: str = "durable:subscriber", **config: Any
    ) -> str:
        """Have the worker subscribe a function of its own until the test ends, and return the name of the trigger."""
        key = self.unique("trigger")
        data = {"type": type, "function_id": self.worker.id(function), "config": {"topic": topic, **config}}
        await self.worker.do("register_trigger", key=key, **data)
        self._subscribed.append(key)
        self.addCleanup(self.unsubscribe, key)
        await self.settled()
        return key

    async def unsubscribe(self, key: str) -> None:
        if key in self._subscribed:
            self._subscribed.remove(key)
            await self.worker.do("unregister", key=key)
            await self.settled()

    async def settled(self) -> None:
        """Wait until the engine has what the worker has sent before."""
        await self.worker.call(self.worker.id("echo"), payload={})

    async def publish(self, topic: str, **data: Any) -> Any:
        payload = {"topic": topic, "data": {"key": self.key, **data}}
        return await self.worker.call("iii::durable::publish", payload=payload)

    async def deliveries(self, number: int, worker: Handle | None = None, key: str | None = None) -> list[Any]:
        """Wait until a key has come so often, and return what came."""
        chosen, chosen_key = worker or self.worker, key or self.key

        async def come() -> list[Any]:
            received = await chosen.received(chosen_key)
            return received if len(received) >= number else []

        return await self.eventually(f"{number} deliveries", come)

    async def dead_letters(self, name: str) -> list[dict[str, Any]]:
        """Wait until there are dead letters with the key of this test, and return them."""

        async def dead() -> list[dict[str, Any]]:
            letters = await self.client.call("engine::queue::dlq_messages", {"topic": name, "limit": 500})
            return [letter for letter in letters if letter["payload"].get("key") == self.key]

        return await self.eventually("there are dead letters", dead)


class NamedQueuesContract(QueueContract):
    common_needs = Needs((Ability.ENQUEUE,))

    async def test_receipt(self) -> None:
        """The SDK's enqueue action returns a receipt, and the job runs once, with exactly its payload."""
        payload = {"key": self.key, "text": "grüße 🙂", "list": [1, None, {"a": 0.5}]}
        answer = await self.worker.call(self.worker.id("receive"), payload=payload, enqueue="default")
        self.assertEqual(set(answer), {"messageReceiptId"})
        self.assertEqual(uuid.UUID(answer["messageReceiptId"]).version, 4)
        await self.deliveries(1)
        await self.settled()
        self.assertEqual(await self.worker.received(self.key), [{"data": payload, "metadata": None}])

    async def test_queues(self) -> None:
        """Jobs of several queues run beside each other."""
        queues = ("default", "test-orders", "test-multi", "test-sequential")
        receipts = {await self.enqueue(queue, to=queue) for queue in queues for _ in range(3)}
        self.assertEqual(len(receipts), 3 * len(queues))
        received = [each["data"]["to"] for each in await self.deliveries(3 * len(queues))]
        self.assertEqual(sorted(received), sorted(queues * 3))

    async def test_sequential(self) -> None:
        """With C{concurrency} 1, jobs run one after the other, in order."""
        for n in range(5):
            await self.enqueue("test-sequential", "attempt", n=n, seconds=0.02)
        notes = await self.deliveries(5)
        self.assertEqual([note["n"] for note in notes], [0, 1, 2, 3, 4])
        for before, after in itertools.pairwise(notes):
            self.assertGreater(after["at_ms"] - before["at_ms"], 15)

    async def test_fifo(self) -> None:
        """A FIFO queue runs the jobs of a group one after the other, in order, and those of other groups meanwhile."""
        gate = self.unique("gate")
        for n, group in itertools.product(range(5), ("a", "b")):
            data = {"group_id": self.key + group, "n": f"{group}{n}"}
            await self.enqueue("test-fifo-groups", "attempt", **data, **({"gate": gate} if data["n"] == "a0" else {}))
        notes = [note["n"] for note in await self.deliveries(6)]
        self.assertEqual(sorted(notes), ["a0", "b0", "b1", "b2", "b3", "b4"])
        await self.worker.do("open_gate", gate=gate)
        notes = [note["n"] for note in await self.deliveries(10)]
        for group in ("a", "b"):
            self.assertEqual([n for n in notes if n[0] == group], [f"{group}{n}" for n in range(5)])

    async def test_fifo_failure(self) -> None:
        """A failing job of a FIFO queue is tried again before the next of its group; other groups go on meanwhile."""
        for group, n, failures in (("a", "a0", 3), ("b", "b0", 0), ("a", "a1", 0)):
            await self.enqueue("test-fifo-groups", "attempt", group_id=self.key + group, n=n, failures=failures)
        notes = [note["n"] for note in await self.deliveries(6)]
        self.assertEqual([n for n in notes if n != "b0"], ["a0", "a0", "a0", "a0", "a1"])
        self.assertLess(notes.index("b0"), notes.index("a1"))

    async def test_retries(self) -> None:
        """C{max_retries} 4 is 4 deliveries, with delays of 1, 2 and 4 times C{backoff_ms}; then it is a dead letter."""
        receipt = await self.enqueue("test-retries-4", "attempt", n=0, failures=9)
        (letter,) = await self.dead_letters("test-retries-4")
        notes = await self.worker.received(self.key)
        self.assertEqual(len(notes), 4)
        for factor, (before, after) in zip((1, 2, 4), itertools.pairwise(notes), strict=True):
            self.assertGreaterEqual(after["at_ms"] - before["at_ms"], factor * BACKOFF_MS - 5)
        self.assertEqual((letter["id"], letter["retries"]), (receipt, 4))
        self.assertIn("attempt 4 of 0 fails as told", letter["error"])
        self.assertEqual(letter["payload"], {"key": self.key, "n": 0, "failures": 9})

    async def test_few_retries(self) -> None:
        """C{max_retries} 2 is 2 deliveries, 0 is one."""
        for queue, deliveries in (("test-retries-2", 2), ("test-retries-0", 1)):
            self.key = self.unique("key")
            await self.enqueue(queue, "attempt", n=0, failures=9)
            await self.dead_letters(queue)
            self.assertEqual(len(await self.worker.received(self.key)), deliveries)

    async def test_second_attempt(self) -> None:
        """A job that succeeds at the second attempt is done."""
        await self.enqueue("test-retries-4", "attempt", n=0, failures=1)
        await self.deliveries(2)
        await self.enqueue("test-retries-4", "attempt", n=1)
        await self.deliveries(3)
        letters = await self.client.call("engine::queue::dlq_messages", {"topic": "test-retries-4", "limit": 500})
        self.assertNotIn(self.key, [letter["payload"]["key"] for letter in letters])
        self.assertEqual([note["n"] for note in await self.worker.received(self.key)], [0, 0, 1])

    async def test_redrive(self) -> None:
        """A worker can have a dead letter delivered again, with as many attempts as before, and discard it."""
        receipt = await self.enqueue("test-retries-2", "attempt", n=0, failures=3)
        await self.dead_letters("test-retries-2")
        message = {"queue": "test-retries-2", "message_id": receipt}
        answer = await self.worker.call("iii::queue::redrive_message", payload=message)
        self.assertEqual(answer, {**message, "redriven": 1})
        await self.deliveries(4)  # the fourth succeeds
        self.assertEqual((await self.worker.call("iii::queue::redrive_message", payload=message))["redriven"], 0)
        message["message_id"] = await self.enqueue("test-retries-2", "attempt", n=1, failures=9)
        await self.dead_letters("test-retries-2")
        self.assertEqual((await self.worker.call("iii::queue::discard_message", payload=message))["redriven"], 1)
        self.assertEqual((await self.worker.call("iii::queue::discard_message", payload=message))["redriven"], 0)

    async def test_chain(self) -> None:
        """A job enqueues the next one."""
        last = {"function_id": self.worker.id("receive"), "payload": {"key": self.key}, "enqueue": "test-chain"}
        await self.worker.call(self.worker.id("call"), payload=last, enqueue="test-chain-entry")
        (received,) = await self.deliveries(1)
        self.assertEqual(received["data"], {"key": self.key})

    async def test_refusals(self) -> None:
        """What cannot be enqueued is refused with C{enqueue_error}, and the text says why."""
        for queue, data, texts in (
            ("nonexistent_queue", {}, ("nonexistent_queue", "not found")),
            ("payment", {}, ("transaction_id", "was not found")),
            ("payment", {"transaction_id": None}, ("transaction_id", "null")),
        ):
            with self.assertRaises(RemoteError) as caught:
                await self.enqueue(queue, **data)
            self.assertEqual(caught.exception.code, "enqueue_error")
            for text in texts:
                self.assertIn(text, caught.exception.message)

    async def test_missing_function(self) -> None:
        """A job whose function is not there delays no other, and runs as soon as it is there."""
        later = self.unique("later")
        await self.enqueue("test-sequential", later, n=1)
        await self.enqueue("test-sequential", n=2)
        (first,) = await self.deliveries(1)
        self.assertEqual(first["data"]["n"], 2)
        await self.worker.do("register_function", id=self.worker.id(later), handler="receive")
        self.addCleanup(self.worker.do, "unregister", key=self.worker.id(later))
        received = await self.deliveries(2)
        self.assertEqual([each["data"]["n"] for each in received], [2, 1])

    async def test_worker_killed(self) -> None:
        """A job whose worker is killed runs again when the worker is back, and did not fail by that."""
        name = self.unique("mortal")
        worker = await self.start_worker(self.engine.url, self.sdk, name)
        await worker.worker.ready(self.client)
        request = {"payload": {"key": self.key, "n": 1, "seconds": 30}, "enqueue": "test-retries-0"}
        await self.worker.call(worker.id("attempt"), **request)
        await self.deliveries(1, worker)
        await worker.worker.kill()
        worker = await self.start_worker(self.engine.url, self.sdk, name)
        await worker.worker.ready(self.client)
        await self.deliveries(1, worker)


class TopicsContract(QueueContract):
    async def setUp(self) -> None:
        await super().setUp()
        self.topic = self.unique("topic")

    async def test_publish(self) -> None:
        """A subscriber gets exactly what was published; publishing has no result."""
        await self.subscribe(self.topic)
        self.assertIsNone(await self.publish(self.topic, n=[1, "zwölf"]))
        (received,) = await self.deliveries(1)
        self.assertEqual(received["data"], {"key": self.key, "n": [1, "zwölf"]})

    async def test_fan_out(self) -> None:
        """Each subscribed function gets one copy, however many triggers it has; other topics get none."""
        for topic, function in (
            *((self.topic, "receive"), (self.topic, "receive"), (self.topic, "attempt")),
            (f"{self.topic}-other", "work"),
        ):
            await self.subscribe(topic, function)
        for n in range(5):
            await self.publish(self.topic, n=n, seconds=0)
        received = await self.deliveries(10)
        await self.settled()
        self.assertEqual(await self.worker.received(self.key), received)
        self.assertEqual(sorted(each["data"]["n"] for each in received if "data" in each), [0, 1, 2, 3, 4])
        self.assertEqual(sorted(each["n"] for each in received if "at_ms" in each), [0, 1, 2, 3, 4])

    async def test_condition(self) -> None:
        """A condition that returns false skips the message; anything else lets it pass."""
        config = {"condition_function_id": self.worker.id("wanted"), "queue_config": {"type": "fifo", "concurrency": 1}}
        await self.subscribe(self.topic, **config)
        for n, wanted in enumerate((False, True, 0, None, "", False)):
            await self.publish(self.topic, n=n, wanted=wanted)
        await self.publish(self.topic, n="last", wanted=True)
        received = await self.deliveries(5)
        self.assertEqual([each["data"]["n"] for each in received], [1, 2, 3, 4, "last"])

    async def test_retries(self) -> None:
        """C{maxRetries} 2 is 3 deliveries; then it is a dead letter of the topic, with the error, to be redriven."""
        config = {"queue_config": {"maxRetries": 2, "backoffDelayMs": BACKOFF_MS}}
        await self.subscribe(self.topic, "attempt", **config)
        await self.publish(self.topic, n=0, failures=3)
        (letter,) = await self.dead_letters(self.topic)
        first, second, third = await self.worker.received(self.key)
        self.assertGreaterEqual(second["at_ms"] - first["at_ms"], BACKOFF_MS - 5)
        self.assertGreaterEqual(third["at_ms"] - second["at_ms"], 2 * BACKOFF_MS - 5)
        self.assertIn("attempt 3 of 0 fails as told", letter["error"])
        answer = await self.worker.call("iii::queue::redrive", payload={"queue": self.topic})
        self.assertEqual(answer, {"queue": self.topic, "redriven": 1})
        await self.deliveries(4)

    async def test_fifo(self) -> None:
        """A FIFO subscriber gets the next message when the one before has succeeded."""
        config = {"queue_config": {"type": "fifo", "maxRetries": 3, "backoffDelayMs": BACKOFF_MS, "concurrency": 1}}
        await self.subscribe(self.topic, "attempt", **config)
        for n in range(4):
            await self.publish(self.topic, n=n, failures=2 if n == 1 else 0)
        notes = await self.deliveries(6)
        self.assertEqual([note["n"] for note in notes], [0, 1, 1, 1, 2, 3])

    async def test_old_names(self) -> None:
        """The trigger type C{queue} and the function C{enqueue} are the old names."""
        await self.subscribe(self.topic, type="queue")
        await self.worker.call("enqueue", payload={"topic": self.topic, "data": {"key": self.key}})
        (received,) = await self.deliveries(1)
        self.assertEqual(received["data"], {"key": self.key})

    async def test_no_topic(self) -> None:
        """A message without a topic is refused."""
        with self.assertRaises(RemoteError) as caught:
            await self.publish("")
        self.assertEqual((caught.exception.code, caught.exception.message), ("topic_not_set", "Topic is not set"))

    async def test_unsubscribed(self) -> None:
        """A function that has unsubscribed gets nothing more; others go on."""
        key = await self.subscribe(self.topic)
        await self.subscribe(self.topic, "attempt")
        await self.publish(self.topic, n=1)
        await self.deliveries(2)
        await self.unsubscribe(key)
        await self.publish(self.topic, n=2)
        notes = await self.deliveries(3)
        self.assertEqual([note["n"] for note in notes if "at_ms" in note], [1, 2])
        await self.settled()
        self.assertEqual(len(await self.worker.received(self.key)), 3)

    async def test_absent(self) -> None:
        """What is published while a subscriber is away waits for it."""
        name = self.unique("absent")
        config = {"topic": self.topic}
        for present in (True, False):
            worker = await self.start_worker(self.engine.url, self.sdk, name)
            await worker.worker.ready(self.client)
            trigger = {"type": "durable:subscriber", "function_id": worker.id("receive"), "config": config}
            await worker.do("register_trigger", key="t", **trigger)
            if present:
                await worker.call(worker.id("echo"), payload={})
                await worker.worker.kill()
                await self.publish(self.topic, n=1)
                await self.publish(self.topic, n=2)
        received = await self.deliveries(2, worker)
        self.assertEqual([each["data"]["n"] for each in received], [1, 2])


globals().update(on_each_sdk(NamedQueuesContract, WORKERS), **on_each_sdk(TopicsContract, WORKERS))
