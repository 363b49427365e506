"""What state and streams ask of values before they store them, and how they list them (spec/state.md, 3; 10)."""

from __future__ import annotations

from operator import itemgetter
from typing import ClassVar

import attrs
import msgspec

from iii.core.errors import EngineError
from iii.storage.updates import DEEPEST
from iii.wire.messages import nested_deeper

ENVELOPE = 64 * 2**10
"""Bytes of a message beside the values in it, at most."""


@attrs.define(str=False)
class ValueTooLarge(EngineError):
    """A value, given or made by an update, is larger than the module's C{max_value_bytes}; the old one stays."""

    code: ClassVar[str] = "VALUE_TOO_LARGE"
    text: ClassVar[str] = "value of {size} bytes exceeds the configured max_value_bytes limit of {limit}"
    size: int
    limit: int


@attrs.define(str=False)
class ValueTooDeep(EngineError):
    """A value is nested so deep that no message could carry it; the old one stays."""

    code: ClassVar[str] = "VALUE_TOO_DEEP"
    text: ClassVar[str] = "value is nested deeper than {limit} levels"
    limit: int


def check_depth(value: bytes) -> None:
    """L{ValueTooDeep} for a value that is nested deeper than L{iii.storage.updates.DEEPEST} levels."""
    if nested_deeper(value, DEEPEST):
        raise ValueTooDeep(DEEPEST)


def largest_value(max_value_bytes: int | None, message_bytes: int) -> int:
    """
    Return how large a value may be: what the settings say, and so that an answer can hold it twice, as the old value
    and the new one.  Else a change would be made and its answer would be an error.
    """
    room = (message_bytes - ENVELOPE) // 2
    return room if max_value_bytes is None else min(room, max_value_bytes)


def check_size(value: bytes, max_bytes: int) -> None:
    """L{ValueTooLarge} for a value that has more bytes, without spaces."""
    if len(value) > max_bytes:
        size = len(msgspec.json.format(value, indent=-1))
        if size > max_bytes:
            raise ValueTooLarge(size, max_bytes)


def page(items: list[tuple[str, bytes]], after: str | None, limit: int | None) -> list[tuple[str, bytes]]:
    """
    Return at most so many of the items whose keys come after one.  Such pages are in the order of their keys, by code
    point: so they go on where the last one ended, whatever has been set or deleted in between.
    """
    if after is not None:
        items = [item for item in items if item[0] > after]
    if after is not None or limit is not None:
        items = sorted(items, key=itemgetter(0))[:limit]
    return items
