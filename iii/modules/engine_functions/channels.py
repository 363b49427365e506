"""C{engine::channels::create} (spec/engine-functions.md, 3)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from iii.core.channels import DEFAULT_BUFFER
from iii.core.engine import Engine
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
        self._channels = engine.channels

    def create(self, request: ChannelRequest, caller: Caller) -> ChannelEnds:
        """
        C{engine::channels::create}.

        @raise TooManyChannels: The engine's limit is reached.
        """
        size = DEFAULT_BUFFER if request.buffer_size is None else request.buffer_size
        channel = self._channels.create(size)
        return ChannelEnds(
            ChannelRef(**self._channels.ref(channel, "write")), ChannelRef(**self._channels.ref(channel, "read"))
        )
