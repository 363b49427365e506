"""
Errors that are meant for whoever asked.  Their codes are on the wire and never change once released
(spec/worker-protocol.md, 7.2).  Anything else that is raised is a defect: it is logged with its traceback and answered
as L{InternalError}.
"""

from __future__ import annotations

from typing import ClassVar

import attrs


class EngineError(Exception):
    """Base of what a caller may be told."""

    code: ClassVar[str] = "internal_error"


@attrs.define(str=False)
class FunctionNotFound(EngineError):
    """No live connection has registered this function in the namespace that was asked."""

    code: ClassVar[str] = "function_not_found"
    function_id: str
    namespace: str
    elsewhere: list[str] = attrs.field(factory=list)

    def __str__(self) -> str:
        text = f"Function {self.function_id} not found in namespace {self.namespace}."
        if self.elsewhere:
            text += f" It is registered in namespace(s): {', '.join(self.elsewhere)}."
        return text


@attrs.define(str=False)
class InvalidNamespace(EngineError):
    """A namespace was named and left blank (spec/worker-protocol.md, 6)."""

    code: ClassVar[str] = "INVALID_NAMESPACE"
    field: str = "namespace"

    def __str__(self) -> str:
        return f"`{self.field}` is empty: it was named and left blank. Give it a name, or omit it to use `default`."


@attrs.define(str=False)
class BlankWorkerNamespace(EngineError):
    """A worker announced itself with a blank namespace (spec/engine-functions.md, 6)."""

    code: ClassVar[str] = "INVALID_NAMESPACE"
    worker: str
    declared: str

    def __str__(self) -> str:
        return (
            f"namespace is empty: worker '{self.worker or '<unnamed>'}' declared \"{self.declared}\". "
            "Give it a name, or omit the field to register in 'default'."
        )


@attrs.define(str=False)
class InvocationStopped(EngineError):
    """The callee's connection ended before it answered."""

    code: ClassVar[str] = "invocation_stopped"

    def __str__(self) -> str:
        return "Invocation stopped"


@attrs.define(str=False)
class ChannelSendFailed(EngineError):
    """The callee's connection was already closing."""

    code: ClassVar[str] = "channel_send_failed"

    def __str__(self) -> str:
        return "channel closed"


@attrs.define(str=False)
class InvocationIdReused(EngineError):
    """The caller used the id of this call for another one before it was answered."""

    code: ClassVar[str] = "invocation_error"
    invocation_id: str

    def __str__(self) -> str:
        return f"invocation id {self.invocation_id} was used for another call before this one was answered"


@attrs.define(str=False)
class MalformedResult(EngineError):
    """The callee's answer could not be read."""

    code: ClassVar[str] = "invocation_error"
    detail: str

    def __str__(self) -> str:
        return f"the worker's answer could not be read: {self.detail}"


@attrs.define(str=False)
class MalformedMessage(EngineError):
    """A frame could not be read, but the id of the call in it could."""

    code: ClassVar[str] = "malformed_message"
    detail: str

    def __str__(self) -> str:
        return f"the message could not be read: {self.detail}"


@attrs.define(str=False)
class CallTimedOut(EngineError):
    """The callee did not answer before the call's deadline."""

    code: ClassVar[str] = "TIMEOUT"
    function_id: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.function_id} did not answer within {self.seconds:g} s"


@attrs.define(str=False)
class WorkerOverloaded(EngineError):
    """The callee has too much to do already; trying later, or another replica, may help."""

    code: ClassVar[str] = "worker_overloaded"
    worker: str
    detail: str

    def __str__(self) -> str:
        return f"worker {self.worker} takes no more calls now: {self.detail}"


@attrs.define(str=False)
class PayloadTooLarge(EngineError):
    """The callee's SDK would close its connection on a message of this size (spec/worker-protocol.md, 15)."""

    code: ClassVar[str] = "payload_too_large"
    size: int
    limit: int

    def __str__(self) -> str:
        return f"a message of {self.size} bytes exceeds the {self.limit} bytes that the worker can receive"


@attrs.define(str=False)
class EngineStopping(EngineError):
    """The engine is being stopped and takes no new calls."""

    code: ClassVar[str] = "engine_stopping"

    def __str__(self) -> str:
        return "the engine is stopping"


@attrs.define(str=False)
class NoQueueProvider(EngineError):
    """A call asked to be enqueued, and nothing provides queues (spec/worker-protocol.md, 7.3)."""

    code: ClassVar[str] = "enqueue_error"
    underlying: str

    def __str__(self) -> str:
        return (
            "No queue provider is installed. Nothing provides `engine::queue::enqueue`; add one with "
            f"`iii worker add queue`. (underlying: {self.underlying})"
        )


@attrs.define(str=False)
class EnqueueFailed(EngineError):
    """The queue provider refused the message."""

    code: ClassVar[str] = "enqueue_error"
    provider_code: str
    provider_message: str

    def __str__(self) -> str:
        return f"{self.provider_code}: {self.provider_message}"


@attrs.define(str=False)
class InvalidInput(EngineError):
    """A built-in function was called with a payload that it cannot read."""

    code: ClassVar[str] = "deserialization_error"
    function_id: str
    detail: str

    def __str__(self) -> str:
        return f"Failed to deserialize input for {self.function_id}: {self.detail}"


@attrs.define(str=False)
class TriggerRefused(EngineError):
    """The provider of a trigger type does not accept a binding; its text goes to whoever registered it."""

    code: ClassVar[str] = "trigger_registration_failed"
    reason: str

    def __str__(self) -> str:
        return self.reason


@attrs.define(str=False)
class TooManyRegistrations(EngineError):
    """A connection registered more than one connection may."""

    code: ClassVar[str] = "too_many_registrations"
    limit: int
    kind: str

    def __str__(self) -> str:
        return f"a connection may register at most {self.limit} {self.kind}"


@attrs.define(str=False)
class TooManyTriggers(EngineError):
    """The bound on triggers that no connection owns is reached."""

    code: ClassVar[str] = "too_many_triggers"
    limit: int

    def __str__(self) -> str:
        return f"at most {self.limit} triggers without an owner may exist at one time"


@attrs.define(str=False)
class TooManyChannels(EngineError):
    """The bound on channels that exist at one time is reached."""

    code: ClassVar[str] = "too_many_channels"
    limit: int

    def __str__(self) -> str:
        return f"at most {self.limit} channels may exist at one time"


@attrs.define(str=False)
class InvalidArguments(EngineError):
    """Arguments of an introspection function that exclude each other, are missing or too many."""

    code: ClassVar[str] = "INVALID_ARGUMENTS"
    reason: str

    def __str__(self) -> str:
        return self.reason


@attrs.define(str=False)
class NotFound(EngineError):
    """What an introspection function was asked about does not exist."""

    code: ClassVar[str] = "NOT_FOUND"
    reason: str

    def __str__(self) -> str:
        return self.reason


@attrs.define(str=False)
class InternalError(EngineError):
    """A defect of the engine; the log has the traceback under this id."""

    code: ClassVar[str] = "internal_error"
    error_id: str

    def __str__(self) -> str:
        return f"internal error {self.error_id}; see the engine's log"
