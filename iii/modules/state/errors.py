"""What the state's functions answer when they fail (spec/state.md, 3.2)."""

from __future__ import annotations

from typing import ClassVar

import attrs

from iii.storage.errors import StoreFailed


@attrs.define(str=False)
class SetFailed(StoreFailed):
    """Of C{state::set}."""

    code: ClassVar[str] = "SET_ERROR"
    text: ClassVar[str] = "Failed to set value: {cause}"


@attrs.define(str=False)
class GetFailed(StoreFailed):
    """Of C{state::get}."""

    code: ClassVar[str] = "GET_ERROR"
    text: ClassVar[str] = "Failed to get value: {cause}"


@attrs.define(str=False)
class DeleteFailed(StoreFailed):
    """Of C{state::delete}."""

    code: ClassVar[str] = "DELETE_ERROR"
    text: ClassVar[str] = "Failed to delete value: {cause}"


@attrs.define(str=False)
class UpdateFailed(StoreFailed):
    """Of C{state::update}."""

    code: ClassVar[str] = "UPDATE_ERROR"
    text: ClassVar[str] = "Failed to update value: {cause}"


@attrs.define(str=False)
class ListFailed(StoreFailed):
    """Of C{state::list}."""

    code: ClassVar[str] = "LIST_ERROR"
    text: ClassVar[str] = "Failed to list values: {cause}"


@attrs.define(str=False)
class ListGroupsFailed(StoreFailed):
    """Of C{state::list_groups}."""

    code: ClassVar[str] = "LIST_GROUPS_ERROR"
    text: ClassVar[str] = "Failed to list groups: {cause}"
