"""Streams that this engine keeps (spec/stream.md, 7.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Raw
from zope.interface import implementer

from iii.interfaces import ILocalValues
from iii.modules.stream.backend import IStreamBackend, Snapshot
from iii.modules.stream.events import Kind, Stamps, StreamEvent, stream_event
from iii.storage.updates import Operation, Updated


def unobserved(event: StreamEvent) -> None:
    """The observer when there are no clients."""


@implementer(IStreamBackend)
class LocalBackend:
    """
    Keeps items in values under ((stream, group), item), and tells the clients of this engine.

    The values answer changes of one item in the order in which they are made; what follows an answer here follows at
    once, so events come in that order.  Likewise a snapshot is told at the moment when the values give it.
    """

    def __init__(self, values: ILocalValues, stamps: Stamps) -> None:
        self.observer: Callable[[StreamEvent], None] = unobserved
        self._values, self._stamps = values, stamps

    def start(self) -> None:
        """There is nothing to begin."""

    async def stop(self) -> None:
        """There is nothing to end."""

    async def put(self, stream: str, group: str, item: str, data: bytes) -> tuple[bytes | None, StreamEvent]:
        old = await self._values.put((stream, group), item, data)
        return old, self._happened(stream, group, item, "create" if old is None else "update", data)

    async def delete(self, stream: str, group: str, item: str) -> tuple[bytes | None, StreamEvent | None]:
        old = await self._values.delete((stream, group), item)
        return old, None if old is None else self._happened(stream, group, item, "delete", old)

    async def update(
        self, stream: str, group: str, item: str, operations: Sequence[Operation], accept: Callable[[bytes], None]
    ) -> tuple[Updated, StreamEvent]:
        updated = await self._values.update((stream, group), item, operations, accept)
        kind: Kind = "create" if updated.old is None else "update"
        return updated, self._happened(stream, group, item, kind, updated.new)

    async def get(self, stream: str, group: str, item: str) -> bytes | None:
        return await self._values.get((stream, group), item)

    async def items(self, stream: str, group: str) -> list[tuple[str, bytes]]:
        return await self._values.items((stream, group))

    async def groups(self, stream: str | None) -> list[tuple[str, str]]:
        found = await self._values.collections(() if stream is None else (stream,))
        return [(name, group) for name, group in found]

    async def send(self, stream: str, group: str, item: str | None, event: bytes) -> StreamEvent:
        return self._happened(stream, group, item, "event", event)

    async def tell(self, event: StreamEvent) -> None:
        self.observer(event)

    async def snapshot(self, stream: str, group: str, item: str | None, ready: Callable[[Snapshot], None]) -> None:
        if item is None:
            items = await self._values.snapshot((stream, group))
        else:
            value = await self._values.get((stream, group), item)
            items = [] if value is None else [(item, value)]
        ready(Snapshot(self._stamps.next(stream, group), items))

    def _happened(self, stream: str, group: str, item: str | None, kind: Kind, data: bytes) -> StreamEvent:
        event = stream_event(stream, group, item, self._stamps.next(stream, group), kind, Raw(data))
        self.observer(event)
        return event
