"""
Items in Redis, in the layout of the reference (spec/stream.md, 7.2): a hash for each group, with a field for each item.

A change and the message about it are one script: what is stored is told, and nothing else.  An update is computed here,
because the server's JSON loses digits and empty lists (spec/state.md, 4.4), and stored if nobody has changed the item
meanwhile; else it is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Raw

from iii.storage.errors import StorageError, TooMuchToList
from iii.storage.redis import RedisLink, Script
from iii.storage.updates import Operation, Updated, apply

CHANNEL = b"stream::events"
"""Also in the scripts."""
ATTEMPTS = 100
"""Times that an update is computed again because others have changed the item; one of them has got on each time."""
SCANNED = 1000
"""Keys that the server looks at in one step of a listing."""

Cut = tuple[bytes, bytes]
"""A message about a change, without the kind of the event and the value."""

_PUT = Script(
    """local old = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local kind = old and 'update' or 'create'
redis.call('PUBLISH', 'stream::events', ARGV[3] .. kind .. '","data":' .. ARGV[2] .. ARGV[4])
return old"""
)
_DELETE = Script(
    """local old = redis.call('HGET', KEYS[1], ARGV[1])
if old then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('PUBLISH', 'stream::events', ARGV[2] .. 'delete","data":' .. old .. ARGV[3])
end
return old"""
)
_REPLACE = Script(
    """local old = redis.call('HGET', KEYS[1], ARGV[1])
if (old or '') ~= ARGV[2] then return {0, old} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
local kind = old and 'update' or 'create'
redis.call('PUBLISH', 'stream::events', ARGV[4] .. kind .. '","data":' .. ARGV[3] .. ARGV[5])
return {1}"""
)
_READ = Script(
    """redis.call('PUBLISH', 'stream::events', ARGV[1])
if ARGV[2] == 'item' then return {ARGV[3], redis.call('HGET', KEYS[1], ARGV[3])} end
return redis.call('HGETALL', KEYS[1])"""
)


class RedisItems:
    """The items of all streams.  Failures are L{StorageError}."""

    def __init__(self, link: RedisLink, list_bytes: int) -> None:
        """@param list_bytes: Of the values that one listing may have."""
        self._link, self._list_bytes = link, list_bytes

    async def put(self, stream: str, group: str, item: str, value: bytes, cut: Cut) -> bytes | None:
        """Store an item, publish the change and return what was there; what is no JSON counts as null."""
        begin, end = cut
        old = await self._eval(_PUT, stream, group, item, value, begin, end)
        return _or_null(old)

    async def delete(self, stream: str, group: str, item: str, cut: Cut) -> bytes | None:
        """Likewise remove it; nothing is published when it was not there."""
        return _or_null(await self._eval(_DELETE, stream, group, item, *cut))

    async def update(
        self,
        stream: str,
        group: str,
        item: str,
        operations: Sequence[Operation],
        accept: Callable[[bytes], None],
        cut: Callable[[], Cut],
    ) -> Updated:
        """
        Apply operations to an item, store it and publish the change.

        @param accept: See L{iii.interfaces.IValues.update}.
        @param cut: Makes the message, once for each attempt.
        """
        current = await self._hget(stream, group, item)
        for _ in range(ATTEMPTS):
            updated = apply(None if current is None else _checked(current), operations)
            accept(updated.new)
            reply = await self._eval(_REPLACE, stream, group, item, current or b"", updated.new, *cut())
            if reply[0]:
                return updated
            current = reply[1] if len(reply) > 1 else None
        raise StorageError(f"others changed the item {ATTEMPTS} times meanwhile")

    async def get(self, stream: str, group: str, item: str) -> bytes | None:
        """Return an item."""
        found = await self._hget(stream, group, item)
        return None if found is None else _checked(found)

    async def items(self, stream: str, group: str) -> list[tuple[str, bytes]]:
        """Return the items of a group, in no order."""
        return self._pairs(await self._link.execute("HGETALL", key_of(stream, group)))

    async def marked(self, stream: str, group: str, item: str | None, marker: bytes) -> list[tuple[str, bytes]]:
        """Return the items of a group, or one item, and publish a message at that moment."""
        which = ("group", "") if item is None else ("item", item)
        found = await self._link.eval(_READ, [key_of(stream, group)], [marker, *which])
        return self._pairs(found)

    async def groups(self, stream: str | None) -> list[tuple[str, str]]:
        """Return the groups that have items, of one stream or of all, sorted."""
        prefix = "stream:" if stream is None else key_of(stream, "")
        pattern, cursor = _literal(prefix) + "*", b"0"
        found: set[tuple[str, str]] = set()
        while True:
            cursor, keys = await self._scan(cursor, pattern)
            found.update(place for key in keys if (place := _place(key)) is not None)
            if cursor == b"0":
                return sorted(place for place in found if stream is None or place[0] == stream)

    async def publish(self, message: bytes) -> None:
        """Publish a message."""
        await self._link.execute("PUBLISH", CHANNEL, message)

    async def _hget(self, stream: str, group: str, item: str) -> bytes | None:
        return cast(bytes | None, await self._link.execute("HGET", key_of(stream, group), item))

    async def _scan(self, cursor: bytes, pattern: str) -> tuple[bytes, list[bytes]]:
        reply: Any = await self._link.execute("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED)
        return reply[0], reply[1]

    async def _eval(self, script: Script, stream: str, group: str, *args: bytes | str) -> Any:
        return await self._link.eval(script, [key_of(stream, group)], args)

    def _pairs(self, reply: Any) -> list[tuple[str, bytes]]:
        """Read what HGETALL answers; a value that is nothing is not there."""
        names, values = reply[::2], reply[1::2]
        if sum(len(value) for value in values if value is not None) > self._list_bytes:
            raise TooMuchToList(self._list_bytes)
        try:
            return [
                (name.decode(), _checked(value))
                for name, value in zip(names, values, strict=False)
                if value is not None
            ]
        except UnicodeDecodeError as error:
            raise StorageError(f"Failed to deserialize value: {error}") from error


def key_of(stream: str, group: str) -> str:
    """
    The key of a group: C{stream:<name>:<group>}.  In names of streams, not of groups, colons and percent signs are
    percent-encoded, so that different groups have different keys.
    """
    return f"stream:{stream.replace('%', '%25').replace(':', '%3A')}:{group}"


def _place(key: bytes) -> tuple[str, str] | None:
    try:
        _, stream, group = key.decode().split(":", 2)
    except ValueError:  # also of no UTF-8; nothing of ours
        return None
    return stream.replace("%3A", ":").replace("%25", "%"), group


def _literal(text: str) -> str:
    """A pattern of Redis that matches a text."""
    return "".join(f"\\{sign}" if sign in "*?[]\\^-" else sign for sign in text)


def _is_json(value: bytes) -> bool:
    try:
        value.decode()
        msgspec.json.decode(value, type=Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return False
    return True


def _checked(value: bytes) -> bytes:
    """What others have stored must not make a message unreadable."""
    if not _is_json(value):
        raise StorageError("Failed to deserialize value from Redis: no JSON")
    return value


def _or_null(value: bytes | None) -> bytes | None:
    return value if value is None or _is_json(value) else b"null"
