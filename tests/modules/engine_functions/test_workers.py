"""Tests for L{iii.modules.engine_functions.workers}."""

from __future__ import annotations

from typing import Any

from iii import __version__
from tests.core.fakes import FakeWorker
from tests.modules.engine_functions.case import EngineFunctionsTestCase, declared

LIST, INFO, REGISTER = "engine::workers::list", "engine::workers::info", "engine::workers::register"


class ListTests(EngineFunctionsTestCase):
    def _names(self, **wanted: Any) -> list[str]:
        return [row["name"] for row in self.ask(LIST, **wanted)["workers"]]

    def test_worker(self) -> None:
        """A row of a worker has what it said about itself, where it is, what it serves and how busy it is."""
        self.clock.advance(0.5)
        worker = self.connect(
            "shop", "b", "a", description="Sells", runtime="python", version="0.23.0", os="Linux", pid=4711,
            isolation="container", namespace="orders",
        )  # fmt: skip
        (row,) = self.ask(LIST, runtime="python")["workers"]
        self.assertEqual(
            row,
            {
                "id": worker.id,
                "name": "shop",
                "namespace": "orders",
                "description": "Sells",
                "runtime": "python",
                "version": "0.23.0",
                "os": "Linux",
                "status": "connected",
                "isolation": "container",
                "ip_address": "10.0.0.7",
                "function_count": 2,
                "functions": ["a", "b"],
                "connected_at_ms": 1_000_500,
                "active_invocations": 0,
            },
        )

    def test_silent_worker(self) -> None:
        """What a worker did not say is null; its runtime is unknown, its namespace C{default}."""
        self.connect(None, pid=1)
        (row,) = self.ask(LIST, status="connected")["workers"]
        for name in ("name", "description", "version", "os", "isolation"):
            self.assertIsNone(row[name])
        self.assertEqual((row["runtime"], row["namespace"]), ("unknown", "default"))

    def test_module(self) -> None:
        """A row of a module has its name, what it serves and the engine's version; it runs since the engine does."""
        self.add("iii-state", [declared("state::get"), declared("state::set")])
        self.clock.advance(5)
        (row,) = self.ask(LIST, search="iii-STATE")["workers"]
        self.assertEqual(
            row,
            {
                "id": "iii-state",
                "name": "iii-state",
                "namespace": "default",
                "description": "what iii-state does",
                "runtime": "engine",
                "version": __version__,
                "os": None,
                "status": "available",
                "isolation": "in-process",
                "ip_address": None,
                "function_count": 2,
                "functions": ["state::get", "state::set"],
                "connected_at_ms": 1_000_000,
                "active_invocations": 0,
            },
        )

    def test_busy(self) -> None:
        """The calls that a worker made, the listing included, and those that it is to answer count."""
        worker = self.connect("w", "f", pid=1)
        other = self.connect("x", "g", pid=2)
        worker.call("g")
        other.call("f")
        other.call("f")
        call = worker.call(LIST, {"runtime": "unknown"})
        rows = worker.outcome(call)["workers"]
        self.assertEqual({row["name"]: row["active_invocations"] for row in rows}, {"w": 4, "x": 3})

    def test_pid(self) -> None:
        """Workers that did not tell their process id, or nothing yet, are missing."""
        self.connect("seen", pid=0)
        self.connect("browser")
        FakeWorker(self.engine)
        self.assertEqual(self._names(), ["iii-engine-functions", "seen"])

    def test_order(self) -> None:
        """Workers and modules come by name, those without by id."""
        ids = sorted(self.connect("same", pid=1).id for _ in range(3))
        self.connect("a", pid=1)
        unnamed = self.connect(None, pid=1)
        unnamed.connection.id = "b"
        rows = self.ask(LIST)["workers"]
        self.assertEqual(
            [row["name"] or row["id"] for row in rows], ["a", "b", "iii-engine-functions", "same", "same", "same"]
        )
        self.assertEqual([row["id"] for row in rows[3:]], ids)

    def test_filters(self) -> None:
        """Workers can be chosen by part of their name, exact runtime and exact status, and must meet all."""
        self.connect("Shop-1", runtime="python", pid=1)
        self.connect("shop-2", runtime="node", pid=1)
        self.connect(None, runtime="node", pid=1)
        self.assertEqual(self._names(search="SHOP"), ["Shop-1", "shop-2"])
        self.assertEqual(len(self._names(runtime="node")), 2)
        self.assertEqual(self._names(runtime="nod"), [])
        self.assertEqual(self._names(status="available"), ["iii-engine-functions"])
        self.assertEqual(self._names(search="shop", runtime="node", status="connected"), ["shop-2"])
        self.assertEqual(len(self._names(search="")), 4)


