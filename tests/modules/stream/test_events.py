"""Tests for L{iii.modules.stream.events}."""

from __future__ import annotations

import json

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.stream.events import MANY_GROUPS, Kind, Stamps, envelope, stream_event


class EventTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """Events have what belongs to their kind, and an id, if only null."""
        place = {"type": "stream", "timestamp": 5, "streamName": 's"', "groupId": "ü"}
        for kind, data, event in (
            ("create", b"null", {"data": None}),
            ("sync", b"[1]", {"data": [1]}),
            ("event", b'{"type":"t","data":1}', {"event": {"type": "t", "data": 1}}),
            ("unauthorized", b"", {}),
        ):
            made = stream_event('s"', "ü", None, 5, kind, Raw(data))  # type: ignore[arg-type]
            self.assertEqual(json.loads(made.text), {**place, "id": None, "event": {"type": kind, **event}})
            self.assertEqual((made.stream, made.group, made.item, made.timestamp), ('s"', "ü", None, 5))

    def test_envelope(self) -> None:
        """An envelope is byte by byte what the event would be."""
        kind: Kind = "update"
        made = stream_event('s"', "ü", "i", 5, kind, Raw(b"[1]"))
        self.assertEqual(envelope('s"', "ü", "i", 5, b'{"type":"update","data":[1]}'), made.text)


class StampsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1)
        self.stamps = Stamps(self.clock)

    def test_increase(self) -> None:
        """Stamps of a group increase, also within a millisecond; those of others do not depend on it."""
        self.assertEqual([self.stamps.next("s", "g") for _ in range(3)], [1000, 1001, 1002])
        self.assertEqual(self.stamps.next("s", "h"), 1000)

    def test_clock_goes_back(self) -> None:
        """A clock that goes back takes nothing back."""
        self.stamps.next("s", "g")
        self.clock.rightNow = 0.5
        self.assertEqual(self.stamps.next("s", "g"), 1001)
        self.assertEqual(self.stamps.next("s", "h"), 1000)

    def test_after(self) -> None:
        """Another engine's stamp stays if it is later than all before, whatever the clock says."""
        self.assertEqual([self.stamps.after("s", "g", stamp) for stamp in (7, 7, 5, 20)], [7, 8, 9, 20])
        self.assertEqual(self.stamps.next("s", "g"), 1000)
        self.assertEqual(self.stamps.after("s", "g", 500), 1001)

    def test_bounded(self) -> None:
        """What no longer matters is forgotten: stamps that time has passed, also where only others give them."""
        for number in range(3 * MANY_GROUPS):
            self.clock.advance(0.01)
            self.stamps.after("t", str(number), 5)
            self.assertLess(len(self.stamps), MANY_GROUPS + 1)
            if number > MANY_GROUPS:
                self.stamps.next("s", str(number))

    def test_increase_after_forgetting(self) -> None:
        """Stamps of a group increase although it was forgotten, and another engine's clock is behind."""
        last = self.stamps.next("s", "g")
        self.clock.advance(1)
        for number in range(MANY_GROUPS):
            self.stamps.after("t", str(number), 1)
        self.assertLess(len(self.stamps), MANY_GROUPS)
        self.assertGreater(self.stamps.after("s", "g", 1), last)
