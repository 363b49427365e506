"""Tests for L{iii.core.registrations}: what workers register."""

from __future__ import annotations

import tracemalloc
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from iii.core.announcement import Announcement
from iii.core.errors import TriggerRefused
from iii.core.triggers import Provider
from tests.core.fakes import FakeProvider, FakeWorker, connect, make_engine


class TriggerTests(SynchronousTestCase):
    """A worker, and a module that provides type C{t}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = make_engine(self.clock, triggers_per_connection=4)
        self.provider = FakeProvider()
        self.engine.triggers.provide(("default", "t"), Provider(self.provider, module="iii-test"))
        self.worker = connect(self.engine, "w")

    def _refusals(self) -> list[tuple[str, str]]:
        """Return which triggers the worker was told are refused, and the codes."""
        self.assertEqual(self.worker.received("registrationrejected"), [])
        return [(each["id"], each["error"]["code"]) for each in self.worker.received("triggerregistrationresult")]

    def test_registered(self) -> None:
        """A worker's trigger has what its message says; there is no answer."""
        self.worker.register_trigger("1", config={"a": 1}, metadata=[2], namespace="orders")
        trigger = self.provider.active["1"]
        self.assertEqual((bytes(trigger.config), bytes(trigger.metadata)), (b'{"a": 1}', b"[2]"))
        self.assertEqual((trigger.namespace, trigger.owner), ("orders", self.worker.connection))
        self.assertEqual(self.worker.received("triggerregistrationresult"), [])

    def test_defaults(self) -> None:
        """Without a namespace the function is in C{default}; without a config it is null."""
        there = connect(self.engine, "there", namespace="orders")
        there.register_trigger("1", metadata=None)
        trigger = self.provider.active["1"]
        self.assertEqual((bytes(trigger.config), bytes(trigger.metadata)), (b"null", b""))
        self.assertEqual((trigger.namespace, trigger.origin), ("default", "orders"))

    def test_refused(self) -> None:
        """A refusal is told to the worker, with the provider's text."""
        self.provider.refusal = TriggerRefused("no expression")
        self.worker.register_trigger("1")
        self.assertEqual(
            self.worker.received("triggerregistrationresult"),
            [
                {
                    "id": "1",
                    "trigger_type": "t",
                    "function_id": "f",
                    "error": {"code": "trigger_registration_failed", "message": "no expression"},
                }
            ],
        )

    def test_blank_namespace(self) -> None:
        """A namespace that is named and blank is refused, naming the member."""
        for member in ("namespace", "trigger_namespace"):
            self.worker.register_trigger("1", **{member: " "})
            (result,) = self.worker.received("triggerregistrationresult")
            self.worker.edge.frames.clear()
            self.assertEqual(result["error"]["code"], "INVALID_NAMESPACE")
            self.assertIn(f"`{member}` is empty", result["error"]["message"])
        self.assertEqual(len(self.engine.triggers), 0)

    def test_unregistered(self) -> None:
        """A worker can end its own triggers, not another's."""
        self.worker.register_trigger("1")
        connect(self.engine).send("unregistertrigger", id="1")
        self.assertEqual(list(self.provider.active), ["1"])
        self.worker.send("unregistertrigger", id="1")
        self.worker.send("unregistertrigger", id="1")
        self.assertEqual(self.provider.active, {})

    def test_lost(self) -> None:
        """When a worker goes, its triggers end, live or parked."""
        self.worker.register_trigger("1")
        self.worker.register_trigger("2", "unknown")
        self.worker.leave()
        self.assertEqual((self.provider.active, len(self.engine.triggers)), ({}, 0))

    def test_reconnected(self) -> None:
        """What a newer connection has registered again outlives the older one."""
        self.worker.register_trigger("1")
        connect(self.engine, "w").register_trigger("1")
        self.worker.leave()
        self.assertEqual(list(self.provider.active), ["1"])

    def test_removed_by_the_engine(self) -> None:
        """The engine can end a worker's trigger; its worker may go later."""
        self.worker.register_trigger("1")
        trigger = self.engine.triggers.find("1")
        assert trigger is not None
        self.engine.remove_trigger(trigger)
        self.worker.leave()
        self.assertEqual(len(self.engine.triggers), 0)

    def test_defect(self) -> None:
        """A provider that raises has a defect: it is logged, and the worker is told as of a refusal."""
        self.provider.refusal = ZeroDivisionError("secret")
        self.worker.register_trigger("1")
        self.assertEqual(self._refusals(), [("1", "trigger_registration_failed")])
        (result,) = self.worker.received("triggerregistrationresult")
        self.assertRegex(result["error"]["message"], "^internal error [0-9a-f-]{36}; see the engine's log$")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_long_ids(self) -> None:
        """What is too long to be an id, 1024 characters, is refused, and does not come back in full."""
        for member in ("id", "trigger_type", "function_id", "namespace", "trigger_namespace"):
            members = {"id": "1", "trigger_type": "t", "function_id": "f", member: 1025 * "x"}
            self.worker.send("registertrigger", **members)
            (result,) = self.worker.received("triggerregistrationresult")
            self.worker.edge.frames.clear()
            self.assertEqual(
                result["error"], {"code": "id_too_long", "message": f"`{member}` is longer than 1024 characters"}
            )
            self.assertEqual(max(len(result[each]) for each in ("id", "trigger_type", "function_id")) > 1024, False)
        self.worker.provide(1025 * "x")
        self.assertEqual(list(self.worker.connection.registrations.trigger_types), [])
        self.worker.register_trigger(1024 * "x")
        self.assertEqual(len(self.engine.triggers), 1)

    def test_unreadable_numbers(self) -> None:
        """A number that Python does not read by default is null to whoever provides the type, and who asks."""
        frame = b'{"type":"registertrigger","id":"1","trigger_type":"own","function_id":"f","config":[%s]}'
        self.worker.connection.received(frame % (b"9" * 5000))
        other = connect(self.engine)
        other.provide("own")
        self.assertEqual(other.received("registertrigger")[0]["config"], [None])

    def test_limit(self) -> None:
        """A worker may have so many triggers and types, 4 here; one more is refused, a known one is not."""
        self.worker.provide("own")
        for number in range(4):
            self.worker.register_trigger(str(number))
        self.assertEqual(list(self.provider.active), ["0", "1", "2"])
        self.worker.provide("another")
        self.assertEqual(self._refusals(), [("3", "too_many_registrations")])
        self.assertIsNone(self.engine.triggers.provider(("default", "another")))
        self.assertEqual(self.engine.counters.registrations_refused, 2)
        self.assertEqual(self.engine.counters.limit_hits, {"triggers_per_connection": 2})
        self.worker.register_trigger("0", function_id="g")
        self.worker.provide("own")
        self.assertEqual(self.engine.counters.registrations_refused, 2)

    # Workers as providers.

    def test_worker_provides(self) -> None:
        """A worker that provides a type is told of its triggers, and of their ends."""
        self.worker.provide("own", description="of a worker")
        other = connect(self.engine)
        other.register_trigger("1", "own", "f", config={"a": 1}, metadata={"m": 2}, namespace="orders")
        other.leave()
        self.assertEqual(
            self.worker.received("registertrigger"),
            [
                {
                    "id": "1",
                    "trigger_type": "own",
                    "function_id": "f",
                    "config": {"a": 1},
                    "metadata": {"m": 2},
                    "namespace": "orders",
                }
            ],
        )
        self.assertEqual(self.worker.received("unregistertrigger"), [{"id": "1", "trigger_type": "own"}])

    def test_bare_trigger(self) -> None:
        """A provider always gets a config; the default namespaces and absent metadata are left out."""
        self.worker.provide("own")
        self.worker.register_trigger("1", "own")
        self.assertEqual(
            self.worker.received("registertrigger"),
            [{"id": "1", "trigger_type": "own", "function_id": "f", "config": None}],
        )

    def test_provider_namespace(self) -> None:
        """A provider is told its own namespace when it is not C{default}."""
        there = connect(self.engine, "there", namespace="orders")
        there.provide("own")
        there.register_trigger("1", "own")
        self.assertEqual(there.received("registertrigger")[0]["trigger_namespace"], "orders")

    def test_worker_refuses(self) -> None:
        """A worker's refusal goes to the owners, and the trigger is parked."""
        self.worker.provide("own")
        owner = connect(self.engine)
        owner.register_trigger("1", "own")
        error = {"code": "c", "message": "m", "stacktrace": "s"}
        self.worker.send("triggerregistrationresult", id="1", trigger_type="own", function_id="?", error=error)
        self.assertEqual(
            owner.received("triggerregistrationresult"),
            [{"id": "1", "trigger_type": "own", "function_id": "f", "error": error}],
        )
        trigger = self.engine.triggers.find("1")
        assert trigger is not None
        self.assertEqual(trigger.reason, "m")

    def test_worker_accepts(self) -> None:
        """That a worker takes a trigger is not passed on."""
        self.worker.provide("own")
        self.worker.register_trigger("1", "own")
        self.worker.send("triggerregistrationresult", id="1", trigger_type="own", function_id="f")
        self.assertEqual(self.worker.received("triggerregistrationresult"), [])

    def test_not_the_provider(self) -> None:
        """A worker that does not provide the type cannot refuse a trigger."""
        self.worker.register_trigger("1")
        self.worker.send(
            "triggerregistrationresult", id="1", trigger_type="t", function_id="f", error={"code": "c", "message": ""}
        )
        self.assertEqual(list(self.provider.active), ["1"])

    def test_type_of_a_module(self) -> None:
        """A worker cannot take a module's type away; it may provide one of that name in its own namespace."""
        self.worker.provide("t")
        connect(self.engine, namespace="orders").provide("t")
        self.worker.register_trigger("1")
        self.assertEqual(list(self.provider.active), ["1"])
        self.assertEqual([key for key, _ in self.engine.triggers.providers()], [("default", "t"), ("orders", "t")])

    def test_type_unregistered(self) -> None:
        """A worker can withdraw a type, and only its own."""
        self.worker.provide("own")
        connect(self.engine).send("unregistertriggertype", id="own")
        self.assertIsNotNone(self.engine.triggers.provider(("default", "own")))
        self.worker.send("unregistertriggertype", id="own")
        self.assertIsNone(self.engine.triggers.provider(("default", "own")))

    def test_provider_lost(self) -> None:
        """A worker that goes provides nothing any more; its own triggers do not move to another provider first."""
        there = connect(self.engine, "there", namespace="orders")
        there.provide("t")
        there.register_trigger("own")
        other = connect(self.engine, "other", namespace="orders")
        other.register_trigger("others", function_id="g")
        self.assertEqual(self.provider.events, [])
        there.leave()
        self.assertEqual(self.provider.events, [("register", "others")])

    def test_blank_type_namespace(self) -> None:
        """A type in a blank namespace is ignored."""
        self.worker.provide("own", namespace=" ")
        self.assertIsNone(self.engine.triggers.provider((" ", "own")))

    def test_order_of_events(self) -> None:
        """It does not matter whether the worker with the type or the one with the trigger comes first."""
        late = FakeWorker(self.engine)
        late.provide("own")
        self.worker.register_trigger("1", "own")
        self.assertEqual(late.received("registertrigger"), [])
        self.clock.advance(5)
        self.assertEqual(len(late.received("registertrigger")), 1)


