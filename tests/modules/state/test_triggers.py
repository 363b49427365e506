"""Tests for L{iii.modules.state.triggers}."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
from msgspec import Raw

from iii.storage.updates import Updated
from tests.core.case import PARENT
from tests.core.fakes import FakeWorker, connect
from tests.modules.state.case import StateTestCase


class TriggersTestCase(StateTestCase):
    def set(self, value: Any = 1, scope: str = "users", key: str = "u1") -> None:
        self.ask("set", scope=scope, key=key, value=value)

    def events(self, listener: FakeWorker) -> list[Any]:
        """The payloads of the calls that came to a listener; all are answered."""
        calls = self.heard(listener)
        for call in calls:
            listener.answer(call)
        return [call["data"] for call in calls]


class EventTests(TriggersTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.other = self.listener({})

    def event(self, kind: str, old: Any, new: Any) -> dict[str, Any]:
        return {
            "type": "state",
            "event_type": f"state:{kind}",
            "scope": "users",
            "key": "u1",
            "old_value": old,
            "new_value": new,
        }

    def test_created(self) -> None:
        """The first value of a key."""
        self.set({"n": 1})
        self.assertEqual(self.events(self.other), [self.event("created", None, {"n": 1})])

    def test_updated(self) -> None:
        """A value over another one, which may be equal, or null."""
        for old, new in (({"n": 1}, {"n": 1}), (None, 2)):
            self.set(old)
            self.events(self.other)
            self.set(new)
            self.assertEqual(self.events(self.other), [self.event("updated", old, new)])

    def test_deleted(self) -> None:
        """A removal has the old value."""
        self.set(5)
        self.events(self.other)
        self.ask("delete", scope="users", key="u1")
        self.assertEqual(self.events(self.other), [self.event("deleted", 5, None)])

    def test_deleted_absent(self) -> None:
        """As in the reference, the removal of what is not there is an event."""
        self.ask("delete", scope="users", key="u1")
        self.assertEqual(self.events(self.other), [self.event("deleted", None, None)])

    def test_update(self) -> None:
        """An update creates or updates, whatever its operations have done."""
        self.values.updated = [Updated(None, b"{}"), Updated(b"null", b"null")]
        for expected in (self.event("created", None, {}), self.event("updated", None, None)):
            self.ask("update", scope="users", key="u1", ops=[])
            self.assertEqual(self.events(self.other), [expected])

    def test_reads(self) -> None:
        """Reads are no events, nor are changes that failed."""
        for name in ("get", "list", "list_groups"):
            self.ask(name, scope="users", key="u1")
        self.fail_all()
        self.set()
        self.ask("delete", scope="users", key="u1")
        self.assertEqual(self.events(self.other), [])

    def test_answered_at_once(self) -> None:
        """A change waits for no handler."""
        self.assertEqual(self.ask("set", scope="s", key="k", value=1), {"old_value": None, "new_value": 1})
        self.assertEqual(self.ask("set", scope="s", key="k", value=2), {"old_value": 1, "new_value": 2})

    def test_order(self) -> None:
        """Of one key, a handler gets an event when it has answered the one before; other keys do not wait."""
        for value in (1, 2):
            self.set(value)
            self.set(value, key="u2")
        first = self.heard(self.other)
        self.assertEqual([(call["data"]["key"], call["data"]["new_value"]) for call in first], [("u1", 1), ("u2", 1)])
        self.other.answer(first[0])
        (second,) = self.heard(self.other)
        self.assertEqual((second["data"]["key"], second["data"]["new_value"]), ("u1", 2))

    def test_order_of_commits(self) -> None:
        """Events come in the order in which the changes were stored."""
        self.values.held = []
        for value in range(3):
            self.worker.call("state::set", {"scope": "users", "key": "u1", "value": value})
        self.worker.call("state::delete", {"scope": "users", "key": "u1"})
        self.assertEqual(self.heard(self.other), [])
        for done in self.values.held:
            done()
        found = [event for _ in range(4) for event in self.events(self.other)]
        self.assertEqual([event["new_value"] for event in found], [0, 1, 2, None])

    def test_trace(self) -> None:
        """The call continues the writer's trace in a new span, with the writer's baggage."""
        self.worker.call("state::set", {"scope": "s", "key": "k", "value": 1}, traceparent=PARENT, baggage="tenant=a")
        (call,) = self.heard(self.other)
        _, trace, span, _ = call["traceparent"].split("-")
        _, trace_of_writer, span_of_writer, _ = PARENT.split("-")
        self.assertEqual(trace, trace_of_writer)
        self.assertNotEqual(span, span_of_writer)
        self.assertIn("tenant=a", call["baggage"].split(","))

    def test_no_trace(self) -> None:
        """Without one it begins a trace, and has no baggage."""
        self.set()
        (call,) = self.heard(self.other)
        self.assertRegex(call["traceparent"], r"^00-[0-9a-f]{32}-[0-9a-f]{16}-01$")
        self.assertNotIn("baggage", call)


class MatchingTests(TriggersTestCase):
    def matched(self, config: Any) -> list[tuple[str, str]]:
        """Which of some changes a trigger hears of."""
        listener = self.listener(config)
        for scope, key in (("users", "u1"), ("users", "u2"), ("orders", "u1"), ("", "u1"), ("users", "")):
            self.set(scope=scope, key=key)
        listener.leave()
        return [(call["data"]["scope"], call["data"]["key"]) for call in listener.received("invokefunction")]

    def test_matching(self) -> None:
        """Scope and key match exactly; the empty text matches itself only; what is absent or null matches all."""
        for config, expected in (
            ({"scope": "users", "key": "u1"}, [("users", "u1")]),
            ({"scope": "users"}, [("users", "u1"), ("users", "u2"), ("users", "")]),
            ({"key": "u1", "scope": None}, [("users", "u1"), ("orders", "u1"), ("", "u1")]),
            ({"scope": ""}, [("", "u1")]),
            ({"key": ""}, [("users", "")]),
            ({"scope": "*"}, []),
            ({"scope": "users", "metadata": {"x": 1}, "key": None}, [("users", "u1"), ("users", "u2"), ("users", "")]),
        ):
            self.assertEqual(self.matched(config), expected, config)
        self.assertEqual(len(self.matched({})), 5)

    def test_several(self) -> None:
        """Each trigger that matches fires, once."""
        listener = self.listener({"scope": "users"})
        for id, config in (
            ("a", {}),
            ("b", {"key": "u1"}),
            ("c", {"scope": "users", "key": "u1"}),
            ("d", {"key": "-"}),
        ):
            self.listener(config, id=id, worker=listener)
        self.set()
        self.assertEqual(len(self.heard(listener)), 4)

    def test_replaced(self) -> None:
        """A trigger that is registered again has its new config only."""
        listener = self.listener({"scope": "users"})
        self.listener({"scope": "orders"}, worker=listener)
        self.set()
        self.assertEqual(self.heard(listener), [])
        self.set(scope="orders")
        self.assertEqual(len(self.heard(listener)), 1)

    def test_replaced_while_active(self) -> None:
        """Likewise when the provider hears of it while the former one is active, as its contract allows."""
        listener = self.listener({"scope": "users"})
        trigger = self.engine.triggers.find("t")
        assert trigger is not None
        self.module.trigger_types["state"].register(attrs.evolve(trigger, config=Raw(b'{"scope":"orders"}')))
        self.set()
        self.assertEqual(self.heard(listener), [])
        self.set(scope="orders")
        self.assertEqual(len(self.heard(listener)), 1)

    def test_ended(self) -> None:
        """One that has ended fires no more."""
        listener = self.listener({"scope": "users"})
        listener.send("unregistertrigger", id="t")
        self.set()
        self.assertEqual(self.heard(listener), [])

    def test_failed_replacement(self) -> None:
        """When a new config is refused, the old one stays."""
        listener = self.listener({"scope": "users"})
        self.listener({"scope": 5}, worker=listener)
        self.set()
        self.assertEqual(len(self.heard(listener)), 1)

    def test_target(self) -> None:
        """Function and condition are called in the trigger's namespace; only the function gets the metadata."""
        listener = connect(self.engine, "listener", namespace="shop")
        config = {"condition_function_id": "condition"}
        self.listener(config, worker=listener, namespace="shop", metadata={"m": 1})
        self.set()
        (asked,) = self.heard(listener)
        self.assertEqual((asked["function_id"], "metadata" in asked), ("condition", False))
        listener.answer(asked, result=True)
        (call,) = self.heard(listener)
        self.assertEqual((call["function_id"], call["metadata"]), ("on_change", {"m": 1}))
        self.assertEqual(call["data"], asked["data"])
        self.assertNotIn("_caller_worker_id", call["data"])

    def test_condition(self) -> None:
        """C{false} leaves the function out, and so does a failure; anything else lets it be called."""
        listener = self.listener({"condition_function_id": "condition"})
        for outcome, called in (
            ({"result": False}, False),
            ({"error": {"code": "boom", "message": "no"}}, False),
            ({"result": True}, True),
            ({"result": None}, True),
            ({"result": 0}, True),
            ({}, True),
        ):
            self.set()
            (asked,) = self.heard(listener)
            listener.answer(asked, **outcome)
            self.assertEqual(len(self.events(listener)), called, outcome)


