"""Workers on the SDKs publish, and hear of what others publish (spec/pubsub.md)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from twisted.internet import reactor

from tests.integration.engine import EngineProcess
from tests.sdk.cable import Cable
from tests.sdk.client import RemoteError
from tests.sdk.contract import (
    AllSdks,
    Contract,
    Handle,
    OneSdk,
    PairOfSdks,
    needs,
    on_all_sdks,
    on_each_pair,
    on_each_sdk,
)
from tests.sdk.environments import NEWEST
from tests.sdk.sdk import Ability, Sdk

VALUES: tuple[Any, ...] = (None, True, False, 0, -1.5, "", "grüße 🙂", [], [1, {"a": None}], {}, {"b": {"c": []}})
MESSAGES = 20
RETURN_SECONDS = 25.0  # SDKs try again after 1, 2, 4, 8 ... seconds, give or take a third


class Subscribing(Contract):
    """A test with workers that subscribe."""

    in_table: ClassVar = False

    async def subscribe(self, worker: Handle, function: str = "receive", key: str = "", **trigger: Any) -> str:
        """
        Let a worker subscribe one of its own functions, and wait until the engine has that.

        @param key: By which the test unregisters the trigger; without one it ends with the test.
        @param trigger: Its C{config}, and perhaps C{metadata}.
        @return: The key.
        """
        wanted = await self.bound(worker, function, trigger["config"]) + 1
        made = key or self.unique("trigger")
        await worker.do("register_trigger", key=made, type="subscribe", function_id=worker.id(function), **trigger)
        if not key:
            self.addCleanup(worker.do, "unregister", key=made)
        await self.bound_times(worker, function, trigger["config"], wanted)
        return made

    async def unsubscribe(self, worker: Handle, function: str, config: Any, key: str) -> None:
        """Let a worker unregister a trigger, and wait until the engine has done that."""
        wanted = await self.bound(worker, function, config) - 1
        await worker.do("unregister", key=key)
        await self.bound_times(worker, function, config, wanted)

    async def bound(self, worker: Handle, function: str, config: Any) -> int:
        """How many such triggers the engine has."""
        query = {"trigger_type": "subscribe", "function_id": worker.id(function)}
        rows = (await self.client.call("engine::registered-triggers::list", query))["registered_triggers"]
        return sum(row["config"] == config for row in rows)

    async def bound_times(self, worker: Handle, function: str, config: Any, number: int) -> None:
        async def so_many() -> bool:
            return await self.bound(worker, function, config) == number

        await self.eventually(f"there are {number} triggers", so_many)

    async def publish(self, worker: Handle, topic: str, data: Any, **request: Any) -> None:
        """Have a worker publish through its SDK."""
        answer = await worker.call("publish", payload={"topic": topic, "data": data}, **request)
        self.assertIsNone(answer)

    async def heard(self, worker: Handle, key: str, number: int) -> list[Any]:
        """Return the messages that a worker has got under a key, once there are so many."""

        async def enough() -> bool:
            return len(await worker.received(key)) >= number

        await self.eventually(f"{number} messages have come", enough)
        return [each["data"] for each in await worker.received(key)]


class PubSubBetweenContract(Subscribing, PairOfSdks):
    async def test_delivered(self) -> None:
        """What one publishes on a topic the other gets, once, with and without an answer; nothing of other topics."""
        topic, key = self.unique("topic"), self.unique("key")
        await self.subscribe(self.other, config={"topic": topic})
        sent = [{"key": key, "n": number, "text": "grüße"} for number in range(MESSAGES)]
        for message in sent[:-1]:
            await self.publish(self.one, topic, message, void=message["n"] % 2 == 1)
            await self.publish(self.one, f"{topic}.other", {"key": key, "n": -1})
        await self.heard(self.other, key, MESSAGES - 1)
        await self.publish(self.one, topic, sent[-1])
        heard = await self.heard(self.other, key, MESSAGES)
        self.assertEqual(sorted(heard, key=lambda message: message["n"]), sent)  # some SDKs handle several at a time


class PubSubContract(Subscribing, OneSdk):
    async def watched(self, number: int) -> list[Any]:
        """Return what has come to C{watch} since C{begin_to_watch}, once it is so much."""
        return (await self.heard(self.worker, "watch", self.before + number))[self.before :]

    async def begin_to_watch(self, **config: Any) -> None:
        """Subscribe the function that takes every value."""
        await self.subscribe(self.worker, "watch", config=config)
        self.before = len(await self.worker.received("watch"))

    async def test_values(self) -> None:
        """Data is any JSON and comes as it was published, also null; nothing is put beside or into it."""
        topic = self.unique("topic")
        await self.begin_to_watch(topic=topic)
        for number, value in enumerate(VALUES, 1):
            await self.publish(self.worker, topic, value)
            self.assertEqual((await self.watched(number))[number - 1 :], [value])

    async def test_nobody(self) -> None:
        """Publishing to nobody succeeds, and the message is not kept for those who come later."""
        topic, key = self.unique("topic"), self.unique("key")
        await self.publish(self.worker, topic, {"key": key, "n": 1})
        await self.publish(self.worker, topic, {"key": key, "n": 2}, void=True)
        await self.subscribe(self.worker, config={"topic": topic})
        await self.publish(self.worker, topic, {"key": key, "n": 3})
        self.assertEqual(await self.heard(self.worker, key, 1), [{"key": key, "n": 3}])

    async def test_unregister(self) -> None:
        """Two triggers are two deliveries; when one is unregistered the other stays, and the last ends them."""
        topic, key = self.unique("topic"), self.unique("key")
        config = {"topic": topic}
        first, second = [await self.subscribe(self.worker, key=self.unique("trigger"), config=config) for _ in "12"]
        end = self.unique("end")
        await self.subscribe(self.worker, config={"topic": end})
        expected: list[int] = []
        for number, leaving in ((1, first), (2, second), (3, None)):
            await self.publish(self.worker, topic, {"key": key, "n": number})
            await self.publish(self.worker, end, {"key": end})
            await self.heard(self.worker, end, number)
            expected += [number] * (3 - number)
            self.assertEqual([each["n"] for each in await self.heard(self.worker, key, len(expected))], expected)
            if leaving is not None:
                await self.unsubscribe(self.worker, "receive", config, leaving)

    async def test_condition(self) -> None:
        """A condition gets the data; only C{false} leaves the message out.  Here it returns what it gets."""
        topic = self.unique("topic")
        await self.begin_to_watch(topic=topic, condition_function_id=self.worker.id("echo"))
        expected: list[Any] = []
        for value in (True, False, None, 0, False, "", "false", [], {}):
            await self.publish(self.worker, topic, value)
            if value is not False:
                expected.append(value)
            self.assertEqual(await self.watched(len(expected)), expected)

    async def test_failing_condition(self) -> None:
        """A condition that fails, or is not there, leaves the message out for its subscriber alone, and is counted."""
        topic, key = self.unique("topic"), self.unique("key")
        for condition in (self.worker.id("fail"), self.unique("missing")):
            await self.subscribe(self.worker, config={"topic": topic, "condition_function_id": condition})
        await self.subscribe(self.worker, config={"topic": topic})
        before = await self.engine.figure("iii_pubsub_failed_total")
        await self.publish(self.worker, topic, {"key": key, "n": 1})

        async def both_failed() -> bool:
            return await self.engine.figure("iii_pubsub_failed_total") == before + 2

        await self.eventually("both conditions have failed", both_failed)
        self.assertEqual(await self.heard(self.worker, key, 1), [{"key": key, "n": 1}])

    async def test_failing_subscriber(self) -> None:
        """The publisher does not hear that a subscriber fails, and others get the message; it is counted."""
        topic, key = self.unique("topic"), self.unique("key")
        await self.subscribe(self.worker, "fail", config={"topic": topic})
        await self.subscribe(self.worker, config={"topic": topic})
        before = await self.engine.figure("iii_pubsub_failed_total")
        await self.publish(self.worker, topic, {"key": key})

        async def failed() -> bool:
            return await self.engine.figure("iii_pubsub_failed_total") == before + 1

        await self.eventually("one has failed", failed)
        self.assertEqual(await self.heard(self.worker, key, 1), [{"key": key}])

    async def test_pattern(self) -> None:
        """A subscriber with a pattern gets the topic beside the data."""
        topic = self.unique("topic")
        await self.begin_to_watch(pattern=f"{topic}.*.shipped")
        for name in (topic, f"{topic}.eu.shipped", f"{topic}.shipped", f"{topic}.us.shipped"):
            await self.publish(self.worker, name, name)
        names = [f"{topic}.eu.shipped", f"{topic}.us.shipped"]
        heard = sorted(await self.watched(2), key=lambda message: str(message["topic"]))
        self.assertEqual(heard, [{"topic": name, "data": name} for name in names])

    @needs(Ability.TRIGGER_METADATA, Ability.CALL_METADATA)
    async def test_metadata(self) -> None:
        """The trigger's metadata comes as metadata of the call; the publisher's does not."""
        topic, key = self.unique("topic"), self.unique("key")
        await self.subscribe(self.worker, config={"topic": topic}, metadata={"team": "a"})
        await self.publish(self.worker, topic, {"key": key}, metadata={"of": "the publisher"})
        await self.heard(self.worker, key, 1)
        self.assertEqual(await self.worker.received(key), [{"data": {"key": key}, "metadata": {"team": "a"}}])

    @needs(Ability.CODED_ERRORS)
    async def test_errors(self) -> None:
        """Publishing on the empty topic, or without topic or data, is an error with a code."""
        for payload, code, text in (
            ({"topic": "", "data": 1}, "topic_not_set", "Topic is not set"),
            ({"topic": "t"}, "deserialization_error", "Failed to deserialize input for publish: "),
            ({"data": 1}, "deserialization_error", "Failed to deserialize input for publish: "),
            ({"topic": 1, "data": 1}, "deserialization_error", "Failed to deserialize input for publish: "),
        ):
            try:
                await self.worker.call("publish", payload=payload)
            except RemoteError as error:
                self.assertEqual(error.code, code)
                self.assertTrue(error.message.startswith(text), error.message)
            else:
                self.fail(f"{payload} was published")

    @needs(Ability.REFUSAL_HEARD)
    async def test_refused(self) -> None:
        """A worker logs why its trigger was refused: without a topic it would never fire."""
        config = {"condition_function_id": self.unique("condition")}
        key, function = self.unique("trigger"), self.worker.id("watch")
        await self.worker.do("register_trigger", key=key, type="subscribe", function_id=function, config=config)
        self.addCleanup(self.worker.do, "unregister", key=key)

        async def told() -> bool:
            return "a trigger of type subscribe needs a `topic`" in self.worker.worker.log

        await self.eventually("the worker logs it", told)
        self.assertEqual(await self.bound(self.worker, "watch", config), 0)


class EverybodyContract(Subscribing, AllSdks):
    async def test_leave_in_turn(self) -> None:
        """All subscribers of a topic get each message once; whoever leaves, the others go on."""
        topic, key = self.unique("topic"), self.unique("key")
        config = {"topic": topic}
        triggers = [await self.subscribe(worker, key=self.unique("t"), config=config) for worker in self.workers]
        for left, (worker, trigger) in enumerate(zip(self.workers, triggers, strict=True)):
            await self.publish(self.workers[-left], topic, {"key": key, "n": left})
            for position, each in enumerate(self.workers):
                expected = list(range(min(left, position) + 1))
                self.assertEqual([message["n"] for message in await self.heard(each, key, len(expected))], expected)
            await self.unsubscribe(worker, "receive", config, trigger)


class SubscribedReplicasContract(Subscribing, OneSdk):
    """Two processes of one worker, which register equal triggers."""

    async def setUp(self) -> None:
        await super().setUp()
        self.name = self.unique("replica")
        self.replicas = [await self.start_worker(self.engine.url, self.sdk, self.name) for _ in range(2)]
        self.topic = self.unique("topic")
        both = {replica.worker.pid for replica in self.replicas}
        await self.eventually("both answer", partial(self.answering, both), 20, ignoring=(RemoteError,))
        self.config = {"topic": self.topic}
        for _ in both:  # in turn
            await self.subscribe(self.replicas[0], "work", key="t", config=self.config)

    async def answering(self, pids: set[int]) -> bool:
        return {(await self.replicas[0].do("process"))["pid"] for _ in range(4)} == pids

    def executed(self) -> list[list[str]]:
        """The messages that each has got."""
        logs = [replica.worker.log.splitlines() for replica in self.replicas]
        return [[line.split()[1] for line in lines if line.startswith("executing ")] for lines in logs]

    async def told(self, first: int) -> None:
        """Publish some messages; each must come to one of the replicas."""
        keys = [f"m{number}" for number in range(first, first + MESSAGES)]
        for key in keys:
            await self.publish(self.worker, self.topic, {"key": key, "seconds": 0})

        async def all_came() -> bool:
            return set(keys) <= {key for each in self.executed() for key in each}

        await self.eventually("all messages have come", all_came)
        came = sorted(key for each in self.executed() for key in each)
        self.assertEqual(len(came), len(set(came)), came)

    async def test_shared(self) -> None:
        """Each message goes to one of them; when one dies the other has them all."""
        await self.told(0)
        self.assertTrue(all(self.executed()), self.executed())
        await self.replicas[0].worker.kill()  # whose trigger may be the one that fires
        alone = {self.replicas[1].worker.pid}
        await self.eventually("the other is alone", partial(self.answering, alone), 20, ignoring=(RemoteError,))
        await self.bound_times(self.replicas[1], "work", self.config, 1)
        before = len(self.executed()[0])
        await self.told(MESSAGES)
        self.assertEqual(len(self.executed()[0]), before)


class LostSubscriberContract(Subscribing):
    """A subscriber that loses its connection, or its engine."""

    sdk: Sdk

    async def setUp(self) -> None:
        self.require(self.sdk)
        self._engine = await EngineProcess.for_test(self, reactor, [{"name": "iii-pubsub"}])
        self.cable = Cable(reactor, self._engine.worker_port)
        self.addCleanup(self.cable.remove)
        self.client = await self.connect(self._engine)
        self.worker = await self.start_worker(self.cable.url, self.sdk, "worker")
        await self.worker.worker.ready(self.client)
        self.numbers = 0
        await self.subscribe(self.worker, key="t", config={"topic": "t"})
        await self.works()

    @property
    def engine(self) -> EngineProcess:
        return self._engine

    async def works(self) -> None:
        """Wait until a message comes; from then on each comes, once."""

        async def comes() -> bool:
            self.numbers += 1
            key = f"try-{self.numbers}"
            await self.client.call("publish", {"topic": "t", "data": {"key": key}})
            return bool(await self.worker.received(key))

        await self.eventually("a message comes", comes, RETURN_SECONDS, ignoring=(RemoteError,))
        self.numbers += 1
        sent = [{"key": f"key-{self.numbers}", "n": number} for number in range(MESSAGES)]
        for message in sent:
            await self.client.call("publish", {"topic": "t", "data": message})
        heard = await self.heard(self.worker, f"key-{self.numbers}", MESSAGES)
        self.assertEqual(heard, sent)
        self.assertEqual(await self.bound(self.worker, "receive", {"topic": "t"}), 1)

    async def ids(self) -> list[str]:
        """The connections of the worker that the engine lists."""
        rows = (await self.client.call("engine::workers::list", {"search": "worker"}))["workers"]
        return [row["id"] for row in rows if row["name"] == "worker"]

    async def returned(self, before: list[str]) -> None:
        """Wait until the worker is there on a new connection alone."""

        async def is_another() -> bool:
            now = await self.ids()
            return len(now) == 1 and now != before

        await self.eventually("the worker is back", is_another, RETURN_SECONDS)

    async def test_cut(self) -> None:
        """After its connection was cut it is subscribed again, once."""
        for _ in range(2):
            before = await self.ids()
            self.cable.cut()
            await self.returned(before)
            await self.works()

    async def test_half_open(self) -> None:
        """The same when the engine still holds the old connection."""
        before = await self.ids()
        self.cable.cut_worker_side()
        await self.returned(before)
        await self.works()

    async def test_engine_killed(self) -> None:
        """The same when the engine was killed and has come back."""
        await self.engine.kill()
        await self.engine.start()
        self.client = await self.connect(self.engine)
        self.worker = self.worker.with_client(self.client)
        await self.worker.worker.ready(self.client)
        await self.works()


globals().update(
    **on_each_pair(PubSubBetweenContract),
    **on_each_sdk(PubSubContract),
    **on_all_sdks(EverybodyContract),
    **on_each_sdk(SubscribedReplicasContract, NEWEST),
    **on_each_sdk(LostSubscriberContract, NEWEST),
)
