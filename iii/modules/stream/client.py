"""
One client: its subscriptions, and its messages, one after the other.  No sockets.

Messages are handled strictly in order, since each join may wait for the functions that decide about it.  What waits
meanwhile is bounded: a client that sends on is not read from.  Likewise nothing more is done for a client before it has
taken its last snapshot, so that one client costs at most its buffer, one event and one snapshot.

Whoever was let in by the join handlers is told to the leave handlers in the end, in whatever way it ends.  A client
whose connection has ended still counts as one until that has been done, so that reconnecting cannot pile it up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from iii.core.invocations import CallFailed
from iii.core.shown import shown
from iii.modules.stream import messages
from iii.modules.stream.backend import Snapshot
from iii.modules.stream.clients import Clients
from iii.modules.stream.messages import Join, Leave, Target, Unreadable
from iii.modules.stream.subscription import Read, Subscription
from iii.storage.errors import StorageError
from iii.wire.messages import NULL, is_null
from iii.wire.outbox import Outbox
from iii.wire.websocket import text_frame

WAITING_BYTES = 64 * 2**10
"""From a client with more than so much in messages that wait to be handled, no more is read."""
MESSAGE_COST = 200
"""Bytes that a waiting message counts beside its own."""


class Edge(Protocol):
    """A client's connection."""

    outbox: Outbox

    def hold(self, reason: str) -> None:
        """Read no more from the client until all reasons for that are gone."""

    def release(self, reason: str) -> None:
        """One reason not to read is gone."""

    def cut_off(self) -> None:
        """End the connection at once: the client reads too slowly."""


