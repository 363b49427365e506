"""Tests for L{iii.modules.engine_functions.ownerless_triggers}."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Raw

from iii.core.errors import TriggerRefused
from tests.core.fakes import FakeWorker
from tests.modules.engine_functions.case import EngineFunctionsTestCase

REGISTER, UNREGISTER = "engine::register_trigger", "engine::unregister_trigger"
LIST = "engine::registered-triggers::list"
REFUSAL = {"code": "trigger_registration_failed", "message": "no such table"}


class RegisterTests(EngineFunctionsTestCase):
    def _ids(self) -> list[str]:
        return [row["id"] for row in self.ask(LIST, include_parked=True)["registered_triggers"]]

    def test_module(self) -> None:
        """A trigger of a module's type is live at once, with the config and metadata given."""
        provider = self.provide("cron")
        trigger_id = self.ask(REGISTER, trigger_type="cron", function_id="f", config={"a": 1}, metadata=[2])["id"]
        trigger = provider.active[trigger_id]
        self.assertEqual((bytes(trigger.config), bytes(trigger.metadata)), (b'{"a": 1}', b"[2]"))
        self.assertEqual((trigger.namespace, trigger.function_id), ("default", "f"))
        self.assertEqual(len(trigger_id), 36)

    def test_no_config(self) -> None:
        """The config is null without one; null metadata is none."""
        provider = self.provide("cron")
        for config in ({}, {"config": None, "metadata": None}):
            trigger = provider.active[self.ask(REGISTER, trigger_type="cron", function_id="f", **config)["id"]]
            self.assertEqual((bytes(trigger.config), bytes(trigger.metadata)), (b"null", b""))

    def test_required(self) -> None:
        """Type and function must be given."""
        for members in ({"function_id": "f"}, {"trigger_type": "t"}, {"trigger_type": None, "function_id": "f"}):
            self.assertEqual(self.ask_in_vain(REGISTER, **members)[0], "deserialization_error")

    def test_caller(self) -> None:
        """It survives the worker that asked for it, whose id in the payload does not matter."""
        provider = self.provide("cron")
        worker = self.connect("w")
        call = worker.call(REGISTER, {"trigger_type": "cron", "function_id": "f"})
        trigger_id = worker.outcome(call)["id"]
        worker.leave()
        self.assertIn(trigger_id, provider.active)

    def test_no_owners_are_not_equal(self) -> None:
        """Two equal ones are two triggers, as nothing tells when one of them would not be wanted any more."""
        provider = self.provide("cron")
        for _ in range(2):
            self.ask(REGISTER, trigger_type="cron", function_id="f")
        self.assertEqual(len(provider.active), 2)

    def test_parked(self) -> None:
        """Without a provider the call succeeds, and the trigger waits for one; so it does in a blank namespace."""
        first = self.ask(REGISTER, trigger_type="cron", function_id="f")["id"]
        self.ask(REGISTER, trigger_type="cron", function_id="f", trigger_namespace="")
        self.assertEqual(list(self.provide("cron").active), [first])

    def test_namespace(self) -> None:
        """The provider is the one in the namespace named, else in C{default}."""
        worker = self.connect("w", namespace="orders")
        worker.provide("t")
        call = worker.call(REGISTER, {"trigger_type": "t", "function_id": "f"})
        self.assertIn("id", worker.outcome(call))
        self.assertEqual(worker.received("registertrigger"), [])
        self.start(REGISTER, trigger_type="t", function_id="f", trigger_namespace="orders")
        (request,) = worker.received("registertrigger")
        self.assertEqual((request["function_id"], request["trigger_namespace"]), ("f", "orders"))

    def test_refused(self) -> None:
        """A module's refusal is the call's error, and nothing is stored."""
        self.provide("cron").refusal = TriggerRefused("no expression")
        self.assertEqual(
            self.ask_in_vain(REGISTER, trigger_type="cron", function_id="f"),
            ("trigger_registration_failed", "no expression"),
        )
        self.assertEqual(self._ids(), [])

    def test_limit(self) -> None:
        """At most so many may exist at one time, 3 here; a worker's own do not count."""
        self.connect("w").register_trigger("own")
        ids = [self.ask(REGISTER, trigger_type="t", function_id="f")["id"] for _ in range(3)]
        self.assertEqual(
            self.ask_in_vain(REGISTER, trigger_type="t", function_id="f"),
            ("too_many_triggers", "at most 3 triggers without an owner may exist at one time"),
        )
        self.ask(UNREGISTER, id=ids[0])
        self.ask(REGISTER, trigger_type="t", function_id="f")
        self.assertEqual(self.engine.counters.limit_hits, {"ownerless_triggers": 1})

    def test_long_ids(self) -> None:
        """What is too long to be an id is refused."""
        ids = {"trigger_type": "t", "function_id": "f", "trigger_namespace": "n"}
        for member in ids:
            self.assertEqual(self.ask_in_vain(REGISTER, **{**ids, member: 1025 * "x"})[0], "deserialization_error")

    def test_unreadable_numbers(self) -> None:
        """A number that Python does not read by default is null to whoever asks."""
        text = b'{"trigger_type":"t","function_id":"f","config":[%s]}' % (5000 * b"9")
        self.engine.call(REGISTER, Raw(text))
        (row,) = self.ask("engine::registered-triggers::list", include_parked=True)["registered_triggers"]
        self.assertEqual((row["config"], row["config_summary"]), ([None], "[null]"))