class InfoTests(EngineFunctionsTestCase):
    def test_worker(self) -> None:
        """A worker is described with its functions, the types that it provides and the triggers of its functions."""
        worker = self.connect("shop", "b", "a", pid=7, namespace="orders")
        worker.provide("paid")
        worker.register_trigger("t2", "paid", "a", namespace="orders")
        worker.register_trigger("t1", "paid", "b", namespace="orders")
        worker.register_trigger("elsewhere", "paid", "a")
        worker.register_trigger("parked", "unknown", "a", namespace="orders")
        other = self.connect("other", "a")
        other.provide("paid")
        answer = self.ask(INFO, name="shop")
        row = self.ask(LIST, search="shop")["workers"][0]
        self.assertEqual(answer["worker"], {**row, "pid": 7, "internal": False})
        self.assertEqual(
            answer["functions"],
            [{"function_id": function_id, "namespace": "orders", "worker_name": "shop"} for function_id in ("a", "b")],
        )
        self.assertEqual(
            answer["trigger_types"],
            [{"id": "paid", "namespace": "orders", "worker_name": "shop", "description": ""}],
        )
        self.assertEqual([each["id"] for each in answer["registered_triggers"]], ["t1", "t2"])
        self.assertEqual(set(answer), {"worker", "functions", "trigger_types", "registered_triggers"})

    def test_no_pid(self) -> None:
        """A worker without a process id is described, too; the id is left out."""
        self.connect("browser")
        self.assertNotIn("pid", self.ask(INFO, name="browser")["worker"])

    def test_module(self) -> None:
        """A module is described likewise."""
        self.provide("cron", "iii-cron")
        self.connect("w").register_trigger("t", "cron", LIST)
        answer = self.ask(INFO, name="iii-engine-functions")
        self.assertEqual(answer["worker"]["internal"], True)
        self.assertNotIn("pid", answer["worker"])
        self.assertIn(INFO, [each["function_id"] for each in answer["functions"]])
        self.assertEqual(
            [each["id"] for each in answer["trigger_types"]],
            ["engine::functions-available", "engine::workers-available"],
        )
        self.assertEqual([each["id"] for each in answer["registered_triggers"]], ["t"])
        answer = self.ask(INFO, name="iii-cron")
        self.assertEqual(answer["worker"]["internal"], False)
        self.assertEqual([each["id"] for each in answer["trigger_types"]], ["cron"])

    def test_replicas(self) -> None:
        """Of workers with one name the newest is described, with functions that others serve as well."""
        self.connect("w", "f", "old")
        newest = self.connect("w", "f")
        self.connect("later", "f")
        answer = self.ask(INFO, name="w")
        self.assertEqual(answer["worker"]["id"], newest.id)
        self.assertEqual(answer["functions"], [{"function_id": "f", "namespace": "default", "worker_name": "w"}])

    def test_module_first(self) -> None:
        """A worker with a module's name does not hide the module."""
        self.connect("iii-engine-functions")
        self.assertEqual(self.ask(INFO, name="iii-engine-functions")["worker"]["runtime"], "engine")

    def test_namespace(self) -> None:
        """The namespace is the one named, else C{default}, else the only one with the name."""
        for name, namespace in (("w", "a"), ("w", None), ("only", "a")):
            self.connect(name, namespace=namespace)
        for members, expected in (
            ({"name": "w"}, "default"),
            ({"name": "w", "namespace": "a"}, "a"),
            ({"name": "only"}, "a"),
        ):
            self.assertEqual(self.ask(INFO, **members)["worker"]["namespace"], expected)

    def test_unknown(self) -> None:
        """A name that nobody has is an error; ids are no names."""
        worker = self.connect("w")
        for name in ("x", worker.id, ""):
            self.assertEqual(self.ask_in_vain(INFO, name=name), ("NOT_FOUND", f"Worker '{name}' is not connected."))

    def test_elsewhere(self) -> None:
        """A name that is not in the namespace named, also in a blank one, is an error that says where it is."""
        self.connect("w", namespace="b")
        self.connect("w", namespace="a")
        for namespace in ("orders", ""):
            self.assertEqual(
                self.ask_in_vain(INFO, name="w", namespace=namespace),
                (
                    "NOT_FOUND",
                    "Worker 'w' is not connected in the requested namespace; it is connected in namespace(s): a, b.",
                ),
            )

    def test_ambiguous(self) -> None:
        """A name in several namespaces, but not in C{default}, is an error that names them."""
        self.connect("w", namespace="b")
        self.connect("w", namespace="a")
        self.assertEqual(
            self.ask_in_vain(INFO, name="w"),
            (
                "NOT_FOUND",
                "Worker 'w' is ambiguous: it is connected in namespace(s): a, b. Pass `namespace` to disambiguate.",
            ),
        )


