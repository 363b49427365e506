"""
Who serves which function.

The key of a function is (namespace, id).  Several live connections may serve one: calls go to the one with the fewest
calls outstanding, ties in turn.  Built-in functions live in the default namespace and are never replaced (DESIGN.md,
4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from iii.core.errors import EngineError, InternalError, InvalidInput
from iii.core.ids import new_id
from iii.core.invocations import Call, CallFailed
from iii.wire.messages import ABSENT, DEFAULT_NAMESPACE, ErrorBody, RegisterFunction, value_of

if TYPE_CHECKING:
    from iii.core.connections import Connection


@attrs.frozen
class Caller:
    """
    Who calls a built-in function.

    @ivar connection: The worker's connection; C{None} when the engine calls itself.
    @ivar traceparent: The W3C trace context of the call, if a valid one came with it.
    @ivar baggage: The W3C baggage of the call.
    """

    connection: Connection | None = None
    traceparent: str | None = None
    baggage: str | None = None


class NoInput(msgspec.Struct):
    """An empty object."""


class AnyInput(msgspec.Struct):
    """Whatever comes, also what is no object; it is not read."""


@attrs.frozen(kw_only=True)
class FunctionDeclaration:
    """
    A function that a module of the engine provides.

    @ivar input: What the payload is decoded to; unknown members are ignored, null is absent.
    @ivar handler: Called with the input and the L{Caller}.  Returns what msgspec can encode, C{None} for no result, or
        an awaitable of either; an L{EngineError} goes to the caller, and the error of a L{CallFailed}, too.
    @ivar output: The shape of the result, for introspection only.
    @ivar metadata: JSON, shown by introspection.
    """

    id: str
    description: str
    input: type[msgspec.Struct]
    handler: Callable[[Any, Caller], Any]
    output: Any = None
    metadata: Raw = ABSENT


_NOTHING = Raw(b"{}")


class Outcome(Protocol):
    """Who is told how a call has ended; a L{Call} is one."""

    def finish(self, result: Raw, error: ErrorBody | None) -> None: ...
    def fail(self, error: EngineError) -> None: ...


class BuiltinFunction:
    """A declared function as the core calls it."""

    log = Logger()
    namespace = DEFAULT_NAMESPACE

    def __init__(self, declaration: FunctionDeclaration, module: str) -> None:
        self.id, self.declaration, self.module = declaration.id, declaration, module
        self.description: str | None = declaration.description
        self.metadata = declaration.metadata
        self.internal = marked_internal(declaration.metadata)
        self._decode = msgspec.json.Decoder(declaration.input).decode
        self._encode = msgspec.json.Encoder().encode

    def schema(self, which: str) -> dict[str, Any] | None:
        """The L{json_schema} of C{"input"} or C{"output"}; C{None} where any JSON may come."""
        kind = getattr(self.declaration, which)
        return None if kind is None else json_schema(kind)

    def call(self, call: Call, data: Raw, caller: Caller) -> None:
        """Run the handler and end the call with what it returns, now or later."""
        try:
            if self.declaration.input is AnyInput:
                data = _NOTHING
            elif not bytes(data).startswith(b"{"):
                got = bytes(data)[:40].decode(errors="replace")
                call.fail(InvalidInput(self.id, f"expected an object, got `{got}`"))
                return
            given = self._decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            call.fail(InvalidInput(self.id, str(error)))
            return
        except Exception:
            self._defect(call)
            return
        self.run(call, given, caller)

    def run(self, call: Outcome, given: Any, caller: Caller) -> None:
        """Likewise, with the input as the handler gets it."""
        try:
            outcome = self.declaration.handler(given, caller)
        except EngineError as error:
            call.fail(error)
        except Exception:
            self._defect(call)
        else:
            if hasattr(outcome, "__await__"):
                waiting = outcome if isinstance(outcome, Deferred) else Deferred.fromCoroutine(outcome)
                waiting.addCallbacks(
                    lambda value: self._finish(call, value), lambda failure: self._failed(call, failure)
                )
            else:
                self._finish(call, outcome)

    def _finish(self, call: Outcome, value: Any) -> None:
        try:
            result = ABSENT if value is None else Raw(self._encode(value))
        except Exception:
            self._defect(call)
        else:
            call.finish(result, None)

    def _failed(self, call: Outcome, failure: Any) -> None:
        if failure.check(EngineError):
            call.fail(failure.value)
        elif failure.check(CallFailed):
            call.finish(ABSENT, failure.value.error)
        else:
            self._defect(call, failure)

    def _defect(self, call: Outcome, failure: Any = None) -> None:
        error_id = new_id()
        self.log.failure("{function} failed, error {error_id}", failure, function=self.id, error_id=error_id)
        call.fail(InternalError(error_id))


class WorkerFunction:
    """
    A function that one or more connections serve.

    @ivar owners: Oldest first, each with what it registered; never empty while the function is in the table.
    @ivar internal: Its metadata says that listings shall leave it out.
    """

    module = None

    def __init__(self, namespace: str, function_id: str) -> None:
        self.namespace, self.id = namespace, function_id
        self.owners: dict[Connection, RegisterFunction] = {}
        self.internal = False
        self._turn = 0

    @property
    def latest(self) -> RegisterFunction:
        """What the newest owner registered; introspection shows this."""
        return next(reversed(self.owners.values()))

    @property
    def description(self) -> str | None:
        return self.latest.description

    @property
    def metadata(self) -> Raw:
        return self.latest.metadata

    def pick(self) -> Connection:
        """
        Choose the owner for the next call: one that answers, and reads if any does, with the fewest calls outstanding;
        ties in turn.
        """
        if len(self.owners) == 1:
            return next(iter(self.owners))
        self._turn += 1
        candidates = [owner for owner in self.owners if not owner.suspect] or list(self.owners)[-1:]
        offset = self._turn % len(candidates)
        in_turn = candidates[offset:] + candidates[:offset]
        chosen = min(in_turn, key=_outstanding)
        if chosen.edge.full:
            chosen = min((owner for owner in in_turn if not owner.edge.full), key=_outstanding, default=chosen)
        return chosen

    def add(self, owner: Connection, registration: RegisterFunction) -> None:
        """Let a connection serve this, from now on as the newest owner."""
        self.owners.pop(owner, None)
        self.owners[owner] = registration
        self.internal = marked_internal(registration.metadata)

    def remove(self, owner: Connection) -> None:
        """A connection that is an owner serves this no longer."""
        del self.owners[owner]
        if self.owners:
            self.internal = marked_internal(self.latest.metadata)


def _outstanding(owner: Connection) -> int:
    return len(owner.pending)


def json_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON schema (draft 7) of a type, as msgspec generates it."""
    (root,), parts = msgspec.json.schema_components([kind], ref_template="#/definitions/{name}")
    if "$ref" in root:  # readers look for the properties at the top
        root = parts.pop(root["$ref"].rpartition("/")[2])
    return {**root, "definitions": parts} if parts else root


