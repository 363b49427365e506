"""Topics and patterns."""

from __future__ import annotations

import re
import time
from fnmatch import fnmatchcase
from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.core.triggers import Trigger
from iii.modules.pubsub.topics import Pattern, Subscription, Topics

WORDS = ["", "a", "b", "*", "#"]


def slowly_matches(pattern: list[str], topic: list[str]) -> bool:
    """Match word by word, as the rule is written."""
    if not pattern:
        return not topic
    first, *rest = pattern
    if first == "#":
        return any(slowly_matches(rest, topic[count:]) for count in range(len(topic) + 1))
    return bool(topic) and first in ("*", topic[0]) and slowly_matches(rest, topic[1:])


def redis_matches(glob: str, channel: str) -> bool:
    """Match as Redis does: a backslash takes the meaning from what follows it."""
    return fnmatchcase(channel, re.sub(r"\\(.)", r"[\1]", glob))


class PatternTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """A star is one word, a hash any number of them."""
        for pattern, matching, others in (
            ("orders.*", ["orders.shipped", "orders."], ["orders", "orders.eu.shipped", "xorders.a"]),
            ("orders.#", ["orders", "orders.shipped", "orders.eu.shipped"], ["ordersx", "order"]),
            ("#.shipped", ["shipped", "orders.eu.shipped"], ["shipped.x", "xshipped"]),
            ("a.#.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "az", "a.zz"]),
            ("#", ["a", "a.b", "", "."], []),
            ("*", ["a", ""], ["a.b"]),
            ("a+b", ["a+b"], ["aab"]),
        ):
            for topic in matching:
                self.assertTrue(Pattern(pattern).matches(topic), (pattern, topic))
            for topic in others:
                self.assertFalse(Pattern(pattern).matches(topic), (pattern, topic))

    def test_all_short_ones(self) -> None:
        """Patterns match as the rule says, and what they match the glob for Redis matches, too."""
        for length in (1, 2, 3, 4):
            for words in product(WORDS, repeat=length):
                pattern = Pattern(".".join(words))
                for topic_length in (1, 2, 3, 4):
                    for topic_words in product(["", "a", "b"], repeat=topic_length):
                        topic = ".".join(topic_words)
                        expected = slowly_matches(pattern.text.split("."), topic.split("."))
                        self.assertEqual(pattern.matches(topic), expected, (pattern.text, topic))
                        if expected:
                            self.assertTrue(redis_matches(pattern.glob, topic), (pattern.text, pattern.glob, topic))

    def test_never_slow(self) -> None:
        """However many hashes a pattern has, a topic of many words does not keep the engine."""
        topic = ".".join("a" * 512)
        for words in (["#"], ["#", "a"], ["#", "*"]):
            pattern = ".".join([*words * 200, "x"])
            begun = time.process_time()
            self.assertFalse(Pattern(pattern).matches(topic))
            self.assertLess(time.process_time() - begun, 1)
            self.assertTrue(Pattern(pattern).matches(topic + ".x"))

    @given(st.text(alphabet="a.*?[]^\\-", max_size=12))
    def test_escaped(self, text: str) -> None:
        """An escaped text matches itself alone in Redis."""
        self.assertTrue(redis_matches(Pattern.escaped(text), text))
        self.assertFalse(redis_matches(Pattern.escaped(text), text + "x"))


class TopicsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.topics = Topics()

    def add(self, topic: str | None = None, pattern: str | None = None) -> Subscription:
        subscription = Subscription(Trigger("t", "subscribe", "f"), topic, Pattern(pattern) if pattern else None)
        self.topics.add(subscription)
        return subscription

    def test_exact(self) -> None:
        """A topic is compared exactly, also one that looks like a pattern."""
        star, other = self.add("a.*"), self.add("a.b")
        self.assertEqual(list(self.topics.subscribers("a.b")), [other])
        self.assertEqual(list(self.topics.subscribers("a.*")), [star])
        self.assertEqual(list(self.topics.subscribers("a")), [])

    def test_order(self) -> None:
        """Subscribers are found in the order in which they came, those with patterns last."""
        pattern, first, second = self.add(pattern="a.#"), self.add("a"), self.add("a")
        self.assertEqual(list(self.topics.subscribers("a")), [first, second, pattern])

    def test_changes(self) -> None:
        """What has been looked up is forgotten when subscriptions come or go; the others of a topic stay."""
        first = self.add("a")
        self.assertEqual(list(self.topics.subscribers("a")), [first])
        second, pattern = self.add("a"), self.add(pattern="*")
        self.assertEqual(list(self.topics.subscribers("a")), [first, second, pattern])
        self.topics.remove(first)
        self.topics.remove(pattern)
        self.assertEqual(list(self.topics.subscribers("a")), [second])
        self.topics.remove(second)
        self.assertEqual(list(self.topics.subscribers("a")), [])

    def test_bounded(self) -> None:
        """However many topics are published on, what is remembered of them is bounded."""
        self.patch(__import__("iii.modules.pubsub.topics", fromlist=["topics"]), "MOST_TOPICS", 10)
        for number in range(100):
            self.topics.subscribers(f"t{number}")
        self.assertLessEqual(len(self.topics._found), 10)
