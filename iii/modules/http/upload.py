"""The engine's end of the channel C{request_body} (spec/http.md, A6)."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from iii.core.channels import Channel
from iii.interfaces import IChannelSocket

ITEM_BYTES = 64 * 2**10
WHOLE_BYTES = 2**20 - 4096
"""A larger JSON body is cut into items: SDKs take WebSocket messages of 1 MiB at most."""


@implementer(IChannelSocket)
class Upload:
    """
    Writes a body to its channel as it arrives.

    @ivar stalled: The worker does not read: nothing more should come.
    @ivar full: Of readers only.
    """

    __slots__ = ("_changed", "_channel", "full", "stalled")

    def __init__(self, channel: Channel, changed: Callable[[], None]) -> None:
        """@param changed: Called when C{stalled} changes."""
        self._channel: Channel | None = channel
        self._changed = changed
        self.stalled = self.full = False
        channel.attach_writer(self)

    def write(self, data: bytes) -> None:
        """Pass on a piece of the body, unless nobody will read it."""
        if self._channel is not None:
            self._channel.write(data, True)

    def end(self) -> None:
        """The body is complete, or the client has gone: the reader gets what came, then the end."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.end()

    # What the channel asks for.

    def send(self, payload: bytes, is_binary: bool) -> None:
        """Of readers only."""

    def pause(self) -> None:
        """Nothing more should come."""
        self.stalled = True
        self._changed()

    def resume(self) -> None:
        """The worker reads again."""
        self.stalled = False
        self._changed()

    def finish(self) -> None:
        """Nobody will read: the rest of the body is dropped as it comes."""
        self._channel = None
        self.resume()


@implementer(IChannelSocket)
class _Written:
    """The writing end of a channel that was given everything at once."""

    full = False

    def send(self, payload: bytes, is_binary: bool) -> None:
        """Of readers only."""

    def pause(self) -> None:
        """There is nothing to hold back."""

    def resume(self) -> None:
        """There was nothing held back."""

    def finish(self) -> None:
        """There is nothing to stop."""


_written = _Written()


def write_whole(channel: Channel, body: bytes) -> None:
    """Give a whole body to a channel: as one item unless SDKs could not take that, and none if it is empty."""
    channel.attach_writer(_written)
    if 0 < len(body) <= WHOLE_BYTES:
        channel.write(body, True)
    elif body:
        for start in range(0, len(body), ITEM_BYTES):
            channel.write(body[start : start + ITEM_BYTES], True)
    channel.end()
