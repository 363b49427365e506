"""What the engine tells about functions, workers and triggers, asked through the SDKs."""

from __future__ import annotations

import json
from typing import Any

from tests.sdk.client import RemoteError
from tests.sdk.contract import OneSdk, needs, on_each_sdk
from tests.sdk.environments import NEWEST
from tests.sdk.sdk import Ability


class ListingsContract(OneSdk):
    async def test_functions_list(self) -> None:
        """A row has the function's worker and description; the list can be narrowed."""
        rows = (await self._ask("functions::list", prefix=self.worker.id("")))["functions"]
        echo = self.worker.id("echo")
        (row,) = [row for row in rows if row["function_id"] == echo]
        expected = {
            "function_id": echo,
            "namespace": "default",
            "worker_name": self.worker.name,
            "description": "Returns what it gets",
        }
        self._assert_has(row, expected)
        self.assertEqual({row["worker_name"] for row in rows}, {self.worker.name})
        self.assertEqual([], (await self._ask("functions::list", prefix=self.unique("nothing")))["functions"])

    @needs(Ability.FUNCTION_METADATA)
    async def test_function_metadata(self) -> None:
        """A row has the function's metadata."""
        echo = self.worker.id("echo")
        rows = (await self._ask("functions::list", prefix=echo))["functions"]
        self.assertEqual([row["metadata"] for row in rows if row["function_id"] == echo], [{"team": "tests"}])

    @needs(Ability.FUNCTION_FORMATS)
    async def test_function_formats(self) -> None:
        """The details of a function have its schema."""
        echo = await self._ask("functions::info", function_id=self.worker.id("echo"))
        self.assertEqual(echo["request_schema"], {"type": "object", "title": "Anything"})

    async def test_functions_info(self) -> None:
        """The details of a function have the triggers bound to it."""
        echo = await self._ask("functions::info", function_id=self.worker.id("echo"))
        self.assertEqual(echo["registered_triggers"], [])
        fail = await self._ask("functions::info", function_id=self.worker.id("fail"))
        (bound,) = fail["registered_triggers"]
        self.assertEqual((bound["trigger_type"], bound["config"]), ("http", self._fail_config()))

    async def test_functions_info_of_none(self) -> None:
        """The details of an unknown function are an error that says so."""
        missing = self.unique("missing")
        with self.assertRaises(RemoteError) as caught:
            await self._ask("functions::info", function_id=missing)
        self.assertEqual(caught.exception.code, "NOT_FOUND")
        self.assertEqual(caught.exception.message, f"Function '{missing}' is not registered.")

    @needs(Ability.WORKER_PID)
    async def test_workers_list(self) -> None:
        """The row of a worker says what its SDK announced."""
        row = await self._worker_row()
        expected = {
            "name": self.worker.name,
            "namespace": "default",
            "runtime": self.sdk.runtime,
            "version": self.sdk.version,
            "status": "connected",
            "isolation": None,
            "ip_address": "127.0.0.1",
        }
        self._assert_has(row, expected)
        self.assertGreater(row["function_count"], 20)
        self.assertGreaterEqual(row["active_invocations"], 1)  # this very call

    @needs(Ability.WORKER_DESCRIPTION)
    async def test_worker_description(self) -> None:
        """The row of a worker has the description that its program gave."""
        self.assertEqual((await self._worker_row())["description"], f"{self.worker.name} under test")

    @needs(Ability.WORKER_PID)
    async def test_worker_pid(self) -> None:
        """The details of a worker name its process, and its row has the same id."""
        info = await self._ask("workers::info", name=self.worker.name)
        self.assertEqual(info["worker"]["pid"], self.worker.worker.pid)
        self.assertEqual(info["worker"]["id"], (await self._worker_row())["id"])

    @needs(Ability.TRIGGER_TYPES)
    async def test_workers_info(self) -> None:
        """The details of a worker have its functions, trigger types and bindings."""
        type_id = self.unique("type")
        await self.worker.do("register_type", id=type_id, description="Fires when told")
        answer = await self.worker.call(self.worker.id("echo"), payload={})
        info = await self._ask("workers::info", name=self.worker.name)
        self.assertEqual(info["worker"]["id"], answer["_caller_worker_id"])
        self.assertIn(self.worker.id("echo"), [row["function_id"] for row in info["functions"]])
        (provided,) = [row for row in info["trigger_types"] if row["id"] == type_id]
        self.assertEqual(provided["description"], "Fires when told")
        targets = {row["function_id"] for row in info["registered_triggers"]}
        self.assertIn(self.worker.id("fail"), targets)
        self.assertEqual(targets, {target for target in targets if target.startswith(self.worker.id(""))})

    @needs(Ability.TRIGGER_TYPES)
    async def test_triggers(self) -> None:
        """Trigger types of the engine and of workers are listed; the details have their schemas and use."""
        type_id = self.unique("type")
        await self.worker.do("register_type", id=type_id, description="Fires when told")
        await self.worker.call(self.worker.id("echo"))
        rows = {row["id"]: row for row in (await self._ask("triggers::list"))["triggers"]}
        own = {"id": type_id, "namespace": "default", "worker_name": self.worker.name, "description": "Fires when told"}
        self._assert_has(rows[type_id], own)
        self._assert_has(rows["http"], {"worker_name": "iii-http", "namespace": "default"})
        self.assertTrue(rows["http"]["description"])
        http = await self._ask("triggers::info", id="http")
        self.assertIn("api_path", json.dumps(http["configuration_schema"]))
        self.assertGreaterEqual(http["instance_count"], 3)  # the routes of this worker alone

    async def test_registered_triggers(self) -> None:
        """A binding is listed with its type, function and config; its details have these and more."""
        function_id, key = self.worker.id("nothing"), self.unique("route")
        config = {"api_path": f"/{key}", "http_method": "GET"}
        row = await self._bind(key, function_id, config)
        self.assertEqual(json.loads(row["config_summary"]), config)
        expected = {
            "trigger_type": "http",
            "function_id": function_id,
            "worker_name": self.worker.name,
            "config": config,
        }
        self._assert_has(row, expected)
        info = await self._ask("registered-triggers::info", id=row["id"])
        self._assert_has(info, expected)
        self.assertEqual(info["function"]["function_id"], function_id)
        self.assertEqual(info["trigger"]["id"], "http")
        await self.worker.do("unregister", key=key)
        await self.eventually("it is listed no more", lambda: self._is_unbound(function_id))

    @needs(Ability.TRIGGER_METADATA)
    async def test_registered_trigger_metadata(self) -> None:
        """The details of a binding have its metadata."""
        function_id, key = self.worker.id("process"), self.unique("route")
        metadata = {"owner": "tests"}
        row = await self._bind(key, function_id, {"api_path": f"/{key}", "http_method": "GET"}, metadata=metadata)
        info = await self._ask("registered-triggers::info", id=row["id"])
        self.assertEqual(info["metadata"], metadata)
        await self.worker.do("unregister", key=key)
        await self.eventually("it is listed no more", lambda: self._is_unbound(function_id))

    @needs(Ability.LISTING_METHODS)
    async def test_list_functions(self) -> None:
        """The old method C{list_functions} understands the answer."""
        rows = (await self.worker.do("list", method="list_functions"))["rows"]
        (row,) = [row for row in rows if row["function_id"] == self.worker.id("echo")]
        self.assertEqual(row["description"], "Returns what it gets")

    @needs(Ability.LISTING_METHODS)
    async def test_list_workers(self) -> None:
        """The old method C{list_workers} understands the answer, in which each worker has the ids of its functions."""
        rows = (await self.worker.do("list", method="list_workers"))["rows"]
        (row,) = [row for row in rows if row["name"] == NEWEST[0].name]
        self.assertEqual(row["status"], "connected")
        self.assertIn(f"{NEWEST[0].name}::echo", row["functions"])
        self.assertEqual(len(row["functions"]), row["function_count"])

    @needs(Ability.LISTING_METHODS)
    async def test_on_functions_available(self) -> None:
        """What the old method C{on_functions_available} has been given is called with a new function."""
        new = self.unique("functions::new")
        watcher = await self.start_worker(self.engine.url, self.sdk, self.unique("watcher"))
        await watcher.worker.ready(self.client)
        await watcher.do("watch_functions")
        await watcher.call(watcher.id("echo"))
        await self.worker.do("register_function", id=new)

        async def told() -> bool:
            return any(new in functions for functions in await watcher.received("functions"))

        await self.eventually("the watcher is told", told, 12)

    async def test_functions_available(self) -> None:
        """A function bound to C{engine::functions-available} is told of a new function."""
        key, new = self.unique("key"), self.unique("functions::new")
        watching = self.unique("watcher")
        watcher = await self.start_worker(self.engine.url, self.sdk, watching)
        await watcher.worker.ready(self.client)
        await watcher.do(
            "register_trigger", key=key, type="engine::functions-available", function_id=watcher.id("watch"), config={}
        )
        await watcher.call(watcher.id("echo"))
        await self.worker.do("register_function", id=new)
        await self.eventually("the watcher is told", lambda: self._is_told(watcher, new), 12)

    async def _bind(self, key: str, function_id: str, config: dict[str, str], **options: Any) -> Any:
        """Bind a function, which has no other trigger, to a route.  Return its row."""
        await self.worker.do(
            "register_trigger", key=key, type="http", function_id=function_id, config=config, **options
        )
        await self.worker.call(self.worker.id("echo"))
        (row,) = (await self._ask("registered-triggers::list", function_id=function_id))["registered_triggers"]
        return row

    async def _is_told(self, watcher: Any, function_id: str) -> bool:
        events = [entry["data"] for entry in await watcher.received("watch")]
        self.assertEqual({event["event"] for event in events} - {"functions_changed"}, set())
        return any(row["function_id"] == function_id for event in events for row in event["functions"])

    async def _ask(self, function: str, **filters: Any) -> Any:
        """Call one of the engine's functions through the worker's SDK."""
        return await self.worker.call(f"engine::{function}", payload=filters)

    def _assert_has(self, row: dict[str, Any], expected: dict[str, Any]) -> None:
        """A row may have more than the contract says."""
        self.assertEqual({key: row.get(key) for key in expected}, expected)

    async def _worker_row(self) -> Any:
        (row,) = (await self._ask("workers::list", search=self.worker.name))["workers"]
        return row

    async def _is_unbound(self, function_id: str) -> bool:
        listed = await self._ask("registered-triggers::list", function_id=function_id)
        return listed["registered_triggers"] == []

    def _fail_config(self) -> dict[str, str]:
        return {"api_path": f"/{self.worker.name}/fail", "http_method": "GET"}


globals().update(on_each_sdk(ListingsContract))
