"""
What comes through the channel on which all engines tell their changes (spec/stream.md, 7.2).

Beside events there are markers, which other engines do not understand and ignore.  A snapshot is read by a script that
also publishes a marker: the events that come before the marker are in the snapshot, those that come after it are not.
Marker and snapshot come on different connections.  When the marker is first, the events of its group that follow it are
held until the snapshot is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Annotated

import attrs
import msgspec
from msgspec import Meta, Raw, UnsetType
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from iii.core.ids import new_id
from iii.modules.stream.backend import Snapshot
from iii.modules.stream.events import Stamps, StreamEvent, envelope
from iii.storage.errors import StorageError
from iii.wire.messages import MAX_DEPTH, nested_deeper

HELD_BYTES = 16 * 2**20
"""Events of one group that may wait for snapshots; when there are more, these snapshots fail."""
_MARKER = b'{"iii_marker":"'

Place = tuple[str, str]
Items = Sequence[tuple[str, bytes]]


class _Message(msgspec.Struct):
    type: str
    timestamp: Annotated[int, Meta(ge=0, le=2**53)]
    streamName: str
    groupId: str
    event: Raw
    id: str | UnsetType | None = msgspec.UNSET


_decode = msgspec.json.Decoder(_Message).decode


@attrs.define(eq=False)
class Marker:
    """
    Where a snapshot stands among the events.

    @ivar items: What the snapshot has, once that is known.
    @ivar done: Fires when C{ready} has been called, or fails: there is no such place any more.
    """

    place: Place
    ready: Callable[[Snapshot], None]
    id: str = attrs.field(factory=new_id)
    items: Items | None = None
    arrived: bool = False
    done: Deferred[None] = attrs.field(factory=Deferred)

    @property
    def message(self) -> bytes:
        """What is published."""
        return _MARKER + self.id.encode() + b'"}'


@attrs.define
class _Held:
    """What waits behind a marker, the marker first."""

    entries: deque[Marker | StreamEvent] = attrs.field(factory=deque)
    bytes: int = 0


class RedisChannel:
    """
    Tells what comes, in its order, with stamps that increase within each group.

    @ivar observer: Told of the events.
    """

    log = Logger()

    def __init__(self, stamps: Stamps, held_bytes: int = HELD_BYTES) -> None:
        """@param held_bytes: Of the events of one group that may wait for snapshots."""
        self.observer: Callable[[StreamEvent], None] = lambda event: None
        self._stamps, self._held_bytes = stamps, held_bytes
        self._markers: dict[str, Marker] = {}
        self._held: dict[Place, _Held] = {}

    def received(self, channel: bytes, message: bytes) -> None:
        """A message has come."""
        if message.startswith(_MARKER):
            marker = self._markers.get(message[len(_MARKER) : -2].decode(errors="replace"))
            if marker is not None:  # else another engine's, or given up
                self._marker_arrived(marker)
            return
        event = self._event(message)
        if event is None:
            self.log.debug("ignoring a message on {channel} that is no event", channel=channel)
            return
        held = self._held.get((event.stream, event.group))
        if held is None:
            self._tell(event)
            return
        held.entries.append(event)
        held.bytes += len(event.text)
        if held.bytes > self._held_bytes:
            for entry in list(held.entries):
                if isinstance(entry, Marker):
                    self.give_up(entry, StorageError("too many events came while a snapshot was read"))

    def expect(self, stream: str, group: str, ready: Callable[[Snapshot], None]) -> Marker:
        """A snapshot is to be read."""
        marker = Marker((stream, group), ready)
        self._markers[marker.id] = marker
        return marker

    def read(self, marker: Marker, items: Items) -> None:
        """A snapshot has been read."""
        marker.items = items
        self._advance(marker.place)

    def give_up(self, marker: Marker, error: StorageError) -> None:
        """There will be no snapshot, if there was none yet; what was held for it is told."""
        if self._markers.pop(marker.id, None) is not None:
            self._advance(marker.place)
            marker.done.errback(error)

    def gap(self) -> None:
        """Messages may have been lost, and markers among them."""
        for marker in list(self._markers.values()):
            if not marker.arrived:
                self.give_up(marker, StorageError("the connection to Redis broke"))

    def _marker_arrived(self, marker: Marker) -> None:
        marker.arrived = True
        self._held.setdefault(marker.place, _Held()).entries.append(marker)
        self._advance(marker.place)

    def _advance(self, place: Place) -> None:
        """Tell what no snapshot waits before."""
        held = self._held.get(place)
        if held is None:
            return
        while held.entries:
            entry = held.entries[0]
            if isinstance(entry, StreamEvent):
                held.bytes -= len(entry.text)
                held.entries.popleft()
                self._tell(entry)
            elif entry.id not in self._markers:  # given up
                held.entries.popleft()
            elif entry.items is None:
                return
            else:
                held.entries.popleft()
                del self._markers[entry.id]
                self._ready(entry, entry.items)
        del self._held[place]

    def _ready(self, marker: Marker, items: Items) -> None:
        try:
            marker.ready(Snapshot(self._stamps.next(*marker.place), items))
        except Exception:  # whoever waits for the snapshot hears of it; the events go on
            marker.done.errback(Failure())
        else:
            marker.done.callback(None)

    def _tell(self, event: StreamEvent) -> None:
        """Tell of an event; its stamp is changed if others of this engine have not been earlier."""
        stamp = self._stamps.after(event.stream, event.group, event.timestamp)
        if stamp != event.timestamp:
            raw = _decode(event.text).event
            text = envelope(event.stream, event.group, event.item, stamp, bytes(raw))
            event = attrs.evolve(event, timestamp=stamp, text=text)
        self.observer(event)

    def _event(self, message: bytes) -> StreamEvent | None:
        try:
            message.decode()
            said = _decode(message)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            return None
        if not bytes(said.event).startswith(b"{") or nested_deeper(message, MAX_DEPTH):
            return None
        item = said.id
        if isinstance(item, UnsetType):
            item, message = None, envelope(said.streamName, said.groupId, None, said.timestamp, bytes(said.event))
        return StreamEvent(said.streamName, said.groupId, item, said.timestamp, message)
