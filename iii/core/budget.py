"""How many bytes a connection makes the engine keep, beside the number of things (DESIGN.md, 1.3)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from iii.core.errors import TooManyRegistrations
from iii.wire.messages import Message, value_of

K = TypeVar("K", bound=Hashable)
PYTHONS_DIGITS = 4300
"""Digits of an integer that Python reads by default."""

_read = msgspec.json.Decoder(float_hook=float).decode


class Budget:
    """
    The bytes of all that one connection has registered, or is about to.

    @ivar used: Bytes that are taken.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0

    def room(self, count: int) -> bool:
        """Whether so many bytes more may be taken; fewer always may."""
        return count <= 0 or self.used + count <= self.limit

    def check(self, count: int) -> None:
        """L{TooManyRegistrations} when there is no room for so many bytes more."""
        if not self.room(count):
            raise TooManyRegistrations(self.limit, "bytes", "registration_bytes_per_connection")

    def take(self, count: int) -> None:
        """
        Take bytes, to be given back with L{release}.

        @raise TooManyRegistrations: There is no room; none is taken.
        """
        self.check(count)
        self.used += count

    def release(self, count: int) -> None:
        """Give bytes back."""
        self.used -= count


class Kept(Generic[K]):
    """What a connection has registered of one kind: the keys, in order, and the bytes behind each."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._sizes: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[K]:
        return iter(self._sizes)

    def __contains__(self, key: object) -> bool:
        return key in self._sizes

    def __delitem__(self, key: K) -> None:
        self._budget.release(self._sizes.pop(key))

    def check(self, key: K, size: int) -> None:
        """L{TooManyRegistrations} when L{keep} would raise it."""
        self._budget.check(size - self._sizes.get(key, 0))

    def keep(self, key: K, size: int) -> None:
        """
        Add a key, or replace what is behind it.

        @raise TooManyRegistrations: The connection's bytes are used up; nothing changes.
        """
        self._budget.take(size - self._sizes.get(key, 0))
        self._sizes[key] = size


def detach(message: Message) -> None:
    """Free a message from its frame, of which nothing else shall stay in memory."""
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, Raw) and value:
            setattr(message, name, detached(value))


def detached(payload: Raw) -> Raw:
    """
    Return a payload that does not refer to its frame, and that every worker can read to whom introspection shows it:
    one with an integer of more digits than Python reads is written anew, with null in its place.
    """
    if len(memoryview(payload)) > PYTHONS_DIGITS:
        try:
            _read(payload)
        except msgspec.ValidationError:
            return Raw(msgspec.json.encode(value_of(payload)))
    return payload.copy()


def size_of(*parts: object) -> int:
    """The bytes of texts and payloads; what is neither counts nothing."""
    size = 0
    for part in parts:
        if isinstance(part, str):
            size += len(part.encode())
        elif isinstance(part, Raw):
            size += len(memoryview(part))
    return size
