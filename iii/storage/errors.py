"""What goes wrong with stored data, and how modules tell it: with a code of their own (C{Failed to set value: …})."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import attrs

from iii.core.errors import EngineError


@attrs.define(str=False)
class StorageError(Exception):
    """An operation on a store has failed; what was acknowledged before is untouched."""

    text: ClassVar[str] = "{cause}"
    cause: str

    def __str__(self) -> str:
        return self.text.format(**attrs.asdict(self))


@attrs.define(str=False)
class StoreFull(StorageError):
    """The store has reached its limit; deleting makes room."""

    text: ClassVar[str] = "the store is full: `{setting}` allows {limit} bytes"
    cause: str = attrs.field(default="", init=False)
    setting: str
    limit: int


@attrs.define(str=False)
class StoreBusy(StorageError):
    """So much waits to be written that no more is taken now."""

    text: ClassVar[str] = "{limit} bytes wait to be written already (`engine.limits.store_backlog_bytes`)"
    cause: str = attrs.field(default="", init=False)
    limit: int


@attrs.define(str=False)
class TooMuchToList(StorageError):
    """The keys and values of a collection together are more than one message may have."""

    text: ClassVar[str] = "the keys and values have more than {limit} bytes together; list fewer at a time"
    cause: str = attrs.field(default="", init=False)
    limit: int


@attrs.define(str=False)
class CannotOpenStore(Exception):
    """A store cannot be opened: the engine does not start."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"store {self.path}: {self.reason}"


@attrs.define(str=False)
class StoreFailed(EngineError):
    """
    A function could not do what was asked, because of its store.

    @ivar cause: The store's own words.
    """

    cause: str


@contextmanager
def failing_as(kind: Callable[[str], StoreFailed]) -> Iterator[None]:
    """Tell the caller of a function what its store says."""
    try:
        yield
    except StorageError as error:
        raise kind(str(error)) from error
