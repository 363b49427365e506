"""
Who subscribes to what.  Pure.

A topic is any text and is compared exactly.  Patterns are an addition: words between dots, of which C{*} stands for one
and C{#} for any number, also none, as in AMQP's topic exchanges.  C{orders.#} matches C{orders} and
C{orders.eu.shipped}; C{orders.*} matches C{orders.shipped} alone of the three.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

import attrs

from iii.core.triggers import Trigger

MAX_TOPIC = 1024
"""Characters of a topic or pattern."""
MOST_TOPICS = 10_000
"""Topics whose subscriptions are remembered; patterns are tried again for those that are not."""


@attrs.define(eq=False)
class Subscription:
    """
    A live trigger.

    @ivar topic: What it wants; C{None} with a pattern.
    @ivar pattern: Likewise; C{None} with a topic.
    @ivar condition: The function that decides about each message.
    @ivar under_way: How many messages its functions have not answered.
    """

    trigger: Trigger
    topic: str | None
    pattern: Pattern | None
    condition: str | None = None
    under_way: int = 0


_WORD = r"\.[^.]*+"


def _parts(text: str) -> list[list[str]]:
    """Return the words of a pattern, divided at each C{#}."""
    parts: list[list[str]] = [[]]
    for word in text.split("."):
        if word == "#":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _words(words: list[str]) -> str:
    """Return an expression for so many words, each with its dot before it."""
    return "".join(_WORD if word == "*" else r"\." + re.escape(word) + r"(?![^.])" for word in words)


@attrs.frozen
class Pattern:
    """A pattern of topics."""

    text: str

    @cached_property
    def _matches(self) -> re.Pattern[str]:
        """
        Each part between two C{#} is taken where it fits first, for good (C{(?>)}), and only the last one is tried at
        every word: otherwise a few C{#} and a topic of many words would take minutes.
        """
        first, *others = (_words(part) for part in _parts(self.text))
        found = [first]
        for part in others[:-1]:
            found.append(f"(?>(?:{_WORD})*?{part})")
        if others:
            found.append(f"(?:{_WORD})*{others[-1]}")
        return re.compile("".join(found))

    def matches(self, topic: str) -> bool:
        """Whether it stands for a topic."""
        return self._matches.fullmatch(f".{topic}") is not None  # so each word has its dot

    @staticmethod
    def escaped(text: str) -> str:
        """Return a text as a pattern of Redis that matches it alone."""
        return re.sub(r"([*?\[\]\\^])", r"\\\1", text)

    @property
    def glob(self) -> str:
        """A pattern of Redis that matches all that this one does, and more."""
        found: list[str] = []
        for word in self.text.split("."):
            if word == "#":  # with nothing in its place the dot beside it is missing, too
                found = [*found[:-1], "*"] if found and found[-1] == "." else [*found, "*"]
            else:
                dot = [] if not found or found[-1] == "*" else ["."]
                found += [*dot, "*" if word == "*" else self.escaped(word)]
        return "".join(found)


class Topics:
    """All subscriptions of one engine."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Subscription]] = {}
        self._patterns: list[Subscription] = []
        self._found: dict[str, Sequence[Subscription]] = {}

    def add(self, subscription: Subscription) -> None:
        """A subscription begins."""
        if subscription.topic is None:
            self._patterns.append(subscription)
        else:
            self._exact.setdefault(subscription.topic, []).append(subscription)
        self._found.clear()

    def remove(self, subscription: Subscription) -> None:
        """A subscription that was added ends."""
        if subscription.topic is None:
            self._patterns.remove(subscription)
        else:
            exact = self._exact[subscription.topic]
            exact.remove(subscription)
            if not exact:
                del self._exact[subscription.topic]
        self._found.clear()

    def subscribers(self, topic: str) -> Sequence[Subscription]:
        """Return who gets what is published on a topic, oldest first, those with patterns last."""
        found = self._found.get(topic)
        if found is None:
            by_pattern = [each for each in self._patterns if each.pattern is not None and each.pattern.matches(topic)]
            found = (*self._exact.get(topic, ()), *by_pattern)
            if len(self._found) >= MOST_TOPICS:
                self._found.clear()
            self._found[topic] = found
        return found
