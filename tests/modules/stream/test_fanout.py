"""Tests for L{iii.modules.stream.fanout}."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.stream.events import StreamEvent, stream_event
from iii.modules.stream.fanout import Fanout
from tests.modules.stream.clients import text_of


class Client:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)


def event(stream: str = "s", group: str = "g", item: str | None = "i", timestamp: int = 1) -> StreamEvent:
    return stream_event(stream, group, item, timestamp, "update", Raw(b"1"))


class FanoutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.fanout, self.client = Fanout(), Client()

    def got(self, *events: StreamEvent) -> list[int]:
        """For each event how many frames the client gets."""
        counts = []
        for each in events:
            self.client.frames = []
            self.fanout.deliver(each)
            counts.append(len(self.client.frames))
        return counts

    def test_group(self) -> None:
        """Who has joined a group gets all that concerns it, and nothing of other groups and streams."""
        self.fanout.add(self.client, "s", "g", None)
        self.assertEqual(self.got(event(), event(item=None), event(item="")), [1, 1, 1])
        self.assertEqual(self.got(event(group="h"), event(stream="t")), [0, 0])

    def test_item(self) -> None:
        """Who has joined an item gets what concerns that item only; the empty name is an item like others."""
        self.fanout.add(self.client, "s", "g", "")
        self.assertEqual(self.got(event(item=""), event(item=None), event()), [1, 0, 0])

    def test_once(self) -> None:
        """However many subscriptions of a client match, it gets one frame, and is counted once."""
        for item in (None, "i", "i"):
            self.fanout.add(self.client, "s", "g", item)
        other = Client()
        self.fanout.add(other, "s", "g", "i")
        self.assertEqual(self.fanout.deliver(event()), 2)
        self.assertEqual((len(self.client.frames), len(other.frames)), (1, 1))

    def test_one_frame_for_all(self) -> None:
        """The frame is made once; all get the same bytes, a text frame with the event's own text."""
        other = Client()
        for client in (self.client, other):
            self.fanout.add(client, "s", "g", None)
        self.fanout.deliver(event())
        self.assertIs(self.client.frames[0], other.frames[0])
        self.assertEqual(self.client.frames[0][0], 0x81)
        self.assertEqual(json.loads(text_of(self.client.frames[0]))["event"], {"type": "update", "data": 1})

    def test_counted(self) -> None:
        """What was joined twice ends when it was left twice."""
        for _ in range(2):
            self.fanout.add(self.client, "s", "g", "i")
        self.fanout.remove(self.client, "s", "g", "i")
        self.assertEqual(self.got(event()), [1])
        self.fanout.remove(self.client, "s", "g", "i")
        self.assertEqual(self.got(event()), [0])

    def test_nothing_stays(self) -> None:
        """Groups that nobody has joined any more are forgotten."""
        for item in (None, "i"):
            self.fanout.add(self.client, "s", "g", item)
        for item in (None, "i"):
            self.fanout.remove(self.client, "s", "g", item)
        self.assertEqual(len(self.fanout), 0)

    def test_not_joined(self) -> None:
        """To leave what was not joined is a defect, and changes nothing."""
        self.fanout.add(self.client, "s", "g", "i")
        self.assertRaises(KeyError, self.fanout.remove, Client(), "s", "g", "i")
        self.assertEqual(self.got(event()), [1])


NAMES = st.sampled_from(["", "a", "b"])
ITEMS = st.none() | NAMES
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(0, 3), st.integers(0, 3), NAMES, NAMES, ITEMS),
        st.tuples(st.just("leave"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("event"), NAMES, NAMES, ITEMS),
    ),
    max_size=60,
)


class ModelTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(STEPS)
    def test_as_the_rule_says(self, steps: list[Any]) -> None:
        """Whatever is joined and left, those get an event of whom a subscription matches it, each once."""
        fanout, clients = Fanout(), [Client() for _ in range(4)]
        model: dict[tuple[int, int], tuple[str, str, str | None]] = {}
        expected: list[list[int]] = [[], [], [], []]
        for number, (kind, *step) in enumerate(steps):
            if kind == "event":
                stream, group, item = step
                fanout.deliver(event(stream, group, item, number))
                for index in range(4):
                    if any(
                        owner == index and joined[:2] == (stream, group) and joined[2] in (None, item)
                        for (owner, _), joined in model.items()
                    ):
                        expected[index].append(number)
                continue
            old = model.pop((step[0], step[1]), None)
            if old is not None:
                fanout.remove(clients[step[0]], *old)
            if kind == "join":
                model[step[0], step[1]] = (step[2], step[3], step[4])
                fanout.add(clients[step[0]], step[2], step[3], step[4])
        got = [[json.loads(text_of(frame))["timestamp"] for frame in client.frames] for client in clients]
        self.assertEqual(got, expected)
        kept = {(clients[owner], *joined) for (owner, _), joined in model.items()}
        self.assertEqual(set(fanout.subscriptions()), kept)
        self.assertEqual(len(fanout), len({joined[:2] for joined in model.values()}))
