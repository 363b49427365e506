"""Tests for L{iii.modules.stream.functions}."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from twisted.internet.defer import fail
from zope.interface.verify import verifyObject

from iii.interfaces import IModule
from iii.storage.errors import StorageError
from iii.storage.updates import DEEPEST
from tests.core.fakes import connect
from tests.modules.stream.case import ITEM, PLACE, StreamTestCase


def nested(levels: int) -> Any:
    """Return lists in lists."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


class FunctionTests(StreamTestCase):
    def test_module(self) -> None:
        """It is a module."""
        verifyObject(IModule, self.module)

    def test_set(self) -> None:
        """Setting answers with the value before, null if there was none, and the new one."""
        self.assertEqual(self.set({"t": "hi"}), {"old_value": None, "new_value": {"t": "hi"}})
        self.assertEqual(self.set(2), {"old_value": {"t": "hi"}, "new_value": 2})

    def test_set_null(self) -> None:
        """Null is a value; without any, setting is refused."""
        self.assertEqual(self.set(None), {"old_value": None, "new_value": None})
        answer = self.answer(self.worker.call("stream::get", ITEM))
        self.assertIsNone(answer["result"])
        code, message = self.ask("set", ITEM)
        self.assertEqual(code, "deserialization_error")
        self.assertIn("Failed to deserialize input for stream::set: ", message)
        self.assertIn("`data`", message)

    def test_kept_as_it_came(self) -> None:
        """Values are not decoded: numbers beyond a double and the order of members stay."""
        text = '{"b":1e400,"a":12345678901234567890123, "c":1.0}'
        data = json.dumps({"invocation_id": "4a1b3bd6-9f3d-4d0b-8f52-2f1c9a3e5d70", "type": "invokefunction"})
        payload = json.dumps(ITEM)[:-1] + f', "data": {text}}}'
        self.worker.connection.received((data[:-1] + f', "function_id": "stream::set", "data": {payload}}}').encode())
        stored = self.successResultOf(self.values.get(("chat", "r1"), "m1"))
        self.assertEqual(stored, text.encode())

    def test_get(self) -> None:
        """Reading an item that is not there has no result at all."""
        answer = self.answer(self.worker.call("stream::get", ITEM))
        self.assertNotIn("result", answer)
        self.assertNotIn("error", answer)
        self.set([1])
        self.assertEqual(self.ask("get", ITEM), [1])

    def test_delete(self) -> None:
        """Removing answers with the value that was there."""
        self.set(1)
        self.assertEqual(self.ask("delete", ITEM), {"old_value": 1})
        self.assertEqual(self.ask("delete", ITEM), {"old_value": None})
        self.assertNotIn("result", self.answer(self.worker.call("stream::get", ITEM)))

    def test_list(self) -> None:
        """Listing gives the values of one group in the order in which they were first put."""
        self.assertEqual(self.ask("list", PLACE), [])
        for number, item in enumerate("bac"):
            self.set(number, item)
        self.set(9, "b")
        self.set("other", "x", "r2")
        self.assertEqual(self.ask("list", PLACE), [9, 1, 2])

    def test_list_with_ids(self) -> None:
        """On request it tells the ids, too."""
        self.set(1, "b")
        self.set(None, "a")
        listed = self.ask("list", {**PLACE, "include_ids": True})
        self.assertEqual(listed, [{"id": "b", "data": 1}, {"id": "a", "data": None}])

    def test_list_pages(self) -> None:
        """On request it gives so many after an id, in the order of the ids."""
        for number, item in enumerate("bdac"):
            self.set(number, item)
        self.assertEqual(self.ask("list", {**PLACE, "limit": 2}), [2, 0])
        self.assertEqual(self.ask("list", {**PLACE, "limit": 2, "after": "b"}), [3, 1])
        self.assertEqual(self.ask("list", {**PLACE, "after": "bb"}), [3, 1])
        self.assertEqual(self.ask("list", {**PLACE, "after": "d"}), [])

    def test_list_groups(self) -> None:
        """The groups of a stream are a bare list, of this stream only, whatever the names are."""
        self.assertEqual(self.ask("list_groups", {"stream_name": "chat"}), [])
        self.set(1, group="r2")
        self.set(1, group="r1")
        self.set(1, group="x", stream="chat:r3")
        self.set(1, group="r3:x")
        self.assertEqual(self.ask("list_groups", {"stream_name": "chat"}), ["r1", "r2", "r3:x"])
        self.ask("delete", ITEM)
        self.assertEqual(self.ask("list_groups", {"stream_name": "chat"}), ["r2", "r3:x"])

    def test_list_all(self) -> None:
        """All streams with their groups are listed, sorted, under the key C{stream}."""
        self.assertEqual(self.ask("list_all", {}), {"stream": [], "count": 0})
        for stream, group in (("b", "2"), ("a:b", "c"), ("b", "1"), ("a", "b:c"), ("", "")):
            self.set(1, group=group, stream=stream)
        expected = [("", [""]), ("a", ["b:c"]), ("a:b", ["c"]), ("b", ["1", "2"])]
        listed = self.ask("list_all", {})
        self.assertEqual(listed, {"stream": [{"id": id, "groups": groups} for id, groups in expected], "count": 4})
        self.assertEqual(self.ask("list_all", None)[0], "deserialization_error")

    def test_colons(self) -> None:
        """Names that would be equal when joined by a colon are different."""
        self.set("first", group="b:c", stream="a")
        self.set("second", group="c", stream="a:b")
        self.assertEqual(self.ask("list", {"stream_name": "a", "group_id": "b:c"}), ["first"])

    def test_send(self) -> None:
        """Sending stores nothing and answers null."""
        call = self.worker.call("stream::send", {**PLACE, "type": "typing", "data": {"u": 7}})
        self.assertIsNone(self.answer(call)["result"])
        self.assertEqual(self.ask("list_all", {})["count"], 0)

    def test_update(self) -> None:
        """An update answers with the value before and after, and with what it left out, if anything."""
        ops = [{"type": "set", "path": "a", "value": 1}, {"type": "append", "path": ["b", "c"], "value": {"x": None}}]
        made = {"a": 1, "b": {"c": [{"x": None}]}}
        self.assertEqual(self.ask("update", {**ITEM, "ops": ops}), {"old_value": None, "new_value": made})
        answer = self.ask("update", {**ITEM, "ops": [{"type": "increment", "path": "b", "by": 1}]})
        (problem,) = answer.pop("errors")
        self.assertEqual(answer, {"old_value": made, "new_value": made})
        self.assertEqual((problem["op_index"], problem["code"]), (0, "increment.not_number"))
        self.assertEqual(self.ask("get", ITEM), made)

    def test_wrong_update(self) -> None:
        """An operation of a wrong shape fails the whole call."""
        ops = [{"type": "set", "path": "a", "value": 1}, {"type": "increment", "path": "n", "by": 1.5}]
        code, message = self.ask("update", {**ITEM, "ops": ops})
        self.assertEqual(code, "deserialization_error")
        self.assertTrue(message.startswith("Failed to deserialize input for stream::update: "), message)
        self.assertEqual(self.ask("list", PLACE), [])

    def test_missing_members(self) -> None:
        """A member that is missing, or no text, is an error that names the function."""
        sent = {**PLACE, "type": "t", "data": 1}
        inputs: dict[str, dict[str, Any]] = {
            "set": {**ITEM, "data": 1}, "get": ITEM, "delete": ITEM, "update": {**ITEM, "ops": []}, "list": PLACE,
            "list_groups": {"stream_name": "s"}, "send": sent,
        }  # fmt: skip
        for op, given in inputs.items():
            for missing in given:
                code, message = self.ask(op, {key: value for key, value in given.items() if key != missing})
                self.assertEqual(code, "deserialization_error")
                self.assertTrue(message.startswith(f"Failed to deserialize input for stream::{op}: "), message)
            self.assertEqual(self.ask(op, {**given, "stream_name": 1})[0], "deserialization_error")

    def test_unknown_members(self) -> None:
        """Unknown members are ignored."""
        self.assertEqual(self.ask("set", {**ITEM, "data": 1, "more": 2})["new_value"], 1)

    def test_depth(self) -> None:
        """A value that is nested too deep is refused; the old one stays."""
        self.assertEqual(self.set(nested(DEEPEST))["new_value"], nested(DEEPEST))
        error = ("VALUE_TOO_DEEP", "value is nested deeper than 120 levels")
        deep = nested(DEEPEST + 1)
        self.assertEqual(self.set(deep), error)
        self.assertEqual(self.ask("send", {**PLACE, "type": "t", "data": deep}), error)
        self.assertEqual(self.ask("list", PLACE), [nested(DEEPEST)])

    def test_schemas(self) -> None:
        """Inputs are described, and the results of four functions."""
        described = [each.id for each in self.module.functions if each.output is not None]
        self.assertEqual(described, ["stream::set", "stream::delete", "stream::update", "stream::list_all"])
        schema = self.engine.functions.find("default", "stream::set").schema("input")  # type: ignore[union-attr]
        self.assertEqual(schema["required"], ["stream_name", "group_id", "item_id", "data"])


