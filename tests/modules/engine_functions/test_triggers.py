"""Tests for L{iii.modules.engine_functions.triggers}."""

from __future__ import annotations

from typing import Any

from tests.modules.engine_functions.case import EngineFunctionsTestCase

TYPES, TYPE = "engine::triggers::list", "engine::triggers::info"
LIST, INFO = "engine::registered-triggers::list", "engine::registered-triggers::info"


class ListTypesTests(EngineFunctionsTestCase):
    def _ids(self, **wanted: Any) -> list[str]:
        return [row["id"] for row in self.ask(TYPES, **wanted)["triggers"]]

    def test_row(self) -> None:
        """A row has id, namespace, provider and description, and no schemas."""
        self.provide("http", "iii-http", configuration_schema={"type": "object"})
        self.connect("shop", namespace="orders").provide("paid", description="An order is paid")
        self.assertEqual(
            self.ask(TYPES)["triggers"],
            [
                {
                    "id": "http",
                    "namespace": "default",
                    "worker_name": "iii-http",
                    "description": "what http does",
                },
                {
                    "id": "paid",
                    "namespace": "orders",
                    "worker_name": "shop",
                    "description": "An order is paid",
                },
            ],
        )

    def test_provider(self) -> None:
        """A worker without a name shows as the first segment of the id; a worker without a description has one."""
        self.connect(None).provide("shop::paid")
        (row,) = self.ask(TYPES)["triggers"]
        self.assertEqual((row["worker_name"], row["description"]), ("shop", ""))

    def test_other_names(self) -> None:
        """Durable topics are listed as the queue's, the engine's own types as the engine's."""
        self.provide("durable:subscriber", "iii-queue")
        rows = self.ask(TYPES, include_internal=True)["triggers"]
        self.assertEqual(
            {row["id"]: row["worker_name"] for row in rows},
            {
                "durable:subscriber": "queue",
                "engine::functions-available": "engine",
                "engine::workers-available": "engine",
            },
        )

    def test_internal(self) -> None:
        """Those of the engine are listed on request only."""
        self.provide("http")
        self.assertEqual(self._ids(), ["http"])
        self.assertEqual(
            self._ids(include_internal=True), ["engine::functions-available", "engine::workers-available", "http"]
        )

    def test_filters(self) -> None:
        """Types can be chosen by prefix, exact provider and a search in id and description, and must meet all."""
        self.provide("stream", "iii-stream")
        self.provide("stream:join", "iii-stream")
        self.connect("iii-stream-2").provide("other", description="Like a Stream")
        self.assertEqual(self._ids(prefix="stream"), ["stream", "stream:join"])
        self.assertEqual(self._ids(worker="iii-stream"), ["stream", "stream:join"])
        self.assertEqual(self._ids(search="STREAM"), ["other", "stream", "stream:join"])
        self.assertEqual(self._ids(worker="iii-stream", search="join", prefix="s"), ["stream:join"])
        self.assertEqual(self._ids(worker=""), [])

    def test_old_name(self) -> None:
        """Engines before 0.13 had the same rows under another id and another name."""
        self.provide("http")
        self.assertEqual(
            self.ask("engine::trigger-types::list", include_internal=True)["trigger_types"],
            self.ask(TYPES, include_internal=True)["triggers"],
        )


