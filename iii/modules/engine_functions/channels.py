"""C{engine::channels::create} (spec/engine-functions.md, 3)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from iii.core.channels import DEFAULT_BUFFER, Channel
from iii.core.connections import Connection
from iii.core.engine import Engine
from iii.core.errors import TooManyChannels
from iii.core.functions import Caller


class ChannelRequest(msgspec.Struct):
    """What channel to make."""

    buffer_size: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="messages kept for a reader that does not read, 1 to 1024; 64 without one"),
    ] = None


class ChannelRef(msgspec.Struct):
    """One end of a channel; SDKs make a reader or a writer of it wherever it stands in a payload."""

    channel_id: str
    access_key: str
    direction: str


class ChannelEnds(msgspec.Struct):
    """Both ends of a new channel, each for whoever is to have it."""

    writer: ChannelRef
    reader: ChannelRef


class ChannelMaker:
    """Makes channels between functions."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._channels = engine, engine.channels

    def start(self) -> None:
        """Follow the connections from now on: what one has made and nobody has joined goes with it."""
        self._engine.on_disconnected.append(self._disconnected)

    def stop(self) -> None:
        """Follow them no more."""
        self._engine.on_disconnected.remove(self._disconnected)

    def _disconnected(self, connection: Connection) -> None:
        self._channels.maker_gone(connection.id)

    def create(self, request: ChannelRequest, caller: Caller) -> ChannelEnds:
        """
        C{engine::channels::create}.

        @raise TooManyChannels: The engine's limit is reached, or the one of the caller's connection.
        """
        size = DEFAULT_BUFFER if request.buffer_size is None else request.buffer_size
        channel = self._create(size) if caller.connection is None else self._create_for(caller.connection, size)
        return ChannelEnds(
            ChannelRef(**self._channels.ref(channel, "write")), ChannelRef(**self._channels.ref(channel, "read"))
        )

    def _create_for(self, connection: Connection, size: int) -> Channel:
        limit = self._engine.limits.channels_per_connection
        if self._channels.made_by(connection.id) >= limit:
            self._engine.counters.hit("channels_per_connection")
            raise TooManyChannels(limit, "made by one connection")
        return self._create(size, connection.id)

    def _create(self, size: int, maker: str = "") -> Channel:
        try:
            return self._channels.create(size, maker)
        except TooManyChannels:
            self._engine.counters.hit("channels")
            raise
