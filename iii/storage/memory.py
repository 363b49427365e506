"""Values in memory: gone when the engine stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from iii.core.errors import EngineError
from iii.interfaces import Collection, ILocalValues
from iii.storage.errors import StorageError, StoreFull, TooMuchToList
from iii.storage.updates import Operation, Updated, apply

OVERHEAD = 100
"""Bytes that a value costs beside its own and its key's."""


@implementer(ILocalValues)
class MemoryValues:
    """Volatile values, bounded in bytes."""

    def __init__(self, max_bytes: int, list_bytes: int) -> None:
        """
        @param max_bytes: Of all keys and values (C{engine.limits.memory_store_bytes}).
        @param list_bytes: Of the values that one listing may have.
        """
        self._max_bytes, self._list_bytes = max_bytes, list_bytes
        self._bytes = 0
        self._values: dict[Collection, dict[str, bytes]] = {}

    def get(self, collection: Collection, key: str) -> Deferred[bytes | None]:
        return succeed(self._values.get(collection, {}).get(key))

    def put(self, collection: Collection, key: str, value: bytes) -> Deferred[bytes | None]:
        try:
            return succeed(self._put(collection, key, value))
        except StorageError as error:
            return fail(error)

    def delete(self, collection: Collection, key: str) -> Deferred[bytes | None]:
        values = self._values.get(collection, {})
        old = values.pop(key, None)
        if old is not None:
            self._bytes -= _cost(key, old)
            if not values:
                del self._values[collection]
        return succeed(old)

    def update(
        self,
        collection: Collection,
        key: str,
        operations: Sequence[Operation],
        accept: Callable[[bytes], None] | None = None,
    ) -> Deferred[Updated]:
        try:
            updated = apply(self._values.get(collection, {}).get(key), operations)
            if accept is not None:
                accept(updated.new)
            self._put(collection, key, updated.new)
        except (StorageError, EngineError) as error:
            return fail(error)
        return succeed(updated)

    def items(self, collection: Collection) -> Deferred[list[tuple[str, bytes]]]:
        values = self._values.get(collection, {})
        if sum(len(key) + len(value) for key, value in values.items()) > self._list_bytes:
            return fail(TooMuchToList(self._list_bytes))
        return succeed(list(values.items()))

    snapshot = items

    def collections(self, prefix: Collection = ()) -> Deferred[list[Collection]]:
        return succeed(sorted(collection for collection in self._values if collection[: len(prefix)] == prefix))

    def _put(self, collection: Collection, key: str, value: bytes) -> bytes | None:
        old = self._values.get(collection, {}).get(key)
        grown = self._bytes + _cost(key, value) - (0 if old is None else _cost(key, old))
        if grown > self._max_bytes and grown > self._bytes:
            raise StoreFull("engine.limits.memory_store_bytes", self._max_bytes)
        self._bytes = grown
        self._values.setdefault(collection, {})[key] = value
        return old


def _cost(key: str, value: bytes) -> int:
    return len(key) + len(value) + OVERHEAD