class TypeInfoTests(EngineFunctionsTestCase):
    def test_detail(self) -> None:
        """A detail is a row with the schemas that there are and the number of live triggers."""
        schemas: dict[str, Any] = {
            "configuration_schema": {"type": "object"},
            "request_schema": {"type": "string"},
            "response_schema": {"type": "null"},
        }
        self.provide("http", "iii-http", **schemas)
        worker = self.connect("w")
        worker.register_trigger("1", "http")
        worker.register_trigger("2", "http", namespace="orders")
        worker.register_trigger("parked", "http", trigger_namespace="orders")
        self.assertEqual(
            self.ask(TYPE, id="http"),
            {
                "id": "http",
                "namespace": "default",
                "worker_name": "iii-http",
                "description": "what http does",
                **schemas,
                "instance_count": 2,
            },
        )

    def test_worker(self) -> None:
        """The schemas of a worker's type are those that it sent."""
        self.connect("w").provide("t", trigger_request_format={"a": 1}, call_request_format={"b": 2})
        detail = self.ask(TYPE, id="t")
        self.assertEqual((detail["configuration_schema"], detail["request_schema"]), ({"a": 1}, {"b": 2}))
        self.assertNotIn("response_schema", detail)

    def test_no_schemas(self) -> None:
        """Schemas that there are not are left out."""
        self.connect("w").provide("t", trigger_request_format=None)
        self.assertEqual(
            set(self.ask(TYPE, id="t")), {"id", "namespace", "worker_name", "description", "instance_count"}
        )

    def test_schemas_of_modules(self) -> None:
        """A worker's type without schemas has those of the module's type with that id."""
        self.provide("cron", configuration_schema={"a": 1}, request_schema={"b": 2})
        self.connect("w", namespace="orders").provide("cron", trigger_request_format={"own": 1})
        detail = self.ask(TYPE, id="cron", namespace="orders")
        self.assertEqual((detail["configuration_schema"], detail["request_schema"]), ({"own": 1}, {"b": 2}))

    def test_namespaces(self) -> None:
        """The namespace is exact, C{default} without one; triggers of another provider do not count."""
        self.provide("t")
        worker = self.connect("w", namespace="orders")
        worker.provide("t")
        worker.register_trigger("1", "t")
        detail = self.ask(TYPE, id="t", namespace="orders")
        self.assertEqual((detail["worker_name"], detail["instance_count"]), ("w", 1))
        detail = self.ask(TYPE, id="t")
        self.assertEqual((detail["worker_name"], detail["instance_count"]), ("iii-test", 0))

    def test_unknown(self) -> None:
        """A type that is not in the namespace is an error, also when another one has it."""
        self.connect("w", namespace="orders").provide("t")
        for members, namespace in (({}, "default"), ({"namespace": "x"}, "x"), ({"namespace": ""}, "")):
            self.assertEqual(
                self.ask_in_vain(TYPE, id="t", **members),
                ("NOT_FOUND", f"Trigger type 't' is not registered in namespace '{namespace}'."),
            )


