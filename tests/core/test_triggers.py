"""Tests for L{iii.core.triggers}."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from iii.core.errors import TriggerRefused
from iii.core.triggers import Provider, Trigger, TriggerTable
from iii.wire.messages import ErrorBody
from tests.core.fakes import FakeProvider


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

    def test_very_many(self) -> None:
        """An owner has so many equal ones and no more; one that differs is no matter of that."""
        self.provide()
        for number in range(100):
            self.register(str(number), owner="a")
        error = self.assertRaises(TriggerRefused, self.register, "x", owner="a")
        self.assertIn("100 triggers", str(error))
        self.register("y", owner="a", function_id="g")

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

    def test_one_of_several_gone(self) -> None:
        """An owner ends one of its two equal triggers, of which another owner shares one: it fires once for each."""
        for shared in (0, 1):
            self.setUp()
            provider = self.provide()
            other = self.register("o", owner="b") if shared else None
            first, second = self.register("1", owner="a"), self.register("2", owner="a")
            other = other or self.register("o", owner="b")
            self.assertEqual(len(provider.active), 2)
            self.table.remove(first)
            self.assertEqual(len(provider.active), 1)
            self.assertIs(second.binding, other.binding)
            self.table.remove(other)
            self.assertEqual(list(provider.active), ["2"])
            self.table.remove(second)
            self.assertEqual(provider.active, {})

    def test_two_of_several_stay(self) -> None:
        """Bindings that have an owner in common stay several."""
        provider = self.provide()
        for number in range(2):
            self.register(f"a{number}", owner="a")
        triggers = [self.register(f"b{number}", owner="b") for number in range(2)]
        self.register("c", owner="c")
        self.table.remove(triggers[0])
        self.assertEqual(len(provider.active), 2)

    def test_one_of_several_replaced(self) -> None:
        """Likewise when an owner makes another trigger of one of its two."""
        provider = self.provide()
        self.register("o", owner="b")
        self.register("1", owner="a")
        self.register("2", owner="a")
        self.register("1", owner="a", function_id="g")
        self.assertEqual({each.id for each in provider.active.values() if each.function_id == "f"}, {"o"})

    def test_each_owner_leaves_another(self) -> None:
        """Equal triggers fire as often as one owner has them, whichever ones have ended."""
        provider = self.provide()
        triggers = {
            (number, owner): self.register(f"{number}{owner}", owner=owner) for number in "123" for owner in "abc"
        }
        for which in ("1", "a"), ("2", "b"), ("3", "c"):
            self.table.remove(triggers[which])
        self.assertEqual(len(provider.active), 2)

    def test_same_one_presented_again(self) -> None:
        """A provider that registers its type again gets the triggers that it knows, not others that are equal."""
        first = self.provide(connection="w")
        self.register("1", owner="a")
        self.table.answered(("default", "t"), "w", "1", ErrorBody("no", "not now"))
        self.register("2", owner="b")
        self.provide(connection="w")
        self.assertEqual(first.events, [("register", "1"), ("register", "2")])
        self.assertEqual(self.provide(connection="w").events, [("register", "2")])

    def test_extreme_numbers(self) -> None:
        """Configs with numbers beyond all ranges can be compared."""
        provider = self.provide()
        self.register("1", owner="a", config=b"[1e400, 123456789012345678901234567890, -%s]" % (b"9" * 5000))
        self.register("2", owner="b", config=b"[ 1e400,123456789012345678901234567890,-%s]" % (b"9" * 5000))
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

    def test_refused_by_one_that_goes(self) -> None:
        """What a provider did not take is offered to the one that serves the type after it."""
        first = self.provide(connection="v")
        self.provide(connection="w")
        self.register("1", owner="a")
        self.table.answered(("default", "t"), "w", "1", ErrorBody("no", "no"))
        self.table.withdraw(("default", "t"), "w")
        self.assertEqual(list(first.active), ["1"])

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

    # Defects.

    def test_provider_that_fails_to_end(self) -> None:
        """A provider that raises when a trigger ends has a defect, which is logged; the trigger ends all the same."""
        provider = self.provide()
        trigger = self.register("1")

        def fail(trigger: Trigger) -> None:
            raise ZeroDivisionError

        provider.unregister = fail  # type: ignore[method-assign]
        self.table.remove(trigger)
        self.assertIsNone(self.table.find("1"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def failing(self, *ids: str) -> FakeProvider:
        """Return a provider that has a defect with some triggers."""
        provider = FakeProvider()
        take = provider.register

        def register(trigger: Trigger) -> None:
            if trigger.id in ids:
                raise KeyError(trigger.id)
            take(trigger)

        provider.register = register  # type: ignore[method-assign]
        return provider

    def test_provider_that_fails_to_take(self) -> None:
        """A provider's defect with one trigger, which is logged, does not keep the others from being woken."""
        triggers = [self.register(str(number), function_id=str(number)) for number in range(3)]
        provider = self.failing("1")
        self.table.provide(("default", "t"), Provider(provider))
        self.assertEqual(list(provider.active), ["0", "2"])
        self.assertRegex(triggers[1].reason, "^internal error [0-9a-f-]{36};")
        self.assertEqual(self.reports.all, [("1", "trigger_registration_failed")])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_replacement_that_fails(self) -> None:
        """When a provider's defect keeps a trigger from replacing another, that one goes on."""
        old = self.provide()
        self.table.provide(("default", "u"), Provider(self.failing("1")))
        trigger = self.register("1")
        self.assertRaises(TriggerRefused, self.register, "1", trigger_type="u")
        self.assertIs(self.table.find("1"), trigger)
        self.assertIs(old.active["1"], trigger)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_long_reason(self) -> None:
        """Of what a provider says against a trigger, so much is kept."""
        self.provide(connection="w")
        trigger = self.register("1", owner="a")
        self.table.answered(("default", "t"), "w", "1", ErrorBody("no", 100_000 * "x"))
        self.assertEqual(len(trigger.reason), 1000)

    def test_ownerless_bytes(self) -> None:
        """The bytes of triggers without an owner are counted."""
        self.register("1", config=b"[12345678]")
        used = self.table.ownerless_bytes
        self.assertGreater(used, 10)
        self.register("1", config=b"[1234]")
        self.assertEqual(self.table.ownerless_bytes, used - 4)
        self.register("1", owner="a")
        self.assertEqual(self.table.ownerless_bytes, 0)
