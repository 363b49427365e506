"""Tests for what a subscriber's trigger asks for (spec/queue.md, 4.1; docs/queue.md)."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from iii.config.blocks.queue import QueueStore, RateLimit
from iii.modules.queue.retry import Policy
from iii.modules.queue.subscribing import Wish, subscriber_policy, wish
from iii.modules.queue.topics import Topics
from tests.modules.queue.test_topics import TopicCase


def wished(**config: Any) -> Wish:
    return wish(Raw(json.dumps({"topic": "t", "queue_config": config}).encode()))


class WishTests(SynchronousTestCase):
    def policy(self, **config: Any) -> Policy:
        found = wished(**config)
        self.assertEqual(found.problems, ())
        return subscriber_policy(found.config, 10, QueueStore())

    def test_rate(self) -> None:
        """A rate has the keys of a trigger, or those of the file."""
        for given in ({"jobs": 2, "perMs": 50}, {"jobs": 2, "per_ms": 50}):
            self.assertEqual(self.policy(rateLimit=given).rate_limit, RateLimit(jobs=2, per_ms=50))
        self.assertEqual(self.policy(rateLimit={"jobs": 2}).rate_limit, RateLimit(jobs=2, per_ms=1000))

    def test_problems(self) -> None:
        """What is wrong is told by its key, and the rest counts."""
        found = wished(rateLimit={"jobs": 0}, concurency=1, timeoutMs=0, maxRetries=7, visibilityTimeout=1)
        self.assertEqual(found.config.max_retries, 7)
        for problem, key in zip(found.problems, ("rateLimit", "concurency", "timeoutMs"), strict=True):
            self.assertIn(f"`queue_config.{key}`", problem)
        self.assertEqual(wish(Raw(b'{"topic":"t","queue_config":1}')).problems, ("`queue_config` is no object",))
        for rate in ({}, {"jobs": 1, "per_ms": 1, "perMs": 1}, {"jobs": 1, "per": 1}, 5):
            self.assertEqual(len(wished(rateLimit=rate).problems), 1)

    def test_schema(self) -> None:
        """The schema that one sees has the keys and bounds that are checked."""
        definitions = Topics.configuration_schema["definitions"]
        properties = definitions["SubscriberConfig"]["properties"]
        self.assertIn({"type": "integer", "minimum": 1, "maximum": 2**40}, properties["concurrency"]["anyOf"])
        self.assertEqual(sorted(definitions["SubscriberRate"]["properties"]), ["jobs", "perMs"])
        self.assertEqual(Topics.configuration_schema["required"], ["topic"])


class StoredTests(TopicCase):
    def test_earlier_version(self) -> None:
        """A stored subscription that asks for what is not allowed any more does not keep the engine from starting."""
        settings = '{"type":"fifo","maxBackoffMs":1180591620717411303424,"rateLimit":{"jobs":1,"per_ms":5},"old":1}'
        row = "INSERT INTO subscription (topic, namespace, function_id, settings, seen_ms) VALUES (?, ?, ?, ?, ?)"
        self.store._connection.execute(row, ("orders", "default", "f", settings, 0))
        self.restart()
        (queue,) = [queue for queue in self.module.dispatcher.queues.values() if queue.topic]
        self.assertEqual(
            (queue.line.policy.ordered, queue.line.policy.rate_limit), ("queue", RateLimit(jobs=1, per_ms=5))
        )
