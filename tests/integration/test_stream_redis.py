"""Streams in Redis, of several engines, against a real server (L{iii.modules.stream.redis})."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from iii.core.engine import Engine
from iii.core.limits import Limits
from iii.modules.stream.events import Stamps, StreamEvent
from iii.modules.stream.redis import RedisBackend
from iii.storage.errors import StorageError
from iii.storage.redis import RedisLink
from iii.storage.redis_subscriber import RedisSubscriber
from iii.storage.updates import Increment
from tests.integration.process import eventually
from tests.integration.redis import RedisServer
from tests.modules.stream.contract import PLACE, StreamBackendContract, content, ensure

KEY, CHANNEL = "stream:chat:r1", "stream::events"


class RedisCase(TestCase):
    """
    A server, and what engines have on it.

    @ivar told: What the first engine's clients were told.
    """

    timeout = 60

    async def setUp(self) -> None:
        self.server = await RedisServer.for_test(self, reactor)
        self.backend, self.told = await self.engine()

    async def engine(self) -> tuple[RedisBackend, list[StreamEvent]]:
        """Return one more engine's backend, and what its clients are told."""
        engine = Engine(reactor, Limits())
        link, subscriber = RedisLink(self.server.url, reactor), RedisSubscriber(self.server.url, reactor)
        backend = RedisBackend(engine, link, subscriber, Stamps(reactor), 10**6)
        told: list[StreamEvent] = []
        backend.observer = told.append
        link.start()
        self.addCleanup(link.stop)
        backend.start()
        self.addCleanup(backend.stop)
        await backend.snapshot("any", "any", None, lambda snapshot: None)  # the subscription is in force
        self.counters = engine.counters
        return backend, told

    async def settled(self) -> None:
        """Return when all has come that was published before."""
        await self.backend.snapshot("any", "any", None, lambda snapshot: None)

    async def eventually(self, what: str, check: Any, **options: Any) -> Any:
        return await eventually(reactor, what, check, 20, **options)


class RedisContractTests(RedisCase, StreamBackendContract):
    def items_in_order(self, items: list[Any]) -> list[Any]:
        return sorted(items)


class LayoutTests(RedisCase):
    async def test_data(self) -> None:
        """A group is a hash whose fields are the items; values are stored as they came."""
        await self.backend.put(*PLACE, "m1", b'{"a":1.0}')
        self.assertEqual(await self.server.execute("HGETALL", KEY), [b"m1", b'{"a":1.0}'])
        await self.server.execute("HSET", KEY, "m2", "[]")
        self.assertEqual(sorted(await self.backend.items(*PLACE)), [("m1", b'{"a":1.0}'), ("m2", b"[]")])

    async def test_keys(self) -> None:
        """Keys of other kinds are no streams; names that need it are escaped."""
        await self.server.execute("SET", "stream", "x")
        await self.server.execute("SET", "stream:x", "x")
        await self.server.execute("SET", "streams:a:b", "x")
        await self.backend.put("a:b", "c:d", "i", b"1")
        self.assertEqual(await self.backend.groups(None), [("a:b", "c:d")])
        self.assertEqual(await self.server.execute("EXISTS", "stream:a%3Ab:c:d"), 1)

    async def test_undecodable_values(self) -> None:
        """What is no JSON cannot be read, and is overwritten or removed as if it were null."""
        for item in ("x", "y"):
            await self.server.execute("HSET", KEY, item, b"\xff{")
        for read in (self.backend.get(*PLACE, "x"), self.backend.items(*PLACE)):
            with self.assertRaises(StorageError):
                await read
        old, event = await self.backend.put(*PLACE, "x", b"1")
        self.assertEqual((old, content(event)[1]), (b"null", "update"))
        self.assertEqual((await self.backend.delete(*PLACE, "y"))[0], b"null")

    async def test_wrong_type(self) -> None:
        """A key that is no hash is an error in Redis' words."""
        await self.server.execute("SET", KEY, "x")
        with self.assertRaises(StorageError) as caught:
            await self.backend.put(*PLACE, "x", b"1")
        self.assertIn("WRONGTYPE", str(caught.exception))
        await self.settled()
        self.assertEqual(self.told, [])

    async def test_large_numbers(self) -> None:
        """Updates leave alone what they do not touch: long numbers and empty lists."""
        await self.backend.put(*PLACE, "m", b'{"big":12345678901234567890,"none":[],"n":1}')
        updated, _ = await self.backend.update(*PLACE, "m", [Increment(path="n", by=1)], lambda new: None)
        self.assertEqual(updated.new, b'{"big":12345678901234567890,"none":[],"n":2}')