class RegisterTests(EngineFunctionsTestCase):
    def _register(self, worker: FakeWorker, **said: Any) -> Any:
        return worker.outcome(worker.call(REGISTER, said))

    def test_register(self) -> None:
        """A worker says who it is, and what it registered applies in the namespace that it names."""
        worker = FakeWorker(self.engine)
        worker.register("f")
        self.assertEqual(self._register(worker, name="shop", namespace="orders", runtime="python"), {"success": True})
        self.assertEqual((worker.connection.name, worker.connection.namespace), ("shop", "orders"))
        self.assertIsNotNone(self.engine.functions.find("orders", "f"))

    def test_void(self) -> None:
        """SDKs want no answer, and get none."""
        worker = FakeWorker(self.engine)
        worker.send("invokefunction", function_id=REGISTER, data={"name": "shop"}, action={"type": "void"})
        self.assertEqual((worker.connection.name, worker.received("invocationresult")), ("shop", []))

    def test_payload(self) -> None:
        """Everything may be absent or null, and what is unknown is ignored."""
        for said in (
            {},
            dict.fromkeys(("runtime", "version", "name", "description", "os", "pid", "isolation", "namespace",
                           "telemetry", "features")),
            {"telemetry": {"language": None, "amplitude_api_key": "x"}, "other": 1},
        ):  # fmt: skip
            self.assertEqual(self._register(FakeWorker(self.engine), **said), {"success": True})

    def test_pid(self) -> None:
        """A process id that is no number of 32 bits fails the whole call."""
        for pid in (-1, 2**32, 1.5, "1"):
            worker = FakeWorker(self.engine)
            code, _ = self._register(worker, name="w", pid=pid)
            self.assertEqual((code, worker.connection.announcement), ("deserialization_error", None))

    def test_blank_namespace(self) -> None:
        """A blank namespace is an error that names the worker and what it declared."""
        for name, shown in (("shop", "shop"), (None, "<unnamed>")):
            worker = FakeWorker(self.engine)
            self.assertEqual(
                self._register(worker, name=name, namespace=" "),
                (
                    "INVALID_NAMESPACE",
                    f"namespace is empty: worker '{shown}' declared \" \". "
                    "Give it a name, or omit the field to register in 'default'.",
                ),
            )
            self.assertIsNone(worker.connection.announcement)

    def test_again(self) -> None:
        """A repeated call replaces runtime and version, the rest only when given, and never moves the worker."""
        worker = FakeWorker(self.engine)
        self._register(worker, name="shop", os="Linux", runtime="python", version="1", namespace="orders")
        self._register(worker, description="Sells", namespace="elsewhere")
        row = self.ask(INFO, name="shop")["worker"]
        self.assertEqual(
            [row[name] for name in ("name", "os", "description", "runtime", "version", "namespace")],
            ["shop", "Linux", "Sells", "unknown", None, "orders"],
        )

    def test_identity(self) -> None:
        """Who calls is known from the connection; an id in the payload does not matter."""
        worker, other = FakeWorker(self.engine), FakeWorker(self.engine)
        self._register(worker, name="w", _caller_worker_id=other.id)
        self.assertEqual((worker.connection.name, other.connection.name), ("w", None))

    def test_nobody(self) -> None:
        """A call that no worker makes is an error."""
        self.assertEqual(
            self.ask_in_vain(REGISTER, name="w"),
            (
                "deserialization_error",
                f"Failed to deserialize input for {REGISTER}: "
                "missing field `_caller_worker_id`; only a connected worker can announce itself",
            ),
        )
