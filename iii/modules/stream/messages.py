"""
What stream clients and this engine say to each other (spec/stream.md, 6.3 and 6.4).

Events come ready from L{iii.modules.stream.events}.  Here are the answers to one client.  What published clients do not
know is only added: C{subscriptionId} beside the rest, C{ids} of a snapshot's items, and events of type C{error}.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, UnsetType

from iii.modules.stream.subscription import Subscription


class Target(msgspec.Struct):
    """
    What a client joins or leaves.

    @ivar id: The item; C{None} is the whole group.
    """

    subscriptionId: str
    streamName: str
    groupId: str
    id: str | None = None


class Join(msgspec.Struct, tag_field="type", tag="join"):
    """A client wants to see a group or an item."""

    data: Target


class Leave(msgspec.Struct, tag_field="type", tag="leave"):
    """A client has seen enough.  Of its data only the C{subscriptionId} counts, but all is required."""

    data: Target


class Unreadable(Exception):
    """A message is no L{Join} and no L{Leave}; the text says why."""


class _Error(msgspec.Struct):
    code: str
    message: str


class _Event(msgspec.Struct):
    type: str
    data: Raw | UnsetType = UNSET
    ids: Sequence[str] | UnsetType = UNSET
    error: _Error | UnsetType = UNSET


class _Answer(msgspec.Struct, tag_field="type", tag="stream"):
    timestamp: int
    streamName: str
    groupId: str
    id: str | None
    subscriptionId: str | None
    event: _Event


_decode = msgspec.json.Decoder(Join | Leave).decode
_encode = msgspec.json.Encoder().encode


def decode(message: bytes) -> Join | Leave:
    """
    Read a client's message.

    @raise Unreadable: It is none that is known.
    """
    try:
        decoded: Join | Leave = _decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from error
    return decoded


def sync_item(subscription: Subscription, timestamp: int, data: Raw) -> bytes:
    """Tell what an item is, or what a worker says that a group is."""
    return _answer(subscription, timestamp, _Event("sync", data=data))


def sync_group(subscription: Subscription, timestamp: int, items: Sequence[tuple[str, bytes]]) -> bytes:
    """Tell what is in a group.  C{ids} are in the order of the values."""
    values = Raw(b"[" + b",".join(value for _, value in items) + b"]")
    return _answer(subscription, timestamp, _Event("sync", data=values, ids=[item for item, _ in items]))


def unauthorized(subscription: Subscription, timestamp: int) -> bytes:
    """Tell that a join was refused."""
    return _answer(subscription, timestamp, _Event("unauthorized"))


def failed(subscription: Subscription, timestamp: int, code: str, message: str) -> bytes:
    """Tell that something about a join went wrong."""
    return _answer(subscription, timestamp, _Event("error", error=_Error(code, message)))


def malformed(timestamp: int, message: str) -> bytes:
    """Tell that a message is none; no subscription of a client has these names, so that published ones ignore it."""
    event = _Event("error", error=_Error("malformed_message", message))
    return _encode(_Answer(timestamp, "", "", None, None, event))


def _answer(subscription: Subscription, timestamp: int, event: _Event) -> bytes:
    return _encode(
        _Answer(
            timestamp,
            subscription.stream,
            subscription.group,
            subscription.item,
            subscription.subscription_id,
            event,
        )
    )