class EventTests(StreamTestCase):
    """What clients are told."""

    def events(self) -> list[Any]:
        return [json.loads(event.text) for event in self.told]

    def test_changes(self) -> None:
        """Each change is told with the time, the place and the value."""
        self.set(1)
        self.set(None)
        self.set(3)
        self.ask("delete", ITEM)
        place = {"type": "stream", "streamName": "chat", "groupId": "r1", "id": "m1"}
        expected = [("create", 1), ("update", None), ("update", 3), ("delete", 3)]
        self.assertEqual(
            self.events(),
            [
                {**place, "timestamp": 1_000_000_000 + number, "event": {"type": kind, "data": data}}
                for number, (kind, data) in enumerate(expected)
            ],
        )

    def test_updates(self) -> None:
        """An update is told always: of what was not there as a creation, also when it has come to nothing."""
        self.ask("update", {**ITEM, "ops": [{"type": "remove", "path": "x"}]})
        self.ask("update", {**ITEM, "ops": []})
        self.assertEqual(
            [event["event"] for event in self.events()],
            [{"type": "create", "data": {}}, {"type": "update", "data": {}}],
        )

    def test_delete_absent(self) -> None:
        """Removing what is not there tells nobody; removing a null does."""
        self.ask("delete", ITEM)
        self.set(None)
        self.ask("delete", ITEM)
        self.assertEqual([event["event"]["type"] for event in self.events()], ["create", "delete"])

    def test_send(self) -> None:
        """What is sent is told with its type, for an item or the group; C{item_id} means nothing here."""
        self.ask("send", {**ITEM, "type": "typing", "data": None})
        self.ask("send", {**PLACE, "type": "typing", "data": {"u": 7}, "id": "m1"})
        self.assertEqual([event["id"] for event in self.events()], [None, "m1"])
        sent = {"type": "event", "event": {"type": "typing", "data": {"u": 7}}}
        self.assertEqual(self.events()[1]["event"], sent)

    def test_told_before_answered(self) -> None:
        """Clients and triggers have been told when the caller has its answer."""
        order: list[str] = []
        self.backend.observer = lambda event: order.append("told")
        listener = connect(self.engine, "l")
        listener.register("f")
        listener.register_trigger("t", "stream", config={"stream_name": "chat"})
        listener.edge.send = lambda frame: order.append("fired")  # type: ignore[method-assign]
        self.worker.edge.send = lambda frame: order.append("answered")  # type: ignore[method-assign]
        self.worker.call("stream::set", {**ITEM, "data": 1})
        self.assertEqual(order, ["told", "fired", "answered"])


