"""Streams as workers use them: the functions, the triggers, and streams that a worker keeps (spec/stream.md, 10)."""

from __future__ import annotations

from typing import Any

from tests.sdk.client import RemoteError
from tests.sdk.contract import OneSdk, needs, on_each_sdk
from tests.sdk.sdk import Ability


class StreamsContract(OneSdk):
    async def setUp(self) -> None:
        await super().setUp()
        self.stream = self.unique("stream")
        self.place = {"stream_name": self.stream, "group_id": "g"}

    async def stream_call(self, op: str, **payload: Any) -> Any:
        """Have the worker call a function of this test's stream."""
        return await self.worker.call(f"stream::{op}", payload={"stream_name": self.stream, **payload})

    async def set(self, item: str, data: Any, group: str = "g") -> Any:
        return await self.stream_call("set", group_id=group, item_id=item, data=data)

    async def get(self, item: str, group: str = "g") -> Any:
        return await self.stream_call("get", group_id=group, item_id=item)

    async def update(self, item: str, *ops: dict[str, Any]) -> Any:
        return await self.stream_call("update", group_id="g", item_id=item, ops=list(ops))

    async def test_set(self) -> None:
        """Setting answers with the value before and the new one, and reading gives the value."""
        first, second = {"text": "grüße 🙂", "n": 1.5}, {"list": [None, True]}
        self.assertEqual(await self.set("i", first), {"old_value": None, "new_value": first})
        self.assertEqual(await self.get("i"), first)
        self.assertEqual(await self.set("i", second), {"old_value": first, "new_value": second})
        self.assertEqual(await self.get("i"), second)

    async def test_get_missing(self) -> None:
        """What is not there is nothing."""
        self.assertIsNone(await self.get("missing"))

    async def test_delete(self) -> None:
        """Removing gives what was there, and null if nothing was."""
        await self.set("i", {"n": 1})
        for old in ({"n": 1}, None):
            self.assertEqual(await self.stream_call("delete", group_id="g", item_id="i"), {"old_value": old})
        self.assertIsNone(await self.get("i"))

    async def test_list(self) -> None:
        """Listing gives the values of a group in the order in which they were put."""
        self.assertEqual(await self.stream_call("list", group_id="g"), [])
        for number, item in enumerate("bac"):
            await self.set(item, {"id": item, "n": number})
        expected = [{"id": item, "n": number} for number, item in enumerate("bac")]
        self.assertEqual(await self.stream_call("list", group_id="g"), expected)

    async def test_list_groups(self) -> None:
        """The groups of a stream are a list."""
        for group in ("one", "two"):
            await self.set("i", 1, group)
        self.assertEqual(sorted(await self.stream_call("list_groups")), ["one", "two"])

    async def test_list_all(self) -> None:
        """All streams are listed with their groups."""
        await self.set("i", 1)
        listed = await self.worker.call("stream::list_all", payload={})
        self.assertIn({"id": self.stream, "groups": ["g"]}, listed["stream"])
        self.assertEqual(listed["count"], len(listed["stream"]))

    async def test_update(self) -> None:
        """Every operation is applied, in order."""
        await self.set("i", {"count": 1, "name": "a", "old": True, "tags": ["x"]})
        answer = await self.update(
            "i",
            {"type": "set", "path": "name", "value": "b"},
            {"type": "increment", "path": "count", "by": 4},
            {"type": "decrement", "path": "count", "by": 2},
            {"type": "append", "path": "tags", "value": "y"},
            {"type": "merge", "path": "", "value": {"more": 1}},
            {"type": "remove", "path": "old"},
        )
        new = {"count": 3, "name": "b", "tags": ["x", "y"], "more": 1}
        self.assertEqual(answer["new_value"], new)
        self.assertNotIn("errors", answer)
        self.assertEqual(await self.get("i"), new)

    async def test_update_paths(self) -> None:
        """Merging takes a path as a text and as a list; an operation that fails is told and left out."""
        await self.update("i", {"type": "merge", "path": "a", "value": {"x": 1}})
        answer = await self.update(
            "i",
            {"type": "merge", "path": ["a", "b"], "value": {"y": 2}},
            {"type": "increment", "path": "a", "by": 1},
        )
        self.assertEqual(answer["new_value"], {"a": {"x": 1, "b": {"y": 2}}})
        (problem,) = answer["errors"]
        self.assertEqual((problem["op_index"], problem["code"]), (1, "increment.not_number"))

    async def follow(self, config: dict[str, Any]) -> None:
        """Let the worker keep the events of this stream, until the test ends."""
        key, function = self.unique("trigger"), self.worker.id("watch")
        request = {"type": "stream", "function_id": function, "config": {"stream_name": self.stream, **config}}
        await self.worker.do("register_trigger", key=key, **request)
        self.addCleanup(self.worker.do, "unregister", key=key)
        query = {"trigger_type": "stream", "function_id": function}
        await self.eventually(
            "the trigger is there",
            lambda: self._any("engine::registered-triggers::list", query, "registered_triggers"),
        )

    async def _any(self, function_id: str, query: Any, member: str) -> bool:
        rows = (await self.client.call(function_id, query))[member]
        return any(self.stream in str(row) for row in rows)

    async def heard(self, count: int) -> list[Any]:
        """Return so many events of this stream that have come, when they have, without their times."""

        async def come() -> list[Any]:
            received = [each["data"] for each in await self.worker.received("watch")]
            return [each for each in received if isinstance(each, dict) and each.get("streamName") == self.stream]

        async def enough() -> bool:
            return len(await come()) >= count

        await self.eventually(f"{count} events have come", enough)
        events = await come()
        self.assertEqual(len(events), count)
        for event in events:
            self.assertIsInstance(event.pop("timestamp"), int)
        return events

    async def test_trigger(self) -> None:
        """A trigger is told of every change, in order."""
        await self.follow({})
        for number in range(3):
            await self.set("i", number)
        await self.stream_call("delete", group_id="g", item_id="i")
        place = {"type": "stream", "streamName": self.stream, "groupId": "g", "id": "i"}
        expected = [("create", 0), ("update", 1), ("update", 2), ("delete", 2)]
        self.assertEqual(
            await self.heard(4), [{**place, "event": {"type": kind, "data": data}} for kind, data in expected]
        )

    async def test_trigger_for_item(self) -> None:
        """A trigger may be about one item."""
        await self.follow({"group_id": "g", "item_id": "i"})
        await self.set("j", 1)
        await self.set("i", 1, "h")
        await self.set("i", {"here": 1})
        (event,) = await self.heard(1)
        self.assertEqual((event["groupId"], event["id"], event["event"]["data"]), ("g", "i", {"here": 1}))

    async def test_send(self) -> None:
        """What is sent reaches triggers and is not stored."""
        await self.follow({})
        self.assertIsNone(await self.stream_call("send", group_id="g", type="typing", data={"u": 7}))
        (event,) = await self.heard(1)
        self.assertIsNone(event["id"])
        self.assertEqual(event["event"], {"type": "event", "event": {"type": "typing", "data": {"u": 7}}})
        self.assertEqual(await self.stream_call("list", group_id="g"), [])

    async def keep(self) -> None:
        """Let the worker keep this stream."""
        await self.worker.do("keep_stream", name=self.stream)

        async def kept() -> bool:
            for op in ("get", "set", "delete", "list", "list_groups"):
                await self.client.call("engine::functions::info", {"function_id": f"stream::{op}({self.stream})"})
            return True

        await self.eventually("the worker keeps the stream", kept, ignoring=(RemoteError,))

    @needs(Ability.CUSTOM_STREAMS)
    async def test_custom(self) -> None:
        """A stream that the worker keeps is used like others; the built-in store has nothing of it."""
        await self.keep()
        self.assertIsNone(await self.get("i"))
        self.assertEqual(await self.set("i", 1), {"old_value": None, "new_value": {"kept": 1}})
        self.assertEqual(await self.set("i", 2), {"old_value": {"kept": 1}, "new_value": {"kept": 2}})
        self.assertEqual(await self.get("i"), {"kept": 2})
        self.assertEqual(await self.stream_call("list", group_id="g"), [{"kept": 2}])
        self.assertEqual(await self.stream_call("list_groups"), ["g"])
        listed = await self.client.call("stream::list_all", {})
        self.assertNotIn(self.stream, [stream["id"] for stream in listed["stream"]])
        self.assertIn("old_value", await self.stream_call("delete", group_id="g", item_id="i"))
        self.assertIsNone(await self.get("i"))

    @needs(Ability.CUSTOM_STREAMS)
    async def test_custom_events(self) -> None:
        """Its changes are told, with what the worker has made of them."""
        await self.keep()
        await self.follow({})
        await self.set("i", 1)
        await self.set("i", 2)
        kinds = [(event["event"]["type"], event["event"]["data"]) for event in await self.heard(2)]
        self.assertEqual(kinds, [("create", {"kept": 1}), ("update", {"kept": 2})])

    @needs(Ability.CUSTOM_STREAMS, Ability.NO_STREAM_UPDATE)
    async def test_custom_update(self) -> None:
        """An update of it is made by reading and writing."""
        await self.keep()
        await self.set("i", {"n": 1})
        answer = await self.update("i", {"type": "merge", "path": "kept", "value": {"n": 3}})
        self.assertEqual(answer["old_value"], {"kept": {"n": 1}})
        self.assertEqual(answer["new_value"], {"kept": {"kept": {"n": 3}}})
        self.assertEqual(await self.get("i"), {"kept": {"kept": {"n": 3}}})


globals().update(on_each_sdk(StreamsContract))
