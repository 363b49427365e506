"""Tests for L{iii.core.triggers}, and for how connections use it."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.errors import TriggerRefused
from iii.core.triggers import Provider, Trigger, TriggerTable
from iii.wire.messages import ErrorBody
from tests.core.fakes import FakeProvider, FakeWorker, connect, make_engine


class Reports:
    """What triggers were told of themselves, as C{(id, code)}; the code is C{None} when they were taken."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str | None]] = []

    def __call__(self, trigger: Trigger, error: ErrorBody | None) -> None:
        self.all.append((trigger.id, None if error is None else error.code))


class TriggerTableTests(SynchronousTestCase):
    """The table by itself, with providers and owners that are nobody in particular."""

    def setUp(self) -> None:
        self.table, self.provider, self.reports = TriggerTable(), FakeProvider(), Reports()

    def provide(self, namespace: str = "default", connection: Any = None, kind: str = "t") -> FakeProvider:
        provider = FakeProvider()
        self.table.provide((namespace, kind), Provider(provider, connection=connection))
        return provider

    def register(self, trigger_id: str, owner: Any = None, **members: Any) -> Trigger:
        members = {"trigger_type": "t", "function_id": "f", **members}
        for name in ("config", "metadata"):
            if name in members:
                members[name] = Raw(members[name])
        trigger = Trigger(trigger_id, owner=owner, report=self.reports, **members)
        self.table.register(trigger)
        return trigger

    # Parked and live.

    def test_live(self) -> None:
        """A trigger of a type that is provided is live at once."""
        provider = self.provide()
        trigger = self.register("1")
        self.assertEqual(provider.events, [("register", "1")])
        self.assertIsNotNone(trigger.binding)
        self.assertEqual(trigger.reason, "")

    def test_parked(self) -> None:
        """A trigger of a type that nobody provides waits, and says why."""
        trigger = self.register("1")
        self.assertIsNone(trigger.binding)
        self.assertEqual(trigger.reason, "no provider of trigger type 't' is connected")

    def test_waking(self) -> None:
        """A provider that comes gets what waited for it, and nothing else."""
        trigger = self.register("1")
        self.register("2", trigger_type="other")
        self.assertEqual(self.provide().events, [("register", "1")])
        self.assertEqual(trigger.reason, "")

    def test_listing(self) -> None:
        """All triggers are found, live or parked, by id."""
        self.provide()
        ids = [self.register("b").id, self.register("a", trigger_type="other").id]
        self.assertEqual([trigger.id for trigger in self.table.all()], sorted(ids))
        self.assertEqual(len(self.table), 2)

    def test_ownerless(self) -> None:
        """Triggers without an owner are counted."""
        self.register("1")
        trigger = self.register("2")
        self.register("3", owner="a")
        self.assertEqual(self.table.ownerless, 2)
        self.register("1", owner="a")
        self.table.remove(trigger)
        self.assertEqual(self.table.ownerless, 0)

    # The end of triggers.

    def test_removed(self) -> None:
        """The provider of a live trigger that ends is told."""
        provider = self.provide()
        self.table.remove(self.register("1"))
        self.assertEqual(provider.events, [("register", "1"), ("unregister", "1")])
        self.assertIsNone(self.table.find("1"))

    def test_parked_removed(self) -> None:
        """A parked trigger that has ended does not come alive."""
        self.table.remove(self.register("1"))
        self.assertEqual(self.provide().events, [])

    # Replacement.

    def test_replaced(self) -> None:
        """A trigger replaces the one with its id, whoever owns it; the provider hears of the end of the old one."""
        provider = self.provide()
        self.register("1", owner="a")
        trigger = self.register("1", owner="b", function_id="g")
        self.assertEqual(provider.events, [("register", "1"), ("unregister", "1"), ("register", "1")])
        self.assertIs(provider.active["1"], trigger)
        self.assertEqual(len(self.table), 1)

    def test_replaced_by_other_type(self) -> None:
        """When its type changes, the old provider no longer fires."""
        old, new = self.provide(), self.provide(kind="u")
        self.register("1")
        self.register("1", trigger_type="u")
        self.assertEqual((list(old.active), list(new.active)), ([], ["1"]))

    def test_replacement_refused(self) -> None:
        """What is refused replaces nothing: the old trigger goes on, and the refusal is raised."""
        old, new = self.provide(), self.provide(kind="u")
        trigger = self.register("1")
        new.refusal = TriggerRefused("no")
        self.assertRaises(TriggerRefused, self.register, "1", trigger_type="u")
        self.assertIs(self.table.find("1"), trigger)
        self.assertIs(old.active["1"], trigger)

    def test_refused(self) -> None:
        """What is refused is not stored."""
        self.provide().refusal = TriggerRefused("no")
        self.assertRaises(TriggerRefused, self.register, "1")
        self.assertEqual(len(self.table), 0)

    # Where the provider is.

    def test_own_namespace_first(self) -> None:
        """Without a provider's namespace, the one of whoever registers comes first, then C{default}."""
        default, own = self.provide(), self.provide("orders")
        self.register("1", origin="orders")
        self.register("2", origin="other")
        self.assertEqual((list(own.active), list(default.active)), (["1"], ["2"]))

    def test_named_namespace(self) -> None:
        """A provider's namespace that was named is the only one, blank or not."""
        default, own = self.provide(), self.provide("orders")
        self.register("1", trigger_namespace="elsewhere")
        self.register("2", trigger_namespace="")
        self.register("3", trigger_namespace="orders")
        self.assertEqual((list(own.active), list(default.active)), (["3"], []))

    def test_target_namespace(self) -> None:
        """The namespace of the function plays no part."""
        self.provide("orders")
        self.assertIsNone(self.register("1", namespace="orders").binding)

    def test_taken_over(self) -> None:
        """A provider takes over from C{default} what its namespace registered, but nothing that named a namespace."""
        default = self.provide()
        self.register("1", origin="orders")
        self.register("2", origin="orders", trigger_namespace="default", function_id="g")
        self.register("3", origin="other", function_id="h")
        own = self.provide("orders", connection="w")
        self.assertEqual((list(own.active), list(default.active)), (["1"], ["2", "3"]))
        self.assertEqual(default.events[-1], ("unregister", "1"))

    def test_fallback(self) -> None:
        """When that provider goes, C{default} serves them again."""
        default = self.provide()
        self.register("1", origin="orders")
        self.provide("orders", connection="w")
        self.table.withdraw(("orders", "t"), "w")
        self.assertEqual(list(default.active), ["1"])

    # Providers that come and go.

    def test_provider_gone(self) -> None:
        """When the provider goes, its triggers wait, with their ids, until one comes."""
        provider = self.provide(connection="w")
        trigger = self.register("1")
        self.table.withdraw(("default", "t"), "w")
        self.assertEqual(provider.events, [("register", "1")])
        self.assertIsNone(trigger.binding)
        self.assertEqual(self.provide(connection="x").events, [("register", "1")])

    def test_provider_again(self) -> None:
        """A provider that registers its type again gets all its triggers again."""
        first = self.provide(connection="w")
        self.register("1")
        again = self.provide(connection="w")
        self.assertEqual((first.events, again.events), ([("register", "1")], [("register", "1")]))

    def test_provider_replaced(self) -> None:
        """Another provider of the type takes over, and the former one is told; it gets them back when that one goes."""
        first = self.provide(connection="v")
        self.register("1")
        second = self.provide(connection="w")
        self.assertEqual((list(first.active), list(second.active)), ([], ["1"]))
        self.table.withdraw(("default", "t"), "w")
        self.assertEqual(list(first.active), ["1"])

    def test_former_provider_gone(self) -> None:
        """When a provider goes that no longer serves its type, nothing changes."""
        self.provide(connection="v")
        self.register("1")
        second = self.provide(connection="w")
        self.table.withdraw(("default", "t"), "v")
        self.assertEqual(second.events, [("register", "1")])
        self.assertEqual([key for key, _ in self.table.providers()], [("default", "t")])

    def test_unknown_provider_gone(self) -> None:
        """Whoever does not provide a type cannot withdraw it."""
        provider = self.provide(connection="v")
        self.register("1")
        self.table.withdraw(("default", "t"), "w")
        self.table.withdraw(("default", "u"), "w")
        self.assertEqual(list(provider.active), ["1"])

    def test_providers(self) -> None:
        """Types are listed by id, then namespace, with whoever serves them now."""
        self.provide("b")
        self.provide("a", kind="z")
        self.provide("a", connection="v")
        second = self.provide("a", connection="w")
        self.assertEqual([key for key, _ in self.table.providers()], [("a", "t"), ("b", "t"), ("a", "z")])
        provider = self.table.provider(("a", "t"))
        assert provider is not None
        self.assertIs(provider.handler, second)
        self.assertIsNone(self.table.provider(("c", "t")))

    # Equal triggers are one binding.

    def test_equal(self) -> None:
        """Of equal triggers of different owners the provider knows one, whatever the order of the config's members."""
        provider = self.provide()
        first = self.register("1", owner="a", config=b'{"x":1,"y":{"b":2,"a":3}}')
        second = self.register("2", owner="b", config=b'{"y": {"a": 3, "b": 2}, "x": 1}')
        self.assertEqual(provider.events, [("register", "1")])
        self.assertIs(first.binding, second.binding)

    def test_unequal(self) -> None:
        """Triggers that differ in function, its namespace, provider, config or metadata are several."""
        provider, other = self.provide(), self.provide("orders")
        different: list[dict[str, Any]] = [
            {},
            {"function_id": "g"},
            {"namespace": "orders"},
            {"config": b"1"},
            {"config": b'"1"'},
            {"metadata": b"1"},
            {"origin": "orders"},
        ]
        for number, members in enumerate(different):
            self.register(str(number), owner=number, **members)
        self.assertEqual((list(provider.active), list(other.active)), (["0", "1", "2", "3", "4", "5"], ["6"]))

    def test_same_owner(self) -> None:
        """Two equal triggers of one owner are two bindings, each shared with the equal ones of another."""
        provider = self.provide()
        triggers = [self.register(str(number), owner="ab"[number // 2]) for number in range(4)]
        self.assertEqual(list(provider.active), ["0", "1"])
        self.assertIs(triggers[2].binding, triggers[0].binding)
        self.assertIs(triggers[3].binding, triggers[1].binding)

    def test_no_owner(self) -> None:
        """Triggers without an owner are never equal."""
        provider = self.provide()
        self.register("1")
        self.register("2")
        self.assertEqual(list(provider.active), ["1", "2"])

    def test_one_of_equals_gone(self) -> None:
        """When the one that the provider knows goes, it gets another owner's; when the last goes, it is told."""
        provider = self.provide()
        first, second = self.register("1", owner="a"), self.register("2", owner="b")
        self.table.remove(first)
        self.assertEqual(provider.events[1:], [("unregister", "1"), ("register", "2")])
        self.table.remove(second)
        self.assertEqual(provider.active, {})

    def test_other_of_equals_gone(self) -> None:
        """When one goes that the provider does not know, it hears nothing."""
        provider = self.provide()
        self.register("1", owner="a")
        self.table.remove(self.register("2", owner="b"))
        self.assertEqual(provider.events, [("register", "1")])

    def test_equals_move_together(self) -> None:
        """Equal triggers are parked together and are one again with the next provider."""
        self.provide(connection="w")
        triggers = [self.register("1", owner="a"), self.register("2", owner="b")]
        self.table.withdraw(("default", "t"), "w")
        self.assertEqual([trigger.binding for trigger in triggers], [None, None])
        self.assertEqual(self.provide().events, [("register", "1")])
        self.assertIs(triggers[0].binding, triggers[1].binding)

    def test_extreme_numbers(self) -> None:
        """Configs with numbers beyond all ranges can be compared."""
        provider = self.provide()
        self.register("1", owner="a", config=b"[1e400, 123456789012345678901234567890]")
        self.register("2", owner="b", config=b"[ 1e400,123456789012345678901234567890]")
        self.assertEqual(list(provider.active), ["1"])

    # What providers say later.

    def test_refused_when_woken(self) -> None:
        """A trigger that the provider refuses when it comes stays parked, with the reason, and is told."""
        trigger = self.register("1")
        provider = FakeProvider()
        provider.refusal = TriggerRefused("no such topic")
        self.table.provide(("default", "t"), Provider(provider))
        self.assertEqual((trigger.binding, trigger.reason), (None, "no such topic"))
        self.assertEqual(self.reports.all, [("1", "trigger_registration_failed")])

    def test_answered(self) -> None:
        """What a worker says of a trigger reaches all equal ones; an error parks them."""
        self.provide(connection="w")
        triggers = [self.register("1", owner="a"), self.register("2", owner="b")]
        self.table.answered(("default", "t"), "w", "1", None)
        self.assertEqual(self.reports.all, [("1", None), ("2", None)])
        self.table.answered(("default", "t"), "w", "1", ErrorBody("no", "not now"))
        self.assertEqual(self.reports.all[2:], [("1", "no"), ("2", "no")])
        self.assertEqual([(each.binding, each.reason) for each in triggers], [(None, "not now")] * 2)

    def test_answered_by_others(self) -> None:
        """What others say does not count, nor what is said of triggers that they do not know."""
        provider = self.provide(connection="w")
        self.provide("orders", connection="x")
        self.register("1", owner="a")
        self.register("2", owner="b")
        self.register("3", owner="a", trigger_namespace="elsewhere")
        for key, connection, trigger_id in (
            (("default", "t"), "x", "1"),
            (("orders", "t"), "x", "1"),
            (("default", "t"), "w", "2"),
            (("default", "t"), "w", "3"),
            (("default", "t"), "w", "4"),
            (("default", "u"), "w", "1"),
        ):
            self.table.answered(key, connection, trigger_id, ErrorBody("no", "no"))
        self.assertEqual((list(provider.active), self.reports.all), (["1"], []))


class ConnectionTests(SynchronousTestCase):
    """Triggers and trigger types of workers."""

    def setUp(self) -> None:
        self.engine = make_engine(Clock(), triggers_per_connection=4)
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
        self.worker.lost()
        self.assertEqual((self.provider.active, len(self.engine.triggers)), ({}, 0))

    def test_reconnected(self) -> None:
        """What a newer connection has registered again outlives the older one."""
        self.worker.register_trigger("1")
        connect(self.engine, "w").register_trigger("1")
        self.worker.lost()
        self.assertEqual(list(self.provider.active), ["1"])

    def test_removed_by_the_engine(self) -> None:
        """The engine can end a worker's trigger; its worker may go later."""
        self.worker.register_trigger("1")
        trigger = self.engine.triggers.find("1")
        assert trigger is not None
        self.engine.remove_trigger(trigger)
        self.worker.lost()
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
        other.lost()
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
        """A worker that goes provides nothing any more; what it owned itself does not move to another provider first."""
        there = connect(self.engine, "there", namespace="orders")
        there.provide("t")
        there.register_trigger("own")
        other = connect(self.engine, "other", namespace="orders")
        other.register_trigger("others", function_id="g")
        self.assertEqual(self.provider.events, [])
        there.lost()
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
        self.engine.clock.advance(5)  # type: ignore[attr-defined]  # a Clock
        self.assertEqual(len(late.received("registertrigger")), 1)
