"""
The functions C{state::*} (spec/state.md, 3).

Values pass through as the JSON texts that they came as.  The handlers of single values return Deferreds with callbacks
instead of being coroutines: these are the hot path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, NoReturn

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from iii.core.errors import InvalidInput
from iii.core.functions import Caller, FunctionDeclaration, NoInput
from iii.interfaces import IValues
from iii.modules.state import errors
from iii.modules.state.triggers import StateTriggers
from iii.storage.checks import check_depth, check_size, page
from iii.storage.errors import StorageError, StoreFailed, failing_as
from iii.storage.updates import MAX_OPERATIONS, Operation, OperationError, Updated
from iii.wire.messages import NULL


class Place(msgspec.Struct):
    """Where a value is."""

    scope: str
    key: str


class NewValue(msgspec.Struct):
    """A value, and where it shall be."""

    scope: str
    key: str
    value: Annotated[Raw | UnsetType, Meta(description="required; any JSON, also null")] = UNSET
    data: Annotated[Raw | UnsetType, Meta(description="another name of `value`")] = UNSET


class Change(msgspec.Struct):
    """What to do to a value."""

    scope: str
    key: str
    ops: Annotated[list[Operation], Meta(max_length=MAX_OPERATIONS, description="applied in this order, in one step")]


class Listing(msgspec.Struct):
    """Of what scope."""

    scope: str
    include_keys: Annotated[bool | None, Meta(description="objects {key, value} instead of values")] = None
    prefix: Annotated[str | None, Meta(description="only keys that begin so")] = None
    limit: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="at most so many, the first in the order of their keys")
    ] = None
    after: Annotated[str | None, Meta(description="only keys behind this one, in their order")] = None


class Replaced(msgspec.Struct):
    """The value before, null when there was none, and the value now."""

    old_value: Raw
    new_value: Raw


class Changed(msgspec.Struct):
    """Likewise, and why operations were left out, if any were."""

    old_value: Raw
    new_value: Raw
    errors: Sequence[OperationError] | UnsetType = UNSET


class Entry(msgspec.Struct):
    """A value with its key."""

    key: str
    value: Raw


class Groups(msgspec.Struct):
    """The scopes that have values, sorted."""

    groups: list[str]


class StateFunctions:
    """What workers can do to the state."""

    def __init__(self, values: IValues, triggers: StateTriggers, max_value_bytes: int) -> None:
        """@param triggers: Told of every change, before it is answered."""
        self._values, self._triggers, self._max_bytes = values, triggers, max_value_bytes

    def declare(self) -> Sequence[FunctionDeclaration]:
        """The functions as the core takes them."""
        return [
            FunctionDeclaration(
                id="state::set",
                description="Store a value under scope and key",
                input=NewValue,
                handler=self.set,
                output=Replaced,
            ),
            FunctionDeclaration(
                id="state::get",
                description="Read a value; there is no result when there is none",
                input=Place,
                handler=self.get,
            ),
            FunctionDeclaration(
                id="state::delete",
                description="Remove a value and return it",
                input=Place,
                handler=self.delete,
            ),
            FunctionDeclaration(
                id="state::update",
                description="Apply operations to a value in one step",
                input=Change,
                handler=self.update,
                output=Changed,
            ),
            FunctionDeclaration(
                id="state::list",
                description="Read all values of a scope",
                input=Listing,
                handler=self.list,
            ),
            FunctionDeclaration(
                id="state::list_groups",
                description="List the scopes that have values",
                input=NoInput,
                handler=self.list_groups,
                output=Groups,
            ),
        ]

    def set(self, given: NewValue, caller: Caller) -> Deferred[Replaced]:
        """
        C{state::set}.

        @raise ValueTooLarge, ValueTooDeep: The value is not accepted.
        """
        value = _one_value(given)
        self._check_size(value)
        check_depth(value)
        waiting = self._values.put((given.scope,), given.key, value)
        return waiting.addCallbacks(partial(self._was_set, given, value, caller), partial(_failed, errors.SetFailed))

    def _was_set(self, given: NewValue, value: bytes, caller: Caller, old: bytes | None) -> Replaced:
        self._tell(given.scope, given.key, old, value, caller)
        return Replaced(_or_null(old), Raw(value))

    def get(self, given: Place, caller: Caller) -> Deferred[Raw | None]:
        """C{state::get}."""
        return self._values.get((given.scope,), given.key).addCallbacks(_raw, partial(_failed, errors.GetFailed))

    def delete(self, given: Place, caller: Caller) -> Deferred[Raw | None]:
        """C{state::delete}.  Also the removal of what is not there is an event, as in the reference."""
        waiting = self._values.delete((given.scope,), given.key)
        return waiting.addCallbacks(partial(self._was_deleted, given, caller), partial(_failed, errors.DeleteFailed))

    def _was_deleted(self, given: Place, caller: Caller, old: bytes | None) -> Raw | None:
        self._triggers.changed("state:deleted", given.scope, given.key, old, None, caller)
        return _raw(old)

    def update(self, given: Change, caller: Caller) -> Deferred[Changed]:
        """
        C{state::update}.

        @raise ValueTooLarge: What it comes to is not accepted.
        """
        waiting = self._values.update((given.scope,), given.key, given.ops, self._check_size)
        return waiting.addCallbacks(partial(self._was_updated, given, caller), partial(_failed, errors.UpdateFailed))

    def _was_updated(self, given: Change, caller: Caller, updated: Updated) -> Changed:
        self._tell(given.scope, given.key, updated.old, updated.new, caller)
        return Changed(_or_null(updated.old), Raw(updated.new), updated.errors or UNSET)

    async def list(self, given: Listing, caller: Caller) -> Raw:
        """C{state::list}."""
        with failing_as(errors.ListFailed):
            items = await self._values.items((given.scope,))
        if given.prefix:
            items = [item for item in items if item[0].startswith(given.prefix)]
        items = page(items, given.after, given.limit)
        if given.include_keys:
            return Raw(msgspec.json.encode([Entry(key, Raw(value)) for key, value in items]))
        return Raw(b"[%b]" % b",".join([value for _, value in items]))

    async def list_groups(self, given: NoInput, caller: Caller) -> Groups:
        """C{state::list_groups}."""
        with failing_as(errors.ListGroupsFailed):
            return Groups([scope for (scope,) in await self._values.collections()])

    def _tell(self, scope: str, key: str, old: bytes | None, new: bytes, caller: Caller) -> None:
        self._triggers.changed("state:created" if old is None else "state:updated", scope, key, old, new, caller)

    def _check_size(self, value: bytes) -> None:
        check_size(value, self._max_bytes)


def _one_value(given: NewValue) -> bytes:
    value, data = given.value, given.data
    if data is UNSET:
        if value is UNSET:
            raise InvalidInput("state::set", "missing field `value`")
        return bytes(value)
    if value is not UNSET:
        raise InvalidInput("state::set", "duplicate field `value`")
    return bytes(data)


def _raw(value: bytes | None) -> Raw | None:
    return None if value is None else Raw(value)


def _or_null(value: bytes | None) -> Raw:
    return NULL if value is None else Raw(value)


def _failed(kind: Callable[[str], StoreFailed], failure: Failure) -> NoReturn:
    if failure.check(StorageError):
        raise kind(str(failure.value)) from failure.value
    failure.raiseException()
