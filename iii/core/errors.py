"""
Errors that are meant for whoever asked.  Their codes are on the wire and never change once released
(spec/worker-protocol.md, 7.2).  Anything else that is raised is a defect: it is logged with its traceback and answered
as L{InternalError}.
"""

from __future__ import annotations

from typing import ClassVar

import attrs


@attrs.define(str=False)
class EngineError(Exception):
    """
    Base of what a caller may be told.

    @cvar code: Its name on the wire.
    @cvar text: What it says; the error's own members stand in braces.
    """

    code: ClassVar[str] = "internal_error"
    text: ClassVar[str] = ""

    def __str__(self) -> str:
        return self.text.format_map(attrs.asdict(self, recurse=False))


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
    text: ClassVar[str] = "Invocation stopped"


@attrs.define(str=False)
class ChannelSendFailed(EngineError):
    """The callee's connection was already closing."""

    code: ClassVar[str] = "channel_send_failed"
    text: ClassVar[str] = "channel closed"


@attrs.define(str=False)
class InvocationIdReused(EngineError):
    """The caller used the id of this call for another one before it was answered."""

    code: ClassVar[str] = "invocation_error"
    text: ClassVar[str] = "invocation id {invocation_id} was used for another call before this one was answered"
    invocation_id: str


@attrs.define(str=False)
class MalformedResult(EngineError):
    """The callee's answer could not be read."""

    code: ClassVar[str] = "invocation_error"
    text: ClassVar[str] = "the worker's answer could not be read: {detail}"
    detail: str


@attrs.define(str=False)
class MalformedMessage(EngineError):
    """A frame could not be read, but the id of the call in it could."""

    code: ClassVar[str] = "malformed_message"
    text: ClassVar[str] = "the message could not be read: {detail}"
    detail: str


@attrs.define(str=False)
class CallTimedOut(EngineError):
    """The callee did not answer before the call's deadline."""

    code: ClassVar[str] = "TIMEOUT"
    text: ClassVar[str] = "{function_id} did not answer within {seconds:g} s"
    function_id: str
    seconds: float


@attrs.define(str=False)
class AnswerLost(EngineError):
    """The callee's connection was cut, and no answer came when it was back: perhaps that went down with the cut."""

    code: ClassVar[str] = "invocation_stopped"
    text: ClassVar[str] = "the worker's connection was cut, and no answer came within {seconds:g} s after it was back"
    seconds: float


@attrs.define(str=False)
class WorkerOverloaded(EngineError):
    """The callee has too much to do already; trying later, or another replica, may help."""

    code: ClassVar[str] = "worker_overloaded"
    text: ClassVar[str] = "worker {worker} takes no more calls now: {detail}"
    worker: str
    detail: str


@attrs.define(str=False)
class PayloadTooLarge(EngineError):
    """The callee's SDK would close its connection on a message of this size (spec/worker-protocol.md, 15)."""

    code: ClassVar[str] = "payload_too_large"
    text: ClassVar[str] = "a message of {size} bytes exceeds the {limit} bytes that the worker can receive"
    size: int
    limit: int


@attrs.define(str=False)
class BacklogFull(EngineError):
    """So many ordered calls wait for a function's answer to an earlier one that this one is not made."""

    code: ClassVar[str] = "backlog_full"
    text: ClassVar[str] = "{limit} calls already wait for {function_id} to answer an earlier one"
    function_id: str
    limit: int


@attrs.define(str=False)
class ResponseBrokenOff(EngineError):
    """A function opened its streamed response, and its socket broke off before anything of a body came."""

    code: ClassVar[str] = "response_broken_off"
    text: ClassVar[str] = "the worker's connection for the response broke off"


@attrs.define(str=False)
class EngineStopping(EngineError):
    """The engine is being stopped and takes no new calls."""

    code: ClassVar[str] = "engine_stopping"
    text: ClassVar[str] = "the engine is stopping"


@attrs.define(str=False)
class NoQueueProvider(EngineError):
    """A call asked to be enqueued, and nothing provides queues (spec/worker-protocol.md, 7.3)."""

    code: ClassVar[str] = "enqueue_error"
    text: ClassVar[str] = (
        "No queue provider is installed. Nothing provides `engine::queue::enqueue`; add one with "
        "`iii worker add queue`. (underlying: {underlying})"
    )
    underlying: str


@attrs.define(str=False)
class EnqueueFailed(EngineError):
    """The queue provider refused the message."""

    code: ClassVar[str] = "enqueue_error"
    text: ClassVar[str] = "{provider_code}: {provider_message}"
    provider_code: str
    provider_message: str


@attrs.define(str=False)
class InvalidInput(EngineError):
    """A built-in function was called with a payload that it cannot read."""

    code: ClassVar[str] = "deserialization_error"
    text: ClassVar[str] = "Failed to deserialize input for {function_id}: {detail}"
    function_id: str
    detail: str


@attrs.define(str=False)
class TriggerRefused(EngineError):
    """The provider of a trigger type does not accept a binding; its text goes to whoever registered it."""

    code: ClassVar[str] = "trigger_registration_failed"
    text: ClassVar[str] = "{reason}"
    reason: str


@attrs.define(str=False)
class TooManyRegistrations(EngineError):
    """
    A connection registered more than one connection may.

    @ivar setting: The limit's name among the settings.
    """

    code: ClassVar[str] = "too_many_registrations"
    text: ClassVar[str] = "a connection may register at most {limit} {kind}"
    limit: int
    kind: str
    setting: str


@attrs.define(str=False)
class IdTooLong(EngineError):
    """An id or namespace in a registration is longer than anything that is meant to be one."""

    code: ClassVar[str] = "id_too_long"
    text: ClassVar[str] = "`{field}` is longer than {limit} characters"
    field: str
    limit: int


@attrs.define(str=False)
class HttpFunctionsUnavailable(EngineError):
    """A worker registered a function that is to be called by HTTP (spec/worker-protocol.md, 8)."""

    code: ClassVar[str] = "not_available"
    text: ClassVar[str] = "HTTP functions are not available yet"


@attrs.define(str=False)
class TypeOfModule(EngineError):
    """A worker registered a trigger type that a module of the engine provides."""

    code: ClassVar[str] = "type_of_module"
    text: ClassVar[str] = "module {module} provides this trigger type"
    module: str


@attrs.define(str=False)
class TooManyTriggers(EngineError):
    """A bound on triggers that no connection owns is reached."""

    code: ClassVar[str] = "too_many_triggers"
    text: ClassVar[str] = "at most {limit} {unit} without an owner may exist at one time"
    limit: int
    unit: str = "triggers"


@attrs.define(str=False)
class TooManyChannels(EngineError):
    """A bound on channels that exist at one time is reached."""

    code: ClassVar[str] = "too_many_channels"
    text: ClassVar[str] = "at most {limit} channels {kind} may exist at one time"
    limit: int
    kind: str


@attrs.define(str=False)
class InvalidArguments(EngineError):
    """Arguments of an introspection function that exclude each other, are missing or too many."""

    code: ClassVar[str] = "INVALID_ARGUMENTS"
    text: ClassVar[str] = "{reason}"
    reason: str


@attrs.define(str=False)
class NotFound(EngineError):
    """What an introspection function was asked about does not exist."""

    code: ClassVar[str] = "NOT_FOUND"
    text: ClassVar[str] = "{reason}"
    reason: str


@attrs.define(str=False)
class InternalError(EngineError):
    """A defect of the engine; the log has the traceback under this id."""

    code: ClassVar[str] = "internal_error"
    text: ClassVar[str] = "internal error {error_id}; see the engine's log"
    error_id: str