class MessageTests(RedisCase):
    """What others publish."""

    async def publish(self, message: Any) -> None:
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.server.execute("PUBLISH", CHANNEL, text)
        await self.settled()

    def message(self, timestamp: int, **members: Any) -> dict[str, Any]:
        event = {"type": "create", "data": 1}
        place = {"streamName": "chat", "groupId": "r1", "id": "m1"}
        return {"type": "stream", "timestamp": timestamp, **place, "event": event, **members}

    async def test_delivered(self) -> None:
        """A message of any engine is told as it came."""
        message = self.message(5, extra=1)
        await self.publish(message)
        (event,) = self.told
        self.assertEqual((event.stream, event.group, event.item, event.timestamp), ("chat", "r1", "m1", 5))
        self.assertEqual(json.loads(event.text), message)

    async def test_without_id(self) -> None:
        """One without an id is about the group."""
        message = self.message(5)
        del message["id"]
        await self.publish(message)
        self.assertEqual(json.loads(self.told[0].text), {**message, "id": None})

    async def test_ignored(self) -> None:
        """What is no event is ignored, and so are the markers of others."""
        complete = self.message(5)
        for missing in ("type", "timestamp", "streamName", "groupId", "event"):
            await self.publish({key: value for key, value in complete.items() if key != missing})
        for text in (b"", b"{", b"\xff", b"[]", b'{"iii_marker":"x"}', json.dumps(complete).encode() + b"}"):
            await self.publish(text)
        for members in ({"timestamp": "5"}, {"timestamp": -1}, {"event": 1}, {"id": 1}):
            await self.publish({**complete, **members})
        await self.publish(json.dumps(complete).encode().replace(b"m1", b"\xff"))
        await self.publish(json.dumps(complete).replace('"data": 1', '"data": ' + "[" * 200 + "]" * 200).encode())
        self.assertEqual(self.told, [])

    async def test_stamps(self) -> None:
        """Stamps increase for this engine's clients, whatever the clocks of others say."""
        for timestamp in (50, 50, 40, 60):
            await self.publish(self.message(timestamp))
        self.assertEqual([event.timestamp for event in self.told], [50, 51, 52, 60])
        self.assertEqual([json.loads(event.text)["timestamp"] for event in self.told], [50, 51, 52, 60])
        self.assertEqual(json.loads(self.told[1].text), self.message(51))

    async def test_published(self) -> None:
        """What this engine publishes is an event as clients get it, for the reference's engines, too."""
        heard: list[bytes] = []
        subscriber = RedisSubscriber(self.server.url, reactor)
        subscriber.start()
        self.addCleanup(subscriber.stop)
        began = reactor.seconds()
        await subscriber.subscribe(CHANNEL.encode(), lambda channel, message: heard.append(message))
        _, put = await self.backend.put('a"b', "ü", "m1", b'{"x":1}')
        _, changed = await self.backend.update('a"b', "ü", "m1", [Increment(path="x", by=1)], lambda new: None)
        _, deleted = await self.backend.delete('a"b', "ü", "m1")
        assert deleted is not None

        async def three() -> bool:
            return len(heard) == 3

        await self.eventually("all have come", three)
        self.assertEqual(heard, [put.text, changed.text, deleted.text])
        stamps = [event.timestamp for event in (put, changed, deleted)]
        self.assertEqual(stamps, sorted(set(stamps)))
        self.assertGreaterEqual(stamps[0], int(began * 1000))


