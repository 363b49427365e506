"""Tests for L{iii.core.registrations}: triggers and trigger types of workers."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

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

    def test_limit(self) -> None:
        """A worker may have so many triggers and types, 4 here; one more is refused, a known one is not."""
        self.worker.provide("own")
        for number in range(4):
            self.worker.register_trigger(str(number))
        self.assertEqual(list(self.provider.active), ["0", "1", "2"])
        (rejection,) = self.worker.received("registrationrejected")
        self.assertEqual(rejection["code"], "TOO_MANY_REGISTRATIONS")
        self.assertEqual(self.engine.counters.registrations_refused, 1)
        self.worker.register_trigger("0", function_id="g")
        self.worker.provide("own")
        self.assertEqual(len(self.worker.received("registrationrejected")), 1)

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
