"""
Where streams are kept, and how what happens to them gets to the clients of this engine.

One backend keeps its items in this engine (L{LocalBackend}, in C{local.py}), the other shares them, and the events,
through Redis (C{redis.py}).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from zope.interface import Attribute, Interface

from iii.modules.stream.events import StreamEvent
from iii.storage.updates import Operation, Updated


@attrs.frozen
class Snapshot:
    """
    What a client that joins gets to see.

    @ivar timestamp: Later than the stamps of all events that it contains, earlier than those of all others.
    @ivar items: Ids and values; of one item only, when one was asked for.
    """

    timestamp: int
    items: Sequence[tuple[str, bytes]]


class IStreamBackend(Interface):
    """
    The built-in streams (spec/stream.md, 3, 7 and 8).

    A change is stored, then told to C{observer}, then answered; an item's events come in the order of its changes.
    Every method may fail with L{iii.storage.errors.StorageError}; then nothing has changed and nobody was told, unless
    its text says that this is not known.
    """

    observer = Attribute(
        "Told of every event that clients of this engine are to get: C{Callable[[StreamEvent], None]}."
    )

    def start() -> None:
        """Begin to serve; the store has been opened."""

    async def stop() -> None:
        """Tell no more events."""

    async def put(stream: str, group: str, item: str, data: bytes) -> tuple[bytes | None, StreamEvent]:
        """Store an item.  @return: The value that it replaces, and the event."""

    async def delete(stream: str, group: str, item: str) -> tuple[bytes | None, StreamEvent | None]:
        """Remove an item.  There is no event when there was none."""

    async def update(
        stream: str, group: str, item: str, operations: Sequence[Operation], accept: Callable[[bytes], None]
    ) -> tuple[Updated, StreamEvent]:
        """
        Apply operations to an item in one step.

        @param accept: Given the result before it is stored; with the L{EngineError} that it raises, this fails.
        """

    async def get(stream: str, group: str, item: str) -> bytes | None:
        """Return an item."""

    async def items(stream: str, group: str) -> list[tuple[str, bytes]]:
        """Return the items of a group, in the order in which they were first put where the backend knows it."""

    async def groups(stream: str | None) -> list[tuple[str, str]]:
        """Return the (stream, group) that have items, sorted; of one stream or of all."""

    async def send(stream: str, group: str, item: str | None, event: bytes) -> StreamEvent:
        """Tell clients something that is not stored.  @param event: The object C{{type, data}}, JSON."""

    async def tell(event: StreamEvent) -> None:
        """Tell clients of a change in a stream that is kept elsewhere: by a worker (spec/stream.md, 4)."""

    async def snapshot(stream: str, group: str, item: str | None, ready: Callable[[Snapshot], None]) -> None:
        """
        Call C{ready} at a moment between two events: what was told to C{observer} before is in the snapshot, what is
        told after is not.  So a client that is subscribed in C{ready} misses nothing and gets nothing twice.
        """