class TwoEnginesTests(RedisCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.other, self.told_by_other = await self.engine()

    async def all_settled(self) -> None:
        for backend in (self.backend, self.other):
            await backend.snapshot("any", "any", None, lambda snapshot: None)

    async def test_shared(self) -> None:
        """Data and events are shared."""
        await self.backend.put(*PLACE, "m1", b"1")
        self.assertEqual(await self.other.get(*PLACE, "m1"), b"1")
        await self.other.send(*PLACE, None, b'{"type":"t","data":2}')
        await self.all_settled()
        expected = [("m1", "create", 1), (None, "event", {"type": "t", "data": 2})]
        self.assertEqual([content(event) for event in self.told], expected)
        self.assertEqual([content(event) for event in self.told_by_other], expected)

    async def test_concurrent_updates(self) -> None:
        """None of the updates of several engines is lost, and all are told in one order."""
        increment = [Increment(path="n", by=1)]
        await gatherResults(
            [
                ensure(backend.update(*PLACE, "m1", increment, lambda new: None))
                for _ in range(100)
                for backend in (self.backend, self.other)
            ]
        )
        await self.all_settled()
        self.assertEqual(await self.backend.get(*PLACE, "m1"), b'{"n":200}')
        for told in (self.told, self.told_by_other):
            self.assertEqual([content(event)[2]["n"] for event in told], list(range(1, 201)))

    async def test_exact_snapshots(self) -> None:
        """A snapshot has what was told before it and nothing that is told after it, although another engine writes."""
        places: list[tuple[int, Any]] = []
        work = []
        for number in range(100):
            work.append(ensure(self.other.put(*PLACE, f"m{number % 5}", b"%d" % number)))
            work.append(
                ensure(self.backend.snapshot(*PLACE, None, lambda snapshot: places.append((len(self.told), snapshot))))
            )
            if number % 10 == 0:
                await deferLater(reactor, 0.001)
        await gatherResults(work)
        await self.all_settled()
        self.assertEqual((len(places), len(self.told)), (100, 100))
        for before, snapshot in places:
            state = {event.item: content(event)[2] for event in self.told[:before]}
            self.assertEqual({item: json.loads(value) for item, value in snapshot.items}, state)
            self.assertTrue(all(event.timestamp < snapshot.timestamp for event in self.told[:before]))
            self.assertTrue(all(event.timestamp > snapshot.timestamp for event in self.told[before:]))


class BrokenTests(RedisCase):
    async def test_restarted(self) -> None:
        """When the server was gone, calls fail meanwhile, and all goes on when it is back; the gap is counted."""
        await self.backend.put(*PLACE, "m1", b"1")
        await self.settled()
        await self.server.kill()
        for call in (self.backend.put(*PLACE, "m1", b"2"), self.backend.send(*PLACE, None, b"{}")):
            with self.assertRaises(StorageError):
                await call
        self.assertEqual(self.counters.stream_gaps, 0)
        await self.server.start()

        async def works() -> bool:
            await self.backend.put(*PLACE, "m2", b"3")
            return True

        await self.eventually("Redis is written to again", works, ignoring=(StorageError,))
        await self.eventually("a snapshot is made again", self._snapshot, ignoring=(StorageError,))
        self.assertEqual(self.counters.stream_gaps, 1)
        before = len(self.told)
        await self.backend.put(*PLACE, "m3", b"4")
        await self.settled()
        self.assertEqual([content(event) for event in self.told[before:]], [("m3", "create", 4)])
        self.assertEqual(dict(await self.backend.items(*PLACE)), {"m1": b"1", "m2": b"3", "m3": b"4"})

    async def _snapshot(self) -> bool:
        await self.settled()
        return True

    async def test_snapshot_while_it_hangs(self) -> None:
        """A snapshot that cannot be read fails in time, and what was told meanwhile is not held for ever."""
        self.server.pause()
        try:
            with self.assertRaises(StorageError):
                await self.backend.snapshot(*PLACE, None, lambda snapshot: self.fail("no snapshot"))
        finally:
            self.server.resume()
        await self.eventually("a snapshot is made again", self._snapshot, ignoring=(StorageError,))
        before = len(self.told)
        await self.backend.put(*PLACE, "m1", b"1")
        await self.settled()
        self.assertEqual([content(event) for event in self.told[before:]], [("m1", "create", 1)])
