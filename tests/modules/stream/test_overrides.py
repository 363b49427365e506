"""Tests for L{iii.modules.stream.overrides}, by the functions."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from iii.modules.stream.overrides import Overrides
from tests.core.fakes import connect
from tests.modules.stream.case import ITEM, PARENT, PLACE, StreamTestCase

SET = {**ITEM, "data": 1}


class OverrideTests(StreamTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.keeper = connect(self.engine, "keeper")
        self.listener = connect(self.engine, "listener")
        self.listener.register("f")
        self.listener.register_trigger("t", "stream", config={"stream_name": "chat"})

    def keep(self, *ops: str) -> None:
        """Let a worker keep the stream C{chat}."""
        self.keeper.register(*(f"stream::{op}(chat)" for op in ops))

    def asked(self) -> dict[str, Any]:
        """Return the one call that has come to this worker."""
        (call,) = self.calls(self.keeper)
        return call

    def through(self, op: str, given: Any, **outcome: Any) -> Any:
        """Return what the caller gets when the worker answers so."""
        call = self.worker.call(f"stream::{op}", given)
        self.keeper.answer(self.asked(), **outcome)
        return self.worker.outcome(call)

    def events(self) -> list[Any]:
        """Return what clients were told since the last time; triggers were told the same."""
        told = [json.loads(event.text) for event in self.told]
        self.told.clear()
        heard = []
        while calls := self.calls(self.listener):
            for call in calls:
                heard.append(call["data"])
                self.listener.answer(call)
        self.assertEqual(heard, told)
        return [(event["id"], event["event"]) for event in told]

    def test_payload(self) -> None:
        """The function gets the members that are known, in the trace of the caller."""
        inputs: dict[str, Any] = {
            "get": ITEM, "delete": ITEM, "set": SET, "list": PLACE, "list_groups": {"stream_name": "chat"},
        }  # fmt: skip
        self.keep(*inputs)
        for op, given in inputs.items():
            self.worker.call(f"stream::{op}", {**given, "other": 1}, traceparent=PARENT, baggage="a=b")
            call = self.asked()
            self.assertEqual((call["function_id"], call["data"]), (f"stream::{op}(chat)", given))
            self.assertEqual(call["traceparent"], PARENT)
            self.assertEqual(call["baggage"], f"a=b,iii.function.id=stream::{op}(chat)")
            self.keeper.answer(call, result={"new_value": 1})

    def test_reads(self) -> None:
        """What it returns is the answer, whatever it is; nothing stays nothing."""
        self.keep("get", "list", "list_groups")
        inputs: dict[str, Any] = {"get": ITEM, "list": PLACE, "list_groups": {"stream_name": "chat"}}
        for op, given in inputs.items():
            for result in ({"any": "thing"}, [1], "text", False):
                self.assertEqual(self.through(op, given, result=result), result)
            for outcome in ({}, {"result": None}):
                call = self.worker.call(f"stream::{op}", given)
                self.keeper.answer(self.asked(), **outcome)
                self.assertNotIn("result", self.answer(call))
        self.assertEqual(self.events(), [])

    def test_failing_reads(self) -> None:
        """Failures of reads are passed on as they are."""
        self.keep("get", "list", "list_groups")
        error = {"code": "c", "message": "m", "stacktrace": "s"}
        for op, given in (("get", ITEM), ("list", PLACE), ("list_groups", {"stream_name": "chat"})):
            call = self.worker.call(f"stream::{op}", given)
            self.keeper.answer(self.asked(), error=error)
            self.assertEqual(self.answer(call)["error"], error)

    def test_set(self) -> None:
        """The answer is made of what the function returns, and so is the event."""
        self.keep("set")
        result = self.through("set", SET, result={"new_value": 2, "old_value": None, "more": 1})
        self.assertEqual(result, {"old_value": None, "new_value": 2})
        self.assertEqual(self.through("set", SET, result={"new_value": 3})["old_value"], None)
        self.assertEqual(self.through("set", SET, result={"new_value": 4, "old_value": 3})["old_value"], 3)
        kinds = [("m1", {"type": kind, "data": data}) for kind, data in (("create", 2), ("create", 3), ("update", 4))]
        self.assertEqual(self.events(), kinds)
        self.assertEqual(self.ask("list_all", {})["count"], 0)

    def test_wrong_set(self) -> None:
        """A result of another shape is an error of its own; nobody is told."""
        self.keep("set")
        code, message = self.through("set", SET, result={"old_value": 1})
        self.assertEqual(code, "JSON_ERROR")
        self.assertEqual(message, "Failed to convert result to value: missing field `new_value`")
        for result in (1, [], "x", True):
            code, message = self.through("set", SET, result=result)
            self.assertEqual(code, "JSON_ERROR")
            self.assertTrue(message.startswith("Failed to convert result to value: expected an object"), message)
        self.assertEqual(self.events(), [])

    def test_no_result(self) -> None:
        """Neither is no result one, of changes."""
        self.keep("set", "update")
        for outcome in ({}, {"result": None}):
            error = self.through("set", SET, **outcome)
            self.assertEqual(error, ("STREAM_SET_ERROR", "Failed to set value: Function returned no result"))
            error = self.through("update", {**ITEM, "ops": []}, **outcome)
            self.assertEqual(error, ("STREAM_UPDATE_ERROR", "Failed to update value: Function returned no result"))
        self.assertEqual(self.events(), [])

    def test_failing_changes(self) -> None:
        """Failures of changes are told in the reference's form."""
        self.keep("set", "delete", "update")
        inputs: dict[str, Any] = {"set": SET, "delete": ITEM, "update": {**ITEM, "ops": []}}
        body = 'ErrorBody { code: "c", message: "it\\n\\"is\\" so", stacktrace: '
        for op, given in inputs.items():
            for stack, shown in (({}, "None }"), ({"stacktrace": "s"}, 'Some("s") }')):
                error = self.through(op, given, error={"code": "c", "message": 'it\n"is" so', **stack})
                cause = f"Failed to {op} value: Failed to invoke function: {body}{shown}"
                self.assertEqual(error, (f"STREAM_{op.upper()}_ERROR", cause))
        self.assertEqual(self.events(), [])

    def test_delete(self) -> None:
        """What was there is told; nothing is told when nothing was, which no result means, too."""
        self.keep("delete")
        self.assertEqual(self.through("delete", ITEM, result={"old_value": {"a": 1}}), {"old_value": {"a": 1}})
        self.assertEqual(self.events(), [("m1", {"type": "delete", "data": {"a": 1}})])
        for outcome in ({"result": {"old_value": None}}, {"result": {}}, {"result": None}, {}):
            self.assertEqual(self.through("delete", ITEM, **outcome), {"old_value": None})
        self.assertEqual(self.through("delete", ITEM, result=1)[0], "JSON_ERROR")
        self.assertEqual(self.events(), [])

    def test_update(self) -> None:
        """Its own update gets the operations as they came, and may say which failed."""
        self.keep("get", "set", "update")
        ops = [{"type": "increment", "path": "n", "by": 2}, {"type": "merge", "path": ["a"], "value": {"x": None}}]
        call = self.worker.call("stream::update", {**ITEM, "ops": ops})
        asked = self.asked()
        self.assertEqual((asked["function_id"], asked["data"]), ("stream::update(chat)", {**ITEM, "ops": ops}))
        problem = {"op_index": 0, "code": "c", "message": "m"}
        self.keeper.answer(asked, result={"old_value": 1, "new_value": 3, "errors": [{**problem, "more": 1}]})
        self.assertEqual(self.worker.outcome(call), {"old_value": 1, "new_value": 3, "errors": [problem]})
        self.assertEqual(self.events(), [("m1", {"type": "update", "data": 3})])
        self.assertEqual(
            self.through("update", {**ITEM, "ops": []}, result={"new_value": 3, "errors": []}),
            {"old_value": None, "new_value": 3},
        )
        for errors in (None, [{"op_index": 0, "code": "c"}], {}):
            result = self.through("update", {**ITEM, "ops": []}, result={"new_value": 3, "errors": errors})
            self.assertEqual(result[0], "JSON_ERROR")

    def test_update_by_get_and_set(self) -> None:
        """Without an update of its own, an item is read, changed and written."""
        self.keep("get", "set")
        call = self.worker.call("stream::update", {**ITEM, "ops": [{"type": "increment", "path": "n", "by": 2}]})
        reading = self.asked()
        self.assertEqual((reading["function_id"], reading["data"]), ("stream::get(chat)", ITEM))
        self.keeper.answer(reading, result={"n": 1})
        writing = self.asked()
        self.assertEqual((writing["function_id"], writing["data"]), ("stream::set(chat)", {**ITEM, "data": {"n": 3}}))
        self.keeper.answer(writing, result={"old_value": {"n": 1}, "new_value": {"n": 3}})
        self.assertEqual(self.worker.outcome(call), {"old_value": {"n": 1}, "new_value": {"n": 3}})
        self.assertEqual(self.events(), [("m1", {"type": "update", "data": {"n": 3}})])

    def test_update_of_nothing(self) -> None:
        """An item that is not there is made by an update."""
        self.keep("get", "set")
        call = self.worker.call("stream::update", {**ITEM, "ops": [{"type": "increment", "path": "", "by": 2}]})
        self.keeper.answer(self.asked())
        self.keeper.answer(self.asked(), result={"new_value": 2})
        self.assertEqual(self.worker.outcome(call), {"old_value": None, "new_value": 2})
        self.assertEqual(self.events(), [("m1", {"type": "create", "data": 2})])

    def test_update_problems(self) -> None:
        """Operations that fail are told."""
        self.keep("get", "set")
        call = self.worker.call("stream::update", {**ITEM, "ops": [{"type": "increment", "path": "n", "by": 2}]})
        self.keeper.answer(self.asked(), result={"n": "x"})
        self.keeper.answer(self.asked(), result={"old_value": {"n": "x"}, "new_value": {"n": "x"}})
        (problem,) = self.worker.outcome(call)["errors"]
        self.assertEqual((problem["op_index"], problem["code"]), (0, "increment.not_number"))

    def test_failing_update(self) -> None:
        """When reading or writing fails, so does the update, and the next one goes on."""
        self.keep("get", "set")
        body = 'ErrorBody { code: "c", message: "m", stacktrace: None }'
        error = ("STREAM_UPDATE_ERROR", f"Failed to update value: Failed to invoke function: {body}")
        self.assertEqual(self.through("update", {**ITEM, "ops": []}, error={"code": "c", "message": "m"}), error)
        call = self.worker.call("stream::update", {**ITEM, "ops": []})
        self.keeper.answer(self.asked(), result={})
        self.keeper.answer(self.asked(), error={"code": "c", "message": "m"})
        self.assertEqual(self.worker.outcome(call), error)
        self.assertEqual(self.events(), [])

    def test_in_turn(self) -> None:
        """Changes of one item wait for each other, so that an update loses none; those of others do not."""
        self.keep("get", "set")
        self.worker.call("stream::update", {**ITEM, "ops": []})
        self.worker.call("stream::set", SET)
        self.worker.call("stream::set", {**SET, "item_id": "m2"})
        reading, other = self.calls(self.keeper)
        self.assertEqual(other["data"]["item_id"], "m2")
        self.keeper.answer(reading, result=5)
        writing = self.asked()
        self.assertEqual(writing["data"]["data"], 5)
        self.keeper.answer(writing, result={"new_value": 5, "old_value": 5})
        self.assertEqual(self.asked()["data"]["data"], 1)

    def test_within_its_own_calls(self) -> None:
        """What the worker calls itself while it sets an item does not wait until it has done so."""
        self.keep("set", "delete")
        call = self.worker.call("stream::set", SET)
        setting = self.asked()
        inner = self.keeper.call("stream::delete", ITEM)
        self.keeper.answer(self.asked())
        self.assertEqual(self.keeper.outcome(inner), {"old_value": None})
        self.keeper.answer(setting, result={"new_value": 1})
        self.assertEqual(self.worker.outcome(call)["new_value"], 1)

    def test_own_update_not_in_turn(self) -> None:
        """A worker's own update may have the item set, also by way of another worker."""
        self.keep("set", "update")
        call = self.worker.call("stream::update", {**ITEM, "ops": []})
        updating = self.asked()
        inner = self.worker.call("stream::set", SET)
        self.keeper.answer(self.asked(), result={"new_value": 1})
        self.assertEqual(self.worker.outcome(inner)["new_value"], 1)
        self.keeper.answer(updating, result={"new_value": 1, "old_value": 0})
        self.assertEqual(self.worker.outcome(call), {"old_value": 0, "new_value": 1})

    def test_other_streams(self) -> None:
        """Streams of other names are in the built-in store, and so is what a worker does not keep."""
        self.keep("get", "delete")
        self.assertEqual(self.set(1, stream="chat2")["new_value"], 1)
        self.assertEqual(self.set(1)["new_value"], 1)
        self.assertEqual(self.ask("list", PLACE), [1])
        self.assertEqual(self.calls(self.keeper), [])

    def test_namespace(self) -> None:
        """Only functions in the default namespace count."""
        tenant = connect(self.engine, "tenant", namespace="orders")
        tenant.register("stream::get(chat)")
        self.set(1)
        self.assertEqual(self.ask("get", ITEM), 1)

    def test_gone(self) -> None:
        """When the worker goes, calls under way fail, and the built-in store answers again."""
        self.keep("get")
        call = self.worker.call("stream::get", ITEM)
        self.keeper.leave()
        self.assertEqual(self.worker.outcome(call)[0], "invocation_stopped")
        self.assertNotIn("result", self.answer(self.worker.call("stream::get", ITEM)))

    def test_send_and_list_all(self) -> None:
        """Neither is ever a worker's."""
        self.keep("send", "list_all")
        self.ask("send", {**PLACE, "type": "t", "data": 1})
        self.ask("list_all", {})
        self.assertEqual(self.calls(self.keeper), [])

    def test_reader(self) -> None:
        """Clients that join read a group or an item by it; no result is null; nobody keeps what nobody keeps."""
        overrides = Overrides(self.engine)
        self.assertIsNone(overrides.reader("chat", "r1", "m1"))
        self.keep("get", "list")
        for item, op, given in ((None, "list", PLACE), ("", "get", {**ITEM, "item_id": ""})):
            read = overrides.reader("chat", "r1", item)
            assert read is not None
            for outcome, expected in (({"result": [1]}, b"[1]"), ({}, b"null")):
                waiting = Deferred.fromCoroutine(read())
                call = self.asked()
                self.assertEqual((call["function_id"], call["data"]), (f"stream::{op}(chat)", given))
                self.keeper.answer(call, **outcome)
                self.assertEqual(bytes(self.successResultOf(waiting)), expected)
