"""Tests for L{iii.core.engine}: what modules use, who may own what, and queues."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from iii.core.announcement import Announcement
from iii.core.connections import Connection
from iii.core.engine import Module
from iii.core.invocations import CallFailed
from iii.wire.messages import ErrorBody
from tests.core.case import ID, PARENT, CallerAndCallee
from tests.core.fakes import FakeEdge, FakeProvider, FakeWorker, connect


class EngineTests(CallerAndCallee):
    """What modules use."""

    def test_observed(self) -> None:
        """Observers are told of each new connection once it has been greeted."""
        seen: list[tuple[Connection, int]] = []
        edge = FakeEdge()
        self.engine.on_connected.append(lambda connection: seen.append((connection, len(edge.frames))))
        connection = self.engine.connected(edge)
        self.assertEqual(seen, [(connection, 1)])
        self.assertIs(self.engine.connections[connection.id], connection)

    def test_invoke(self) -> None:
        """The engine calls without a caller's id, and gets the outcome."""
        outcomes: list[tuple[bytes, ErrorBody | None]] = []
        self.engine.invoke(
            "f",
            Raw(b'{"a":1}'),
            lambda call, result, error: outcomes.append((bytes(result), error)),
            metadata=Raw(b"[2]"),
            traceparent=PARENT,
            baggage="a=b",
        )
        invocation = self.invocation()
        self.assertEqual((invocation["data"], invocation["metadata"]), ({"a": 1}, [2]))
        self.assertEqual((invocation["traceparent"], invocation["baggage"]), (PARENT, "a=b"))
        self.callee.answer(invocation, result=3)
        self.assertEqual(outcomes, [(b"3", None)])

    def test_invoke_timeout(self) -> None:
        """The engine may set a deadline of its own."""
        errors: list[str] = []
        self.engine.invoke("f", Raw(b"1"), lambda call, result, error: errors.append(error.code), timeout=1.0)
        self.clock.advance(1.1)
        self.assertEqual(errors, ["TIMEOUT"])

    def test_invoke_cancelled(self) -> None:
        """Once cancelled, the outcome is nobody's; the callee counts as busy until it answers."""
        outcomes: list[Raw] = []
        call = self.engine.invoke("f", Raw(b"1"), lambda call, result, error: outcomes.append(result))
        call.cancel()
        self.assertEqual(self.engine.unanswered(), 1)
        self.callee.answer(self.invocation(), result=1)
        self.assertEqual((outcomes, self.engine.unanswered()), ([], 0))

    def test_no_hint(self) -> None:
        """A function that is not found has no hint where else it is, when the engine calls."""
        failure = self.failureResultOf(self.engine.call("f", Raw(b"1"), namespace="orders"), CallFailed)
        self.assertEqual(failure.value.error.message, "Function f not found in namespace orders.")

    def test_call(self) -> None:
        """For code that waits there are Deferreds."""
        waiting = self.engine.call("f", Raw(b"1"))
        self.callee.answer(self.invocation(), result=2)
        self.assertEqual(bytes(self.successResultOf(waiting)), b"2")

    def test_call_in_trace(self) -> None:
        """They may be part of a trace, and have metadata."""
        self.engine.call("f", Raw(b"1"), metadata=Raw(b"2"), traceparent=PARENT, baggage="a=b")
        invocation = self.invocation()
        self.assertEqual([invocation[name] for name in ("metadata", "traceparent", "baggage")], [2, PARENT, "a=b"])

    def test_call_failed(self) -> None:
        """They fail with the callee's error."""
        waiting = self.engine.call("f", Raw(b"1"))
        self.callee.answer(self.invocation(), error={"code": "c", "message": "m"})
        self.assertEqual(self.failureResultOf(waiting, CallFailed).value.error, ErrorBody("c", "m"))

    def test_modules(self) -> None:
        """A module's trigger types are provided in its name, with the schemas that it describes."""
        provider = FakeProvider("of a test")
        provider.request_schema = {"type": "object"}
        self.engine.add_module(Module("m#1", "m", "a module", True), trigger_types={"t": provider})
        found = self.engine.triggers.provider(("default", "t"))
        assert found is not None
        self.assertEqual((found.handler, found.module, found.description), (provider, "m", "of a test"))
        self.assertEqual((bytes(found.request_schema), bytes(found.response_schema)), (b'{"type":"object"}', b""))
        self.assertEqual([module.id for module in self.engine.modules], ["m#1"])

    def test_closed(self) -> None:
        """A stopped engine ends no more calls."""
        self.caller.call("f")
        self.engine.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class OwnershipTests(CallerAndCallee):
    """With C{ownership: exclusive}."""

    def setUp(self) -> None:
        super().setUp()
        self.engine.ownership = "exclusive"

    def test_function(self) -> None:
        """A function that another live worker serves is refused, naming that worker; its own is not."""
        other = connect(self.engine, "other")
        other.register("f")
        self.assertEqual(
            other.received("registrationrejected"),
            [
                {
                    "code": "FUNCTION_NAMESPACE_CONFLICT",
                    "namespace": "default",
                    "function_id": "f",
                    "owner_worker_id": self.callee.id,
                }
            ],
        )
        self.callee.register("f")
        self.assertEqual(self.callee.received("registrationrejected"), [])
        self.callee.leave()
        other.register("f")
        self.assertEqual(len(other.received("registrationrejected")), 1)

    def test_name(self) -> None:
        """A name that another live worker of the namespace has ends the connection."""
        other = FakeWorker(self.engine)
        other.register("g")
        self.assertFalse(other.connection.announce(Announcement(name="callee")))
        self.assertEqual(
            other.received("registrationrejected"),
            [
                {
                    "code": "WORKER_NAMESPACE_CONFLICT",
                    "namespace": "default",
                    "worker_name": "callee",
                    "owner_worker_id": self.callee.id,
                }
            ],
        )
        self.assertEqual(other.edge.ended, ("close", None))
        self.assertIsNone(self.engine.functions.find("default", "g"))

    def test_no_name(self) -> None:
        """Another namespace, no name and the own name are in nobody's way."""
        self.assertTrue(FakeWorker(self.engine).connection.announce(Announcement(name="callee", namespace="orders")))
        for _ in range(2):
            self.assertTrue(FakeWorker(self.engine).connection.announce(Announcement(name=" ")))
        self.assertTrue(self.callee.connection.announce(Announcement(name="callee")))