class ListTests(EngineFunctionsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.provider = self.provide("cron", "iii-cron")
        self.worker = self.connect("shop", "orders::create")

    def _ids(self, **wanted: Any) -> list[str]:
        return [row["id"] for row in self.ask(LIST, **wanted)["registered_triggers"]]

    def test_row(self) -> None:
        """A row has the trigger, the owner of its function, its config, and where function and provider are."""
        self.worker.register_trigger("t", "cron", "orders::create", config={"b": [1, 2], "a": "x y"})
        self.assertEqual(
            self.ask(LIST)["registered_triggers"],
            [
                {
                    "id": "t",
                    "trigger_type": "cron",
                    "function_id": "orders::create",
                    "worker_name": "shop",
                    "config": {"b": [1, 2], "a": "x y"},
                    "config_summary": '{"b":[1,2],"a":"x y"}',
                    "namespace": "default",
                    "trigger_namespace": "default",
                    "state": "live",
                }
            ],
        )

    def test_long_summary(self) -> None:
        """Of a very long config the summary is how it begins; it is not read for that."""
        self.worker.register_trigger("t", "cron", config={"text": "é" * 100_000})
        (row,) = self.ask(LIST)["registered_triggers"]
        self.assertEqual(len(row["config_summary"]), 81)
        self.assertTrue(row["config_summary"].startswith('{"text": "'))

    def test_summary(self) -> None:
        """A config is summed up in 80 characters, however they were written, and an ellipsis if there is more."""
        for trigger_id, config in (("a", "é" * 78), ("b", "é" * 79), ("c", None)):
            self.worker.register_trigger(trigger_id, "cron", config=config)
        summaries = [row["config_summary"] for row in self.ask(LIST)["registered_triggers"]]
        self.assertEqual(summaries, ['"' + "é" * 78 + '"', '"' + "é" * 79 + "…", "null"])

    def test_owner(self) -> None:
        """A function that is not there, or whose worker has no name, shows as the first segment of its id."""
        self.connect(None, "unnamed::f")
        self.worker.register_trigger("1", "cron", "missing::f")
        self.worker.register_trigger("2", "cron", "unnamed::f")
        self.worker.register_trigger("3", "cron", "orders::create", namespace="other")
        self.worker.register_trigger("4", "cron", "orders::create")
        rows = self.ask(LIST)["registered_triggers"]
        self.assertEqual([row["worker_name"] for row in rows], ["missing", "unnamed", "orders", "shop"])

    def test_order(self) -> None:
        """Triggers of all namespaces are listed, by id."""
        self.worker.register_trigger("b", "cron")
        self.worker.register_trigger("a", "cron", namespace="orders")
        self.assertEqual(self._ids(), ["a", "b"])

    def test_internal(self) -> None:
        """Triggers of functions of the engine are listed on request only."""
        self.worker.register_trigger("a", "cron", "engine::workers::list")
        self.worker.register_trigger("b", "cron")
        self.assertEqual(self._ids(), ["b"])
        self.assertEqual(self._ids(include_internal=True), ["a", "b"])

    def test_filters(self) -> None:
        """Triggers can be chosen by exact type, function and owner and a search in the ids, and must meet all."""
        self.provide("http")
        self.worker.register_trigger("a", "cron", "orders::create")
        self.worker.register_trigger("b", "http", "orders::create")
        self.worker.register_trigger("c", "http", "http::f")
        self.worker.register_trigger("Http", "cron", "other::f")
        self.assertEqual(self._ids(trigger_type="http"), ["b", "c"])
        self.assertEqual(self._ids(function_id="orders::create"), ["a", "b"])
        self.assertEqual(self._ids(worker="shop"), ["a", "b"])
        self.assertEqual(self._ids(worker="other"), ["Http"])
        self.assertEqual(self._ids(search="HTTP"), ["Http", "b", "c"])
        self.assertEqual(self._ids(search="orders"), ["a", "b"])
        self.assertEqual(self._ids(trigger_type="http", worker="shop", search=""), ["b"])

    def test_worker_of_replicas(self) -> None:
        """The triggers of a function that several workers serve are found under each of their names."""
        self.connect("shop-2", "orders::create")
        self.worker.register_trigger("a", "cron", "orders::create")
        self.assertEqual(self._ids(worker="shop"), ["a"])
        self.assertEqual(self._ids(worker="shop-2"), ["a"])

    def test_parked(self) -> None:
        """Parked triggers are listed on request only, with the reason."""
        self.worker.register_trigger("a", "cron")
        self.worker.register_trigger("b", "unknown")
        self.worker.register_trigger("c", "cron", trigger_namespace="orders")
        self.assertEqual(self._ids(), ["a"])
        rows = self.ask(LIST, include_parked=True)["registered_triggers"]
        self.assertEqual([row["state"] for row in rows], ["live", "parked", "parked"])
        self.assertEqual(rows[1]["reason"], "no provider of trigger type 'unknown' is connected")
        self.assertNotIn("trigger_namespace", rows[1])
        self.assertEqual(rows[2]["trigger_namespace"], "orders")

    def test_replicas(self) -> None:
        """Equal triggers of several workers, of which the provider knows one, are all listed."""
        self.worker.register_trigger("a", "cron", "orders::create")
        self.connect("shop-2").register_trigger("b", "cron", "orders::create")
        self.assertEqual(list(self.provider.active), ["a"])
        self.assertEqual(self._ids(), ["a", "b"])


class InfoTests(EngineFunctionsTestCase):
    def test_detail(self) -> None:
        """A detail is a row with the metadata, the type and the function."""
        self.provide("cron")
        worker = self.connect("shop", "f")
        worker.register_trigger("t", "cron", "f", config={"a": 1}, metadata={"m": 2})
        self.assertEqual(
            self.ask(INFO, id="t"),
            {
                **self.ask(LIST)["registered_triggers"][0],
                "metadata": {"m": 2},
                "trigger": self.ask(TYPE, id="cron"),
                "function": self.ask("engine::functions::info", function_id="f"),
            },
        )

    def test_no_function(self) -> None:
        """A function that does not exist in the trigger's namespace is null; absent metadata is left out."""
        self.provide("cron")
        worker = self.connect("shop", "f")
        worker.register_trigger("t", "cron", "f", namespace="orders", metadata=None)
        detail = self.ask(INFO, id="t")
        self.assertIsNone(detail["function"])
        self.assertNotIn("metadata", detail)

    def test_unknown(self) -> None:
        """A trigger that does not exist is an error."""
        self.assertEqual(self.ask_in_vain(INFO, id="x"), ("NOT_FOUND", "Registered trigger 'x' was not found."))

    def test_parked(self) -> None:
        """A parked trigger is described on request only; its type is null."""
        self.connect("shop").register_trigger("t", "unknown")
        self.assertEqual(self.ask_in_vain(INFO, id="t"), ("NOT_FOUND", "Registered trigger 't' was not found."))
        detail = self.ask(INFO, id="t", include_parked=True)
        self.assertEqual((detail["state"], detail["trigger"]), ("parked", None))
