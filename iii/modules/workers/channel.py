"""A worker's socket at one end of a channel (spec/worker-protocol.md, 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from iii.core.channels import Channel, Channels
from iii.interfaces import IChannelSocket
from iii.modules.workers.handshake import ChannelPath
from iii.wire.server import Refused

if TYPE_CHECKING:
    from iii.modules.workers.protocol import SocketProtocol

NORMAL_CLOSURE = 1000


@implementer(IChannelSocket)
class ChannelEnd:
    """
    Passes messages between a socket and a channel.

    An end that is taken already, and one of a channel that has ended meanwhile, is opened and closed at once: to a 404
    the Node SDK reacts by ending the worker's process.
    """

    def __init__(self, channel: Channel | None, direction: str, socket: SocketProtocol) -> None:
        self._channel, self._socket = channel, socket
        self._writes = direction == "write"

    @classmethod
    def find(cls, channels: Channels, path: ChannelPath, socket: SocketProtocol) -> ChannelEnd:
        """
        Find the channel that a path names.

        @raise Refused: 404, the id is unknown or the key is not its key.
        """
        channel = channels.find(path.channel_id, path.key)
        if channel is None and not channels.genuine(path.channel_id, path.key):
            raise Refused(404, "Channel not found")
        return cls(channel, path.direction, socket)

    def opened(self) -> None:
        """The socket is open: take the end of the channel, or leave."""
        channel = self._channel
        if channel is None or not (channel.attach_writer(self) if self._writes else channel.attach_reader(self)):
            self._channel = None
            self._socket.close(None)

    def received(self, payload: bytes, is_binary: bool) -> None:
        """A writer's message goes to the channel; a reader's is dropped."""
        if self._writes and self._channel is not None:
            self._channel.write(payload, is_binary)

    def ponged(self) -> None:
        """Nothing to do."""

    def drained(self) -> None:
        """The socket takes messages again."""
        if self._channel is not None and not self._writes:
            self._channel.reader_ready()

    def left(self) -> None:
        """The socket has closed in order."""
        self._gone(broken=False)

    def lost(self) -> None:
        """The socket has broken off; workers that read cannot tell (spec, 13)."""
        self._gone(broken=True)

    def _gone(self, *, broken: bool) -> None:
        channel, self._channel = self._channel, None
        if channel is None:
            return
        if self._writes:
            channel.end(broken=broken)
        else:
            channel.drop()

    # What the channel asks for.

    @property
    def full(self) -> bool:
        """The reader does not read."""
        return self._socket.full

    def send(self, payload: bytes, is_binary: bool) -> None:
        """Send one message to the reader."""
        if is_binary:
            self._socket.send_binary(payload)
        else:
            self._socket.send_text(payload)

    def pause(self) -> None:
        """The channel is full: TCP holds the writer back."""
        self._socket.hold("channel")

    def resume(self) -> None:
        """The channel takes messages again."""
        self._socket.release("channel")

    def finish(self) -> None:
        """The channel has ended."""
        self._channel = None
        self._socket.close(None)