class OwnershipByDefaultTests(CallerAndCallee):
    def test_shared(self) -> None:
        """Functions and names may have several workers."""
        other = connect(self.engine, "callee")
        other.register("f")
        self.assertEqual(other.received("registrationrejected"), [])

    def test_engine_ids(self) -> None:
        """Ids of the engine belong to the default namespace, where a worker may add some."""
        there = connect(self.engine, namespace="orders")
        there.register("engine::x")
        self.assertEqual(there.received("registrationrejected")[0]["owner_worker_id"], "")
        self.callee.register("engine::x")
        self.assertIsNotNone(self.engine.functions.find("default", "engine::x"))

    def test_http_function(self) -> None:
        """HTTP functions are not there yet; the log says so."""
        self.callee.register("g", invocation={"url": "http://example.com"})
        self.assertIsNone(self.engine.functions.find("default", "g"))


class EnqueueTests(CallerAndCallee):
    def enqueue(self, **members: Any) -> None:
        members = {"invocation_id": ID, "action": {"type": "enqueue", "queue": "q"}, **members}
        self.caller.send("invokefunction", function_id="f", **members)

    def test_receipt(self) -> None:
        """The provider of queues gets the call, and the caller a receipt, whatever the provider returns."""
        self.callee.register("engine::queue::enqueue")
        self.enqueue(data={"a": 1}, metadata=1, baggage="a=b", traceparent="x", namespace="orders")
        invocation = self.invocation()
        receipt = invocation["data"].pop("messageReceiptId")
        self.assertEqual(
            invocation["data"],
            {
                "queue": "q",
                "function_id": "f",
                "data": {"a": 1},
                "traceparent": "x",
                "baggage": "a=b,iii.function.id=f",
                "namespace": "orders",
            },
        )
        self.callee.answer(invocation, result="ignored")
        self.assertEqual(self.caller.outcome(ID), {"messageReceiptId": receipt})

    def test_defaults(self) -> None:
        """Null stands for what the caller did not send; the default namespace is left out."""
        self.callee.register("engine::queue::enqueue")
        self.enqueue()
        data = self.invocation()["data"]
        self.assertEqual((data["data"], data["traceparent"], data["baggage"]), (None, None, "iii.function.id=f"))
        self.assertNotIn("namespace", data)

    def test_options(self) -> None:
        """Options of the action reach the provider; with a deduplication key, its receipt reaches the caller."""
        self.callee.register("engine::queue::enqueue")
        options = {"delay_ms": 5, "run_at": "2026-01-01", "priority": 0, "deduplication_key": "k"}
        self.enqueue(action={"type": "enqueue", "queue": "q", **options})
        invocation = self.invocation()
        self.assertEqual({key: invocation["data"][key] for key in options}, options)
        earlier = {"messageReceiptId": "r", "deduplicated": True}
        self.callee.answer(invocation, result=earlier)
        self.assertEqual(self.caller.outcome(ID), earlier)

    def test_no_provider(self) -> None:
        """Without a provider of queues the error says how to get one."""
        self.enqueue()
        code, message = self.caller.outcome(ID)
        self.assertEqual(code, "enqueue_error")
        self.assertTrue(message.startswith("No queue provider is installed."), message)
        for text in ("engine::queue::enqueue", "iii worker add queue", "(underlying: "):
            self.assertIn(text, message)

    def test_refused(self) -> None:
        """The provider's error reaches the caller."""
        self.callee.register("engine::queue::enqueue")
        self.enqueue()
        self.callee.answer(self.invocation(), error={"code": "full", "message": "no room"})
        self.assertEqual(self.caller.outcome(ID), ("enqueue_error", "full: no room"))

    def test_void(self) -> None:
        """Without an id there is no receipt."""
        self.callee.register("engine::queue::enqueue")
        self.enqueue(invocation_id=None)
        self.callee.answer(self.invocation())
        self.assertEqual(self.caller.received("invocationresult"), [])
