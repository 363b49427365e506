"""Values of state and streams in the embedded store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import cast

import attrs
import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from iii.core.errors import EngineError
from iii.interfaces import Collection, ILocalValues
from iii.storage.batch import Pending, Row
from iii.storage.errors import StorageError, TooMuchToList
from iii.storage.schema import Table
from iii.storage.sqlite import Store
from iii.storage.updates import Operation, Updated, apply

_rows = msgspec.json.Decoder(list[tuple[str, str]]).decode
_collections = msgspec.json.Decoder(list[tuple[str, ...]]).decode


@implementer(ILocalValues)
class SqliteValues:
    """The values of one table, whose key columns are the collection's parts and then the key."""

    def __init__(self, store: Store, table: Table, list_bytes: int, cache_bytes: int) -> None:
        """
        @param list_bytes: Of the values that one listing may have.
        @param cache_bytes: Of the values that are kept in memory, too.
        """
        self._cache = store.remembered(table, cache_bytes)
        self._store, self._table, self._list_bytes = store, table, list_bytes
        *parts, key = table.key
        within = " AND ".join(f"{part} = ?" for part in parts)
        self._select = f"SELECT value FROM {table.name} WHERE {within} AND {key} = ?"
        self._sum = f"SELECT sum(length(value) + length(CAST({key} AS BLOB))) FROM {table.name} WHERE {within}"
        # All rows in one step: each step would have to get the GIL again.
        self._select_items = (
            f"SELECT json_group_array(json_array({key}, CAST(value AS TEXT))) FROM "
            f"(SELECT {key}, value FROM {table.name} WHERE {within} ORDER BY position)"
        )

    def get(self, collection: Collection, key: str) -> Deferred[bytes | None]:
        place = (*collection, key)
        pending = self._store.pending(self._table, place)
        if pending is not None:
            value = _value(pending)
            return pending.committed().addCallbacks(lambda _: value, lambda _: self.get(collection, key))
        try:
            return succeed(self._stored(place))
        except StorageError as error:
            return fail(error)

    def put(self, collection: Collection, key: str, value: bytes) -> Deferred[bytes | None]:
        place = (*collection, key)
        try:
            old = self._current(place)
        except StorageError as error:
            return fail(error)
        return self._store.write((self._table, place, (value,))).addCallback(lambda _: old)

    def delete(self, collection: Collection, key: str) -> Deferred[bytes | None]:
        place = (*collection, key)
        try:
            old = self._current(place)
        except StorageError as error:
            return fail(error)
        if old is not None:
            return self._store.write((self._table, place, None)).addCallback(lambda _: old)
        pending = self._store.pending(self._table, place)
        if pending is None:
            return succeed(None)
        # What has just removed it is to be on disk first.  If that fails, so does this: tried again, it would come
        # after changes that were asked for later.
        return pending.committed().addCallback(lambda _: None)

    def update(
        self,
        collection: Collection,
        key: str,
        operations: Sequence[Operation],
        accept: Callable[[bytes], None] | None = None,
    ) -> Deferred[Updated]:
        place = (*collection, key)
        try:
            updated = apply(self._current(place), operations)
            if accept is not None:
                accept(updated.new)
        except (StorageError, EngineError) as error:
            return fail(error)
        return self._store.write((self._table, place, (updated.new,))).addCallback(lambda _: updated)

    def items(self, collection: Collection) -> Deferred[list[tuple[str, bytes]]]:
        return self._store.query(self._read_items(collection))

    def snapshot(self, collection: Collection) -> Deferred[list[tuple[str, bytes]]]:
        return self._store.snapshot(self._read_items(collection)).addCallback(list)

    def _read_items(self, collection: Collection) -> _ReadItems:
        return _ReadItems(self._sum, self._select_items, collection, self._list_bytes)

    def collections(self, prefix: Collection = ()) -> Deferred[list[Collection]]:
        statement = _select_collections(self._table, len(prefix))

        def read(connection: sqlite3.Connection) -> list[Collection]:
            return _collections(connection.execute(statement, prefix * 2).fetchone()[0])

        return self._store.query(read)

    def _current(self, place: Row) -> bytes | None:
        """The value that a change applies to: decided, perhaps not committed."""
        pending = self._store.pending(self._table, place)
        return self._stored(place) if pending is None else _value(pending)

    def _stored(self, place: Row) -> bytes | None:
        if place in self._cache:
            return self._cache.get(place)
        found = self._store.read(self._select, place)
        value = cast(bytes, found[0][0]) if found else None
        self._cache.put(place, value)
        return value


@attrs.frozen
class _ReadItems:
    """Reads a collection.  Equal ones read the same: many clients that come at once cost the writer one reading."""

    sum: str
    select: str
    collection: Collection
    limit: int

    def __call__(self, connection: sqlite3.Connection) -> list[tuple[str, bytes]]:
        size = connection.execute(self.sum, self.collection).fetchone()[0] or 0
        if size > self.limit:
            raise TooMuchToList(self.limit)
        rows = _rows(connection.execute(self.select, self.collection).fetchone()[0])
        return [(key, value.encode()) for key, value in rows]


def _value(pending: Pending) -> bytes | None:
    return None if pending.values is None else cast(bytes, pending.values[0])


def _select_collections(table: Table, fixed: int) -> str:
    """
    Return the statement that finds the collections whose first parts are given, twice.  It jumps from one to the next
    in the index, instead of reading all that is in them.
    """
    parts = table.key[:-1]
    columns = ", ".join(parts)
    given = " AND ".join(f"{part} = ?" for part in parts[:fixed]) or "true"
    after = f"({columns}) > ({', '.join(f'found.{part}' for part in parts)})"
    first = f"SELECT {columns} FROM {table.name} WHERE {given} ORDER BY {columns} LIMIT 1"
    next_row = f"SELECT rowid FROM {table.name} WHERE {given} AND {after} ORDER BY {columns} LIMIT 1"
    following = ", ".join(f"following.{part}" for part in parts)
    return (
        f"WITH RECURSIVE found ({columns}) AS (SELECT * FROM ({first}) UNION ALL SELECT {following} FROM found "
        f"JOIN {table.name} AS following ON following.rowid = ({next_row})) "
        f"SELECT json_group_array(json_array({columns})) FROM found"
    )
