"""
Who gets which event.  Pure: it knows receivers only as something to write frames to.

Subscriptions are found by (stream, group) and by item, so that an event costs only its receivers; what would be said to
all is made into a frame once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from iii.modules.stream.events import StreamEvent
from iii.wire.websocket import text_frame


class Receiver(Protocol):
    """What a client is to the fan-out; hashed by identity.  In the engine, L{Client}."""

    def write(self, frame: bytes, /) -> None:
        """Send one frame.  Never waits, never raises, and unsubscribes nobody before it returns."""


class _Group:
    """Of one (stream, group): how often each receiver has subscribed to all of it, and to each of its items."""

    __slots__ = ("items", "whole")

    def __init__(self) -> None:
        self.whole: dict[Receiver, int] = {}
        self.items: dict[str, dict[Receiver, int]] = {}


class Fanout:
    """
    Subscriptions, and the delivery of events to those that match: stream and group are equal, and the subscription is
    to the whole group or to the event's item.  A receiver gets one frame for each event, however many of its
    subscriptions match (spec/stream.md, 6.4 and 11).
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}

    def __len__(self) -> int:
        """How many groups have subscriptions."""
        return len(self._groups)

    def add(self, receiver: Receiver, stream: str, group: str, item: str | None) -> None:
        """Subscribe; each time counts."""
        found = self._groups.setdefault((stream, group), _Group())
        receivers = found.whole if item is None else found.items.setdefault(item, {})
        receivers[receiver] = receivers.get(receiver, 0) + 1

    def remove(self, receiver: Receiver, stream: str, group: str, item: str | None) -> None:
        """Take back one L{add} of the same arguments.  C{KeyError} when there was none."""
        found = self._groups[stream, group]
        receivers = found.whole if item is None else found.items[item]
        receivers[receiver] -= 1
        if receivers[receiver]:
            return
        del receivers[receiver]
        if item is not None and not receivers:
            del found.items[item]
        if not found.whole and not found.items:
            del self._groups[stream, group]

    def deliver(self, event: StreamEvent) -> int:
        """Send an event to those whom it concerns.  @return: How many these are."""
        found = self._groups.get((event.stream, event.group))
        if found is None:
            return 0
        whole = found.whole
        some = found.items.get(event.item) if event.item is not None else None
        if some is None and not whole:
            return 0
        frame = text_frame(event.text)
        for receiver in whole:
            receiver.write(frame)
        if some is None:
            return len(whole)
        others = [receiver for receiver in some if receiver not in whole] if whole else some
        for receiver in others:
            receiver.write(frame)
        return len(whole) + len(others)

    def subscriptions(self) -> Iterator[tuple[Receiver, str, str, str | None]]:
        """All subscriptions, without how often: for tests and listings."""
        for (stream, group), found in self._groups.items():
            for receiver in found.whole:
                yield receiver, stream, group, None
            for item, receivers in found.items.items():
                for receiver in receivers:
                    yield receiver, stream, group, item
