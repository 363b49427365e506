"""Tests for L{iii.core.gate}, and for how connections use it."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from iii.core.announcement import Announcement
from iii.core.budget import Budget
from iii.core.errors import BlankWorkerNamespace, TooManyRegistrations
from iii.core.gate import RegistrationGate
from iii.wire.messages import RegisterFunction, UnregisterFunction
from tests.core.fakes import FakeWorker, connect, make_engine


class RegistrationGateTests(SynchronousTestCase):
    def test_held(self) -> None:
        """Registrations are held back until the namespace is known, and come in their order."""
        gate = RegistrationGate(2, Budget(100))
        messages = [RegisterFunction("a"), UnregisterFunction("a")]
        self.assertEqual([gate.admit(message, 10) for message in messages], [[], []])
        self.assertEqual(gate.functions, {"a"})
        self.assertEqual(gate.resolve("orders"), messages)
        self.assertEqual((gate.namespace, gate.functions), ("orders", set()))

    def test_open(self) -> None:
        """Once it is known, nothing is held back."""
        gate = RegistrationGate(0, Budget(100))
        gate.resolve("orders")
        message = RegisterFunction("a")
        self.assertEqual(gate.admit(message, 10), [message])
        self.assertEqual(gate.functions, set())

    def test_once(self) -> None:
        """The first namespace is the one that counts."""
        gate = RegistrationGate(0, Budget(100))
        gate.resolve("orders")
        self.assertEqual(gate.resolve("other"), [])
        self.assertEqual(gate.namespace, "orders")

    def test_limit(self) -> None:
        """At the limit a registration is refused."""
        gate = RegistrationGate(1, Budget(100))
        gate.admit(RegisterFunction("a"), 1)
        self.assertRaises(TooManyRegistrations, gate.admit, RegisterFunction("b"), 1)

    def test_bytes(self) -> None:
        """What is held takes its bytes from the connection's, and gives them back when it is handed over."""
        budget = Budget(10)
        gate = RegistrationGate(9, budget)
        gate.admit(RegisterFunction("a"), 8)
        self.assertRaises(TooManyRegistrations, gate.admit, RegisterFunction("b"), 3)
        self.assertEqual((budget.used, gate.functions), (8, {"a"}))
        gate.resolve("orders")
        self.assertEqual(budget.used, 0)


class ConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = make_engine(self.clock, held_registrations=2)
        self.worker = FakeWorker(self.engine)

    def test_before(self) -> None:
        """Before a worker has said who it is, its functions cannot be called."""
        self.worker.register("f")
        caller = connect(self.engine)
        self.assertEqual(caller.outcome(caller.call("f"))[0], "function_not_found")

    def test_announced(self) -> None:
        """When it has, they are in the namespace that it named, C{default} without one."""
        self.worker.register("f")
        self.worker.connection.announce(Announcement(namespace="orders"))
        self.assertIsNotNone(self.engine.functions.find("orders", "f"))
        other = FakeWorker(self.engine)
        other.register("f")
        other.connection.announce(Announcement())
        self.assertIsNotNone(self.engine.functions.find("default", "f"))

    def test_grace(self) -> None:
        """A worker that says nothing for 5 seconds is in C{default}."""
        self.worker.register("f")
        self.clock.advance(4.9)
        self.assertIsNone(self.engine.functions.find("default", "f"))
        self.clock.advance(0.1)
        self.assertIsNotNone(self.engine.functions.find("default", "f"))

    def test_warning(self) -> None:
        """That is said in the log of one that registers something, not of an old SDK's connection for telemetry."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        FakeWorker(self.engine)
        self.clock.advance(5)
        self.assertEqual(events, [])
        FakeWorker(self.engine).register("f")
        self.clock.advance(5)
        self.assertIn("announced no namespace in time", str([event["log_format"] for event in events]))

    def test_too_late(self) -> None:
        """A worker does not move any more."""
        self.clock.advance(5)
        self.assertTrue(self.worker.connection.announce(Announcement(namespace="orders")))
        self.worker.register("f")
        self.assertEqual(self.engine.functions.namespaces_of("f"), ["default"])

    def test_blank(self) -> None:
        """A blank namespace is refused and leaves the namespace open."""
        self.assertRaises(BlankWorkerNamespace, self.worker.connection.announce, Announcement(namespace="\t"))
        self.assertIsNone(self.worker.connection.namespace)
        self.clock.advance(5)
        self.assertEqual(self.worker.connection.namespace, "default")

    def test_lost(self) -> None:
        """What was held back for a worker that has gone never applies."""
        self.worker.register("f")
        self.worker.leave()
        self.clock.advance(5)
        self.assertEqual(len(self.engine.functions), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_limit(self) -> None:
        """More than so many registrations, 2 here, are refused; those held back apply."""
        self.worker.register("f", "g", "h")
        self.assertEqual(
            self.worker.received("registrationrejected"),
            [
                {
                    "code": "FUNCTION_NAMESPACE_CONFLICT",
                    "namespace": "default",
                    "owner_worker_id": "",
                    "function_id": "h",
                }
            ],
        )
        self.worker.register_trigger("1")
        self.worker.provide("t")
        self.assertEqual(len(self.worker.received("registrationrejected")), 1)
        (result,) = self.worker.received("triggerregistrationresult")
        self.assertEqual((result["id"], result["error"]["code"]), ("1", "too_many_registrations"))
        self.assertEqual(self.engine.counters.limit_hits, {"held_registrations": 3})
        self.clock.advance(5)
        self.assertEqual([function.id for function in self.engine.functions], ["f", "g"])

    def test_own_calls(self) -> None:
        """A worker's calls of functions that it is about to serve wait with them, in order, and then go to itself."""
        self.worker.register("f")
        for number in range(2):
            self.worker.call("f", number)
        self.assertEqual(self.worker.received("invokefunction"), [])
        self.worker.connection.announce(Announcement())
        self.assertEqual([each["data"] for each in self.worker.received("invokefunction")], [0, 1])

    def test_own_calls_limit(self) -> None:
        """So many calls wait, 2 here; one more finds no function."""
        self.worker.register("f")
        calls = [self.worker.call("f") for _ in range(3)]
        self.assertEqual(self.worker.outcome(calls[2])[0], "function_not_found")

    def test_other_calls(self) -> None:
        """Other calls do not wait."""
        other = connect(self.engine)
        other.register("g")
        self.worker.register("f")
        self.worker.call("g")
        self.assertEqual(len(other.received("invokefunction")), 1)
