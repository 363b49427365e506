"""Tests for L{iii.modules.stream.redis_channel}."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.stream.backend import Snapshot
from iii.modules.stream.events import Stamps, stream_event
from iii.modules.stream.redis_channel import Marker, RedisChannel
from iii.storage.errors import StorageError


class RedisChannelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.make(held_bytes=10**6)

    def make(self, held_bytes: int) -> None:
        clock = Clock()
        clock.advance(1)
        self.channel = RedisChannel(Stamps(clock), held_bytes)
        self.happened: list[Any] = []
        self.stamps: list[int] = []
        self.channel.observer = lambda event: self.told(json.loads(event.text)["event"]["data"], event.timestamp)

    def told(self, what: Any, stamp: int) -> None:
        self.happened.append(what)
        self.stamps.append(stamp)

    def event(self, data: Any, group: str = "g", timestamp: int = 5) -> None:
        """An event comes."""
        event = stream_event("s", group, "i", timestamp, "create", Raw(json.dumps(data).encode()))
        self.channel.received(b"c", event.text)

    def expect(self, group: str = "g") -> Marker:
        def ready(snapshot: Snapshot) -> None:
            self.told([data for _, data in snapshot.items], snapshot.timestamp)

        return self.channel.expect("s", group, ready)

    def come(self, marker: Marker) -> None:
        self.channel.received(b"c", marker.message)

    def read(self, marker: Marker, data: bytes) -> None:
        self.channel.read(marker, [("i", data)])

    def test_marker_last(self) -> None:
        """A snapshot that is read before its marker comes waits for that; events come meanwhile."""
        marker = self.expect()
        self.read(marker, b"1")
        self.event(1)
        self.assertEqual(self.happened, [1])
        self.come(marker)
        self.event(2)
        self.assertEqual(self.happened, [1, [b"1"], 2])
        self.successResultOf(marker.done)

    def test_marker_first(self) -> None:
        """When the marker is first, the group's events wait for the snapshot, those of others do not."""
        marker = self.expect()
        self.event(1)
        self.come(marker)
        self.event(2)
        self.event("other", "h")
        self.assertEqual(self.happened, [1, "other"])
        self.assertNoResult(marker.done)
        self.read(marker, b"1")
        self.event(3)
        self.assertEqual(self.happened, [1, "other", [b"1"], 2, 3])

    def test_several(self) -> None:
        """Each snapshot stands where its marker does, in whatever order they are read."""
        first, second = self.expect(), self.expect()
        for step in (first, 1, second, 2):
            self.come(step) if isinstance(step, Marker) else self.event(step)
        self.read(second, b"1")
        self.assertEqual(self.happened, [])
        self.read(first, b"0")
        self.assertEqual(self.happened, [[b"0"], 1, [b"1"], 2])

    def test_stamps(self) -> None:
        """The stamp of a snapshot is between those of the events, whatever other engines' clocks say."""
        marker = self.expect()
        self.event(1, timestamp=5000)
        self.come(marker)
        self.event(2, timestamp=7)
        self.read(marker, b"1")
        self.event(3, timestamp=9000)
        self.assertEqual(self.stamps, [5000, 5001, 5002, 9000])

    def test_given_up(self) -> None:
        """When a snapshot is given up, before or after its marker has come, events go on."""
        before, after = self.expect(), self.expect()
        self.channel.give_up(before, StorageError("no"))
        for marker in (before, after):
            self.come(marker)
        self.event(1)
        self.channel.give_up(after, StorageError("no"))
        self.assertEqual(self.happened, [1])
        for marker in (before, after):
            self.failureResultOf(marker.done, StorageError)

    def test_given_up_between(self) -> None:
        """One that is given up keeps no other waiting, nor lets events overtake one that waits."""
        first, second = self.expect(), self.expect()
        for step in (first, 1, second, 2):
            self.come(step) if isinstance(step, Marker) else self.event(step)
        self.channel.give_up(first, StorageError("no"))
        self.assertEqual(self.happened, [1])
        self.read(second, b"1")
        self.assertEqual(self.happened, [1, [b"1"], 2])
        self.failureResultOf(first.done, StorageError)

    def test_given_up_late(self) -> None:
        """Giving up what is done changes nothing."""
        marker = self.expect()
        self.come(marker)
        self.read(marker, b"1")
        self.channel.give_up(marker, StorageError("no"))
        self.successResultOf(marker.done)

    def test_gap(self) -> None:
        """When messages may have been lost, snapshots whose markers have not come fail; the others are made."""
        lost, there = self.expect(), self.expect("h")
        self.come(there)
        self.channel.gap()
        self.failureResultOf(lost.done, StorageError)
        self.read(there, b"1")
        self.successResultOf(there.done)
        self.assertEqual(self.happened, [[b"1"]])

    def test_too_much(self) -> None:
        """When too much is held for a snapshot, it fails, and what was held is told."""
        self.make(held_bytes=1000)
        marker = self.expect()
        self.come(marker)
        self.event("x" * 500)
        self.assertEqual(self.happened, [])
        self.event("y" * 500)
        self.event("z")
        self.assertEqual(self.happened, ["x" * 500, "y" * 500, "z"])
        self.failureResultOf(marker.done, StorageError)

    def test_failing_ready(self) -> None:
        """Whoever takes a snapshot may fail; that is told to whom waits, and events go on."""
        marker = self.channel.expect("s", "g", lambda snapshot: 1 / 0)  # type: ignore[arg-type, return-value]
        self.come(marker)
        self.event(1)
        self.read(marker, b"1")
        self.failureResultOf(marker.done, ZeroDivisionError)
        self.assertEqual(self.happened, [1])

    def test_nothing_stays(self) -> None:
        """Nothing is kept of snapshots that are done, given up, or never came."""
        done, lost = self.expect(), self.expect()
        lost.done.addErrback(lambda _: None)
        self.come(done)
        self.read(done, b"1")
        self.channel.gap()
        self.assertEqual((self.channel._markers, self.channel._held), ({}, {}))
