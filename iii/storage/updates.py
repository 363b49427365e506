"""
The operations of C{state::update} and C{stream::update} (spec/state.md, 4): pure, from one JSON value to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Operation(msgspec.Struct):
    """One operation."""


class OperationError(msgspec.Struct):
    """Why an operation was left out."""

    op_index: int
    code: str
    message: str
    doc_url: str


class Updated(msgspec.Struct, frozen=True):
    """
    What an update has come to.

    @ivar old: The value before; C{None} when there was none.
    """

    old: bytes | None
    new: bytes
    errors: Sequence[OperationError] = ()


def apply(old: bytes | None, operations: Sequence[Operation]) -> Updated:
    """Apply operations to a value."""
    raise NotImplementedError
