"""
Streams that several engines share through Redis (spec/stream.md, 7.2).

All events come to the clients of this engine through the channel, its own included: so all engines tell them in the
order in which Redis has seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.engine import Engine
from iii.core.errors import BacklogFull
from iii.core.ordered import Done, Turns
from iii.modules.stream.backend import IStreamBackend, Snapshot
from iii.modules.stream.events import Kind, Stamps, StreamEvent, envelope, stream_event
from iii.modules.stream.redis_channel import RedisChannel
from iii.modules.stream.redis_items import CHANNEL, Cut, RedisItems
from iii.storage.errors import StorageError
from iii.storage.redis import RedisLink
from iii.storage.redis_subscriber import RedisSubscriber
from iii.storage.updates import Operation, Updated

MARKER_TIMEOUT = 5.0
"""Seconds until the marker of a snapshot must have come."""


@implementer(IStreamBackend)
class RedisBackend:
    """Keeps items in Redis, and tells its clients what any engine publishes there."""

    log = Logger()

    def __init__(
        self, engine: Engine, link: RedisLink, subscriber: RedisSubscriber, stamps: Stamps, list_bytes: int
    ) -> None:
        """
        @param stamps: Of what this engine's clients are told.
        @param list_bytes: Of the values that one listing may have.
        """
        self._engine, self._link, self._subscriber = engine, link, subscriber
        self._items = RedisItems(link, list_bytes)
        self._channel = RedisChannel(stamps)
        # Of what is published, which gets its final stamps when it comes back among the events of other engines.
        self._published = Stamps(engine.clock)
        self._turns = Turns(engine)
        subscriber.on_gap = self._gap

    @property
    def observer(self) -> Callable[[StreamEvent], None]:
        """See L{IStreamBackend}."""
        return self._channel.observer

    @observer.setter
    def observer(self, observer: Callable[[StreamEvent], None]) -> None:
        self._channel.observer = observer

    def start(self) -> None:
        self._link.probe()
        self._link.start()
        self._subscriber.start()
        # The subscriber tells of a refusal by itself; other failures are the end.
        self._subscriber.subscribe(CHANNEL, self._channel.received).addErrback(lambda why: why.trap(StorageError))

    async def stop(self) -> None:
        await self._subscriber.stop()
        await self._link.stop()

    async def put(self, stream: str, group: str, item: str, data: bytes) -> tuple[bytes | None, StreamEvent]:
        timestamp = self._published.next(stream, group)
        old = await self._items.put(stream, group, item, data, _cut(stream, group, item, timestamp))
        return old, stream_event(stream, group, item, timestamp, _kind(old), Raw(data))

    async def delete(self, stream: str, group: str, item: str) -> tuple[bytes | None, StreamEvent | None]:
        timestamp = self._published.next(stream, group)
        old = await self._items.delete(stream, group, item, _cut(stream, group, item, timestamp))
        event = None if old is None else stream_event(stream, group, item, timestamp, "delete", Raw(old))
        return old, event

    async def update(
        self, stream: str, group: str, item: str, operations: Sequence[Operation], accept: Callable[[bytes], None]
    ) -> tuple[Updated, StreamEvent]:
        timestamp = 0

        def cut() -> Cut:
            nonlocal timestamp
            timestamp = self._published.next(stream, group)
            return _cut(stream, group, item, timestamp)

        # Updates of this engine would only make one another begin again.
        turn: Deferred[Done] = Deferred()
        if not self._turns.take((stream, group, item), turn.callback):
            raise BacklogFull("stream::update", self._engine.limits.ordered_backlog)
        done = await turn
        try:
            updated = await self._items.update(stream, group, item, operations, accept, cut)
        finally:
            done()
        return updated, stream_event(stream, group, item, timestamp, _kind(updated.old), Raw(updated.new))

    async def get(self, stream: str, group: str, item: str) -> bytes | None:
        return await self._items.get(stream, group, item)

    async def items(self, stream: str, group: str) -> list[tuple[str, bytes]]:
        return await self._items.items(stream, group)

    async def groups(self, stream: str | None) -> list[tuple[str, str]]:
        return await self._items.groups(stream)

    async def send(self, stream: str, group: str, item: str | None, event: bytes) -> StreamEvent:
        told = stream_event(stream, group, item, self._published.next(stream, group), "event", Raw(event))
        await self.tell(told)
        return told

    async def tell(self, event: StreamEvent) -> None:
        await self._items.publish(event.text)

    async def snapshot(self, stream: str, group: str, item: str | None, ready: Callable[[Snapshot], None]) -> None:
        await self._subscribed()
        marker = self._channel.expect(stream, group, ready)
        try:
            self._channel.read(marker, await self._items.marked(stream, group, item, marker.message))
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


def _cut(stream: str, group: str, item: str, timestamp: int) -> Cut:
    return envelope(stream, group, item, timestamp, b'{"type":"')[:-1], b"}}"


def _kind(old: bytes | None) -> Kind:
    return "create" if old is None else "update"