class RefusalTests(TriggersTestCase):
    def refusal(self, config: Any) -> Any:
        listener = self.listener(config)
        (refusal,) = listener.received("triggerregistrationresult")
        listener.leave()
        return refusal["error"]

    def test_null(self) -> None:
        """A config must be there."""
        self.assertEqual(
            self.refusal(None),
            {
                "code": "trigger_registration_failed",
                "message": "Failed to parse trigger config: invalid type: null, expected struct StateTriggerConfig",
            },
        )

    def test_types(self) -> None:
        """It is an object, and all in it are texts."""
        for config in (5, "users", {"scope": 5}, {"key": ["a"]}, {"condition_function_id": False}):
            error = self.refusal(config)
            self.assertEqual(error["code"], "trigger_registration_failed")
            self.assertTrue(error["message"].startswith("Failed to parse trigger config: "), error)
        self.assertIn("$.scope", self.refusal({"scope": 5})["message"])


class DisabledTests(TriggersTestCase):
    settings: ClassVar = {"triggers_enabled": False}

    def test_disabled(self) -> None:
        """Triggers are taken, and nothing fires."""
        listener = self.listener({})
        self.set()
        self.assertEqual(listener.received("triggerregistrationresult") + self.heard(listener), [])


class BacklogTests(TriggersTestCase):
    limits: ClassVar = {"ordered_backlog": 2}

    def test_full(self) -> None:
        """What waits for a handler is bounded; the writer never notices."""
        listener = self.listener({})
        for value in range(5):
            self.assertEqual(self.ask("set", scope="s", key="k", value=value)["new_value"], value)
        found = [event["new_value"] for _ in range(5) for event in self.events(listener)]
        self.assertEqual(found, [0, 1, 2])
        self.assertEqual(self.engine.counters.limit_hits, {"ordered_backlog": 2})
