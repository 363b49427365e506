"""
Channels: one writer, one reader, messages in order, bounded in between (spec/worker-protocol.md, 13).

A channel exists from its creation until both ends have come and gone, until its owner forgets it, or until it expires
because an end never came.  The ends are L{IChannelSocket}s: workers' sockets, or a module of the engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from hmac import compare_digest
from os import urandom
from typing import Literal

from twisted.internet.interfaces import IReactorTime

from iii.core.errors import TooManyChannels
from iii.core.ids import next_id
from iii.interfaces import IChannelSocket

DEFAULT_BUFFER, MAX_BUFFER = 64, 1024
Direction = Literal["read", "write"]
EXPIRY = 300.0
"""Seconds after which a channel with an end that never came is removed."""


class Channel:
    """
    One channel.

    @ivar maker: Who has made it; C{None} for those that were promised.
    @ivar writer: The writing end, once it has come.
    @ivar reader: The reading end, once it has come.
    @ivar broken: The writer has gone without closing: what it wrote is perhaps not all.
    """

    __slots__ = (
        "_buffer",
        "_buffer_size",
        "_bytes",
        "_ended",
        "_forget",
        "_max_bytes",
        "_paused",
        "broken",
        "created",
        "id",
        "maker",
        "reader",
        "writer",
    )

    def __init__(
        self,
        channel_id: str,
        maker: str | None,
        buffer_size: int,
        max_bytes: int,
        created: float,
        forget: Callable[[Channel], None],
    ) -> None:
        self.id, self.maker, self.created = channel_id, maker, created
        self._buffer_size, self._max_bytes, self._forget = buffer_size, max_bytes, forget
        self._buffer: deque[tuple[bytes, bool]] = deque()
        self._bytes = 0
        self._paused = self._ended = self.broken = False
        self.writer: IChannelSocket | None = None
        self.reader: IChannelSocket | None = None

    def attach_writer(self, writer: IChannelSocket) -> bool:
        """Take the writing end; C{False} when it is taken already."""
        if self.writer is not None:
            return False
        self.writer = writer
        return True

    def attach_reader(self, reader: IChannelSocket) -> bool:
        """Take the reading end, which gets at once what is buffered; C{False} when it is taken already."""
        if self.reader is not None:
            return False
        self.reader = reader
        self.reader_ready()
        return True

    def write(self, payload: bytes, is_binary: bool) -> None:
        """Pass one message from the writer to the reader, or keep it until the reader takes it."""
        if self.reader is not None and not self._buffer and not self.reader.full:
            self.reader.send(payload, is_binary)
            return
        self._buffer.append((payload, is_binary))
        self._bytes += len(payload)
        if not self._paused and self._is_full() and self.writer is not None:
            self._paused = True
            self.writer.pause()

    def _is_full(self) -> bool:
        return len(self._buffer) >= self._buffer_size or self._bytes >= self._max_bytes

    def reader_ready(self) -> None:
        """The reader takes messages (again)."""
        while self._buffer and self.reader is not None and not self.reader.full:
            payload, is_binary = self._buffer.popleft()
            self._bytes -= len(payload)
            self.reader.send(payload, is_binary)
        if self._paused and not self._is_full() and self.writer is not None:
            self._paused = False
            self.writer.resume()
        self._finish_if_done()

    def end(self, *, broken: bool = False) -> None:
        """The writer has closed, or is gone: the reader gets what is buffered, then the end."""
        self.broken = broken
        self._ended = True
        self._paused = False
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._ended and not self._buffer and self.reader is not None:
            self._forget(self)
            self.reader.finish()

    def drop(self) -> None:
        """The reader is gone, or the channel has expired: nobody will read what is written."""
        self._forget(self)
        self._buffer.clear()
        self._bytes = 0
        if self.writer is not None and not self._ended:
            self._ended = True
            self.writer.finish()

    def expire(self) -> None:
        """Remove a channel of which an end never came; the other end is closed."""
        if self.reader is not None and not self._ended:
            self.reader.finish()
        self.drop()


_TWIN = {digit: f"{int(digit, 16) ^ 8:x}" for digit in "0123456789abcdef"}


class Channels:
    """
    All channels that may still be joined.

    Whoever knows a channel's key may open an end of it.  Keys are made from the ids with a secret of the process, so
    that a channel which is gone can be told from one that never was without remembering it.

    Those that were made and those that were promised are counted apart: functions that leave channels lying about must
    not keep HTTP requests from being served.
    """

    def __init__(self, clock: IReactorTime, limit: int, buffer_bytes: int) -> None:
        """
        @param limit: Of the channels that were made, and again of those that were promised.
        """
        self._clock, self._limit, self._buffer_bytes = clock, limit, buffer_bytes
        self._channels: dict[str, Channel] = {}
        self._promised: dict[str, Callable[[Channel], None]] = {}
        self._made_by: dict[str, dict[str, Channel]] = {}
        self._made = 0
        self._keyed = blake2b(digest_size=16, key=urandom(32))

    def __len__(self) -> int:
        return len(self._channels) + len(self._promised)

    def create(self, buffer_size: int = DEFAULT_BUFFER, maker: str = "") -> Channel:
        """
        Make a channel.

        @param buffer_size: Messages kept for a reader that does not read; brought into 1 to 1024.
        @param maker: The id of the connection that asks for it; the engine itself without one.
        @raise TooManyChannels: The engine's limit is reached.
        """
        if self._made >= self._limit:
            raise TooManyChannels(self._limit, "made by functions")
        channel = self._create(next_id(), maker, max(1, min(buffer_size, MAX_BUFFER)))
        self._made_by.setdefault(maker, {})[channel.id] = channel
        self._made += 1
        return channel

    def _create(self, channel_id: str, maker: str | None, buffer_size: int) -> Channel:
        channel = Channel(channel_id, maker, buffer_size, self._buffer_bytes, self._clock.seconds(), self.forget)
        self._channels[channel_id] = channel
        return channel

    def made_by(self, maker: str) -> int:
        """How many channels exist that somebody has made."""
        return len(self._made_by.get(maker, ()))

    def maker_gone(self, maker: str) -> None:
        """Remove the channels that a connection has made and nobody has joined."""
        for channel in list(self._made_by.get(maker, {}).values()):
            if channel.writer is None and channel.reader is None:
                channel.drop()

    def promise(self, first: Callable[[Channel], None], second: Callable[[Channel], None]) -> tuple[str, str]:
        """
        Announce two channels that come into being when somebody joins them.  Every HTTP request announces two and
        hardly any of them is joined, so this costs a quarter of making them.  The two have one key.

        @param first: Called with the first channel when it is wanted; likewise C{second}.
        @return: Their ids, for L{withdraw}.
        @raise TooManyChannels: The engine's limit is reached.
        """
        if len(self._channels) - self._made + len(self._promised) + 2 > self._limit:
            raise TooManyChannels(self._limit, "of requests")
        one = next_id()
        other = _TWIN[one[0]] + one[1:]
        self._promised[one], self._promised[other] = first, second
        return one, other

    def withdraw(self, ids: tuple[str, str]) -> None:
        """Let nobody join two promised channels any more; ends that are connected go on."""
        for channel_id in ids:
            if self._promised.pop(channel_id, None) is None:
                self._channels.pop(channel_id, None)

    def key(self, channel_id: str) -> str:
        """The key of a channel, 32 hexadecimal digits.  Ids that differ in the first digit only have the same one."""
        keyed = self._keyed.copy()
        keyed.update(channel_id[1:].encode())
        return keyed.hexdigest()

    def ref(self, channel: Channel, direction: Direction) -> dict[str, str]:
        """What travels inside payloads and makes SDKs open an end (spec/worker-protocol.md, 13)."""
        return {"channel_id": channel.id, "access_key": self.key(channel.id), "direction": direction}

    def find(self, channel_id: str, key: str) -> Channel | None:
        """Return the channel with this id, if it may still be joined and the key is its key."""
        if not self.genuine(channel_id, key):
            return None
        self.redeem(channel_id)
        return self._channels.get(channel_id)

    def redeem(self, channel_id: str) -> None:
        """Make a channel that was promised, if this one was and nobody has joined it yet."""
        keep = self._promised.pop(channel_id, None)
        if keep is not None:
            keep(self._create(channel_id, None, DEFAULT_BUFFER))

    def genuine(self, channel_id: str, key: str) -> bool:
        """Whether an id and a key belong together: to a channel that is or was."""
        return compare_digest(self.key(channel_id).encode(), key.encode())

    def forget(self, channel: Channel) -> None:
        """Let nobody join a channel any more; the ends that are connected go on."""
        if self._channels.pop(channel.id, None) is None or channel.maker is None:
            return
        self._made -= 1
        made = self._made_by[channel.maker]
        del made[channel.id]
        if not made:
            del self._made_by[channel.maker]

    def sweep(self) -> None:
        """Expire the channels of which an end never came in time.  To be called about once a minute."""
        oldest = self._clock.seconds() - EXPIRY
        expired = []
        for channel in self._channels.values():  # oldest first
            if channel.created > oldest:
                break
            if channel.writer is None or channel.reader is None:
                expired.append(channel)
        for channel in expired:
            channel.expire()