class Client:
    """What one connection has joined and asks for."""

    log = Logger()

    def __init__(self, clients: Clients, edge: Edge, context: Raw) -> None:
        """@param context: What the auth function gave for the connection, JSON."""
        self._clients, self._edge, self._context = clients, edge, context
        self._around = clients.surroundings
        self._outbox = edge.outbox
        self._limits, self._counters = self._around.engine.limits, self._around.engine.counters
        self._buffer_bytes = self._limits.stream_buffer_bytes
        self._subscriptions: dict[str, Subscription] = {}
        self._subscription_bytes = 0
        self._waiting: deque[tuple[Join | Leave, int]] = deque()
        self._waiting_bytes = 0
        self._working = self._gone = False
        clients.connected()

    # Called by the connection.

    def received(self, message: bytes) -> None:
        """A message has come.  One that is none is answered with an event of type C{error}."""
        try:
            decoded = messages.decode(message)
        except Unreadable as error:
            self._counters.malformed_frames += 1
            self._tell(messages.malformed(self._around.stamps.next("", ""), shown(str(error))))
        else:
            self.asked(decoded, len(message))

    def asked(self, message: Join | Leave, size: int = 0) -> None:
        """Handle a message when those before it have been handled.  @param size: Its bytes."""
        size += MESSAGE_COST
        self._waiting.append((message, size))
        self._waiting_bytes += size
        if self._waiting_bytes > WAITING_BYTES:
            self._edge.hold("messages")
        self._go_on()

    def drained(self) -> None:
        """The connection has taken all that was sent."""
        self._go_on()

    def closed(self) -> None:
        """The connection has ended: nothing is delivered any more, and all that was joined is left."""
        self._gone = True
        self._clients.left()
        self._waiting.clear()
        for subscription in self._subscriptions.values():
            self._detach(subscription)
        self._go_on()

    # Called by the fan-out.

    def write(self, frame: bytes) -> None:
        """
        Send an event.  A client for which more than C{stream_buffer_bytes} wait already is cut off: one event more may
        wait, so that also a large one can reach those who read.
        """
        if self._outbox.size > self._buffer_bytes:
            self._outbox.relieve()
            if self._outbox.size > self._buffer_bytes:
                self._edge.cut_off()
                return
        self._outbox.write(frame)

    # One message after the other.

    def _go_on(self) -> None:
        if not self._working:
            self._working = True
            work = Deferred.fromCoroutine(self._work())
            work.addErrback(lambda failure: self.log.failure("the work for a stream client has ended", failure))

    async def _work(self) -> None:
        while self._waiting and not self._outbox.full:
            message, size = self._waiting.popleft()
            self._waiting_bytes -= size
            await (self._join(message.data) if isinstance(message, Join) else self._leave(message.data))
            if self._waiting_bytes <= WAITING_BYTES:
                self._edge.release("messages")
        if self._gone:
            for subscription in self._subscriptions.values():
                await self._left(subscription)
            self._clients.ended()
        else:
            self._working = False

    # Joining.

    async def _join(self, target: Target) -> None:
        subscription = Subscription(target.subscriptionId, target.streamName, target.groupId, target.id, self._context)
        if not self._has_room(subscription):
            return
        if not await self._admitted(subscription):
            self._tell(messages.unauthorized(subscription, self._stamp(subscription)))
            return
        replaced = self._subscriptions.get(subscription.subscription_id)
        try:
            await self._show(subscription)
        except Exception:  # a defect; the client's other subscriptions go on
            self.log.failure("a join failed")
            self._failed(subscription, "internal_error", "the join failed")
        if self._subscriptions.get(subscription.subscription_id) is not subscription:
            await self._left(subscription)  # it has gone meanwhile
        elif replaced is not None and _place(replaced) != _place(subscription):
            await self._left(replaced)

    def _has_room(self, subscription: Subscription) -> bool:
        limit = self._limits.stream_subscriptions_per_connection
        limit_bytes = self._limits.stream_subscription_bytes_per_connection
        replaced = self._subscriptions.get(subscription.subscription_id)
        if replaced is None and len(self._subscriptions) >= limit:
            name = "stream_subscriptions_per_connection"
            text = f"a connection may have {limit} subscriptions (`engine.limits.{name}`)"
        elif self._subscription_bytes + _size(subscription) - (_size(replaced) if replaced else 0) > limit_bytes:
            name = "stream_subscription_bytes_per_connection"
            text = f"a connection's subscriptions may have {limit_bytes} bytes of names (`engine.limits.{name}`)"
        else:
            return True
        self._counters.hit(name)
        self._failed(subscription, "too_many_subscriptions", text)
        return False

    async def _admitted(self, subscription: Subscription) -> bool:
        try:
            return await self._around.within(self._around.attendance.joining(subscription))
        except (CallFailed, TimedOut) as error:
            self._clients.complain("a join of the stream {stream} is refused: {error}", subscription, error)
        except Exception:  # a defect: who may not have been checked is not let in
            self.log.failure("asking whether a client may join failed")
        return False

    async def _show(self, subscription: Subscription) -> None:
        """Subscribe, and tell what is there now."""
        read = self._around.overrides(subscription.stream, subscription.group, subscription.item)
        if read is not None:
            await self._show_custom(subscription, read)
            return

        def ready(snapshot: Snapshot) -> None:
            if self._attach(subscription):
                self._send_snapshot(subscription, snapshot)

        try:
            await self._around.backend.snapshot(subscription.stream, subscription.group, subscription.item, ready)
        except StorageError as error:
            self._attach(subscription)  # it gets events all the same (spec/stream.md, 6.3)
            self._unread(subscription, error)

    async def _show_custom(self, subscription: Subscription, read: Read) -> None:
        """
        Likewise of a stream that a worker keeps.  What it does between its answer and now cannot be known, so events
        may come before the snapshot, or again after it; the stamp tells clients which of them are not in it.
        """
        stamp = self._stamp(subscription)
        if not self._attach(subscription):
            return
        try:
            data = await self._around.within(read())
        except (CallFailed, TimedOut) as error:
            self._unread(subscription, error)
            return
        if self._fits(subscription, len(data)):
            self._send(messages.sync_item(subscription, stamp, NULL if is_null(data) else data))

    def _send_snapshot(self, subscription: Subscription, snapshot: Snapshot) -> None:
        items = snapshot.items
        if not self._fits(subscription, _total(items)):
            return
        if subscription.item is None:
            frame = messages.sync_group(subscription, snapshot.timestamp, items)
        else:
            frame = messages.sync_item(subscription, snapshot.timestamp, Raw(items[0][1]) if items else NULL)
        self._send(frame)

    def _fits(self, subscription: Subscription, size: int) -> bool:
        limit = self._limits.stream_snapshot_bytes
        if size <= limit:
            return True
        self._counters.hit("stream_snapshot_bytes")
        text = f"the data has {size} bytes, of {limit} that a snapshot may have (`engine.limits.stream_snapshot_bytes`)"
        self._failed(subscription, "snapshot_too_large", text)
        return False

    # Leaving.

    async def _leave(self, target: Target) -> None:
        """What was joined decides, not what the message says; unknown ids are ignored."""
        subscription = self._subscriptions.pop(target.subscriptionId, None)
        if subscription is not None:
            self._subscription_bytes -= _size(subscription)
            self._detach(subscription)
            await self._left(subscription)

    async def _left(self, subscription: Subscription) -> None:
        try:
            await self._around.within(self._around.attendance.left(subscription))
        except (CallFailed, TimedOut) as error:
            self._clients.complain("a leave handler of the stream {stream} failed: {error}", subscription, error)
        except Exception:  # a defect; the leave takes effect
            self.log.failure("telling that a client has left failed")

    # The fan-out.

    def _attach(self, subscription: Subscription) -> bool:
        """From now on deliver what it matches; C{False} when the client is gone."""
        if self._gone:
            return False
        replaced = self._subscriptions.pop(subscription.subscription_id, None)
        if replaced is not None:
            self._subscription_bytes -= _size(replaced)
            self._detach(replaced)
        self._subscriptions[subscription.subscription_id] = subscription
        self._subscription_bytes += _size(subscription)
        self._clients.fanout.add(self, *_place(subscription))
        self._counters.stream_subscriptions += 1
        return True

    def _detach(self, subscription: Subscription) -> None:
        self._clients.fanout.remove(self, *_place(subscription))
        self._counters.stream_subscriptions_ended += 1

    # Answers.

    def _stamp(self, subscription: Subscription) -> int:
        return self._around.stamps.next(subscription.stream, subscription.group)

    def _failed(self, subscription: Subscription, code: str, text: str) -> None:
        self._tell(messages.failed(subscription, self._stamp(subscription), code, text))

    def _unread(self, subscription: Subscription, error: Exception) -> None:
        """The client is told that there is no snapshot; why is the log's, since clients are strangers."""
        self._clients.complain("a snapshot of the stream {stream} failed: {error}", subscription, error)
        self._failed(subscription, "snapshot_failed", "the data cannot be read now; events follow")

    def _tell(self, message: bytes) -> None:
        self._outbox.write(text_frame(message))

    def _send(self, snapshot: bytes) -> None:
        """Like L{_tell}, for what may by right be larger than a client's buffer."""
        self._outbox.push(text_frame(snapshot))


def _place(subscription: Subscription) -> tuple[str, str, str | None]:
    return subscription.stream, subscription.group, subscription.item


def _size(subscription: Subscription) -> int:
    """The bytes of what a client has chosen in a subscription."""
    texts = (subscription.subscription_id, subscription.stream, subscription.group, subscription.item or "")
    return sum(len(text.encode()) for text in texts)


def _total(items: Sequence[tuple[str, bytes]]) -> int:
    return sum(len(item) + len(value) for item, value in items)
