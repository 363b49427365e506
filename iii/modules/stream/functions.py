"""
The functions C{stream::*} (spec/stream.md, 3).

Each one asks the worker that keeps the stream, if there is one, else the backend.  What has changed is told to triggers
and to clients before the caller has its answer; nobody is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, Raw
from twisted.logger import Logger

from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.core.functions import Caller, FunctionDeclaration, NoInput
from iii.modules.stream.backend import IStreamBackend
from iii.modules.stream.events import Kind, Stamps, stream_event
from iii.modules.stream.overrides import Overrides
from iii.modules.stream.shapes import (
    Changed,
    Deleted,
    DeleteFailed,
    GetFailed,
    GroupsInput,
    ItemInput,
    ListAllFailed,
    ListedItem,
    ListedStream,
    ListFailed,
    ListGroupsFailed,
    Listing,
    ListInput,
    SendFailed,
    SendInput,
    SentEvent,
    SetFailed,
    SetInput,
    UpdatedItem,
    UpdateFailed,
    UpdateInput,
    encode,
    value,
)
from iii.modules.stream.triggers import StreamTriggers
from iii.storage.checks import check_depth, check_size, page
from iii.storage.errors import StorageError, failing_as
from iii.wire.messages import NULL, is_null


class Functions:
    """The functions, on a backend."""

    log = Logger()

    def __init__(
        self,
        engine: Engine,
        backend: IStreamBackend,
        stamps: Stamps,
        overrides: Overrides,
        triggers: StreamTriggers,
        max_value_bytes: int,
    ) -> None:
        """
        @param stamps: The backend's.
        @param max_value_bytes: Of an item, as JSON without spaces.
        """
        self._backend, self._stamps = backend, stamps
        self._overrides, self._triggers = overrides, triggers
        self._max_value_bytes = max_value_bytes
        self._complaints = Complaints(self.log, engine.clock)

    async def set(self, given: SetInput, caller: Caller) -> Changed:
        """Store an item."""
        check_depth(bytes(given.data))
        self._check_size(bytes(given.data))
        stream, group, item = given.stream_name, given.group_id, given.item_id
        if self._overrides.has("set", stream):
            changed = await self._overrides.set(given, caller)
            await self._told(given, _kind(changed.old_value), changed.new_value, caller)
            return changed
        with failing_as(SetFailed):
            old, event = await self._backend.put(stream, group, item, bytes(given.data))
        self._triggers.fire(event, caller)
        return Changed(value(old), given.data)

    async def get(self, given: ItemInput, caller: Caller) -> Raw | None:
        """Return an item; nothing, which is not null, if there is none."""
        if self._overrides.has("get", given.stream_name):
            return await self._overrides.ask("get", given.stream_name, given, caller) or None
        with failing_as(GetFailed):
            found = await self._backend.get(given.stream_name, given.group_id, given.item_id)
        return None if found is None else Raw(found)

    async def delete(self, given: ItemInput, caller: Caller) -> Deleted:
        """Remove an item; nobody is told when there was none."""
        if self._overrides.has("delete", given.stream_name):
            deleted = await self._overrides.delete(given, caller)
            if not is_null(deleted.old_value):
                await self._told(given, "delete", deleted.old_value, caller)
            return deleted
        with failing_as(DeleteFailed):
            old, event = await self._backend.delete(given.stream_name, given.group_id, given.item_id)
        if event is not None:
            self._triggers.fire(event, caller)
        return Deleted(value(old))

    async def update(self, given: UpdateInput, caller: Caller) -> UpdatedItem:
        """Apply operations to an item (spec/state.md, 4)."""
        if self._overrides.updates(given.stream_name):
            result = await self._overrides.update(given, caller, self._check_size)
            await self._told(given, _kind(result.old_value), result.new_value, caller)
            return result
        with failing_as(UpdateFailed):
            updated, event = await self._backend.update(
                given.stream_name, given.group_id, given.item_id, given.ops, self._check_size
            )
        self._triggers.fire(event, caller)
        return UpdatedItem(value(updated.old), Raw(updated.new), updated.errors or UNSET)

    async def list(self, given: ListInput, caller: Caller) -> Raw | Sequence[Raw | ListedItem] | None:
        """Return the values of a group."""
        if self._overrides.has("list", given.stream_name):
            return await self._overrides.ask("list", given.stream_name, given, caller) or None
        with failing_as(ListFailed):
            items = await self._backend.items(given.stream_name, given.group_id)
        items = page(items, given.after, given.limit)
        if given.include_ids:
            return [ListedItem(id, Raw(data)) for id, data in items]
        return [Raw(data) for _, data in items]

    async def list_groups(self, given: GroupsInput, caller: Caller) -> Raw | Sequence[str] | None:
        """Return the groups of a stream that have items."""
        if self._overrides.has("list_groups", given.stream_name):
            return await self._overrides.ask("list_groups", given.stream_name, given, caller) or None
        with failing_as(ListGroupsFailed):
            return [group for _, group in await self._backend.groups(given.stream_name)]

    async def list_all(self, given: NoInput, caller: Caller) -> Listing:
        """Return all streams that have items in the built-in store."""
        with failing_as(ListAllFailed):
            found = await self._backend.groups(None)
        streams: dict[str, list[str]] = {}
        for stream, group in found:
            streams.setdefault(stream, []).append(group)
        return Listing([ListedStream(stream, groups) for stream, groups in streams.items()], len(streams))

    async def send(self, given: SendInput, caller: Caller) -> Raw:
        """Tell triggers and clients something that is not stored."""
        check_depth(bytes(given.data))
        with failing_as(SendFailed):
            event = await self._backend.send(
                given.stream_name, given.group_id, given.id, encode(SentEvent(given.type, given.data))
            )
        self._triggers.fire(event, caller)
        return NULL

    async def _told(self, item: ItemInput, kind: Kind, data: Raw, caller: Caller) -> None:
        """Tell triggers and clients what a worker has changed; that succeeds whether they hear of it or not."""
        stream, group = item.stream_name, item.group_id
        event = stream_event(stream, group, item.item_id, self._stamps.next(stream, group), kind, data)
        self._triggers.fire(event, caller)
        try:
            await self._backend.tell(event)
        except StorageError as error:
            self._complaints.warn("a change of stream {stream} was not told: {error}", stream=stream, error=str(error))

    def _check_size(self, data: bytes) -> None:
        check_size(data, self._max_value_bytes)

    def declarations(self) -> Sequence[FunctionDeclaration]:
        """What the engine offers of these."""
        return [
            FunctionDeclaration(
                id="stream::set",
                description="Store an item of a stream, and tell everybody who follows it",
                input=SetInput,
                handler=self.set,
                output=Changed,
            ),
            FunctionDeclaration(
                id="stream::get",
                description="Read an item of a stream; no result if there is none",
                input=ItemInput,
                handler=self.get,
            ),
            FunctionDeclaration(
                id="stream::delete",
                description="Remove an item of a stream",
                input=ItemInput,
                handler=self.delete,
                output=Deleted,
            ),
            FunctionDeclaration(
                id="stream::update",
                description="Apply operations to an item of a stream in one step",
                input=UpdateInput,
                handler=self.update,
                output=UpdatedItem,
            ),
            FunctionDeclaration(
                id="stream::list",
                description="List the values of a group, or with include_ids also their ids",
                input=ListInput,
                handler=self.list,
            ),
            FunctionDeclaration(
                id="stream::list_groups",
                description="List the groups of a stream",
                input=GroupsInput,
                handler=self.list_groups,
            ),
            FunctionDeclaration(
                id="stream::list_all",
                description="List all streams and their groups",
                input=NoInput,
                handler=self.list_all,
                output=Listing,
            ),
            FunctionDeclaration(
                id="stream::send",
                description="Tell everybody who follows a group or an item something that is not stored",
                input=SendInput,
                handler=self.send,
            ),
        ]


def _kind(old: Raw) -> Kind:
    return "create" if is_null(old) else "update"
