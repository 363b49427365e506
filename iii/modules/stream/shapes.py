"""
Inputs, results and errors of the functions of streams (spec/stream.md, 3).

Values are kept as they came: JSON text, which nobody decodes on its way.  C{null} is a value; a member that is not
there is an error where it is required.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import attrs
import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from iii.core.errors import EngineError
from iii.storage.errors import StoreFailed
from iii.storage.updates import MAX_OPERATIONS, Operation
from iii.wire.messages import NULL

# Inputs.


class ItemInput(Struct):
    """An item."""

    stream_name: str
    group_id: str
    item_id: str


class SetInput(ItemInput):
    """An item and its new value."""

    data: Raw


class UpdateInput(ItemInput):
    """An item and what is to be done to it."""

    ops: Annotated[list[Operation], Meta(max_length=MAX_OPERATIONS)]


class ListInput(Struct, omit_defaults=True):
    """
    A group.

    @ivar include_ids: List C{{id, data}} instead of values.
    @ivar limit: List so many; then, as with C{after}, in the order of the ids.
    @ivar after: Only items whose ids come after this one.
    """

    stream_name: str
    group_id: str
    include_ids: bool | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None
    after: str | None = None


class GroupsInput(Struct):
    """A stream."""

    stream_name: str


class SendInput(Struct):
    """
    Something to tell that is not stored.

    @ivar id: The item that it is about; without one it is about the group.
    """

    stream_name: str
    group_id: str
    type: str
    data: Raw
    id: str | None = None


# Results.


class Changed(Struct):
    """What has come of C{stream::set}; C{old_value} is null when there was nothing."""

    old_value: Raw
    new_value: Raw


class UpdateProblem(Struct, omit_defaults=True):
    """Why an operation was left out."""

    op_index: int
    code: str
    message: str
    doc_url: str | UnsetType = UNSET


class UpdatedItem(Struct, omit_defaults=True):
    """What has come of C{stream::update}."""

    old_value: Raw
    new_value: Raw
    errors: Sequence[Any] | UnsetType = UNSET


class Deleted(Struct):
    """What has come of C{stream::delete}; C{old_value} is null when there was nothing."""

    old_value: Raw


class ListedItem(Struct):
    """An item with its id."""

    id: str
    data: Raw


class ListedStream(Struct):
    """A stream and its groups."""

    id: str
    groups: list[str]


class Listing(Struct):
    """All streams that have items."""

    stream: list[ListedStream]
    count: int


class SentEvent(Struct):
    """What C{stream::send} tells."""

    type: str
    data: Raw


encode = msgspec.json.Encoder().encode


def value(stored: bytes | None) -> Raw:
    """A stored value as a result, C{null} when there is none."""
    return NULL if stored is None else Raw(stored)


# Errors.


@attrs.define(str=False)
class StreamError(StoreFailed):
    """A function of streams has failed, because of the store or of the worker that keeps the stream."""

    text: ClassVar[str] = "Failed to {action}: {cause}"
    action: ClassVar[str]

    def __str__(self) -> str:
        return self.text.format(action=self.action, cause=self.cause)


class SetFailed(StreamError):
    """C{stream::set}."""

    code = "STREAM_SET_ERROR"
    action = "set value"


class GetFailed(StreamError):
    """C{stream::get}."""

    code = "STREAM_GET_ERROR"
    action = "get value"


class DeleteFailed(StreamError):
    """C{stream::delete}."""

    code = "STREAM_DELETE_ERROR"
    action = "delete value"


class UpdateFailed(StreamError):
    """C{stream::update}."""

    code = "STREAM_UPDATE_ERROR"
    action = "update value"


class ListFailed(StreamError):
    """C{stream::list}."""

    code = "STREAM_GET_GROUP_ERROR"
    action = "get group"


class ListGroupsFailed(StreamError):
    """C{stream::list_groups}."""

    code = "STREAM_LIST_GROUPS_ERROR"
    action = "list groups"


class ListAllFailed(StreamError):
    """C{stream::list_all}."""

    code = "STREAM_LIST_ALL_ERROR"
    action = "list stream"


class SendFailed(StreamError):
    """C{stream::send}."""

    code = "STREAM_SEND_ERROR"
    action = "send event"


@attrs.define(str=False)
class WrongShape(EngineError):
    """The function of a worker that keeps a stream has returned something else than it should."""

    code: ClassVar[str] = "JSON_ERROR"
    text: ClassVar[str] = "Failed to convert result to value: {detail}"
    detail: str
