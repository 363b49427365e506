"""Tests for L{iii.core.reactions}."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from iii.core.engine import Module
from iii.core.reactions import Event, Reactions
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from tests.core.fakes import FakeWorker, connect, make_engine

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@implementer(ITriggerProvider)
class Changes:
    """A trigger type whose triggers match everything; their config is the condition."""

    description = "of a test"

    def __init__(self, reactions: Reactions) -> None:
        self.reactions = reactions
        self.triggers: dict[str, Trigger] = {}

    def register(self, trigger: Trigger) -> None:
        if trigger.id in self.triggers:
            self.unregister(trigger)
        self.triggers[trigger.id] = trigger
        self.reactions.begin(trigger)

    def unregister(self, trigger: Trigger) -> None:
        self.reactions.end(self.triggers.pop(trigger.id))

    def happen(self, key: str, number: int, **trace: Any) -> None:
        event = Event(key, Raw(b"%d" % number), **trace)
        for trigger in list(self.triggers.values()):
            self.reactions.fire(trigger, json.loads(bytes(trigger.config)), event)


class ReactionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.make()

    def make(self, **limits: int) -> None:
        """Make an engine with a worker that has the functions C{f} and C{ask}."""
        self.clock = Clock()
        self.engine = make_engine(self.clock, **limits)
        self.logged: list[Any] = []
        self.reactions = Reactions(self.engine, Logger(observer=self.logged.append))
        self.changes = Changes(self.reactions)
        self.engine.add_module(Module("m", "m", "", False), trigger_types={"change": self.changes})
        self.worker = connect(self.engine, "w")
        self.worker.register("f", "ask")

    def trigger(
        self, id: str = "t", condition: str | None = None, worker: FakeWorker | None = None, **more: Any
    ) -> None:
        (worker or self.worker).register_trigger(id, "change", "f", config=condition, **more)

    def asked(self, worker: FakeWorker | None = None) -> list[dict[str, Any]]:
        """The calls that a worker got since the last time."""
        self.clock.advance(0)
        worker = worker or self.worker
        calls = worker.received("invokefunction")
        worker.edge.frames.clear()
        return calls

    def came(self, worker: FakeWorker | None = None) -> list[tuple[str, int]]:
        """Likewise: functions and payloads."""
        self.calls = self.asked(worker)
        return [(call["function_id"], call["data"]) for call in self.calls]

    def texts(self) -> list[str]:
        return [formatEvent(event) for event in self.logged]

    def test_called(self) -> None:
        """The function is called with the payload and the trigger's metadata."""
        self.trigger(metadata={"m": 1})
        self.changes.happen("k", 7)
        (call,) = self.asked()
        del call["invocation_id"]
        self.assertEqual(call, {"function_id": "f", "data": 7, "metadata": {"m": 1}})

    def test_trace(self) -> None:
        """Condition and function get the trace context of the event, with their own names in its baggage."""
        self.trigger(condition="ask", metadata=1)
        self.changes.happen("k", 7, traceparent=PARENT, baggage="a=b,iii.function.id=x")
        for function in ("ask", "f"):
            (call,) = self.asked()
            self.assertEqual(call["traceparent"], PARENT)
            self.assertEqual(call["baggage"], f"a=b,iii.function.id={function}")
            self.assertEqual("metadata" in call, function == "f")
            self.worker.answer(call)

    def test_namespace(self) -> None:
        """Condition and function are called in the namespace that the trigger names."""
        other = connect(self.engine, "o", namespace="orders")
        other.register("f", "ask")
        self.trigger(condition="ask", worker=other, namespace="orders")
        self.changes.happen("k", 7)
        self.assertEqual(self.came(other), [("ask", 7)])
        other.answer(self.calls[0])
        self.assertEqual(self.came(other), [("f", 7)])

    def test_condition(self) -> None:
        """Only a literal false leaves the function out."""
        self.trigger(condition="ask")
        outcomes: list[dict[str, Any]] = [{"result": value} for value in (True, None, 0, "", "false", {}, [])]
        for outcome in [*outcomes, {}]:
            self.changes.happen("k", 1)
            self.assertEqual(self.came(), [("ask", 1)])
            self.worker.answer(self.calls[0], **outcome)
            self.assertEqual(self.came(), [("f", 1)], outcome)
            self.worker.answer(self.calls[0])
        self.changes.happen("k", 1)
        self.worker.answer(self.asked()[0], result=False)
        self.assertEqual(self.came(), [])
        self.assertEqual(self.texts(), [])

    def test_failing_condition(self) -> None:
        """A condition that fails or does not exist leaves the function out, and a warning says so."""
        self.trigger(condition="ask")
        self.changes.happen("k", 1)
        self.worker.answer(self.asked()[0], error={"code": "boom", "message": "no"})
        self.trigger(condition="nobody")
        self.clock.advance(1)
        self.changes.happen("k", 1)
        self.assertEqual(self.came(), [])
        self.assertEqual(
            self.texts(),
            [
                "f is not called for an event: its condition ask failed: boom: no",
                "f is not called for an event: its condition nobody failed: function_not_found: Function nobody not "
                "found in namespace default.",
            ],
        )

    def test_order(self) -> None:
        """Events of a key come one after the other, also when conditions take their time; other keys do not wait."""
        self.trigger(condition="ask")
        self.changes.happen("k", 1)
        self.changes.happen("k", 2)
        self.changes.happen("other", 3)
        self.assertEqual(self.came(), [("ask", 1), ("ask", 3)])
        self.worker.answer(self.calls[0])
        self.assertEqual(self.came(), [("f", 1)])
        self.worker.answer(self.calls[0], error={"code": "boom", "message": ""})
        self.assertEqual(self.came(), [("ask", 2)])
        self.worker.answer(self.calls[0], result=False)
        self.changes.happen("k", 4)
        self.assertEqual(self.came(), [("ask", 4)])

    def test_triggers_do_not_wait(self) -> None:
        """A function that hangs delays no other trigger's."""
        self.trigger("t")
        self.worker.register("g")
        self.worker.register_trigger("u", "change", "g", config=None)
        self.changes.happen("k", 1)
        self.assertEqual(self.came(), [("f", 1), ("g", 1)])
        self.worker.answer(self.calls[1])
        self.changes.happen("k", 2)
        self.assertEqual(self.came(), [("g", 2)])

    def test_failing_function(self) -> None:
        """A failure is logged, and the event is not delivered again."""
        self.trigger()
        self.changes.happen("k", 1)
        self.worker.answer(self.asked()[0], error={"code": "boom", "message": "no"})
        self.assertEqual(self.came(), [])
        self.assertEqual(self.texts(), ["f failed on an event: boom: no"])

    def test_backlog(self) -> None:
        """So many events of a key wait for a function; others are dropped, counted and logged."""
        self.make(ordered_backlog=2)
        self.trigger()
        for number in range(5):
            self.changes.happen("k", number)
        self.assertEqual(self.engine.counters.limit_hits, {"ordered_backlog": 2})
        self.assertEqual(
            self.texts(),
            ["f misses an event: too many wait for it or others to answer (`engine.limits.ordered_backlog`)"],
        )
        self.assertEqual(self.drain(), [0, 1, 2])

    def test_bytes(self) -> None:
        """So many bytes wait for all functions together; a single event may have more, and what need not wait comes."""
        self.make(reaction_backlog_bytes=4_000)
        self.trigger()
        large = 10**4000
        self.changes.happen("a", 1)
        self.changes.happen("a", large)
        self.changes.happen("a", 2)
        self.changes.happen("b", 3)
        self.assertEqual(self.engine.counters.limit_hits, {"reaction_backlog_bytes": 1})
        self.assertEqual(self.drain(), [1, 3, large])

    def test_bytes_of_conditions(self) -> None:
        """An event that waits for a condition counts, one whose function is called does not."""
        self.trigger(condition="ask")
        for number, key in enumerate("abc"):
            self.changes.happen(key, number)
        self.assertGreater(self.reactions.waiting_bytes, 3)
        conditions = self.asked()
        self.worker.answer(conditions[0])
        self.worker.answer(conditions[1], result=False)
        self.worker.answer(conditions[2], error={"code": "boom", "message": ""})
        self.assertEqual(self.reactions.waiting_bytes, 0)

    def drain(self, worker: FakeWorker | None = None) -> list[int]:
        """Answer what comes until nothing comes; the payloads."""
        worker = worker or self.worker
        numbers = []
        while calls := self.asked(worker):
            for call in calls:
                numbers.append(call["data"])
                worker.answer(call)
        return numbers

    def test_nothing_stays(self) -> None:
        """When all is answered, nothing is kept."""
        self.trigger(condition="ask")
        for number in range(5):
            self.changes.happen("k", number)
        self.drain()
        self.assertEqual((len(self.reactions), self.reactions.waiting_bytes), (0, 0))

    def test_ended(self) -> None:
        """When a trigger has ended, the events that wait for it are dropped, those in its condition included."""
        self.trigger()
        self.trigger("u", condition="ask")
        for number in (1, 2):
            self.changes.happen("k", number)
        calls = self.asked()
        for id in "tu":
            self.worker.send("unregistertrigger", id=id)
        for call in calls:
            self.worker.answer(call)
        self.assertEqual([call for call in self.came() if call[0] == "f"], [])

    def test_replaced(self) -> None:
        """A trigger that is registered again otherwise gets nothing of what waited for the former one."""
        self.trigger()
        for number in (1, 2):
            self.changes.happen("k", number)
        self.asked()
        self.worker.register("g")
        self.worker.register_trigger("t", "change", "g", config=None)
        self.changes.happen("k", 3)
        self.assertEqual(self.drain(), [3])

    def test_replaced_without_owner(self) -> None:
        """Likewise one that no worker owns."""
        self.worker.register("g")
        for function in ("f", "g"):
            self.engine.triggers.register(Trigger("t", "change", function))
            for number in (1, 2):
                self.changes.happen("k", number)
        came = []
        while calls := self.asked():
            for call in calls:
                came.append((call["function_id"], call["data"]))
                self.worker.answer(call)
        self.assertEqual(came, [("f", 1), ("g", 1), ("g", 2)])

    def test_replica(self) -> None:
        """What waited for a replica's trigger comes to the function of another one, in order."""
        self.trigger()
        replica = connect(self.engine, "w")
        replica.register("f")
        self.trigger("other", worker=replica)
        self.changes.happen("k", 1)
        self.changes.happen("k", 2)
        (call,) = self.asked(replica)  # the newest owner of the function, until the older one has answered a ping
        self.worker.leave()
        self.changes.happen("k", 3)
        self.assertEqual(self.asked(replica), [])
        replica.answer(call)
        self.assertEqual(self.drain(replica), [2, 3])

    def test_equal(self) -> None:
        """Of two equal triggers of a worker one may end; the other one gets what waits."""
        self.trigger("t")
        self.trigger("u")
        self.changes.happen("k", 1)
        self.worker.send("unregistertrigger", id="t")
        self.assertEqual(self.drain(), [1, 1])
