"""
What happens to streams, as stream clients and triggers are told it (spec/stream.md, 5.1 and 6.4).

Published clients drop an event whose time stamp is not later than the last one that they saw.  So the stamps of one
group increase strictly, whatever the clock does, also against those of the snapshots.
"""

from __future__ import annotations

from typing import Literal

import attrs
import msgspec
from msgspec import Raw
from twisted.internet.interfaces import IReactorTime

Kind = Literal["create", "update", "delete", "event", "sync", "unauthorized"]

MANY_GROUPS = 1000
"""From so many groups on, or from twice as many as mattered last time, stamps that time has passed are forgotten."""


class _Event(msgspec.Struct, omit_defaults=True):
    type: Kind
    data: Raw | msgspec.UnsetType = msgspec.UNSET
    event: Raw | msgspec.UnsetType = msgspec.UNSET


class _Envelope(msgspec.Struct, tag_field="type", tag="stream"):
    timestamp: int
    streamName: str
    groupId: str
    id: str | None
    event: _Event


_encode = msgspec.json.Encoder().encode


def envelope(stream: str, group: str, item: str | None, timestamp: int, event: bytes) -> bytes:
    """Return the text of an event.  @param event: Its member C{event}, JSON; what is not complete stays so."""
    names = _encode(stream), _encode(group), _encode(item)
    return b'{"type":"stream","timestamp":%d,"streamName":%b,"groupId":%b,"id":%b,"event":%b}' % (
        timestamp, *names, event,
    )  # fmt: skip


@attrs.frozen
class StreamEvent:
    """
    One thing that has happened.

    @ivar item: C{None} for what concerns a whole group.
    @ivar text: The envelope, JSON in UTF-8: made once, for triggers and for all clients.
    """

    stream: str
    group: str
    item: str | None
    timestamp: int
    text: bytes


def stream_event(stream: str, group: str, item: str | None, timestamp: int, kind: Kind, data: Raw) -> StreamEvent:
    """
    Make an event.

    @param data: The value; of C{event} the object C{{type, data}}; not used for C{unauthorized}.
    """
    if kind == "event":
        event = _Event(kind, event=data)
    elif kind == "unauthorized":
        event = _Event(kind)
    else:
        event = _Event(kind, data=data)
    return StreamEvent(stream, group, item, timestamp, _encode(_Envelope(timestamp, stream, group, item, event)))


class Stamps:
    """
    Gives out time stamps, milliseconds since the epoch, strictly increasing within each (stream, group).

    Of groups that are forgotten the latest stamp counts as that of every group that is not known.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._now = self._forgotten = 0
        self._latest: dict[tuple[str, str], int] = {}
        self._many = MANY_GROUPS

    def __len__(self) -> int:
        """How many groups it remembers."""
        return len(self._latest)

    def after(self, stream: str, group: str, stamp: int) -> int:
        """Return a stamp that another engine has given, or the next one if it is not later than all before."""
        key = stream, group
        stamp = max(stamp, self._latest.get(key, self._forgotten) + 1)
        self._latest[key] = stamp
        if len(self._latest) >= self._many:
            self._forget_some()
        return stamp

    def next(self, stream: str, group: str) -> int:
        """Return a stamp for this moment."""
        return self.after(stream, group, self._time())

    def _time(self) -> int:
        self._now = max(self._now, int(self._clock.seconds() * 1000))
        return self._now

    def _forget_some(self) -> None:
        now = self._time()
        kept = {key: stamp for key, stamp in self._latest.items() if stamp >= now}
        passed = (stamp for stamp in self._latest.values() if stamp < now)
        self._forgotten = max(self._forgotten, max(passed, default=0))
        self._latest, self._many = kept, max(MANY_GROUPS, 2 * len(kept))
