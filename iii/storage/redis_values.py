"""
Values in Redis, in the layout of the reference (spec/state.md, 6.2; spec/stream.md, 7.2): a hash for each collection,
with a field for each key.  A change may be published in one step with it.

An update is computed here, because the server's JSON loses digits and empty lists (spec/state.md, 4.4), and stored if
nobody has changed the value meanwhile; else it is computed again.  That takes several commands: later changes of that
key from this engine wait for it, so that they are applied in the order in which they were asked for.  Everything else
is one command, in the order of the link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import attrs
import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from iii.interfaces import Collection, IValues
from iii.storage.errors import StorageError, TooMuchToList
from iii.storage.redis import RedisLink, Script
from iii.storage.updates import DEEPEST, Operation, Updated, apply
from iii.wire.messages import nested_deeper

ATTEMPTS = 1000
"""Times that an update is computed because others have changed the value; each time one of them has got on."""
MAX_WAITING = 100_000
"""Changes that wait for updates of their keys."""
SCANNED = 1000
"""Keys that the server looks at in one step of a listing."""
SPACES = b" \t\n\r"
"""What another program may have put around a value."""

_PUT = Script(
    """local old = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] then redis.call('PUBLISH', ARGV[3], (old and ARGV[5] or ARGV[4]) .. ARGV[2] .. ARGV[6]) end
return old"""
)
_DELETE = Script(
    """local old = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
if old and ARGV[2] then redis.call('PUBLISH', ARGV[2], ARGV[4] .. old .. ARGV[5]) end
return old"""
)
_REPLACE = Script(
    """local old = redis.call('HGET', KEYS[1], ARGV[1])
if (old or '') ~= ARGV[2] then return {0, old} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] then redis.call('PUBLISH', ARGV[4], (old and ARGV[6] or ARGV[5]) .. ARGV[3] .. ARGV[7]) end
return {1}"""
)
_ITEMS = Script(
    """if ARGV[2] then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
local all
if ARGV[4] then
  local value = redis.call('HGET', KEYS[1], ARGV[4])
  all = value and {ARGV[4], value} or {}
else
  all = redis.call('HGETALL', KEYS[1])