class FunctionTests(SynchronousTestCase):
    """A worker that registers functions, 3 at most, with 100 bytes at most."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = make_engine(self.clock, functions_per_connection=3, registration_bytes_per_connection=100)
        self.worker = FakeWorker(self.engine)

    def announce(self, **said: str) -> None:
        self.worker.connection.announce(Announcement(**said))

    def _rejected(self) -> list[str]:
        """Return which functions were refused, in such a way that SDKs go on."""
        rejections = self.worker.received("registrationrejected")
        self.worker.edge.frames.clear()
        for each in rejections:
            self.assertEqual((each["code"], each["owner_worker_id"]), ("FUNCTION_NAMESPACE_CONFLICT", ""))
        return [each["function_id"] for each in rejections]

    def _functions(self) -> list[str]:
        return [function.id for function in self.engine.functions]

    def test_limit(self) -> None:
        """One function too many is refused, a known one is not."""
        self.announce(namespace="orders")
        self.worker.register("a", "b", "c", "d", "a")
        (rejection,) = self.worker.received("registrationrejected")
        self.assertEqual(
            rejection,
            {
                "code": "FUNCTION_NAMESPACE_CONFLICT",
                "namespace": "orders",
                "owner_worker_id": "",
                "function_id": "d",
            },
        )
        self.assertEqual(self._functions(), ["a", "b", "c"])
        self.assertEqual(self.engine.counters.limit_hits, {"functions_per_connection": 1})

    def test_http_function(self) -> None:
        """A function that is to be called by HTTP is refused; one whose C{invocation} is null is an ordinary one."""
        self.announce()
        self.worker.register("http", invocation={"url": "http://example.org"})
        self.worker.register("plain", invocation=None)
        self.assertEqual(self._rejected(), ["http"])
        self.assertEqual(self._functions(), ["plain"])

    def test_long_id(self) -> None:
        """An id that is none is refused, and comes back shortened."""
        self.announce()
        self.worker.register(2000 * "x")
        self.assertEqual(self._rejected(), [1024 * "x"])

    def test_bytes(self) -> None:
        """What a worker registers has so many bytes together, 100 here; what ends, or becomes smaller, makes room."""
        self.announce()
        self.worker.register("a", description=60 * "x")
        self.worker.register_trigger("1", config=60 * "x")
        self.worker.provide("t", description=60 * "x")
        self.worker.register("b", metadata=60 * "x")
        self.assertEqual(self._rejected(), ["b"])
        self.assertEqual(len(self.engine.triggers), 0)
        self.assertIsNone(self.engine.triggers.provider(("default", "t")))
        self.assertEqual(self.engine.counters.limit_hits, {"registration_bytes_per_connection": 3})
        self.worker.register("a", description="short")
        self.worker.register_trigger("1", config=60 * "x")
        self.worker.register_trigger("1", config=61 * "x")
        self.worker.send("unregistertrigger", id="1")
        self.worker.provide("t", description=60 * "x")
        self.worker.send("unregistertriggertype", id="t")
        self.worker.send("unregisterfunction", id="a")
        self.assertEqual(self.worker.connection.registrations.budget.used, 0)
        self.assertEqual(len(self.engine.counters.limit_hits), 1)

    def test_taken_over(self) -> None:
        """Bytes of a trigger that another connection has taken over are free again."""
        self.announce()
        self.worker.register_trigger("1", config=60 * "x")
        connect(self.engine).register_trigger("1")
        self.assertEqual(self.worker.connection.registrations.budget.used, 0)

    def test_held_bytes(self) -> None:
        """So have those that wait for the namespace to be known; each is refused in its own way."""
        self.worker.register("a", description=60 * "x")
        self.worker.register("b", description=60 * "x")
        self.worker.register_trigger("1", config=60 * "x")
        self.worker.provide("t", description=60 * "x")
        self.assertEqual(self._rejected(), ["b"])
        self.announce()
        self.assertEqual((self._functions(), self.worker.connection.registrations.budget.used), (["a"], 61))

    def test_frame_released(self) -> None:
        """A registration that is held keeps its own bytes, not the frame that it came in."""
        frame = b'{"type":"registerfunction","id":"a","metadata":1,"unknown":"%s"}' % (b"x" * 100_000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.worker.connection.received(bytes(bytearray(frame)))
        self.assertLess(tracemalloc.get_traced_memory()[0], 50_000)

    def test_defect(self) -> None:
        """A defect that one registration meets is logged, and the others behind it apply."""

        def fail(namespace: str, function_id: str) -> None:
            if function_id == "a":
                raise ZeroDivisionError

        self.engine.functions.observers.append(fail)
        self.worker.register("a", "b")
        self.announce()
        self.worker.register("c")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsNotNone(self.engine.functions.find("default", "b"))
        self.assertIsNotNone(self.engine.functions.find("default", "c"))

    def test_flood(self) -> None:
        """However much is refused, the log gets a line a second, in which ids are harmless."""
        self.announce()
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for number in range(100):
            self.worker.register(f"\x1b[31m{number}", invocation={})
        self.clock.advance(1)
        self.worker.register("last", invocation={})
        texts = [formatEvent(event) for event in events]
        self.assertEqual(len(texts), 2)
        self.assertIn(r"registerfunction of '\x1b[31m0' is refused: HTTP functions are not available yet", texts[0])
        self.assertIn("99 more", texts[1])
