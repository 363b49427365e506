"""The engine's end of the channel C{request_body} (spec/http.md, A6)."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from iii.core.channels import Channel
from iii.interfaces import IChannelSocket

ITEM_BYTES = 64 * 2**10
WHOLE_BYTES = 2**20 - 4096
"""A larger body is cut into items: SDKs take WebSocket messages of 1 MiB at most."""


@implementer(IChannelSocket)
class Upload:
    """
    Writes a body to its channel.

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
        """Pass on a piece of the body, unless nobody will read it: as one item, unless SDKs could not take that."""
        if self._channel is None or not data:
            return
        if len(data) <= WHOLE_BYTES:
            self._channel.write(data, True)
            return
        for start in range(0, len(data), ITEM_BYTES):
            self._channel.write(data[start : start + ITEM_BYTES], True)

    def end(self) -> None:
        """The body is complete, or the client has gone: the reader gets what came, then the end."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.end()

    def drop(self) -> None:
        """Nobody can come to read any more; whoever reads already goes on."""
        if self._channel is not None and self._channel.reader is None:
            self._channel.drop()

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
