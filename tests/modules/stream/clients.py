"""What tests of stream clients share: a backend in memory, hooks that do as told, a connection without a socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from iii.core.engine import Engine
from iii.core.limits import Limits
from iii.modules.stream.backend import IStreamBackend, Snapshot
from iii.modules.stream.client import Client
from iii.modules.stream.clients import Clients, Surroundings
from iii.modules.stream.events import Kind, Stamps, StreamEvent, stream_event
from iii.modules.stream.subscription import Read, Subscription
from iii.storage.updates import Operation, Updated

HANDLER_TIMEOUT = 10.0


@implementer(IStreamBackend)
class FakeBackend:
    """
    Keeps items in a dict; changes take effect at once.

    @ivar failure: Raised by C{snapshot}, once.
    @ivar waiting: When it is a list, snapshots wait there until they are C{callback}ed.
    """

    def __init__(self, stamps: Stamps) -> None:
        self.stamps = stamps
        self.kept: dict[tuple[str, str], dict[str, bytes]] = {}
        self.observer: Callable[[StreamEvent], None] = lambda event: None
        self.failure: Exception | None = None
        self.waiting: list[Deferred[None]] | None = None

    def change(self, stream: str, group: str, item: str, data: bytes) -> StreamEvent:
        """Put an item, and tell."""
        items = self.kept.setdefault((stream, group), {})
        kind: Kind = "update" if item in items else "create"
        items[item] = data
        return self._tell(stream, group, item, kind, data)

    def say(self, stream: str, group: str, item: str | None, event: bytes) -> StreamEvent:
        """Tell something that is not kept."""
        return self._tell(stream, group, item, "event", event)

    def _tell(self, stream: str, group: str, item: str | None, kind: Kind, data: bytes) -> StreamEvent:
        event = stream_event(stream, group, item, self.stamps.next(stream, group), kind, Raw(data))
        self.observer(event)
        return event

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def put(self, stream: str, group: str, item: str, data: bytes) -> tuple[bytes | None, StreamEvent]:
        old = self.kept.get((stream, group), {}).get(item)
        return old, self.change(stream, group, item, data)

    async def delete(self, stream: str, group: str, item: str) -> tuple[bytes | None, StreamEvent | None]:
        old = self.kept.get((stream, group), {}).pop(item, None)
        return old, None if old is None else self._tell(stream, group, item, "delete", old)

    async def update(
        self,
        stream: str,
        group: str,
        item: str,
        operations: Sequence[Operation],
        accept: Callable[[bytes], None],
    ) -> tuple[Updated, StreamEvent]:
        raise NotImplementedError

    async def get(self, stream: str, group: str, item: str) -> bytes | None:
        return self.kept.get((stream, group), {}).get(item)

    async def items(self, stream: str, group: str) -> list[tuple[str, bytes]]:
        return list(self.kept.get((stream, group), {}).items())

    async def groups(self, stream: str | None) -> list[tuple[str, str]]:
        return sorted(key for key in self.kept if stream in (None, key[0]))

    async def send(self, stream: str, group: str, item: str | None, event: bytes) -> StreamEvent:
        return self.say(stream, group, item, event)

    async def tell(self, event: StreamEvent) -> None:
        self.observer(event)

    async def snapshot(self, stream: str, group: str, item: str | None, ready: Callable[[Snapshot], None]) -> None:
        if self.waiting is not None:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        items = self.kept.get((stream, group), {})
        chosen = list(items.items()) if item is None else [(item, items[item])] if item in items else []
        ready(Snapshot(self.stamps.next(stream, group), chosen))


class FakeAttendance:
    """
    Notes who has come and gone, and says what it is told to.

    @ivar allows: What C{joining} answers; an exception is raised, a Deferred is waited for.
    @ivar leaving: Likewise for C{left}.
    """

    def __init__(self) -> None:
        self.joined: list[Subscription] = []
        self.gone: list[Subscription] = []
        self.allows: Any = True
        self.leaving: Any = None

    async def joining(self, subscription: Subscription) -> bool:
        self.joined.append(subscription)
        answer = await self._say(self.allows)
        assert isinstance(answer, bool)
        return answer

    async def left(self, subscription: Subscription) -> None:
        self.gone.append(subscription)
        await self._say(self.leaving)

    async def _say(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return await answer if isinstance(answer, Deferred) else answer


class FakeOutbox:
    """Keeps the texts of frames."""

    def __init__(self) -> None:
        self.full = False
        self.size = 0
        self.frames: list[bytes] = []

    def write(self, *chunks: bytes) -> None:
        self.frames += chunks

    push = write

    def relieve(self) -> None:
        """The transport is full."""


class FakeEdge:
    """A connection."""

    def __init__(self) -> None:
        self.outbox: Any = FakeOutbox()
        self.holds: set[str] = set()
        self.gone = False

    def hold(self, reason: str) -> None:
        self.holds.add(reason)

    def release(self, reason: str) -> None:
        self.holds.discard(reason)

    def cut_off(self) -> None:
        self.gone = True


def text_of(frame: bytes) -> bytes:
    """The payload of a frame as a server sends it."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


class Peer:
    """A client as tests move it."""

    def __init__(self, clients: Clients, context: bytes = b"null") -> None:
        self.edge = FakeEdge()
        self.client = Client(clients, self.edge, Raw(context))

    def send(self, kind: str, subscription: str, stream: str, group: str, **members: Any) -> None:
        target = {"subscriptionId": subscription, "streamName": stream, "groupId": group, **members}
        self.client.received(json.dumps({"type": kind, "data": target}).encode())

    def join(self, subscription: str, stream: str, group: str, **members: Any) -> None:
        self.send("join", subscription, stream, group, **members)

    def messages(self) -> list[dict[str, Any]]:
        """What came since it was asked last."""
        frames, self.edge.outbox.frames = self.edge.outbox.frames, []
        return [json.loads(text_of(frame)) for frame in frames]

    def events(self) -> list[tuple[str, Any]]:
        """Type and data of what came since it was asked last."""
        return [(message["event"]["type"], message["event"].get("data")) for message in self.messages()]


class ClientsTestCase(SynchronousTestCase):
    """An engine's side of stream clients, without sockets."""

    limits = Limits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000)
        self.engine = Engine(self.clock, self.limits)
        self.stamps = Stamps(self.clock)
        self.backend = FakeBackend(self.stamps)
        self.attendance = FakeAttendance()
        self.custom: dict[tuple[str, str, str | None], Read] = {}
        self.surroundings = Surroundings(
            self.engine,
            self.backend,
            self.stamps,
            self.attendance,
            lambda stream, group, item: self.custom.get((stream, group, item)),
            HANDLER_TIMEOUT,
        )
        self.clients = Clients(self.surroundings)
        self.backend.observer = self.clients.deliver

    def peer(self, context: bytes = b"null") -> Peer:
        return Peer(self.clients, context)
