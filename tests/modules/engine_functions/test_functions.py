"""Tests for L{iii.modules.engine_functions.functions}."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from tests.modules.engine_functions.case import EngineFunctionsTestCase, declared

LIST, INFO = "engine::functions::list", "engine::functions::info"


class ListTests(EngineFunctionsTestCase):
    def _ids(self, **wanted: Any) -> list[str]:
        return [row["function_id"] for row in self.ask(LIST, **wanted)["functions"]]

    def test_row(self) -> None:
        """A row has id, namespace, owner, description and metadata."""
        self.connect("shop").register("orders::create", description="Create", metadata={"team": "a"})
        self.assertEqual(
            self.ask(LIST)["functions"],
            [
                {
                    "function_id": "orders::create",
                    "namespace": "default",
                    "worker_name": "shop",
                    "description": "Create",
                    "metadata": {"team": "a"},
                }
            ],
        )

    def test_bare_row(self) -> None:
        """Description and metadata are left out when there are none, or null."""
        worker = self.connect("shop", "a")
        worker.register("b", description=None, metadata=None)
        for row in self.ask(LIST)["functions"]:
            self.assertEqual(set(row), {"function_id", "namespace", "worker_name"})

    def test_owner(self) -> None:
        """The owner is the module, or the worker; one without a name shows as the first segment of the id."""
        self.add("iii-state", [declared("state::get")])
        self.connect("shop", "a::b")
        self.connect(None, "unnamed::b", "alone")
        self.assertEqual(
            {row["function_id"]: row["worker_name"] for row in self.ask(LIST)["functions"]},
            {"a::b": "shop", "alone": "alone", "state::get": "iii-state", "unnamed::b": "unnamed"},
        )

    def test_replicas(self) -> None:
        """A function that several workers serve is one row, which shows the newest."""
        self.connect("one", "f")
        self.connect("two", "f", "g")
        self.assertEqual([row["worker_name"] for row in self.ask(LIST)["functions"]], ["two", "two"])

    def test_order(self) -> None:
        """Functions of all namespaces are listed, by id."""
        self.connect("a", "c", "a", namespace="orders")
        self.connect("b", "b", "a")
        rows = self.ask(LIST)["functions"]
        self.assertEqual(
            [(row["function_id"], row["namespace"]) for row in rows],
            [("a", "default"), ("a", "orders"), ("b", "default"), ("c", "orders")],
        )

    def test_internal(self) -> None:
        """Those of the engine, but for its queues, and those marked as internal are listed on request only."""
        self.add("iii-state", [declared("state::on-config-change", metadata=Raw(b'{"internal":true}'))])
        worker = self.connect("queue", "engine::queue::enqueue", "engine::other")
        worker.register("hidden", metadata={"internal": True})
        worker.register("shown", metadata={"internal": "yes"})
        worker.register("odd", metadata=["internal"])
        self.assertEqual(self._ids(), ["engine::queue::enqueue", "odd", "shown"])
        everything = self._ids(include_internal=True)
        for function_id in ("engine::other", "hidden", "state::on-config-change", LIST, "shown"):
            self.assertIn(function_id, everything)

    def test_unreadable_metadata(self) -> None:
        """Numbers beyond all ranges do not keep functions from being listed."""
        for function_id, number in ((b"f", b"1e400"), (b"g", 5000 * b"9")):
            frame = b'{"type":"registerfunction","id":"%s","metadata":{"n":%s}}'
            self.connect("w").connection.received(frame % (function_id, number))
        self.assertEqual(self._ids(), ["f", "g"])

    def test_internal_of_the_newest(self) -> None:
        """Whether a function is internal, its newest owner says; when that one goes, the one before it."""
        self.connect("one").register("f", metadata={"internal": True})
        two = self.connect("two", "f")
        self.assertEqual(self._ids(), ["f"])
        two.leave()
        self.assertEqual(self._ids(), [])

    def test_prefix(self) -> None:
        """Ids can be chosen by how they start."""
        self.connect("w", "orders::a", "orders::b", "other::orders::c")
        self.assertEqual(self._ids(prefix="orders::"), ["orders::a", "orders::b"])

    def test_worker(self) -> None:
        """Functions can be chosen by their owners, of which any will do; no names are no filter."""
        self.connect("one", "a", "shared")
        self.connect("two", "b", "shared")
        self.connect("three", "c")
        self.assertEqual(self._ids(worker="one"), ["a", "shared"])
        self.assertEqual(self._ids(workers=["two", "three"]), ["b", "c", "shared"])
        self.assertEqual(self._ids(worker="one", workers=["three"]), ["a", "c", "shared"])
        self.assertEqual(self._ids(workers=[]), ["a", "b", "c", "shared"])
        self.assertEqual(self._ids(worker=""), [])

    def test_search(self) -> None:
        """A search finds ids that start with it or have it as a segment, then others with it, then descriptions."""
        worker = self.connect("w", "a::mailer", "b::MAIL", "mail::z", "zzz")
        worker.register("aaa", description="Sends e-Mail")
        self.assertEqual(self._ids(search="Mail"), ["b::MAIL", "mail::z", "a::mailer", "aaa"])

    def test_no_search(self) -> None:
        """An empty search is no filter."""
        self.connect("w", "a", "b")
        self.assertEqual(self._ids(search=""), ["a", "b"])

    def test_all_conditions(self) -> None:
        """A function must meet all conditions."""
        self.connect("one", "x::mail", "x::other", "y::mail")
        self.connect("two", "x::mail::two")
        self.assertEqual(self._ids(prefix="x", worker="one", search="mail"), ["x::mail"])

    def test_gone(self) -> None:
        """What a worker served is no longer listed when it has gone, unless another serves it."""
        worker = self.connect("one", "a", "b")
        self.connect("two", "b")
        worker.leave()
        self.assertEqual(self._ids(), ["b"])

    def test_input(self) -> None:
        """Null members are absent, and unknown ones are ignored."""
        self.connect("w", "a")
        self.assertEqual(self._ids(include_internal=None, prefix=None, workers=None, unknown=1), ["a"])


class InfoTests(EngineFunctionsTestCase):
    def test_detail(self) -> None:
        """A detail is a row with both schemas and the function's live triggers, by id."""
        self.provide("cron")
        worker = self.connect("shop")
        worker.register(
            "orders::create",
            description="Create",
            request_format={"type": "object"},
            response_format={"type": "string"},
            metadata={"team": "a"},
        )
        worker.register_trigger("t2", "cron", "orders::create", config={"expression": "* * * * *"})
        worker.register_trigger("t1", "cron", "orders::create")
        worker.register_trigger("parked", "unknown", "orders::create")
        worker.register_trigger("other", "cron", "orders::delete")
        worker.register_trigger("elsewhere", "cron", "orders::create", namespace="orders")
        self.assertEqual(
            self.ask(INFO, function_id="orders::create"),
            {
                "function_id": "orders::create",
                "namespace": "default",
                "worker_name": "shop",
                "description": "Create",
                "metadata": {"team": "a"},
                "request_schema": {"type": "object"},
                "response_schema": {"type": "string"},
                "registered_triggers": [
                    {"id": "t1", "trigger_type": "cron", "config": None},
                    {"id": "t2", "trigger_type": "cron", "config": {"expression": "* * * * *"}},
                ],
            },
        )

    def test_bare_detail(self) -> None:
        """What a function does not have is left out, but for the list of triggers."""
        self.connect("shop", "f")
        self.assertEqual(
            self.ask(INFO, function_id="f"),
            {"function_id": "f", "namespace": "default", "worker_name": "shop", "registered_triggers": []},
        )

    def test_builtin(self) -> None:
        """Every function of the engine has a description and a schema of its input; nearly all one of their output."""
        rows = self.ask(LIST, include_internal=True)["functions"]
        self.assertEqual(len(rows), 13)
        for row in rows:
            detail = self.ask(INFO, function_id=row["function_id"])
            self.assertEqual(detail["worker_name"], "iii-engine-functions")
            self.assertTrue(detail["description"])
            self.assertIn("properties", detail["request_schema"])
            if row["function_id"] != INFO:
                self.assertIn("properties", detail["response_schema"])

    def test_several(self) -> None:
        """Several functions come in the order asked for, each once; a missing one is marked."""
        self.connect("w", "a", "b")
        answer = self.ask(INFO, function_ids=["b", "x", "a", "b", "x"])["functions"]
        self.assertEqual([each["function_id"] for each in answer], ["b", "x", "a"])
        self.assertEqual(answer[1], {"function_id": "x", "error": "not_found"})
        self.assertEqual(answer[2]["registered_triggers"], [])

    def test_namespace(self) -> None:
        """The namespace is the one named, else C{default}, else the only one with the id."""
        self.connect("a", "everywhere", "orders_only", namespace="orders")
        self.connect("b", "everywhere")
        for wanted, expected in (
            ({"function_id": "everywhere"}, "default"),
            ({"function_id": "everywhere", "namespace": "orders"}, "orders"),
            ({"function_id": "orders_only"}, "orders"),
        ):
            self.assertEqual(self.ask(INFO, **wanted)["namespace"], expected)
        (detail,) = self.ask(INFO, function_ids=["everywhere"], namespace="orders")["functions"]
        self.assertEqual(detail["namespace"], "orders")

    def test_unknown(self) -> None:
        """An id that is nowhere is an error that says so, whatever namespace was named."""
        expected = ("NOT_FOUND", "Function 'x' is not registered.")
        self.assertEqual(self.ask_in_vain(INFO, function_id="x"), expected)
        self.assertEqual(self.ask_in_vain(INFO, function_id="x", namespace="orders"), expected)

    def test_ambiguous(self) -> None:
        """An id in several namespaces, but not in C{default}, is an error that names them."""
        self.connect("a", "f", namespace="b")
        self.connect("b", "f", namespace="a")
        self.assertEqual(
            self.ask_in_vain(INFO, function_id="f"),
            (
                "NOT_FOUND",
                "Function 'f' is ambiguous: it is registered in namespace(s): a, b. Pass `namespace` to select one.",
            ),
        )
        self.assertEqual(self.ask(INFO, function_ids=["f"])["functions"], [{"function_id": "f", "error": "not_found"}])

    def test_elsewhere(self) -> None:
        """An id that is not in the namespace named, also in a blank one, is an error that says where it is."""
        self.connect("a", "f", namespace="a")
        for namespace in ("orders", ""):
            self.assertEqual(
                self.ask_in_vain(INFO, function_id="f", namespace=namespace),
                (
                    "NOT_FOUND",
                    "Function 'f' is not registered in the requested namespace; it is registered in namespace(s): a.",
                ),
            )

    def test_arguments(self) -> None:
        """Exactly one of both forms is to be used, with 1 to 32 different ids."""
        many = [f"f{number}" for number in range(33)]
        for members, message in (
            ({"function_id": "f", "function_ids": []}, "pass either `function_id` or `function_ids`, not both"),
            ({}, "missing field `function_id` (or `function_ids` for a batch)"),
            ({"function_id": None}, "missing field `function_id` (or `function_ids` for a batch)"),
            ({"function_ids": []}, "`function_ids` must be a non-empty array of function ids"),
            ({"function_ids": many}, "too many function_ids (max 32)"),
        ):
            self.assertEqual(self.ask_in_vain(INFO, **members), ("INVALID_ARGUMENTS", message))
        self.assertEqual(len(self.ask(INFO, function_ids=many[:32] * 2)["functions"]), 32)
