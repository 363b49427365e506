"""C{publish} and C{subscribe}, on the core with workers of the tests, and through a Redis of the tests."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iii.core.engine import Module
from iii.interfaces import IModule
from iii.modules.pubsub.delivery import Deliveries
from iii.modules.pubsub.exchange import IExchange, LocalExchange
from iii.modules.pubsub.redis import RedisExchange
from iii.modules.pubsub.service import PubSubModule
from iii.storage.errors import StorageError
from tests.core.fakes import FakeWorker, connect, make_engine

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class PubSubCase(SynchronousTestCase):
    limits: dict[str, int] = {}

    def setUp(self) -> None:
        self.engine = make_engine(Clock(), **self.limits)
        self.exchange = self.make_exchange(Deliveries(self.engine))
        self.module = PubSubModule(self.engine, self.exchange)
        self.engine.add_module(
            Module("iii-pubsub", "iii-pubsub", "", False), self.module.functions, self.module.trigger_types
        )
        self.module.startService()
        self.worker = connect(self.engine, "w")

    def make_exchange(self, deliveries: Deliveries) -> Any:
        return LocalExchange(deliveries)

    def subscribe(self, worker: FakeWorker, id: str, function_id: str, **config: Any) -> None:
        members = {key: config.pop(key) for key in ("metadata", "namespace") if key in config}
        worker.register(function_id)
        worker.register_trigger(id, "subscribe", function_id, config=config, **members)

    def publish(self, topic: str = "t", data: Any = 1, **members: Any) -> Any:
        """Publish and return the outcome."""
        return self.worker.outcome(self.worker.call("publish", {"topic": topic, "data": data}, **members))

    def calls(self, worker: FakeWorker | None = None) -> list[tuple[str, Any]]:
        """Return what functions of a worker were called with since this was asked for the last time."""
        worker = worker or self.worker
        found = worker.received("invokefunction")
        worker.edge.frames = [frame for frame in worker.edge.frames if frame["type"] != "invokefunction"]
        self.last = found
        return [(call["function_id"], call["data"]) for call in found]


class PublishTests(PubSubCase):
    def test_interfaces(self) -> None:
        """The module and its exchange are what the core and the module expect."""
        verifyObject(IModule, self.module)
        verifyObject(IExchange, self.exchange)

    def test_everybody(self) -> None:
        """Each subscriber of the topic gets the data as it was published, once; others get nothing."""
        other = connect(self.engine, "other")
        self.subscribe(self.worker, "1", "a", topic="t")
        self.subscribe(self.worker, "2", "b", topic="t")
        self.subscribe(other, "3", "c", topic="t")
        self.subscribe(other, "4", "d", topic="u")
        for data in ({"id": 7}, None, [1, "x"], False, "text"):
            self.assertIsNone(self.publish(data=data))
            self.assertEqual(self.calls(), [("a", data), ("b", data)])
            self.assertEqual(self.calls(other), [("c", data)])
        self.assertEqual(self.engine.counters.pubsub_messages, 5)
        self.assertEqual(self.engine.counters.pubsub_deliveries, 15)

    def test_no_result(self) -> None:
        """Success has no value: neither C{result} nor C{error}."""
        call = self.worker.call("publish", {"topic": "t", "data": 1})
        (answer,) = self.worker.received("invocationresult")
        self.assertEqual(answer, {"invocation_id": call, "function_id": "publish"})

    def test_nobody(self) -> None:
        """Without a subscriber publishing succeeds."""
        self.assertIsNone(self.publish("nobody"))

    def test_refusals(self) -> None:
        """An empty topic, and what is missing or of the wrong type, are errors."""
        self.assertEqual(self.publish(""), ("topic_not_set", "Topic is not set"))
        outcome = self.worker.outcome(self.worker.call("publish", {"topic": "t"}))
        self.assertEqual(outcome[0], "deserialization_error")
        self.assertIn("Failed to deserialize input for publish: missing field `data`", outcome[1])
        outcome = self.worker.outcome(self.worker.call("publish", {"topic": 1, "data": 1}))
        self.assertEqual(outcome[0], "deserialization_error")

    def test_long_topic(self) -> None:
        """A topic is not longer than what can be subscribed to: the engine remembers many of them."""
        self.assertIsNone(self.publish("t" * 1024))
        outcome = self.publish("t" * 1025)
        self.assertEqual(outcome[0], "deserialization_error")
        self.assertIn("`topic` has more than 1024 characters", outcome[1])

    def test_one_of_several_ends(self) -> None:
        """Unregistering one subscriber, or its worker's end, leaves the others."""
        other = connect(self.engine, "other")
        self.subscribe(self.worker, "1", "a", topic="t")
        self.subscribe(self.worker, "2", "b", topic="t")
        self.subscribe(other, "3", "c", topic="t")
        self.worker.send("unregistertrigger", id="1")
        other.leave()
        self.publish()
        self.assertEqual(self.calls(), [("b", 1)])

    def test_replaced(self) -> None:
        """The same id again replaces: another topic, and the former one no more."""
        self.subscribe(self.worker, "1", "a", topic="t")
        self.subscribe(self.worker, "1", "a", topic="u")
        self.publish("t")
        self.publish("u", 2)
        self.assertEqual(self.calls(), [("a", 2)])

    def test_metadata_and_namespace(self) -> None:
        """The trigger's metadata comes beside the data, and its namespace says where the function is."""
        other = connect(self.engine, "other", namespace="n")
        self.subscribe(other, "1", "a", topic="t", namespace="n", metadata={"k": "v"})
        self.publish()
        self.assertEqual(self.calls(other), [("a", 1)])
        self.assertEqual(self.last[0]["metadata"], {"k": "v"})

    def test_trace(self) -> None:
        """The publisher's trace goes on in a new span, with its baggage; without one there is none."""
        self.subscribe(self.worker, "1", "a", topic="t")
        self.publish(traceparent=TRACE, baggage="user=ann")
        self.calls()
        traceparent = self.last[0]["traceparent"]
        self.assertEqual(traceparent[:36], TRACE[:36])
        self.assertNotEqual(traceparent, TRACE)
        self.assertEqual(self.last[0]["baggage"], "user=ann,iii.function.id=a")
        self.publish()
        self.calls()
        self.assertNotIn("traceparent", self.last[0])

    def test_pattern(self) -> None:
        """A subscriber with a pattern gets the topic with the data."""
        self.subscribe(self.worker, "1", "a", pattern="orders.#")
        self.subscribe(self.worker, "2", "b", topic="orders.eu")
        self.publish("orders.eu", {"id": 1})
        self.publish("others", {"id": 2})
        self.assertEqual(self.calls(), [("b", {"id": 1}), ("a", {"topic": "orders.eu", "data": {"id": 1}})])

    def test_refused_triggers(self) -> None:
        """A trigger without a topic that can match is refused, and an active one with its id stays."""
        self.subscribe(self.worker, "1", "a", topic="t")
        for config in (
            {},
            {"topic": ""},
            {"topic": 7},
            None,
            "t",
            {"topic": "t", "pattern": "p"},
            {"topic": "x" * 1025},
        ):
            self.worker.register_trigger("1", "subscribe", "a", config=config)
            (answer,) = self.worker.received("triggerregistrationresult")
            self.assertEqual(answer["error"]["code"], "trigger_registration_failed")
            self.worker.edge.frames = []
        self.publish()
        self.assertEqual(self.calls(), [("a", 1)])


