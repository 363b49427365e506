"""Pub/sub of engine processes that share a real Redis (spec/pubsub.md, 4.2 and 7)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.integration.engine import EngineProcess
from tests.integration.process import ProcessFailed, eventually
from tests.integration.redis import RedisServer
from tests.sdk.client import RemoteError
from tests.worker import Worker, connect

MESSAGES = 200
MOST_UNANSWERED = 10


class Subscriber(Worker):
    """
    A worker that publishes and subscribes.

    @ivar got: What its functions were called with, in this order: the name of the function and the data.
    """

    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[str, Any]] = []

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        if message["type"] == "invokefunction":
            self.got.append((message["function_id"], message["data"]))
        super().onMessage(payload, isBinary)

    async def subscribe(self, id: str, function_id: str, **config: Any) -> None:
        """Register a trigger.  The engine knows of it when this returns; Redis may not yet."""
        await self.serve(function_id)
        trigger = {"type": "registertrigger", "id": id, "trigger_type": "subscribe", "function_id": function_id}
        await self.tell({**trigger, "config": config})

    async def unsubscribe(self, id: str) -> None:
        await self.tell({"type": "unregistertrigger", "id": id, "trigger_type": "subscribe"})

    async def tell(self, message: dict[str, Any]) -> None:
        """Send a message that has no answer, and wait until the engine has read it."""
        self.sendMessage(json.dumps(message).encode())
        await self.call("engine::workers::list", {"search": "nobody"})

    async def close(self) -> None:
        """Leave after all answers have been sent: an engine waits some seconds for those of a broken connection."""
        self.transport.loseConnection()
        await self._closed

    async def publish(self, topic: str, data: Any) -> None:
        await self.call("publish", {"topic": topic, "data": data})


class RedisCase(TestCase):
    """
    A Redis and two engines on it.

    @ivar workers: One on each engine.
    """

    timeout = 120
    limits: dict[str, int] = {}

    async def setUp(self) -> None:
        self.redis = await RedisServer.for_test(self, reactor)
        self.engines = [await self.engine() for _ in range(2)]
        self.workers = [await self.worker(engine) for engine in self.engines]

    async def engine(self, **adapter: Any) -> EngineProcess:
        modules = [self.module(redis_url=self.redis.url, **adapter)]
        return await EngineProcess.for_test(self, reactor, modules, {"limits": self.limits})

    def module(self, **adapter: Any) -> dict[str, Any]:
        return {"name": "iii-pubsub", "config": {"adapter": {"name": "redis", "config": adapter}}}

    async def worker(self, engine: EngineProcess) -> Subscriber:
        worker: Subscriber = await connect(reactor, engine.worker_port, kind=Subscriber)
        self.addCleanup(worker.close)
        return worker

    async def eventually(self, what: str, check: Callable[[], Awaitable[Any]], **options: Any) -> Any:
        return await eventually(reactor, what, check, 20, **options)

    async def got(self, worker: Subscriber, expected: list[tuple[str, Any]]) -> None:
        """Wait until a worker has got this since the last time, and fail if it is something else."""

        async def so_much() -> bool:
            return len(worker.got) >= len(expected)

        await self.eventually(f"{len(expected)} messages have come", so_much)
        self.assertEqual(worker.got, expected)
        worker.got.clear()

    async def subscribed_in_redis(self, channel: str, number: int) -> None:
        """Wait until so many connections are subscribed to a channel, and no longer another number."""

        async def so_many() -> bool:
            return await self.redis.execute("PUBSUB", "NUMSUB", channel) == [channel.encode(), number]

        await self.eventually(f"{number} are subscribed", so_many)

    async def fails(self, worker: Subscriber) -> str:
        """Publish, which must fail; return what is said."""
        try:
            await worker.publish("t", "lost")
        except RemoteError as error:
            self.assertEqual(error.code, "PUBLISH_ERROR")
            return error.message
        raise AssertionError("it was published")

    async def logged(self, engine: EngineProcess, text: str) -> None:
        async def told() -> bool:
            return text in engine.log.read_text()

        await self.eventually(f"the engine logs {text!r}", told)


class TwoEnginesTests(RedisCase):
    async def test_delivered(self) -> None:
        """Subscribers of all engines get what any engine, or another program, publishes: once, and in order."""
        for worker in self.workers:
            await worker.subscribe("t1", "f", topic="t")
            await worker.subscribe("u1", "other", topic="u")
        for channel in "tu":
            await self.subscribed_in_redis(channel, 2)
        for publisher in self.workers:
            sent = [{"n": number, "none": [], "big": 2**63 + number, "float": 1.0} for number in range(MESSAGES)]
            await gatherResults([Deferred.fromCoroutine(publisher.publish("t", data)) for data in sent])
            for worker in self.workers:
                await self.got(worker, [("f", data) for data in sent])
        await self.redis.execute("PUBLISH", "t", "null")
        for worker in self.workers:
            await self.got(worker, [("f", None)])

    async def test_one_subscription(self) -> None:
        """However many triggers there are, an engine subscribes once; it leaves with the last of them."""
        one, other = self.workers
        for number in range(3):
            await one.subscribe(f"t{number}", f"f{number}", topic="t")
        await other.subscribe("u", "f", topic="t")
        await self.subscribed_in_redis("t", 2)
        for left in range(3):
            await other.publish("t", left)
            await self.got(one, [(f"f{number}", left) for number in range(left, 3)])
            await self.got(other, [("f", left)])
            await one.unsubscribe(f"t{left}")
        await self.subscribed_in_redis("t", 1)
        await one.publish("t", "end")
        await self.got(other, [("f", "end")])
        self.assertEqual(one.got, [])

    async def test_worker_leaves(self) -> None:
        """A worker that goes takes its subscriptions along, and not those of others."""
        one, other = self.workers
        leaving = await connect(reactor, self.engines[0].worker_port, kind=Subscriber)
        await leaving.subscribe("l1", "leaver", topic="t")
        await leaving.subscribe("l2", "leaver", topic="only")
        await one.subscribe("t1", "f", topic="t")
        for channel in ("t", "only"):
            await self.subscribed_in_redis(channel, 1)
        await leaving.close()
        await self.subscribed_in_redis("only", 0)
        await other.publish("t", 1)
        await self.got(one, [("f", 1)])

    async def test_pattern(self) -> None:
        """A pattern and a topic that it matches are two subscribers, each of which gets a message once."""
        one, other = self.workers
        await one.subscribe("p1", "pattern", pattern="orders.#")
        await one.subscribe("t1", "topic", topic="orders.eu")

        async def subscribed() -> bool:
            return await self.redis.execute("PUBSUB", "NUMPAT") == 1

        await self.eventually("the pattern is subscribed", subscribed)
        await self.subscribed_in_redis("orders.eu", 1)
        for topic in ("orders", "ordersx", "orders.eu", "order"):
            await other.publish(topic, 1)
        await other.publish("orders.end", 1)

        async def ended() -> bool:
            return len(one.got) >= 4

        await self.eventually("all have come", ended)
        patterns = [data["topic"] for function, data in one.got if function == "pattern"]
        self.assertEqual(patterns, ["orders", "orders.eu", "orders.end"])
        self.assertEqual([data for function, data in one.got if function == "topic"], [1])

    async def test_nonsense(self) -> None:
        """What is no JSON is left out, and said; what comes after it is delivered."""
        worker = self.workers[0]
        await worker.subscribe("t1", "f", topic="t")
        await self.subscribed_in_redis("t", 1)
        for nonsense in (b"", b"{", b"\xff", b'"\xff"', b"1 2", b"[" * 200 + b"]" * 200, b"[" * 100_000):
            await self.redis.execute("PUBLISH", "t", nonsense)
        await self.redis.execute("PUBLISH", "t", b' {"a": 1} ')
        await self.got(worker, [("f", {"a": 1})])
        await self.logged(self.engines[0], "a message on the Redis channel t is left out")

    async def test_prefix(self) -> None:
        """With a prefix of the channels, several systems use one server."""
        engines = [await self.engine(channel_prefix="a[*]:") for _ in range(2)]
        one, other = [await self.worker(engine) for engine in engines]
        stranger = self.workers[0]
        await one.subscribe("t1", "f", topic="t")
        await one.subscribe("p1", "pattern", pattern="t.*")
        await stranger.subscribe("t2", "f", topic="t")
        await self.subscribed_in_redis("a[*]:t", 1)
        await self.subscribed_in_redis("t", 1)
        await stranger.publish("t", "strange")
        await self.got(stranger, [("f", "strange")])
        await other.publish("t", 1)
        await self.got(one, [("f", 1)])
        await other.publish("t.x", 2)
        await self.got(one, [("pattern", {"topic": "t.x", "data": 2})])
        self.assertEqual(stranger.got, [])


class BrokenTests(RedisCase):
    async def works(self) -> None:
        """Wait until what is published on each engine reaches both, and find that then all comes, once."""
        for publisher in self.workers:

            async def published(publisher: Subscriber = publisher) -> bool:
                await publisher.publish("t", "try")
                return all(worker.got for worker in self.workers)

            await self.eventually("messages come", published, ignoring=(RemoteError,))
        await self.workers[0].publish("t", "mark")
        for worker in self.workers:

            async def marked(worker: Subscriber = worker) -> bool:
                return ("f", "mark") in worker.got

            await self.eventually("all that came before has come", marked)
            worker.got.clear()
        for number in range(10):
            await self.workers[number % 2].publish("t", number)
        for worker in self.workers:
            await self.got(worker, [("f", number) for number in range(10)])

    async def test_restarted(self) -> None:
        """While Redis is away publishing fails; when it is back all are subscribed again, and the gap is told."""
        for worker in self.workers:
            await worker.subscribe("t1", "f", topic="t")
            await worker.subscribe("t2", "g", topic="without")
        await self.subscribed_in_redis("t", 2)
        for gaps in (1, 2):
            await self.redis.kill()
            for worker in self.workers:
                self.assertIn("Redis", await self.fails(worker))
            for engine in self.engines:
                self.assertEqual(await engine.figure("iii_pubsub_gaps_total"), gaps - 1)
            await self.redis.start()
            await self.subscribed_in_redis("t", 2)
            await self.subscribed_in_redis("without", 2)
            await self.works()
            for engine in self.engines:
                self.assertEqual(await engine.figure("iii_pubsub_gaps_total"), gaps)
        for engine in self.engines:
            self.assertEqual(engine.log.read_text().count("messages published meanwhile are lost"), 2)

    async def test_changed_meanwhile(self) -> None:
        """Triggers that come and go while Redis is away count when it is back."""
        one, other = self.workers
        await one.subscribe("t1", "f", topic="t")
        await one.subscribe("t2", "old", topic="old")
        await self.subscribed_in_redis("old", 1)
        await self.redis.kill()
        await self.fails(one)  # the engine has noticed
        await other.subscribe("t3", "f", topic="t")
        await one.unsubscribe("t2")
        await self.redis.start()
        await self.subscribed_in_redis("t", 2)
        await self.subscribed_in_redis("old", 0)
        await self.works()

    async def test_hangs(self) -> None:
        """While Redis stands still publishing fails in time, and the engine does all else."""
        for worker in self.workers:
            await worker.subscribe("t1", "f", topic="t")
        await self.subscribed_in_redis("t", 2)
        self.redis.pause()
        try:
            failing = Deferred.fromCoroutine(self.fails(self.workers[0]))
            echo = await connect(reactor, self.engines[0].worker_port)
            self.addCleanup(echo.close)
            await echo.serve("echo")
            self.assertEqual((await self.workers[0].call("echo", 1))["got"], 1)
            self.assertFalse(failing.called)
            self.assertIn("no answer from Redis", await failing)
        finally:
            self.redis.resume()
        for worker in self.workers:
            worker.got.clear()
        await self.works()

    async def test_engine_killed(self) -> None:
        """An engine that is killed is not missed by others; when it is back it takes part again."""
        for worker in self.workers:
            await worker.subscribe("t1", "f", topic="t")
        await self.subscribed_in_redis("t", 2)
        await self.engines[1].kill()
        await self.subscribed_in_redis("t", 1)
        await self.workers[0].publish("t", 1)
        await self.got(self.workers[0], [("f", 1)])
        await self.engines[1].start()
        self.workers[1] = await self.worker(self.engines[1])
        await self.workers[1].subscribe("t1", "f", topic="t")
        await self.subscribed_in_redis("t", 2)
        await self.works()

    async def test_no_server(self) -> None:
        """An engine whose Redis is not there does not start; the same for what is no URL of one."""
        await self.redis.kill()
        for url, said in (
            (self.redis.url, "Failed to connect to Redis at"),
            ("http://a", "iii-pubsub: config.adapter"),
        ):
            engine = EngineProcess(reactor, Path(self.mktemp()).resolve(), [self.module(redis_url=url)])
            self.addCleanup(engine.kill)
            try:
                await engine.start()
            except ProcessFailed as error:
                self.assertIn(said, str(error))
            else:
                self.fail("it has started")


class SlowSubscriberTests(RedisCase):
    limits = {"pubsub_deliveries": MOST_UNANSWERED}

    async def test_slow(self) -> None:
        """
        A subscriber that does not answer gets a limited number of messages; what it misses is counted and said.
        Neither others nor the publisher notice.
        """
        one, other = self.workers
        slow = await self.worker(self.engines[0])
        slow.held = []
        await slow.subscribe("s1", "slow", topic="t")
        await one.subscribe("t1", "f", topic="t")
        await other.subscribe("t2", "f", topic="t")
        await self.subscribed_in_redis("t", 2)
        for number in range(50):
            await other.publish("t", number)
            for worker in self.workers:  # answered before the next: it is the slow one alone that has too many
                await self.got(worker, [("f", number)])
        self.assertEqual(slow.got, [("slow", number) for number in range(MOST_UNANSWERED)])
        self.assertEqual(await self.engines[0].figure("iii_pubsub_dropped_total"), 50 - MOST_UNANSWERED)
        self.assertEqual(
            await self.engines[0].figure('iii_limit_hits_total{limit="pubsub_deliveries"}'), 50 - MOST_UNANSWERED
        )
        self.assertEqual(await self.engines[1].figure("iii_pubsub_dropped_total"), 0)
        await self.logged(self.engines[0], f"slow misses messages on t: it has {MOST_UNANSWERED} unanswered")
        held, slow.held = slow.held, None
        for invocation in held:
            slow.answer(invocation)
        await slow.call("engine::workers::list", {"search": "nobody"})  # the answers have been read
        slow.got.clear()
        await other.publish("t", "again")
        await self.got(slow, [("slow", "again")])

    async def test_does_not_read(self) -> None:
        """A worker that does not even read holds up nobody, and gets later messages when it reads again."""
        one, other = self.workers
        slow = await self.worker(self.engines[0])
        await slow.subscribe("s1", "slow", topic="t")
        await one.subscribe("t1", "f", topic="t")
        await self.subscribed_in_redis("t", 1)
        slow.transport.pauseProducing()
        data = "x" * 1_000_000
        for number in range(50):
            await other.publish("t", [number, data])
            await self.got(one, [("f", [number, data])])
        self.assertEqual(await self.engines[0].figure("iii_pubsub_dropped_total"), 50 - MOST_UNANSWERED)
        slow.transport.resumeProducing()

        async def gets() -> bool:
            await other.publish("t", "again")
            return ("slow", "again") in slow.got

        await self.eventually("it gets messages again", gets)
        self.assertEqual([number for _, (number, *_) in slow.got[:MOST_UNANSWERED]], list(range(MOST_UNANSWERED)))
