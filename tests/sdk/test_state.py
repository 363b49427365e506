"""Workers on the SDKs use the state, and hear of its changes (spec/state.md)."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred, gatherResults

from tests.sdk.client import RemoteError
from tests.sdk.contract import OneSdk, needs, on_each_sdk
from tests.sdk.sdk import Ability

MANY = 500


class StateContract(OneSdk):
    in_table: ClassVar = False

    async def state(self, name: str, **data: Any) -> Any:
        """Have the worker call C{state::name}."""
        return await self.worker.call(f"state::{name}", payload=data)

    async def test_round_trip(self) -> None:
        """What one sets one gets, with its old value; delete returns the value itself."""
        place = {"scope": self.unique("scope"), "key": "k"}
        value = {"text": "grüße", "list": [1, {"a": None}, []], "float": 1.5}
        self.assertEqual(await self.state("set", **place, value=value), {"old_value": None, "new_value": value})
        self.assertEqual(await self.state("get", **place), value)
        self.assertEqual(await self.state("set", **place, value=2), {"old_value": value, "new_value": 2})
        self.assertEqual(await self.state("delete", **place), 2)
        self.assertIsNone(await self.state("get", **place))

    async def test_absent_and_null(self) -> None:
        """Neither the absence of a value nor a stored null is an error to the SDK; only null is listed."""
        place = {"scope": self.unique("scope"), "key": "k"}
        for name in ("get", "delete"):
            self.assertIsNone(await self.state(name, **place))
        self.assertEqual(await self.state("set", **place, value=None), {"old_value": None, "new_value": None})
        self.assertEqual(await self.state("list", scope=place["scope"]), [None])
        for name in ("get", "delete"):
            self.assertIsNone(await self.state(name, **place))

    async def test_lists(self) -> None:
        """The values of a scope come in the order in which they were first set; its name is listed while it has any."""
        scope = self.unique("scope")
        for key in ("b", "a", "c"):
            await self.state("set", scope=scope, key=key, value={"id": key})
        await self.state("set", scope=scope, key="b", value={"id": "B"})
        self.assertEqual(await self.state("list", scope=scope), [{"id": "B"}, {"id": "a"}, {"id": "c"}])
        self.assertIn(scope, (await self.state("list_groups"))["groups"])
        for key in ("a", "b", "c"):
            await self.state("delete", scope=scope, key=key)
        self.assertEqual(await self.state("list", scope=scope), [])
        self.assertNotIn(scope, (await self.state("list_groups"))["groups"])

    async def test_update(self) -> None:
        """Operations are applied in order; one that fails is told and the others apply."""
        place = {"scope": self.unique("scope"), "key": "k"}
        ops = [
            {"type": "set", "path": "name", "value": "a"},
            {"type": "increment", "path": "count", "by": 2},
            {"type": "increment", "path": "name", "by": 1},
            {"type": "append", "path": "tags", "value": 1},
            {"type": "merge", "path": ["deep", "er"], "value": {"x": True}},
        ]
        answer = await self.state("update", **place, ops=ops)
        new = {"name": "a", "count": 2, "tags": [1], "deep": {"er": {"x": True}}}
        self.assertEqual((answer["old_value"], answer["new_value"]), (None, new))
        self.assertEqual(
            [(error["op_index"], error["code"]) for error in answer["errors"]], [(2, "increment.not_number")]
        )
        answer = await self.state("update", **place, ops=[{"type": "remove", "path": "deep"}])
        self.assertEqual(answer, {"old_value": new, "new_value": {key: new[key] for key in ("name", "count", "tags")}})

    async def test_concurrent_updates(self) -> None:
        """Of many updates at one time none is lost."""
        place = {"scope": self.unique("scope"), "key": "k"}
        ops = [{"type": "increment", "path": "count", "by": 1}, {"type": "append", "path": "all", "value": 0}]
        calls = [self.state("update", **place, ops=ops) for _ in range(MANY)]
        await gatherResults([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)
        self.assertEqual(await self.state("get", **place), {"count": MANY, "all": [0] * MANY})

    @needs(Ability.CODED_ERRORS)
    async def test_errors(self) -> None:
        """Bad input is an error with a code, and nothing is done."""
        place = {"scope": self.unique("scope"), "key": "k"}
        for name, data in (("set", {}), ("update", {"ops": [{"type": "x"}]}), ("set", {"value": 1, "data": 1})):
            try:
                await self.state(name, **place, **data)
            except RemoteError as error:
                self.assertEqual(error.code, "deserialization_error")
            else:
                self.fail(f"{name} {data} was taken")
        self.assertIsNone(await self.state("get", **place))

    async def test_trigger(self) -> None:
        """A worker hears of all changes of a key, with the values before and after, in their order."""
        scope, key = self.unique("scope"), self.unique("key")
        await self._bind(key, {"scope": scope, "key": key})
        await self.state("set", scope=scope, key=key, value={"n": 1})
        await self.state("set", scope=scope, key="another", value=1)
        await self.state("update", scope=scope, key=key, ops=[{"type": "increment", "path": "n", "by": 1}])
        await self.state("delete", scope=scope, key=key)
        expected = [
            ("state:created", None, {"n": 1}),
            ("state:updated", {"n": 1}, {"n": 2}),
            ("state:deleted", {"n": 2}, None),
        ]
        await self.eventually("the events have come", lambda: self._heard(key, len(expected)))
        for event, (event_type, old, new) in zip(await self._heard(key, 3), expected, strict=True):
            event.pop("_caller_worker_id", None)
            self.assertEqual(
                event,
                {
                    "type": "state",
                    "event_type": event_type,
                    "scope": scope,
                    "key": key,
                    "old_value": old,
                    "new_value": new,
                },
            )

    async def test_condition(self) -> None:
        """A condition that returns false leaves an event out.  Here it is the value itself: C{state::get}."""
        scope, key = self.unique("scope"), self.unique("key")
        await self._bind(key, {"scope": scope, "condition_function_id": "state::get"})
        for value in (True, False, None, 0):
            await self.state("set", scope=scope, key=key, value=value)
        await self.eventually("the events have come", lambda: self._heard(key, 3))
        self.assertEqual([event["new_value"] for event in await self._heard(key, 3)], [True, None, 0])

    async def _bind(self, key: str, config: Any) -> None:
        """Let the worker keep the events under their C{key}."""
        binding = {"type": "state", "function_id": self.worker.id("receive"), "config": config}
        await self.worker.do("register_trigger", key=key, **binding)
        self.addCleanup(self.worker.do, "unregister", key=key)
        await self.eventually("the trigger is there", lambda: self._is_bound(config))

    async def _is_bound(self, config: Any) -> bool:
        query = {"trigger_type": "state", "function_id": self.worker.id("receive")}
        rows = (await self.client.call("engine::registered-triggers::list", query))["registered_triggers"]
        return any(row["config"] == config for row in rows)

    async def _heard(self, key: str, number: int) -> Any:
        """The events so far, if there are so many."""
        received = await self.worker.received(key)
        return len(received) >= number and [each["data"] for each in received]


globals().update(on_each_sdk(StateContract))
