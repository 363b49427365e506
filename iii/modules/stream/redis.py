"""
Streams that several engines share through Redis (spec/stream.md, 7.2).

All events come to the clients of this engine through the channel, its own included: so all engines tell them in the
order in which Redis has seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from msgspec import Raw
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.engine import Engine
from iii.modules.stream.backend import IStreamBackend, Snapshot
from iii.modules.stream.events import Kind, Stamps, StreamEvent, envelope, stream_event
from iii.modules.stream.redis_channel import RedisChannel
from iii.storage.errors import StorageError
from iii.storage.redis import RedisLink
from iii.storage.redis_subscriber import RedisSubscriber
from iii.storage.redis_values import Publication, RedisValues
from iii.storage.updates import Operation, Updated

CHANNEL = b"stream::events"
MARKER_TIMEOUT = 5.0
"""Seconds until the marker of a snapshot must have come."""


@attrs.define
class _Change:
    """
    A change that is to be made, and what will be published about it.

    @ivar replaced: The kind of the event where there was something.
    """

    stamps: Stamps
    stream: str
    group: str
    item: str
    replaced: Kind = "update"
    timestamp: int = 0

    def publication(self) -> Publication:
        """Return what is published if the change is made now."""
        self.timestamp = self.stamps.next(self.stream, self.group)
        head = envelope(self.stream, self.group, self.item, self.timestamp, b"")[:-1]
        created, replaced = (head + b'{"type":"%b","data":' % kind.encode() for kind in ("create", self.replaced))
        return Publication(CHANNEL, created, replaced, b"}}")

    def event(self, kind: Kind, data: bytes) -> StreamEvent:
        """Return the event of the change when it has been made."""
        return stream_event(self.stream, self.group, self.item, self.timestamp, kind, Raw(data))


@implementer(IStreamBackend)
class RedisBackend:
    """Keeps items in Redis, and tells its clients what any engine publishes there."""

    log = Logger()

    def __init__(
        self, engine: Engine, link: RedisLink, subscriber: RedisSubscriber, stamps: Stamps, list_bytes: int
    ) -> None:
        """
        @param link: Somebody else starts and stops it.
        @param stamps: Of what this engine's clients are told.
        @param list_bytes: Of the values that one listing may have.
        """
        self._engine, self._link, self._subscriber = engine, link, subscriber
        self._values = RedisValues(link, "stream:", list_bytes, parts=2)
        self._channel = RedisChannel(stamps)
        # Of what is published, which gets its final stamps when it comes back among the events of other engines.
        self._published = Stamps(engine.clock)
        subscriber.on_gap = self._gap

    @property
    def observer(self) -> Callable[[StreamEvent], None]:
        """See L{IStreamBackend}."""
        return self._channel.observer

    @observer.setter
    def observer(self, observer: Callable[[StreamEvent], None]) -> None:
        self._channel.observer = observer

    def start(self) -> None:
        self._subscriber.start()
        # The subscriber tells of a refusal by itself; other failures are the end.
        self._subscriber.subscribe(CHANNEL, self._channel.received).addErrback(lambda why: why.trap(StorageError))

    async def stop(self) -> None:
        await self._subscriber.stop()

    async def put(self, stream: str, group: str, item: str, data: bytes) -> tuple[bytes | None, StreamEvent]:
        change = _Change(self._published, stream, group, item)
        old = await self._values.put((stream, group), item, data, change.publication)
        return old, change.event(_kind(old), data)

    async def delete(self, stream: str, group: str, item: str) -> tuple[bytes | None, StreamEvent | None]:
        change = _Change(self._published, stream, group, item, "delete")
        old = await self._values.delete((stream, group), item, change.publication)
        return old, None if old is None else change.event("delete", old)

    async def update(
        self, stream: str, group: str, item: str, operations: Sequence[Operation], accept: Callable[[bytes], None]
    ) -> tuple[Updated, StreamEvent]:
        change = _Change(self._published, stream, group, item)
        updated = await self._values.update((stream, group), item, operations, accept, change.publication)
        return updated, change.event(_kind(updated.old), updated.new)

    async def get(self, stream: str, group: str, item: str) -> bytes | None:
        return await self._values.get((stream, group), item)

    async def items(self, stream: str, group: str) -> list[tuple[str, bytes]]:
        return await self._values.items((stream, group))

    async def groups(self, stream: str | None) -> list[tuple[str, str]]:
        found = await self._values.collections(() if stream is None else (stream,))
        return [(name, group) for name, group in found]

    async def send(self, stream: str, group: str, item: str | None, event: bytes) -> StreamEvent:
        told = stream_event(stream, group, item, self._published.next(stream, group), "event", Raw(event))
        await self.tell(told)
        return told

    async def tell(self, event: StreamEvent) -> None:
        await self._link.execute("PUBLISH", CHANNEL, event.text)

    async def snapshot(self, stream: str, group: str, item: str | None, ready: Callable[[Snapshot], None]) -> None:
        await self._subscribed()
        marker = self._channel.expect(stream, group, ready)
        try:
            items = await self._values.marked((stream, group), item, CHANNEL, marker.message)
            self._channel.read(marker, items)
            await marker.done.addTimeout(MARKER_TIMEOUT, self._engine.clock)
        except TimedOut as error:
            raise StorageError(f"what was published did not come within {MARKER_TIMEOUT:g} s") from error
        finally:
            self._channel.give_up(marker, StorageError("nobody waits any more"))
            marker.done.addErrback(lambda _: None)

    async def _subscribed(self) -> None:
        """Wait until what is published comes here."""

        def nothing(channel: bytes, message: bytes) -> None:
            """It is the subscription that matters."""

        waiting = self._subscriber.subscribe(CHANNEL, nothing)
        try:
            await waiting.addTimeout(MARKER_TIMEOUT, self._engine.clock)
        except TimedOut as error:
            self._subscriber.unsubscribe(CHANNEL, nothing)
            raise StorageError("there is no connection to Redis for events") from error
        self._subscriber.unsubscribe(CHANNEL, nothing)

    def _gap(self) -> None:
        self._engine.counters.stream_gaps += 1
        self.log.warn("the connection to Redis was broken: clients may have missed events of streams")
        self._channel.gap()


def _kind(old: bytes | None) -> Kind:
    return "create" if old is None else "update"