end
local size = 0
for at = 1, #all do size = size + #all[at] end
if size > tonumber(ARGV[1]) then return 0 end
return all"""
)
_is_json = msgspec.json.Decoder(msgspec.Raw).decode


@attrs.frozen
class Publication:
    """
    What is published about a change, in one step with it: C{created}, or C{replaced} where there was something, then
    the value, then C{end}.  Of a removal it is C{replaced}, the value that was there, C{end}; nothing if none was.
    """

    channel: bytes
    created: bytes
    replaced: bytes
    end: bytes

    @property
    def arguments(self) -> tuple[bytes, ...]:
        """As the scripts want it."""
        return self.channel, self.created, self.replaced, self.end


Publish = Callable[[], Publication]
"""Called when a change is about to be made; for an update, each time that it is tried."""


@attrs.define(eq=False)
class _Change:
    """A change that waits for earlier ones of its key."""

    make: Callable[[], Awaitable[Any]]
    answer: Deferred[Any]


@implementer(IValues)
class RedisValues:
    """
    The values of all collections, shared by all engines on one Redis.  Listings are sorted by key: Redis has no order.

    The names of a collection are joined by colons after the prefix.  In all but the last, colons and percent signs are
    percent-encoded, so that different collections have different hashes.
    """

    def __init__(self, link: RedisLink, prefix: str, list_bytes: int, parts: int = 1) -> None:
        """
        @param prefix: Before the names of the hashes, such as C{state:}.
        @param list_bytes: Of the values that one listing may have.
        @param parts: How many names a collection has.
        """
        self._link, self._prefix, self._list_bytes = link, prefix, list_bytes
        self._parts = parts
        self._changes: dict[tuple[bytes, bytes], deque[_Change]] = {}  # of keys with an update under way
        self._waiting = 0

    def get(self, collection: Collection, key: str) -> Deferred[bytes | None]:
        return self._link.execute("HGET", self._hash(collection), key.encode()).addCallback(_valid)

    def put(
        self, collection: Collection, key: str, value: bytes, publish: Publish | None = None
    ) -> Deferred[bytes | None]:
        place = self._hash(collection), key.encode()
        return self._in_turn(place, lambda: self._change(_PUT, publish, *place, value))

    def delete(self, collection: Collection, key: str, publish: Publish | None = None) -> Deferred[bytes | None]:
        place = self._hash(collection), key.encode()
        return self._in_turn(place, lambda: self._change(_DELETE, publish, *place))

    def update(
        self,
        collection: Collection,
        key: str,
        operations: Sequence[Operation],
        accept: Callable[[bytes], None] | None = None,
        publish: Publish | None = None,
    ) -> Deferred[Updated]:
        place = self._hash(collection), key.encode()
        return self._queue(place, lambda: self._update(*place, operations, accept, publish))

    def items(self, collection: Collection) -> Deferred[list[tuple[str, bytes]]]:
        return Deferred.fromCoroutine(self._items(self._hash(collection)))

    async def marked(
        self, collection: Collection, key: str | None, channel: bytes, marker: bytes
    ) -> list[tuple[str, bytes]]:
        """Return the items of a collection, or the one with a key, and publish a message at that moment."""
        one = () if key is None else (key.encode(),)
        return await self._items(self._hash(collection), channel, marker, *one)

    def collections(self, prefix: Collection = ()) -> Deferred[list[Collection]]:
        return Deferred.fromCoroutine(self._collections(prefix))

    def _hash(self, collection: Collection) -> bytes:
        *names, last = collection
        return "".join((self._prefix, *(f"{_escaped(name)}:" for name in names), last)).encode()

    async def _change(self, script: Script, publish: Publish | None, name: bytes, *arguments: bytes) -> bytes | None:
        return _or_null(await self._link.eval(script, [name], [*arguments, *_published(publish)]))

    async def _update(
        self,
        name: bytes,
        key: bytes,
        operations: Sequence[Operation],
        accept: Callable[[bytes], None] | None,
        publish: Publish | None,
    ) -> Updated:
        old: Any = await self._link.execute("HGET", name, key)
        for _ in range(ATTEMPTS):
            updated = apply(_valid(old), operations)
            if accept is not None:
                accept(updated.new)
            arguments = [key, old or b"", updated.new, *_published(publish)]
            outcome: Any = await self._link.eval(_REPLACE, [name], arguments)
            if outcome[0]:
                return updated
            old = outcome[1] if len(outcome) > 1 else None
        raise StorageError(f"others have changed the value {ATTEMPTS} times meanwhile")

    async def _items(self, name: bytes, *publication: bytes) -> list[tuple[str, bytes]]:
        found: Any = await self._link.eval(_ITEMS, [name], [self._list_bytes, *publication])
        if found == 0:
            raise TooMuchToList(self._list_bytes)
        try:
            return sorted(
                (key.decode(), cast(bytes, _valid(value))) for key, value in zip(found[::2], found[1::2], strict=True)
            )
        except UnicodeDecodeError as error:
            raise StorageError(f"a key in Redis is no text: {error}") from error

    async def _collections(self, prefix: Collection) -> list[Collection]:
        found: set[Collection] = set()
        pattern = _literal(self._prefix + "".join(f"{_escaped(name)}:" for name in prefix[: self._parts - 1])) + "*"
        cursor = b"0"
        while True:
            reply: Any = await self._link.execute("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED, "TYPE", "hash")
            cursor, names = reply
            collections = map(self._collection, names)
            found.update(each for each in collections if each is not None and each[: len(prefix)] == prefix)
            if cursor == b"0":
                return sorted(found)

    def _collection(self, name: bytes) -> Collection | None:
        """Return the collection that a hash is; C{None} for one of another program."""
        try:
            *names, last = name.decode()[len(self._prefix) :].split(":", self._parts - 1)
        except UnicodeDecodeError:
            return None
        return (*map(_unescaped, names), last) if len(names) == self._parts - 1 else None

    def _in_turn(self, place: tuple[bytes, bytes], make: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
        """Make a change: at once, unless an update of its key is under way."""
        return self._queue(place, make) if place in self._changes else Deferred.fromCoroutine(_awaited(make))

    def _queue(self, place: tuple[bytes, bytes], make: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
        """Make a change when those that wait for the same place have been made; later ones wait for it."""
        if self._waiting >= MAX_WAITING:
            return fail(StorageError(f"{MAX_WAITING} changes wait for updates of their keys already"))
        change = _Change(make, Deferred())
        self._waiting += 1
        waiting = self._changes.setdefault(place, deque())
        waiting.append(change)
        if len(waiting) == 1:
            Deferred.fromCoroutine(self._make_all(place, waiting))
        return change.answer

    async def _make_all(self, place: tuple[bytes, bytes], waiting: deque[_Change]) -> None:
        while waiting:
            change = waiting[0]
            try:
                result = await change.make()
            except Exception:  # whoever asked for the change treats it
                outcome: Any = Failure()
            else:
                outcome = result
            self._waiting -= 1
            change.answer.callback(outcome)  # a Failure fails it
            waiting.popleft()
        del self._changes[place]


async def _awaited(make: Callable[[], Awaitable[Any]]) -> Any:
    return await make()


def _published(publish: Publish | None) -> tuple[bytes, ...]:
    return () if publish is None else publish().arguments


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace(":", "%3A")


def _unescaped(name: str) -> str:
    return name.replace("%3A", ":").replace("%25", "%")


def _literal(text: str) -> str:
    """A pattern of Redis that matches a text."""
    return "".join(f"\\{sign}" if sign in "*?[]\\^-" else sign for sign in text)


def _valid(value: Any) -> bytes | None:
    """Return a value, which another program may have written: it must fit into a message."""
    if value is None:
        return None
    try:
        value.decode()
        _is_json(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StorageError(f"Failed to deserialize value from Redis: {error}") from error
    if nested_deeper(value, DEEPEST):
        raise StorageError(f"Failed to deserialize value from Redis: it is nested deeper than {DEEPEST} levels")
    return cast(bytes, value.strip(SPACES))


def _or_null(value: Any) -> bytes | None:
    """Likewise of one that is no more: what is no JSON counts as null, so that it can be replaced and removed."""
    try:
        return _valid(value)
    except StorageError:
        return b"null"
