"""
Streams that a worker keeps: it has functions C{stream::<op>(<name>)}, which are called instead of the built-in store
(spec/stream.md, 4).

Changes of one item are made one after the other, so that their events come in the order in which the worker was asked
to make them.  A stream whose worker has C{get} and C{set} but not C{update}, as the SDKs' C{createStream} makes it, is
updated by reading, changing and writing in such a turn: nothing that goes through this engine comes in between.  Only
what the worker changes by itself, or another engine, is not excluded.  Calls that the worker makes itself wait for no
turn: they may be made within a call that has it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct
from twisted.internet.defer import Deferred

from iii.core.engine import Engine
from iii.core.errors import BacklogFull
from iii.core.functions import Caller, WorkerFunction
from iii.core.invocations import CallFailed
from iii.core.ordered import Done, Turns
from iii.core.tracing import with_function
from iii.modules.stream.shapes import (
    Changed,
    Deleted,
    DeleteFailed,
    ItemInput,
    SetFailed,
    SetInput,
    StreamError,
    UpdatedItem,
    UpdateFailed,
    UpdateInput,
    UpdateProblem,
    WrongShape,
    encode,
    value,
)
from iii.modules.stream.subscription import Read
from iii.storage.updates import apply
from iii.wire.messages import DEFAULT_NAMESPACE, NULL, is_null

T = TypeVar("T")
R = TypeVar("R", bound=Struct)


class _Changed(Struct):
    new_value: Raw
    old_value: Raw = NULL


class _Updated(_Changed):
    errors: list[UpdateProblem] | msgspec.UnsetType = msgspec.UNSET


class _Deleted(Struct):
    old_value: Raw = NULL


class Overrides:
    """Calls the functions of workers that keep streams."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._turns = engine, Turns(engine)

    def has(self, op: str, stream: str) -> bool:
        """Whether a worker has this function of a stream now."""
        return self._engine.functions.find(DEFAULT_NAMESPACE, function_of(op, stream)) is not None

    def updates(self, stream: str) -> bool:
        """Whether a worker keeps what C{stream::update} changes."""
        return self.has("update", stream) or (self.has("get", stream) and self.has("set", stream))

    def reader(self, stream: str, group: str, item: str | None) -> Read | None:
        """Return what reads a group or an item for a client, C{null} for no result; C{None} if no worker keeps it."""
        given: dict[str, str] = {"stream_name": stream, "group_id": group}
        op = "list"
        if item is not None:
            given["item_id"], op = item, "get"
        if not self.has(op, stream):
            return None

        async def read() -> Raw:
            return await self.ask(op, stream, given, Caller()) or NULL

        return read

    async def ask(self, op: str, stream: str, given: Struct | dict[str, str], caller: Caller) -> Raw:
        """Call a function and return its result, whatever it is.  L{CallFailed} with the function's error."""
        function_id = function_of(op, stream)
        baggage = None if caller.baggage is None else with_function(caller.baggage, function_id)
        return await self._engine.call(function_id, Raw(encode(given)), traceparent=caller.traceparent, baggage=baggage)

    async def set(self, given: SetInput, caller: Caller) -> Changed:
        """Let the worker set an item."""

        async def work() -> Changed:
            return await self._set(given, caller, SetFailed)

        return await self._in_turn("set", given, caller, work)

    async def delete(self, given: ItemInput, caller: Caller) -> Deleted:
        """Let the worker delete an item.  No result, as of the Python SDK's sample, is that there was none."""

        async def work() -> Deleted:
            with _wrapped(DeleteFailed):
                result = await self.ask("delete", given.stream_name, given, caller)
            return Deleted(_read(_Deleted, result).old_value or NULL) if not is_null(result) else Deleted(NULL)

        return await self._in_turn("delete", given, caller, work)

    async def update(self, given: UpdateInput, caller: Caller, accept: Callable[[bytes], None]) -> UpdatedItem:
        """
        Let the worker update an item.  Its own C{update} is not called in turn: it may well be made of calls of
        C{stream::set}.

        @param accept: Given the result before it is written, unless the worker makes it; may raise.
        """
        if not self.has("update", given.stream_name):

            async def work() -> UpdatedItem:
                return await self._read_and_write(given, caller, accept)

            return await self._in_turn("set", given, caller, work)
        result = await self._asked("update", given, caller, UpdateFailed)
        updated = _read(_Updated, result)
        return UpdatedItem(updated.old_value, updated.new_value, updated.errors or msgspec.UNSET)

    async def _read_and_write(self, given: UpdateInput, caller: Caller, accept: Callable[[bytes], None]) -> UpdatedItem:
        item = ItemInput(given.stream_name, given.group_id, given.item_id)
        with _wrapped(UpdateFailed):
            current = await self.ask("get", given.stream_name, item, caller)
        updated = apply(None if is_null(current) else bytes(current), given.ops)
        accept(updated.new)
        write = SetInput(given.stream_name, given.group_id, given.item_id, value(updated.new))
        changed = await self._set(write, caller, UpdateFailed)
        return UpdatedItem(changed.old_value, changed.new_value, updated.errors or msgspec.UNSET)

    async def _set(self, given: SetInput, caller: Caller, kind: type[StreamError]) -> Changed:
        changed = _read(_Changed, await self._asked("set", given, caller, kind))
        return Changed(changed.old_value, changed.new_value)

    async def _asked(self, op: str, given: ItemInput, caller: Caller, kind: type[StreamError]) -> Raw:
        """Call a function that must return something."""
        with _wrapped(kind):
            result = await self.ask(op, given.stream_name, given, caller)
        if is_null(result):
            raise kind("Function returned no result")
        return result

    async def _in_turn(self, op: str, given: ItemInput, caller: Caller, work: Callable[[], Awaitable[T]]) -> T:
        """
        Do something when all that was asked about this item before has been done.  The next begins only when the
        reactor turns: by then whoever waits for this has told what has happened.

        @param op: What will be called.
        """
        function = self._engine.functions.find(DEFAULT_NAMESPACE, function_of(op, given.stream_name))
        if isinstance(function, WorkerFunction) and caller.connection in function.owners:
            return await work()
        turn: Deferred[Done] = Deferred()
        if not self._turns.take((given.stream_name, given.group_id, given.item_id), turn.callback):
            raise BacklogFull(function_of(op, given.stream_name), self._engine.limits.ordered_backlog)
        done = await turn
        try:
            return await work()
        finally:
            done()


def function_of(op: str, stream: str) -> str:
    """The id of a worker's function for a stream."""
    return f"stream::{op}({stream})"


@contextmanager
def _wrapped(kind: type[StreamError]) -> Iterator[None]:
    """Tell the failure of a function in the form of the reference."""
    try:
        yield
    except CallFailed as failure:
        error = failure.error
        stack = "None" if error.stacktrace is None else f"Some({_quoted(error.stacktrace)})"
        raise kind(
            f"Failed to invoke function: ErrorBody {{ code: {_quoted(error.code)}, message: {_quoted(error.message)}, "
            f"stacktrace: {stack} }}"
        ) from failure


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _read(shape: type[R], result: Raw) -> R:
    """Return a function's result as what it should be.  L{WrongShape} for anything else."""
    if not bytes(result).startswith(b"{"):
        raise WrongShape(f"expected an object, got `{bytes(result)[:40].decode(errors='replace')}`")
    try:
        return msgspec.json.decode(result, type=shape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WrongShape(_detail(error)) from error


def _detail(error: Exception) -> str:
    text: Any = str(error)
    before, missing, after = text.partition("missing required field ")
    return f"missing field {after}" if missing and before == "Object " else text
