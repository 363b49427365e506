"""Tests for L{iii.modules.engine_functions.events}."""

from __future__ import annotations

from typing import Any

from tests.core.fakes import FakeWorker, connect
from tests.modules.engine_functions.case import EngineFunctionsTestCase, declared

FUNCTIONS, WORKERS = "engine::functions-available", "engine::workers-available"


class EventsTestCase(EngineFunctionsTestCase):
    """A worker C{listener} whose function C{on} is called on events."""

    type_id: str

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.connect("listener", "on")
        self.clock.advance(1)
        self.listener.register_trigger("t", self.type_id, "on", config={"any": "thing"})

    def events(self) -> list[Any]:
        """Answer all calls since the last time, and those that come for it.  Return their payloads."""
        payloads = []
        while invocations := self.listener.received("invokefunction"):
            self.listener.edge.frames.clear()
            for each in invocations:
                payloads.append(each["data"])
                self.listener.answer(each, result=None)
            self.clock.advance(0)
        return payloads


class FunctionsAvailableTests(EventsTestCase):
    type_id = FUNCTIONS

    def test_payload(self) -> None:
        """The event has the rows of all functions, those of the engine included."""
        worker = self.connect("shop", "f", namespace="orders")
        worker.register("g", description="Gee", metadata={"internal": True})
        self.clock.advance(0.3)
        (event,) = self.events()
        self.assertEqual(event["event"], "functions_changed")
        self.assertEqual(event["functions"], self.ask("engine::functions::list", include_internal=True)["functions"])
        self.assertIn("g", [row["function_id"] for row in event["functions"]])

    def test_gathered(self) -> None:
        """What changes within 0.3 seconds of the first change is one event, however long changes go on."""
        self.connect("shop", "f")
        self.clock.advance(0.2)
        self.connect("shop", "g")
        self.assertEqual(self.events(), [])
        self.clock.advance(0.1)
        (event,) = self.events()
        self.assertIn("g", [row["function_id"] for row in event["functions"]])
        self.clock.advance(10)
        self.assertEqual(self.events(), [])

    def test_gone(self) -> None:
        """Functions that go are a change, too."""
        worker = self.connect("shop", "f")
        self.clock.advance(0.3)
        self.events()
        worker.leave()
        self.clock.advance(0.3)
        self.assertEqual(len(self.events()), 1)

    def test_no_change(self) -> None:
        """What changes back in time, other metadata, and other owners are no change."""
        worker = self.connect("shop", "f")
        self.clock.advance(0.3)
        self.events()
        self.connect("short", "g").leave()
        worker.send("unregisterfunction", id="f")
        worker.register("f", description="other")
        self.connect("replica", "f")
        self.clock.advance(0.3)
        self.assertEqual(self.events(), [])

    def test_own_function(self) -> None:
        """A worker that has just connected is told of its own functions."""
        worker = self.connect("new", "on_new")
        worker.register_trigger("new", FUNCTIONS, "on_new")
        self.clock.advance(0.3)
        self.assertEqual(len(worker.received("invokefunction")), 1)

    def test_unregistered(self) -> None:
        """There is no call after the trigger has ended."""
        self.connect("shop", "f")
        self.listener.send("unregistertrigger", id="t")
        self.clock.advance(0.3)
        self.assertEqual(self.events(), [])

    def test_unheard_change(self) -> None:
        """A change that nobody was told of does not count for the next one."""
        self.listener.send("unregistertrigger", id="t")
        worker = self.connect("shop", "f")
        self.clock.advance(0.3)
        self.listener.register_trigger("t", self.type_id, "on")
        worker.send("unregisterfunction", id="f")
        self.clock.advance(0.3)
        self.assertEqual(len(self.events()), 1)

    def test_stopped(self) -> None:
        """The stopped module tells nothing."""
        self.connect("shop", "f")
        self.module.stopService()
        self.connect("shop", "g")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.module.startService()