def marked_internal(metadata: Raw) -> bool:
    """Whether a function's metadata says that listings shall leave it out."""
    value = value_of(metadata) if metadata else None
    return isinstance(value, dict) and value.get("internal") is True


Function = BuiltinFunction | WorkerFunction


class FunctionTable:
    """
    All functions by namespace and id.

    @ivar observers: Told the namespace and id of a worker's function that has come or gone, not of one that has only
        got another owner.
    """

    def __init__(self) -> None:
        self._namespaces: dict[str, dict[str, Function]] = {DEFAULT_NAMESPACE: {}}
        self.observers: list[Callable[[str, str], None]] = []

    def __len__(self) -> int:
        return sum(map(len, self._namespaces.values()))

    def __iter__(self) -> Iterator[Function]:
        """All functions, ordered by id, then namespace."""
        everything = [function for functions in self._namespaces.values() for function in functions.values()]
        return iter(sorted(everything, key=lambda function: (function.id, function.namespace)))

    def find(self, namespace: str, function_id: str) -> Function | None:
        """Return the function with this id in exactly this namespace."""
        functions = self._namespaces.get(namespace)
        return None if functions is None else functions.get(function_id)

    def namespaces_of(self, function_id: str) -> list[str]:
        """The namespaces in which an id is registered, sorted."""
        return sorted(name for name, functions in self._namespaces.items() if function_id in functions)

    def declare(self, declaration: FunctionDeclaration, module: str) -> None:
        """Add a built-in function.  Two modules that declare one id are a defect: C{ValueError}."""
        functions = self._namespaces[DEFAULT_NAMESPACE]
        if declaration.id in functions:
            raise ValueError(f"{declaration.id} is declared twice")
        functions[declaration.id] = BuiltinFunction(declaration, module)

    def add(self, namespace: str, owner: Connection, registration: RegisterFunction) -> list[Connection]:
        """
        Let a connection serve a function, or replace what it registered before.

        The caller has made sure that the id is not a built-in's.

        @return: The other connections that serve it.
        """
        functions = self._namespaces.setdefault(namespace, {})
        present = functions.get(registration.id)
        function = WorkerFunction(namespace, registration.id) if present is None else present
        assert isinstance(function, WorkerFunction)
        others = [other for other in function.owners if other is not owner]
        function.add(owner, registration)
        if present is None:
            functions[registration.id] = function
            self._tell(namespace, registration.id)
        return others

    def remove(self, namespace: str, owner: Connection, function_id: str) -> None:
        """A connection serves a function no longer; the last one takes it out of the table."""
        function = self.find(namespace, function_id)
        if not isinstance(function, WorkerFunction) or owner not in function.owners:
            return
        function.remove(owner)
        if not function.owners:
            functions = self._namespaces[namespace]
            del functions[function_id]
            if not functions and namespace != DEFAULT_NAMESPACE:
                del self._namespaces[namespace]
            self._tell(namespace, function_id)

    def _tell(self, namespace: str, function_id: str) -> None:
        for observer in self.observers:
            observer(namespace, function_id)
