"""Tests for topics (spec/queue.md, 4)."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw
from twisted.logger import LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.queue.subscribing import SubscriberConfig, wish
from iii.modules.queue.topics import internal_name, topic_of
from tests.core.fakes import FakeWorker, capture, connect
from tests.modules.queue.case import QueueTestCase


class TopicCase(QueueTestCase):
    def subscribe(
        self, worker: FakeWorker, function_id: str, id: str = "t", topic: str = "orders", **members: Any
    ) -> None:
        """Let a worker subscribe with a function of its own."""
        worker.register(function_id)
        kind = members.pop("trigger_type", "durable:subscriber")
        worker.register_trigger(id, kind, function_id, config={"topic": topic, **members})
        self.turn()

    def publish(self, data: Any, topic: str = "orders", **members: Any) -> None:
        """Publish; there must be no result."""
        self.assertIsNone(self.ask("iii::durable::publish", {"topic": topic, "data": data}, **members))


class NameTests(SynchronousTestCase):
    def test_internal(self) -> None:
        """The queue of a subscriber is called after topic, function and namespace."""
        self.assertEqual(internal_name("order.created", "default", "mail::on"), "order.created::mail::on@default")
        self.assertEqual(internal_name("a@b", "n@\\", "f\\"), r"a\@b::f\\@n\@\\")

    def test_topic_of(self) -> None:
        """The topic is found in that, whatever is in the names."""
        for topic, namespace, function_id in (
            ("order.created", "default", "mail::on"), ("a@b", "c@d", "e@f"), ("a\\", "\\", "f\\@"),
            ("a::b", "n", "b::b"), ("a\n", "n", "f"),
        ):  # fmt: skip
            name = internal_name(topic, namespace, function_id)
            self.assertEqual(topic_of(name, ["changed", "b", function_id]), topic)
        self.assertEqual(topic_of("t::f@default", ["changed"]), "t::f")


class PublishTests(TopicCase):
    def test_fan_out(self) -> None:
        """Each function gets a copy of each message, with nothing around it, and no other topic's."""
        self.subscribe(self.worker, "f", "1")
        self.subscribe(self.worker, "g", "2")
        self.subscribe(self.worker, "h", "3", topic="other")
        self.publish({"n": 1})
        self.assertEqual(sorted(job["function_id"] for job in self.jobs()), ["f", "g"])
        self.assertEqual(self.payloads(), [{"n": 1}] * 2)
        self.assertEqual(self.jobs()[0].keys(), {"invocation_id", "function_id", "data", "traceparent"})

    def test_each_namespace(self) -> None:
        """Functions of one name in several namespaces are several subscribers."""
        other = connect(self.engine, "other", namespace="other")
        self.subscribe(self.worker, "f", "1")
        other.register("f")
        other.register_trigger("2", "durable:subscriber", "f", config={"topic": "orders"}, namespace="other")
        self.turn()
        self.publish(1)
        self.assertEqual((self.payloads(), self.payloads(other)), ([1], [1]))

    def test_no_members_of_the_caller(self) -> None:
        """What was published is what is delivered, though the call itself tells the engine who makes it."""
        self.subscribe(self.worker, "f")
        self.publish({})
        self.assertEqual(self.payloads(), [{}])

    def test_more_members(self) -> None:
        """Members that publishing does not know are ignored; the data may be null."""
        self.subscribe(self.worker, "f")
        given = {"topic": "orders", "data": None, "__traceparent": "x", "_caller_worker_id": "y"}
        self.assertIsNone(self.ask("iii::durable::publish", given))
        self.assertEqual(self.payloads(), [None])

    def test_registered_again(self) -> None:
        """A trigger that is registered again for another topic leaves the first one."""
        self.subscribe(self.worker, "f", "1")
        self.subscribe(self.worker, "f", "1", topic="other")
        self.publish(1)
        self.publish(2, topic="other")
        self.assertEqual((self.payloads(), self.rows("data")), ([2], [(b"2",)]))

    def test_trace(self) -> None:
        """A delivery goes on with the trace of whoever published, and with its baggage."""
        self.subscribe(self.worker, "f")
        self.publish(1, traceparent=f"00-{'1' * 32}-{'2' * 16}-01", baggage="a=1")
        (job,) = self.jobs()
        self.assertRegex(job["traceparent"], f"^00-{'1' * 32}-(?!2{{16}})[0-9a-f]{{16}}-01$")
        self.assertEqual(job["baggage"], "a=1,iii.function.id=f")

    def test_legacy_names(self) -> None:
        """The old trigger type and the old function mean the same."""
        self.subscribe(self.worker, "f", trigger_type="queue")
        self.assertIsNone(self.ask("enqueue", {"topic": "orders", "data": 7}))
        self.assertEqual(self.payloads(), [7])

    def test_without_topic(self) -> None:
        """A message needs a topic that is not empty, and data; a subscription, a topic."""
        self.assertEqual(
            self.ask("iii::durable::publish", {"topic": "", "data": 1}), ("topic_not_set", "Topic is not set")
        )
        for given in ({"topic": "t"}, {"data": 1}, {"topic": 1, "data": 1}):
            self.assertEqual(self.ask("iii::durable::publish", given)[0], "deserialization_error")
        for config in ({}, {"topic": ""}, {"topic": 5}, None, [1]):
            self.worker.register_trigger("t", "durable:subscriber", "f", config=config)
        refused = self.worker.received("triggerregistrationresult")
        self.assertEqual(len(refused), 5)
        self.assertIn("`topic` is missing", refused[0]["error"]["message"])

    def test_competing_triggers(self) -> None:
        """Triggers of one function share a queue: one delivery, and as many at one time as all of them allow."""
        for id in ("1", "2"):
            self.subscribe(self.worker, "f", id, queue_config={"concurrency": 1}, condition_function_id=None)
        self.worker.register_trigger("3", "durable:subscriber", "f", config={"topic": "orders"}, metadata={"x": 1})
        self.turn()
        for number in range(15):
            self.publish(number)
        self.assertEqual(self.payloads(), list(range(12)))

    def test_fifo(self) -> None:
        """A subscription of type fifo gets one message after the other; one that fails is tried in its place."""
        self.subscribe(self.worker, "f", queue_config={"type": "fifo", "backoffDelayMs": 100})
        for number in range(3):
            self.publish(number)
        self.fail_job(self.jobs()[0])
        self.assertEqual(self.payloads(), [0])
        self.turn(0.1)
        self.assertEqual(self.payloads(), [0, 0])
        self.answer(self.jobs()[1])
        self.assertEqual(self.payloads(), [0, 0, 1])

    def test_rate_limit(self) -> None:
        """A trigger that is registered again does not start the rate anew."""
        for _ in range(2):
            self.subscribe(self.worker, "f", queue_config={"rateLimit": {"jobs": 1, "per_ms": 1000}})
            for number in range(2):
                self.publish(number)
        self.assertEqual(len(self.jobs()), 1)
        self.turn(1.1)
        self.assertEqual(len(self.jobs()), 2)

    def test_retries(self) -> None:
        """C{maxRetries} counts deliveries after the first; without it the adapter's C{max_attempts} counts all."""
        self.subscribe(self.worker, "f", queue_config={"maxRetries": 3, "backoffDelayMs": 200})
        self.publish(1)
        for delay in (0.2, 0.4, 0.8, 5):
            self.fail_job(self.jobs()[-1])
            self.turn(delay)
        self.assertEqual(len(self.jobs()), 4)
        self.subscribe(self.worker, "g", "2", topic="plain")
        self.publish(1, topic="plain")
        for delay in (1, 2, 9):
            self.fail_job(self.jobs()[-1])
            self.turn(delay)
        self.assertEqual(len(self.jobs()), 4 + 3)

    def test_delivery_metadata(self) -> None:
        """A subscriber that wants it is told which message it is; its condition is not."""
        self.worker.register("want")
        self.subscribe(self.worker, "f", condition_function_id="want", queue_config={"deliveryMetadata": True})
        self.publish(1)
        self.answer(self.jobs()[0])
        ((message_id,),) = self.rows("id")
        told = {"topic": "orders", "message_id": message_id, "attempt": 1, "interruptions": 0}
        self.assertEqual(self.jobs()[1]["metadata"], {**told, "created_at_ms": 1_000_000_000})
        self.assertNotIn("metadata", self.jobs()[0])

    def test_unknown_settings(self) -> None:
        """What of a C{queue_config} is not known or wrong has no effect, and a warning; what SDKs send has neither."""
        events = capture(self)
        self.subscribe(
            self.worker, "f", queue_config={"concurrency": "x", "maxRetry": 1, "visibilityTimeout": 30, "maxRetries": 0}
        )
        self.publish(1)
        self.fail_job(self.jobs()[0])
        self.turn(100)
        self.assertEqual(len(self.jobs()), 1)
        warnings = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
        problems = "`queue_config.concurrency`: Expected `int | null`, got `str`; `queue_config.maxRetry` is not known"
        self.assertEqual(warnings[0], f"f subscribes to orders: {problems}")

    def test_bounds_of_settings(self) -> None:
        """Numbers have the bounds that they have in the configuration; others have no effect, and a warning says so."""
        settings = {
            "concurrency": 0, "maxRetries": 2**32, "backoffDelayMs": 10**19, "timeoutMs": 0, "maxBackoffMs": 10**19,
            "backoffJitter": 1.5, "missingFunctionTimeoutMs": 0, "rateLimit": {"jobs": 0}, "dlqMaxJobs": 0,
            "dlqRetentionMs": 2**63,
        }  # fmt: skip
        found = wish(Raw(json.dumps({"topic": "t", "queue_config": settings}).encode()))
        self.assertEqual(found.config, SubscriberConfig())
        self.assertEqual(
            [problem.split("`")[1] for problem in found.problems], [f"queue_config.{key}" for key in settings]
        )
        self.assertEqual(found.problems[0], "`queue_config.concurrency`: Expected `int` >= 1")

    def test_settings_out_of_bounds(self) -> None:
        """No setting makes a moment that the store cannot hold: a larger one has no effect, and the engine goes on."""
        for number, value in enumerate((2**53, 2**63, 2**70, 10**400)):
            config = dict.fromkeys(("backoffDelayMs", "maxBackoffMs", "timeoutMs", "concurrency", "maxRetries"), value)
            self.subscribe(self.worker, f"f{number}", f"t{number}", topic=f"t{number}", queue_config=config)
            self.publish(1, topic=f"t{number}")
            self.fail_job(self.jobs()[-1])
            self.turn(1)
            self.assertEqual([job["function_id"] for job in self.jobs()[-2:]], [f"f{number}"] * 2)

    def test_unknown_type(self) -> None:
        """A type that is none does not pass for another one: it is told, and has no effect."""
        self.assertEqual(len(wish(Raw(b'{"topic":"t","queue_config":{"type":"FIFO"}}')).problems), 1)
        for kind in (b"fifo", b"standard", b"concurrent"):
            self.assertEqual(wish(Raw(b'{"topic":"t","queue_config":{"type":"%b"}}' % kind)).problems, ())