class ConditionTests(PubSubCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker.register("c")
        self.subscribe(self.worker, "1", "a", topic="t", condition_function_id="c")

    def decide(self, **outcome: Any) -> list[tuple[str, Any]]:
        """Publish, answer the condition, and return what is called then."""
        self.publish(data={"n": 1})
        self.assertEqual(self.calls(), [("c", {"n": 1})])
        self.worker.answer(self.last[0], **outcome)
        return self.calls()

    def test_only_false(self) -> None:
        """Only the literal C{false} leaves the message out."""
        for result in (True, None, 0, "", {"ok": False}):
            self.assertEqual(self.decide(result=result), [("a", {"n": 1})])
        self.assertEqual(self.decide(result=False), [])

    def test_failure(self) -> None:
        """A condition that fails leaves it out, which is counted."""
        self.assertEqual(self.decide(error={"code": "x", "message": "m"}), [])
        self.assertEqual(self.engine.counters.pubsub_failed, 1)

    def test_others_do_not_wait(self) -> None:
        """While a condition is asked, the others get the message."""
        self.subscribe(self.worker, "2", "b", topic="t")
        self.publish()
        self.assertEqual(self.calls(), [("c", 1), ("b", 1)])


class SlowConditionTests(PubSubCase):
    limits = {"reaction_backlog_bytes": 250}

    def test_bounded(self) -> None:
        """What is kept for conditions is bounded, counted once for all; who has none gets the message."""
        for id, function in (("1", "a"), ("2", "b")):
            self.worker.register(f"c{function}")
            self.subscribe(self.worker, id, function, topic="t", condition_function_id=f"c{function}")
        self.subscribe(self.worker, "3", "d", topic="t")
        data = "x" * 98
        for _ in range(3):
            self.publish(data=data)
        self.assertEqual([name for name, _ in self.calls()], ["ca", "cb", "d"] * 2 + ["d"])
        self.assertEqual(self.engine.counters.pubsub_dropped, 2)
        self.assertEqual(self.engine.counters.limit_hits, {"reaction_backlog_bytes": 2})
        for call in self.last[:2]:
            self.worker.answer(call, result=True)
        self.assertEqual(self.calls(), [("a", data), ("b", data)])
        self.publish(data=data)
        self.assertEqual([name for name, _ in self.calls()], ["ca", "cb", "d"])

    def test_one_large(self) -> None:
        """One message that is larger than the limit gets through where nothing waits."""
        self.worker.register("c")
        self.subscribe(self.worker, "1", "a", topic="t", condition_function_id="c")
        self.publish(data="x" * 1000)
        self.assertEqual([name for name, _ in self.calls()], ["c"])


class SlowTests(PubSubCase):
    limits = {"pubsub_deliveries": 3}

    def test_bounded(self) -> None:
        """A subscriber that does not answer misses messages, which is counted; others get theirs."""
        other = connect(self.engine, "other")
        self.subscribe(self.worker, "1", "a", topic="t")
        self.subscribe(other, "2", "b", topic="t")
        for number in range(5):
            self.publish(data=number)
            self.calls(other)
            other.answer(self.last[0], result=None)
        self.assertEqual(self.calls(), [("a", 0), ("a", 1), ("a", 2)])
        self.assertEqual(self.engine.counters.pubsub_dropped, 2)
        self.assertEqual(self.engine.counters.limit_hits, {"pubsub_deliveries": 2})
        for call in self.last[:2]:
            self.worker.answer(call, result=None)
        for number in (5, 6, 7):
            self.publish(data=number)
        self.assertEqual(self.calls(), [("a", 5), ("a", 6)])

    def test_failures(self) -> None:
        """A failing function is counted, and gets the next message all the same."""
        self.subscribe(self.worker, "1", "a", topic="t")
        for number in range(10):
            self.publish(data=number)
            self.assertEqual(self.calls(), [("a", number)])
            self.worker.answer(self.last[0], error={"code": "x", "message": "m"})
        self.assertEqual(self.engine.counters.pubsub_failed, 10)
        self.assertEqual(self.engine.counters.pubsub_dropped, 0)


class FakeLink:
    """Redis as far as publishing goes."""

    def __init__(self) -> None:
        self.outcome: Deferred[Any] = succeed(1)
        self.commands: list[tuple[Any, ...]] = []

    def execute(self, *command: Any) -> Deferred[Any]:
        self.commands.append(command)
        return self.outcome


class FakeSubscriber:
    """
    Redis as far as listening goes.

    @ivar listeners: By channel, or pattern, and which of them it is.
    """

    def __init__(self) -> None:
        self.on_gap: Any = None
        self.listeners: dict[tuple[str, bytes], Any] = {}
        self.refuses = False

    def start(self) -> None:
        """Nothing."""

    def _add(self, kind: str, name: bytes, listener: Any) -> Deferred[None]:
        assert (kind, name) not in self.listeners, "subscribed twice"
        if self.refuses:
            return fail(StorageError("no permission"))
        self.listeners[kind, name] = listener
        return succeed(None)

    def subscribe(self, channel: bytes, listener: Any) -> Deferred[None]:
        return self._add("channel", channel, listener)

    def psubscribe(self, pattern: bytes, listener: Any) -> Deferred[None]:
        return self._add("pattern", pattern, listener)

    def unsubscribe(self, channel: bytes, listener: Any) -> None:
        assert self.listeners.pop(("channel", channel)) is listener

    def punsubscribe(self, pattern: bytes, listener: Any) -> None:
        assert self.listeners.pop(("pattern", pattern)) is listener


class RedisTests(PubSubCase):
    def make_exchange(self, deliveries: Deliveries) -> Any:
        self.link, self.subscriber = FakeLink(), FakeSubscriber()
        return RedisExchange(self.engine, deliveries, self.link, self.subscriber, "p[1]:")  # type: ignore[arg-type]

    def arrive(self, kind: str, name: bytes, channel: bytes, data: bytes) -> None:
        self.subscriber.listeners[kind, name](channel, data)

    def test_interface(self) -> None:
        """The exchange is what the module expects."""
        verifyObject(IExchange, self.exchange)

    def test_publish(self) -> None:
        """The data goes as it is to the channel of the topic; subscribers wait for what comes back."""
        self.subscribe(self.worker, "1", "a", topic="t")
        self.assertIsNone(self.publish(data={"n": 1}))
        self.assertEqual(self.link.commands, [("PUBLISH", "p[1]:t", b'{"n": 1}')])
        self.assertEqual(self.calls(), [])

    def test_publish_fails(self) -> None:
        """The publisher hears when nobody may have got it."""
        self.link.outcome = fail(StorageError("no connection"))
        self.assertEqual(self.publish(), ("PUBLISH_ERROR", "Failed to publish: no connection"))

    def test_several_subscribers(self) -> None:
        """A topic is subscribed once, all get each message, and the last one's end ends it."""
        self.subscribe(self.worker, "1", "a", topic="t")
        self.subscribe(self.worker, "2", "b", topic="t")
        self.arrive("channel", b"p[1]:t", b"p[1]:t", b'{"n":1}')
        self.assertEqual(self.calls(), [("a", {"n": 1}), ("b", {"n": 1})])
        self.worker.send("unregistertrigger", id="1")
        self.arrive("channel", b"p[1]:t", b"p[1]:t", b"2")
        self.assertEqual(self.calls(), [("b", 2)])
        self.worker.send("unregistertrigger", id="2")
        self.assertEqual(self.subscriber.listeners, {})

    def test_pattern(self) -> None:
        """A pattern is one of Redis that matches more, of which only what it matches itself is delivered."""
        self.subscribe(self.worker, "1", "a", pattern="orders.*")
        glob = rb"p\[1\]:orders.*"
        self.arrive("pattern", glob, b"p[1]:orders.eu", b"1")
        self.arrive("pattern", glob, b"p[1]:orders.eu.x", b"2")
        self.assertEqual(self.calls(), [("a", {"topic": "orders.eu", "data": 1})])
        self.worker.send("unregistertrigger", id="1")
        self.assertEqual(self.subscriber.listeners, {})

    def test_refused(self) -> None:
        """What Redis does not allow is asked for again on the next connection; what has ended meanwhile is not."""
        self.subscriber.refuses = True
        self.subscribe(self.worker, "1", "a", topic="t")
        self.subscribe(self.worker, "2", "a", topic="u")
        self.subscribe(self.worker, "3", "a", pattern="t.#")
        self.subscribe(self.worker, "4", "a", pattern="#")
        self.worker.send("unregistertrigger", id="2")
        self.worker.send("unregistertrigger", id="4")
        self.subscriber.on_gap()
        self.subscriber.refuses = False
        self.subscriber.on_gap()
        self.assertEqual(list(self.subscriber.listeners), [("channel", b"p[1]:t"), ("pattern", rb"p\[1\]:t*")])
        self.arrive("channel", b"p[1]:t", b"p[1]:t", b"1")
        self.assertEqual(self.calls(), [("a", 1)])
        for id in "13":
            self.worker.send("unregistertrigger", id=id)
        self.assertEqual(self.subscriber.listeners, {})

    def test_no_json(self) -> None:
        """What is no JSON, of whatever program it comes, is left out."""
        self.subscribe(self.worker, "1", "a", topic="t")
        for data in (b"text", b"", b"{", b'"\xff"', b"[" * 200 + b"]" * 200):
            self.arrive("channel", b"p[1]:t", b"p[1]:t", data)
        self.assertEqual(self.calls(), [])

    def test_gap(self) -> None:
        """When the connection is back, it is counted that messages may be lost."""
        self.subscriber.on_gap()
        self.assertEqual(self.engine.counters.pubsub_gaps, 1)
