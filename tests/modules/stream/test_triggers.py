"""Tests for L{iii.modules.stream.triggers}."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.core.fakes import FakeWorker, connect
from tests.modules.stream.case import ITEM, PARENT, PLACE, StreamTestCase


class StreamTriggerTests(StreamTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.listener = connect(self.engine, "listener")
        self.listener.register("f", "ask")

    def trigger(self, config: Any, id: str = "t", **members: Any) -> FakeWorker:
        self.listener.register_trigger(id, "stream", config=config, **members)
        return self.listener

    def follow(self, **config: Any) -> FakeWorker:
        """Register a trigger on the stream C{chat}."""
        return self.trigger({"stream_name": "chat", **config})

    def heard(self) -> list[Any]:
        """Return what the function was called with since the last time, and answer."""
        heard = []
        while calls := self.calls(self.listener):
            for call in calls:
                heard.append(call["data"])
                self.listener.answer(call)
        return heard

    def items(self) -> list[Any]:
        return [payload["id"] for payload in self.heard()]

    def refusal(self) -> Any:
        (refusal,) = self.listener.received("triggerregistrationresult")
        return refusal["error"]

    def test_payload(self) -> None:
        """The function gets the event as clients do, with the trigger's metadata."""
        self.follow()
        self.listener.register_trigger("t", "stream", config={"stream_name": "chat"}, metadata={"m": 1})
        self.set({"t": "hi"})
        (call,) = self.calls(self.listener)
        self.assertEqual(
            call["data"],
            {
                "type": "stream", "timestamp": 1_000_000_000, "streamName": "chat", "groupId": "r1", "id": "m1",
                "event": {"type": "create", "data": {"t": "hi"}},
            },
        )  # fmt: skip
        self.assertEqual(call["metadata"], {"m": 1})

    def test_kinds(self) -> None:
        """It hears of changes and of what is sent, not of reads and not of what did not happen."""
        self.follow()
        self.set(1)
        self.set(1)
        self.ask("get", ITEM)
        self.ask("delete", ITEM)
        self.ask("delete", ITEM)
        self.ask("set", ITEM)
        self.ask("send", {**PLACE, "type": "typing", "data": 7, "id": "m1"})
        heard = self.heard()
        self.assertEqual([each["event"]["type"] for each in heard], ["create", "update", "delete", "event"])
        self.assertEqual(heard[3]["event"], {"type": "event", "event": {"type": "typing", "data": 7}})

    def test_stream(self) -> None:
        """It hears of its stream only."""
        self.follow()
        self.set(1, stream="chat2")
        self.set(1, stream="chat:r1")
        self.set(1, "here")
        self.assertEqual(self.items(), ["here"])

    def test_group(self) -> None:
        """With a group, it hears of this one only."""
        self.follow(group_id="r1")
        self.set(1, "a", "r2")
        self.set(1, "b", "r1")
        self.assertEqual(self.items(), ["b"])

    def test_item(self) -> None:
        """With an item, it hears of this one only, and of nothing that is about a group."""
        self.follow(item_id="m1")
        self.set(1, "m2")
        self.set(1, "m1", "r2")
        self.ask("send", {**PLACE, "type": "t", "data": 1})
        self.ask("send", {**PLACE, "type": "t", "data": 1, "id": "m1"})
        self.assertEqual(self.items(), ["m1", "m1"])

    def test_empty_filters(self) -> None:
        """An empty or null group or item is any."""
        self.follow(group_id="", item_id=None)
        self.set(1, "", "")
        self.set(1)
        self.ask("send", {**PLACE, "type": "t", "data": 1})
        self.assertEqual(self.items(), ["", "m1", None])

    def test_several(self) -> None:
        """All triggers that match hear of an event."""
        self.listener.register("g", "h")
        self.trigger({"stream_name": "chat"}, "1")
        self.listener.register_trigger("2", "stream", "g", config={"stream_name": "chat", "group_id": "r1"})
        self.listener.register_trigger("3", "stream", "h", config={"stream_name": "chat", "item_id": "m1"})
        self.set(1)
        self.assertEqual({call["function_id"] for call in self.calls(self.listener)}, {"f", "g", "h"})

    def test_condition(self) -> None:
        """A condition gets the payload and decides."""
        self.follow(condition_function_id="ask")
        for number in (1, 2):
            self.set(number, f"m{number}")
        asked = self.calls(self.listener)
        self.assertEqual([(call["function_id"], call["data"]["id"]) for call in asked], [("ask", "m1"), ("ask", "m2")])
        self.listener.answer(asked[0], result=False)
        self.listener.answer(asked[1], result=True)
        self.assertEqual(
            [(call["function_id"], call["data"]["id"]) for call in self.calls(self.listener)], [("f", "m2")]
        )

    def test_order(self) -> None:
        """A function gets the events of an item one after the other, those of other items meanwhile."""
        self.follow()
        for number in (1, 2):
            self.set(number, "a")
        self.set(3, "b")
        calls = self.calls(self.listener)
        self.assertEqual([call["data"]["event"]["data"] for call in calls], [1, 3])
        self.listener.answer(calls[0])
        self.assertEqual([call["data"]["event"]["data"] for call in self.calls(self.listener)], [2])

    def test_trace(self) -> None:
        """Functions are called in the trace of the writer, with its baggage."""
        self.follow()
        self.set(1, traceparent=PARENT, baggage="a=b")
        (call,) = self.calls(self.listener)
        self.assertEqual(call["traceparent"].split("-")[1], PARENT.split("-")[1])
        self.assertNotEqual(call["traceparent"], PARENT)
        self.assertEqual(call["baggage"], "a=b,iii.function.id=f")

    def test_no_trace(self) -> None:
        """Without a trace of the writer's they begin one; what shows traces has none."""
        self.follow()
        self.trigger({"stream_name": "iii:devtools:state"}, "u")
        self.set(1)
        self.set(1, stream="iii:devtools:state", traceparent=PARENT)
        plain, devtools = self.calls(self.listener)
        self.assertRegex(plain["traceparent"], r"\A00-[0-9a-f]{32}-[0-9a-f]{16}-01\Z")
        self.assertNotIn("baggage", plain)
        self.assertNotIn("traceparent", devtools)
        self.assertNotIn("baggage", devtools)

    def test_registered_again(self) -> None:
        """Registering an id again replaces what was there: it fires once, and by the new config."""
        self.follow()
        self.follow()
        self.set(1, "a")
        self.assertEqual(self.items(), ["a"])
        self.follow(group_id="r2")
        self.set(1, "b")
        self.set(1, "c", "r2")
        self.assertEqual(self.items(), ["c"])

    def test_unregistered(self) -> None:
        """A trigger that has ended hears nothing more."""
        self.follow()
        self.listener.send("unregistertrigger", id="t")
        self.set(1)
        self.assertEqual(self.items(), [])

    def test_no_stream(self) -> None:
        """Without a stream a trigger is refused; whoever sent it goes on."""
        for config in ({}, {"stream_name": None}, {"group_id": "r1"}):
            self.trigger(config)
            self.assertEqual(self.refusal()["code"], "trigger_registration_failed")
            self.assertEqual(
                self.refusal()["message"], "Failed to deserialize stream trigger: `stream_name` is required"
            )
            self.listener.edge.frames.clear()
        self.follow()
        self.set(1)
        self.assertEqual(self.items(), ["m1"])

    def test_wrong_config(self) -> None:
        """So is a config that is no object, or has members of wrong types; the trigger before stays."""
        self.follow()
        for config in (None, [], "chat", {"stream_name": 1}, {"stream_name": "s", "group_id": 1}):
            self.trigger(config)
            self.assertEqual(self.refusal()["code"], "trigger_registration_failed")
            self.assertTrue(self.refusal()["message"].startswith("Failed to deserialize stream trigger"))
            self.listener.edge.frames.clear()
        self.set(1)
        self.assertEqual(self.items(), ["m1"])

    def test_unknown_members(self) -> None:
        """Unknown members of a config are ignored."""
        self.follow(metadata={"x": 1})
        self.set(1)
        self.assertEqual(self.items(), ["m1"])


class BacklogTests(StreamTestCase):
    limits: ClassVar[dict[str, int]] = {"ordered_backlog": 2}

    def test_writer_does_not_wait(self) -> None:
        """Who writes is answered although a function hangs; what is too much for it is dropped and counted."""
        listener = connect(self.engine, "listener")
        listener.register("f")
        listener.register_trigger("t", "stream", config={"stream_name": "chat"})
        for number in range(10):
            self.assertEqual(self.set(number)["new_value"], number)
        self.assertEqual(len(self.calls(listener)), 1)
        self.assertEqual(self.engine.counters.limit_hits, {"ordered_backlog": 7})