class BytesTests(EngineFunctionsTestCase):
    """Such triggers have 200 bytes together."""

    limits: ClassVar[dict[str, int]] = {"ownerless_trigger_bytes": 200}

    def test_bytes(self) -> None:
        """More is refused; what ends makes room."""
        wanted = {"trigger_type": "t", "function_id": "f", "config": 100 * "x"}
        trigger_id = self.ask(REGISTER, **wanted)["id"]
        self.assertEqual(
            self.ask_in_vain(REGISTER, **wanted),
            ("too_many_triggers", "at most 200 bytes of triggers without an owner may exist at one time"),
        )
        self.ask(UNREGISTER, id=trigger_id)
        self.ask(REGISTER, **wanted)
        self.assertEqual(self.engine.counters.limit_hits, {"ownerless_trigger_bytes": 1})


class WorkerProviderTests(EngineFunctionsTestCase):
    """The type's provider is a worker, which says later whether it takes a trigger."""

    def setUp(self) -> None:
        super().setUp()
        self.worker = self.connect("w")
        self.worker.provide("t")
        self.timers = self.clock.getDelayedCalls()
        self.asked = self.start(REGISTER, trigger_type="t", function_id="f")
        (self.request,) = self.worker.received("registertrigger")

    def _answer(self, worker: FakeWorker | None = None, **error: Any) -> None:
        members = {name: self.request[name] for name in ("id", "trigger_type", "function_id")}
        (worker or self.worker).send("triggerregistrationresult", **members, **error)

    def test_waits(self) -> None:
        """The call has no answer before the worker's."""
        self.clock.advance(9.9)
        self.assertFalse(self.asked.ended)

    def test_taken(self) -> None:
        """The worker takes it: the call succeeds."""
        self._answer()
        self.assertEqual(self.asked.result, {"id": self.request["id"]})
        self.assertEqual(self.clock.getDelayedCalls(), self.timers)

    def test_silence(self) -> None:
        """After 10 seconds of silence the call succeeds."""
        self.clock.advance(10)
        self.assertEqual(self.asked.result, {"id": self.request["id"]})

    def test_refused(self) -> None:
        """The worker refuses it: the call fails with the worker's code and text, and nothing is stored."""
        self._answer(error=REFUSAL)
        self.assertEqual(
            self.asked.error, ("trigger_registration_failed", "trigger_registration_failed: no such table")
        )
        self.assertIsNone(self.engine.triggers.find(self.request["id"]))
        self.assertEqual(self.worker.received("unregistertrigger"), [])

    def test_other_worker(self) -> None:
        """What another worker says does not count."""
        other = self.connect("x")
        other.provide("t", namespace="elsewhere")
        self._answer(other, error=REFUSAL)
        self.assertFalse(self.asked.ended)

    def test_refused_late(self) -> None:
        """A refusal after the silence parks the trigger; so does one when the provider has come back."""
        self.clock.advance(10)
        self._answer(error=REFUSAL)
        trigger = self.engine.triggers.find(self.request["id"])
        assert trigger is not None
        self.assertEqual((trigger.binding, trigger.reason), (None, "no such table"))

    def test_removed_meanwhile(self) -> None:
        """It can be ended before the worker has answered; then nobody waits for the answer any more."""
        self.assertEqual(self.ask(UNREGISTER, id=self.request["id"]), {"removed": True})
        self.assertEqual(self.asked.result, {"id": self.request["id"]})
        self._answer(error=REFUSAL)
        self.assertEqual(self.clock.getDelayedCalls(), self.timers)

    def test_provider_gone(self) -> None:
        """The provider goes before it has answered: the trigger is parked, and the call succeeds after the silence."""
        self.worker.leave()
        self.clock.advance(10)
        self.assertEqual(self.asked.result, {"id": self.request["id"]})
        self.assertIsNotNone(self.engine.triggers.find(self.request["id"]))

    def test_stop(self) -> None:
        """Stopping waits for nobody."""
        self.module.stopService()
        self.assertTrue(self.asked.ended)
        self.assertEqual(self.clock.getDelayedCalls(), self.timers)
        self.module.startService()


class UnregisterTests(EngineFunctionsTestCase):
    def test_ownerless(self) -> None:
        """A trigger that was made by request ends, and its provider is told."""
        provider = self.provide("cron")
        trigger_id = self.ask(REGISTER, trigger_type="cron", function_id="f")["id"]
        self.assertEqual(self.ask(UNREGISTER, id=trigger_id, trigger_type="cron"), {"removed": True})
        self.assertEqual(provider.active, {})

    def test_of_a_worker(self) -> None:
        """So does a worker's, live or parked; the worker may go later."""
        provider = self.provide("cron")
        worker = self.connect("w")
        worker.register_trigger("live", "cron")
        worker.register_trigger("parked", "unknown")
        for trigger_id in ("live", "parked"):
            self.assertEqual(self.ask(UNREGISTER, id=trigger_id), {"removed": True})
        self.assertEqual((provider.active, len(self.engine.triggers)), ({}, 0))
        worker.leave()

    def test_unknown(self) -> None:
        """That there is no such trigger is no error."""
        self.assertEqual(self.ask(UNREGISTER, id="x"), {"removed": False})

    def test_required(self) -> None:
        """The id must be given."""
        self.assertEqual(self.ask_in_vain(UNREGISTER, trigger_type="t")[0], "deserialization_error")