class LimitTests(StreamTestCase):
    settings: ClassVar[dict[str, Any]] = {"max_value_bytes": 10}

    def test_set(self) -> None:
        """A value beyond the limit is refused, in the bytes that it has without spaces; the old one stays."""
        self.assertEqual(self.set([1, 2, 3, 4])["new_value"], [1, 2, 3, 4])
        error = ("VALUE_TOO_LARGE", "value of 11 bytes exceeds the configured max_value_bytes limit of 10")
        self.assertEqual(self.set("123456789"), error)
        self.assertEqual(self.ask("get", ITEM), [1, 2, 3, 4])

    def test_update(self) -> None:
        """Nor may an update come to such a value, or to one that is nested too deep; nobody is told."""
        self.set("12345")
        append = {"type": "append", "path": "", "value": "678"}
        self.assertEqual(self.ask("update", {**ITEM, "ops": [append]})["new_value"], "12345678")
        error = ("VALUE_TOO_LARGE", "value of 13 bytes exceeds the configured max_value_bytes limit of 10")
        self.assertEqual(self.ask("update", {**ITEM, "ops": [append]}), error)
        deep = {"type": "set", "path": "", "value": nested(DEEPEST + 1)}
        self.assertIn("nested", self.ask("update", {**ITEM, "ops": [deep]})[1])
        self.assertEqual(self.ask("get", ITEM), "12345678")
        self.assertEqual(len(self.told), 2)


class FailingStoreTests(StreamTestCase):
    def test_errors(self) -> None:
        """A store that fails is told in the form of each function; nobody hears of a change."""
        for name in ("get", "put", "delete", "items", "collections"):
            setattr(self.values, name, lambda *args: fail(StorageError("the disk is gone")))
        sent = {
            "set": ({**ITEM, "data": 1}, "STREAM_SET_ERROR", "set value"),
            "get": (ITEM, "STREAM_GET_ERROR", "get value"),
            "delete": (ITEM, "STREAM_DELETE_ERROR", "delete value"),
            "list": (PLACE, "STREAM_GET_GROUP_ERROR", "get group"),
            "list_groups": ({"stream_name": "chat"}, "STREAM_LIST_GROUPS_ERROR", "list groups"),
            "list_all": ({}, "STREAM_LIST_ALL_ERROR", "list stream"),
        }
        for op, (given, code, action) in sent.items():
            self.assertEqual(self.ask(op, given), (code, f"Failed to {action}: the disk is gone"))
        self.assertEqual(self.told, [])
