"""What every backend of the streams does (L{iii.modules.stream.backend.IStreamBackend})."""

from __future__ import annotations

import json
from typing import Any

import attrs
from msgspec import Raw
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from iii.core.errors import EngineError
from iii.modules.stream.backend import IStreamBackend, Snapshot
from iii.modules.stream.events import StreamEvent, stream_event
from iii.storage.updates import Increment, Operation

PLACE = ("chat", "r1")


def ensure(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def content(event: StreamEvent) -> tuple[str | None, str, Any]:
    """Return the item, the kind and the data of an event."""
    told = json.loads(event.text)["event"]
    return event.item, told["type"], told.get("data", told.get("event"))


class StreamBackendContract:
    """
    Inherited by the test case of each backend, with C{TestCase}.

    @ivar backend: What is tested; it has begun to serve, and is empty.
    @ivar told: What its observer was told.
    """

    backend: Any
    told: list[StreamEvent]

    async def settled(self) -> None:
        """Return when the observer has been told of all that has been answered."""

    def items_in_order(self, items: list[Any]) -> list[Any]:
        """Return the items of a group in an order that can be compared."""
        return items

    def test_interface(self: Any) -> None:
        """It is a backend."""
        verifyObject(IStreamBackend, self.backend)

    async def test_put(self: Any) -> None:
        """Putting answers with what was there, and with the event, which is told."""
        old, first = await self.backend.put(*PLACE, "m1", b'{"a":1}')
        self.assertIsNone(old)
        old, second = await self.backend.put(*PLACE, "m1", b"null")
        self.assertEqual(old, b'{"a":1}')
        old, third = await self.backend.put(*PLACE, "m1", b"3")
        self.assertEqual(old, b"null")
        expected = [("m1", "create", {"a": 1}), ("m1", "update", None), ("m1", "update", 3)]
        self.assertEqual([content(event) for event in (first, second, third)], expected)
        await self.settled()
        self.assertEqual([content(event) for event in self.told], expected)
        self.assertEqual([(event.stream, event.group) for event in self.told], [PLACE] * 3)

    async def test_get(self: Any) -> None:
        """What was put is read back byte by byte; what is not there is C{None}."""
        self.assertIsNone(await self.backend.get(*PLACE, "m1"))
        for value in (b"null", b'"\\u00e4\xc3\xa4"', b'{"b":1.0, "a":12345678901234567890123}', b"[]"):
            await self.backend.put(*PLACE, "m1", value)
            self.assertEqual(await self.backend.get(*PLACE, "m1"), value)

    async def test_delete(self: Any) -> None:
        """Removing answers with what was there, and is told if anything was."""
        self.assertEqual(await self.backend.delete(*PLACE, "m1"), (None, None))
        await self.backend.put(*PLACE, "m1", b"null")
        old, event = await self.backend.delete(*PLACE, "m1")
        self.assertEqual((old, content(event)), (b"null", ("m1", "delete", None)))
        self.assertIsNone(await self.backend.get(*PLACE, "m1"))
        await self.settled()
        self.assertEqual([content(event)[1] for event in self.told], ["create", "delete"])

    async def test_update(self: Any) -> None:
        """Updates are applied to what is there, and told."""
        operations: list[Operation] = [Increment(path="n", by=2)]
        made, first = await self.backend.update(*PLACE, "m1", operations, lambda new: None)
        changed, second = await self.backend.update(*PLACE, "m1", operations, lambda new: None)
        self.assertEqual((made.old, made.new, changed.old, changed.new), (None, b'{"n":2}', b'{"n":2}', b'{"n":4}'))
        expected = [("m1", "create", {"n": 2}), ("m1", "update", {"n": 4})]
        self.assertEqual([content(event) for event in (first, second)], expected)
        await self.settled()
        self.assertEqual([content(event) for event in self.told], expected)

    async def test_update_of_null(self: Any) -> None:
        """A null that is there is something: to update it is no creation."""
        await self.backend.put(*PLACE, "m1", b"null")
        updated, event = await self.backend.update(*PLACE, "m1", [], lambda new: None)
        self.assertEqual((updated.old, updated.new, content(event)[1]), (b"null", b"null", "update"))

    async def test_refused_update(self: Any) -> None:
        """An update may be refused by whoever looks at the result; nothing has changed then."""

        def refuse(new: bytes) -> None:
            raise Refused(new)

        try:
            await self.backend.update(*PLACE, "m1", [Increment(path="n", by=2)], refuse)
        except Refused as error:
            self.assertEqual(error.new, b'{"n":2}')
        else:
            self.fail("not refused")
        self.assertIsNone(await self.backend.get(*PLACE, "m1"))
        await self.settled()
        self.assertEqual(self.told, [])

    async def test_concurrent_updates(self: Any) -> None:
        """None of many concurrent updates is lost, and their events come in their order."""
        await gatherResults(
            [
                ensure(self.backend.update(*PLACE, "m1", [Increment(path="n", by=1)], lambda new: None))
                for _ in range(100)
            ]
        )
        await self.settled()
        self.assertEqual([content(event)[2]["n"] for event in self.told], list(range(1, 101)))

    async def test_items(self: Any) -> None:
        """The items of a group are listed, and of no other group."""
        self.assertEqual(await self.backend.items(*PLACE), [])
        for number, item in enumerate(("b", "", "a")):
            await self.backend.put(*PLACE, item, b"%d" % number)
        await self.backend.put("chat", "r2", "x", b"9")
        expected = self.items_in_order([("b", b"0"), ("", b"1"), ("a", b"2")])
        self.assertEqual(self.items_in_order(await self.backend.items(*PLACE)), expected)

    async def test_groups(self: Any) -> None:
        """Streams and groups exist while they have items."""
        self.assertEqual(await self.backend.groups(None), [])
        for stream, group in (("chat", "r2"), ("news", "x"), ("chat", "r1"), ("chatter", "r3")):
            await self.backend.put(stream, group, "i", b"1")
        self.assertEqual(await self.backend.groups("chat"), [("chat", "r1"), ("chat", "r2")])
        found = [("chat", "r1"), ("chat", "r2"), ("chatter", "r3"), ("news", "x")]
        self.assertEqual(await self.backend.groups(None), found)
        await self.backend.delete("chat", "r1", "i")
        self.assertEqual(await self.backend.groups("chat"), [("chat", "r2")])

    async def test_strange_names(self: Any) -> None:
        """Names are any texts; those that would be equal when joined by colons are different."""
        places = [("a", "b:c"), ("a:b", "c"), ("", ""), ("*", "[x]"), ("ä?", "\n"), ("%3A", ":"), ("a:", ":b")]
        for number, (stream, group) in enumerate(places):
            await self.backend.put(stream, group, "*:", b"%d" % number)
        for number, (stream, group) in enumerate(places):
            self.assertEqual(await self.backend.items(stream, group), [("*:", b"%d" % number)])
            self.assertEqual(await self.backend.groups(stream), [(stream, group)])
        self.assertEqual(await self.backend.groups(None), sorted(places))

    async def test_send(self: Any) -> None:
        """What is sent is told and not stored."""
        for item in (None, "m1"):
            event = await self.backend.send(*PLACE, item, b'{"type":"t","data":1}')
            self.assertEqual(content(event), (item, "event", {"type": "t", "data": 1}))
        await self.settled()
        self.assertEqual([event.item for event in self.told], [None, "m1"])
        self.assertEqual(await self.backend.groups(None), [])

    async def test_tell(self: Any) -> None:
        """What has happened elsewhere is told."""
        await self.backend.tell(stream_event(*PLACE, "m1", 5, "update", Raw(b"1")))
        await self.settled()
        self.assertEqual([content(event) for event in self.told], [("m1", "update", 1)])

    async def test_stamps(self: Any) -> None:
        """The stamps of what is told of a group increase, those of snapshots included."""
        for number in range(5):
            await self.backend.put(*PLACE, f"m{number}", b"1")
        await self.settled()
        snapshot = await self.snapshot(None)
        await self.backend.send(*PLACE, None, b'{"type":"t","data":1}')
        await self.settled()
        stamps = [event.timestamp for event in self.told[:5]] + [snapshot.timestamp, self.told[5].timestamp]
        self.assertEqual(stamps, sorted(set(stamps)))
        self.assertEqual(stamps[0], json.loads(self.told[0].text)["timestamp"])

    async def snapshot(self: Any, item: str | None) -> Snapshot:
        """Return what a client that joins is told."""
        found: list[Snapshot] = []
        await self.backend.snapshot(*PLACE, item, found.append)
        (snapshot,) = found
        return snapshot

    async def test_snapshot(self: Any) -> None:
        """A snapshot has the items of a group, or the one that was asked for."""
        self.assertEqual(list((await self.snapshot(None)).items), [])
        self.assertEqual(list((await self.snapshot("a")).items), [])
        await self.backend.put(*PLACE, "a", b"1")
        await self.backend.put(*PLACE, "b", b"2")
        self.assertEqual(self.items_in_order(list((await self.snapshot(None)).items)), [("a", b"1"), ("b", b"2")])
        self.assertEqual(list((await self.snapshot("b")).items), [("b", b"2")])

    async def test_exact_snapshots(self: Any) -> None:
        """What was told before a snapshot is in it, what is told after is not, whatever happens meanwhile."""
        places: list[tuple[int, Snapshot, str | None]] = []

        async def take(item: str | None) -> None:
            await self.backend.snapshot(*PLACE, item, lambda snapshot: places.append((len(self.told), snapshot, item)))

        work = []
        for number in range(60):
            item = f"m{number % 3}"
            if number % 7 == 6:
                work.append(ensure(self.backend.delete(*PLACE, item)))
            else:
                work.append(ensure(self.backend.put(*PLACE, item, b"%d" % number)))
            work.append(ensure(take(None if number % 2 else item)))
        await gatherResults(work)
        await self.settled()
        self.assertEqual(len(places), 60)
        for before, snapshot, item in places:
            state: dict[str | None, Any] = {}
            for event in self.told[:before]:
                name, kind, data = content(event)
                if kind == "delete":
                    del state[name]
                else:
                    state[name] = data
            wanted = state if item is None else {name: data for name, data in state.items() if name == item}
            self.assertEqual({name: json.loads(data) for name, data in snapshot.items}, wanted)
            self.assertTrue(all(event.timestamp < snapshot.timestamp for event in self.told[:before]))
            self.assertTrue(all(event.timestamp > snapshot.timestamp for event in self.told[before:]))


@attrs.define
class Refused(EngineError):
    """Raised by whoever looks at the result of an update."""

    new: bytes