class WorkersAvailableTests(EventsTestCase):
    type_id = WORKERS

    def test_connected(self) -> None:
        """A worker that has connected is told of before it has a name."""
        worker = FakeWorker(self.engine)
        self.assertEqual(self.events(), [{"event": "worker_connected", "worker_id": worker.id}])

    def test_updated(self) -> None:
        """Each time that a worker says who it is, the event has its name and namespace."""
        worker = FakeWorker(self.engine)
        self.events()
        for name in ("one", "two"):
            worker.call("engine::workers::register", {"name": name, "namespace": "orders"})
            self.assertEqual(
                self.events(),
                [
                    {
                        "event": "worker_metadata_updated",
                        "worker_id": worker.id,
                        "name": name,
                        "namespace": "orders",
                    }
                ],
            )

    def test_failed_update(self) -> None:
        """There is no event when a worker may not stay, or names a blank namespace."""
        worker = FakeWorker(self.engine)
        self.events()
        worker.call("engine::workers::register", {"name": "w", "namespace": ""})
        self.engine.ownership = "exclusive"
        call = worker.call("engine::workers::register", {"name": "listener"})
        self.assertEqual(worker.outcome(call), {"success": False})
        self.assertEqual(self.events(), [])

    def test_disconnected(self) -> None:
        """A worker that has gone is told of when everything of it has been removed."""
        worker = connect(self.engine, "w")
        worker.register("f")
        self.events()
        seen = []
        self.engine.on_disconnected.insert(0, lambda _: seen.append(self.engine.functions.find("default", "f")))
        worker.leave()
        self.assertEqual(
            self.events(),
            [{"event": "worker_disconnected", "worker_id": worker.id, "name": "w", "namespace": "default"}],
        )
        self.assertEqual(seen, [None])

    def test_order(self) -> None:
        """A function gets the events of a worker one after the other; those of another worker do not wait for them."""
        slow, quick = connect(self.engine, "slow"), connect(self.engine, "quick")
        slow.leave()
        calls = self.listener.received("invokefunction")
        self.assertEqual(
            [(call["data"]["event"], call["data"]["worker_id"]) for call in calls],
            [("worker_connected", slow.id), ("worker_connected", quick.id)],
        )
        self.assertEqual(
            [event["event"] for event in self.events()], ["worker_connected"] * 2 + ["worker_disconnected"]
        )

    def test_ended_in_between(self) -> None:
        """A trigger that has ended gets no more events, those that waited for its function included."""
        connect(self.engine, "w").leave()
        (call,) = self.listener.received("invokefunction")
        self.listener.send("unregistertrigger", id="t")
        self.listener.register_trigger("t", WORKERS, "on")  # another one of this id
        self.listener.edge.frames.clear()
        self.listener.answer(call, result=None)
        self.clock.advance(0)
        self.assertEqual(self.events(), [])

    def test_stopped(self) -> None:
        """The stopped module tells nothing."""
        self.module.stopService()
        FakeWorker(self.engine).leave()
        self.assertEqual(self.events(), [])
        self.module.startService()


class FiringTests(EventsTestCase):
    type_id = WORKERS

    def test_target(self) -> None:
        """The function is called in the trigger's namespace, with the trigger's metadata."""
        there = self.connect("there", "on", namespace="orders")
        there.register_trigger("there", WORKERS, "on", namespace="orders", metadata={"m": 1})
        self.events()
        FakeWorker(self.engine)
        (invocation,) = there.received("invokefunction")
        self.assertEqual(invocation["metadata"], {"m": 1})
        self.assertNotIn("metadata", self.listener.received("invokefunction")[0])

    def test_all_at_once(self) -> None:
        """Functions are called without waiting for each other, and failures disturb neither."""
        self.listener.register_trigger("missing", WORKERS, "missing")
        other = self.connect("other", "also_on")
        other.register_trigger("other", WORKERS, "also_on")
        self.events()
        FakeWorker(self.engine)
        (invocation,) = self.listener.received("invokefunction")
        self.assertEqual(len(other.received("invokefunction")), 1)
        self.listener.answer(invocation, error={"code": "invocation_failed", "message": "no"})
        FakeWorker(self.engine)
        self.assertEqual(len(self.listener.received("invokefunction")), 2)

    def test_changes_while_firing(self) -> None:
        """A function may end triggers of the type that is just firing; those are called once more at most."""
        self.add("m", [declared("m::end", lambda given, caller: self.listener.send("unregistertrigger", id="t"))])
        self.connect("w").register_trigger("m", WORKERS, "m::end")
        for _ in range(2):
            FakeWorker(self.engine)
        self.assertEqual(len(self.events()), 2)