class ConditionTests(TopicCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker.register("want")
        self.subscribe(self.worker, "f", condition_function_id="want", queue_config={"maxRetries": 1})

    def test_false(self) -> None:
        """Only C{false} skips a message, which is done then; anything else lets it be delivered."""
        for number, verdict in enumerate((False, True, None, 0, "false")):
            self.publish(number)
            asked = self.jobs()[-1]
            self.assertEqual((asked["function_id"], asked["data"]), ("want", number))
            self.answer(asked, result=verdict)
        self.assertEqual([job["data"] for job in self.jobs() if job["function_id"] == "f"], [1, 2, 3, 4])
        self.assertEqual(len(self.rows()), 4)

    def test_namespace(self) -> None:
        """A condition is looked for where its function is."""
        other = connect(self.engine, "other", namespace="other")
        other.register("f", "want")
        config = {"topic": "elsewhere", "condition_function_id": "want"}
        other.register_trigger("2", "durable:subscriber", "f", config=config, namespace="other")
        self.turn()
        self.publish(1, topic="elsewhere")
        self.assertEqual(([job["function_id"] for job in self.jobs(other)], self.jobs()), (["want"], []))

    def test_error(self) -> None:
        """A condition that fails is a failed delivery; it is asked again before each."""
        self.publish(1)
        for _ in range(2):
            self.fail_job(self.jobs()[-1], "no idea")
            self.turn(10)
        self.assertEqual([job["function_id"] for job in self.jobs()], ["want", "want"])
        (dead,) = self.ask("engine::queue::dlq_messages", {"topic": "orders"})
        self.assertEqual((dead["error"], dead["retries"]), ("invocation_failed: no idea", 2))

    def test_stopped(self) -> None:
        """When the engine has stopped, the answer of a condition calls nothing."""
        self.publish(1)
        self.successResultOf(self.module.stopService())
        self.answer(self.jobs()[0], result=True)
        self.assertEqual([job["function_id"] for job in self.jobs()], ["want"])

    def test_missing(self) -> None:
        """A condition that is not there yet costs no delivery."""
        self.worker.send("unregisterfunction", id="want")
        self.publish(1)
        self.turn(100)
        self.assertEqual(self.jobs(), [])
        self.worker.register("want")
        self.turn()
        self.assertEqual(len(self.jobs()), 1)


class DurableTests(TopicCase):
    settings = {"absent_subscriber_ms": 100_000, "absent_subscriber_max_jobs": 3}

    def test_absent(self) -> None:
        """What is published while a subscriber is away waits for it, in order; also across a restart."""
        other = connect(self.engine, "other")
        self.subscribe(other, "f")
        other.leave()
        self.publish(1)
        self.restart()
        self.publish(2)
        self.assertEqual(len(self.rows()), 2)
        other = connect(self.engine, "other")
        self.subscribe(other, "f", "another id")
        self.assertEqual(self.payloads(other), [1, 2])

    def test_before_subscription(self) -> None:
        """What is published before anybody subscribes is for nobody."""
        self.publish(1)
        self.subscribe(self.worker, "f")
        self.assertEqual((self.jobs(), self.rows()), ([], []))

    def test_removed(self) -> None:
        """A trigger that is unregistered ends its subscription; what waits is delivered if it comes back."""
        self.subscribe(self.worker, "f", queue_config={"concurrency": 1})
        self.publish(1)
        self.publish(2)
        self.worker.send("unregistertrigger", id="t", trigger_type="durable:subscriber")
        self.turn()
        self.publish(3)
        self.answer(self.jobs()[0])
        self.assertEqual(self.payloads(), [1])
        self.assertEqual(self.store.read("SELECT * FROM subscription", ()), [])
        self.subscribe(self.worker, "f")
        self.assertEqual(self.payloads(), [1, 2])

    def test_moved(self) -> None:
        """A trigger that a new connection takes over before the old one ends keeps its subscription."""
        old, new = connect(self.engine, "a"), connect(self.engine, "a")
        self.subscribe(old, "f")
        self.subscribe(new, "f")
        self.turn()
        old.leave()
        self.turn()
        self.publish(1)
        self.assertEqual(self.payloads(new), [1])
        new.leave()
        self.turn()
        self.publish(2)
        self.assertEqual(len(self.rows()), 2)

    def test_bounds(self) -> None:
        """For one that is away so many wait; after a time its subscription ends, and then what waited goes."""
        other = connect(self.engine, "other")
        self.subscribe(other, "f")
        other.leave()
        for number in range(5):
            self.publish(number)
        self.assertEqual(self.rows("data"), [(b"0",), (b"1",), (b"2",)])
        self.assertEqual(self.engine.counters.limit_hits, {"absent_subscriber_max_jobs": 2})
        for _ in range(120):
            self.turn(1)
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.store.read("SELECT * FROM subscription", ()), [])
        self.assertEqual(list(self.module.dispatcher.queues), ["__fn_queue::default"])

    def test_bounds_at_once(self) -> None:
        """Messages that are just being written count, too."""
        other = connect(self.engine, "other")
        self.subscribe(other, "f")
        other.leave()
        self.store.hold()
        for number in range(5):
            self.worker.call("iii::durable::publish", {"topic": "orders", "data": number})
        self.store.release()
        self.turn()
        self.assertEqual(self.rows("data"), [(b"0",), (b"1",), (b"2",)])

    def test_unsubscribe(self) -> None:
        """An operator may end the subscription of a function that is away, and what waits for it."""
        other = connect(self.engine, "other")
        self.subscribe(other, "f")
        gone = {"topic": "orders", "function_id": "f"}
        refused = self.ask("engine::queue::unsubscribe", gone)
        self.assertEqual(refused, {**gone, "unsubscribed": False, "discarded": 0})
        other.leave()
        self.publish(1)
        ended = self.ask("engine::queue::unsubscribe", gone)
        self.assertEqual(ended, {**gone, "unsubscribed": True, "discarded": 1})
        self.publish(2)
        self.assertEqual(self.rows(), [])

    def test_left_behind(self) -> None:
        """Dead letters whose subscription has ended are still those of their topic after a restart."""
        self.subscribe(self.worker, "a::f", queue_config={"maxRetries": 0})
        self.publish(1)
        self.publish(2)
        for job in self.jobs():
            self.fail_job(job)
        first = self.ask("engine::queue::dlq_messages", {"topic": "orders"})[1]["id"]
        change = {"topic": "orders", "message_id": first, "function_id": "other"}
        self.assertEqual(self.ask("iii::queue::redrive_message", change)["redriven"], 1)
        self.worker.send("unregistertrigger", id="t", trigger_type="durable:subscriber")
        self.turn()
        self.restart()
        (dead,) = self.ask("engine::queue::dlq_messages", {"topic": "orders"})
        self.assertEqual(dead["payload"], 2)

    def test_order_of_absent(self) -> None:
        """A subscriber in order that comes back after its subscription has ended gets nothing before a retry."""
        config = {"type": "fifo", "backoffDelayMs": 60_000}
        self.subscribe(self.worker, "f", queue_config=config)
        for number in range(3):
            self.publish(number)
        self.fail_job(self.jobs()[0])
        self.worker.send("unregistertrigger", id="t", trigger_type="durable:subscriber")
        self.turn()
        self.restart()
        self.subscribe(self.worker, "f", queue_config=config)
        self.assertEqual(self.payloads(), [])
        self.turn(60)
        self.assertEqual(self.payloads(), [0])

    def test_dead_letters_of_absent(self) -> None:
        """Dead letters of a topic are there while nobody subscribes, and go back to the function they failed for."""
        self.subscribe(self.worker, "f", queue_config={"maxRetries": 0})
        self.publish(1)
        self.fail_job(self.jobs()[0])
        self.restart()
        self.assertEqual(len(self.ask("engine::queue::dlq_messages", {"topic": "orders"})), 1)
        self.assertEqual(self.ask("iii::queue::redrive", {"topic": "orders"}), {"queue": "orders", "redriven": 1})
        self.subscribe(self.worker, "f")
        self.assertEqual(self.payloads(), [1])
