"""The calls that one worker makes (spec/worker-protocol.md, 7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
from msgspec import Raw

from iii.core.budget import detach, size_of
from iii.core.enqueuing import ENQUEUE, EnqueueRequest
from iii.core.errors import (
    EngineError,
    EnqueueFailed,
    InvalidNamespace,
    InvocationIdReused,
    NoQueueProvider,
    PayloadTooLarge,
    TooManyRegistrations,
)
from iii.core.functions import BuiltinFunction, Caller
from iii.core.ids import ordered_id
from iii.core.invocations import Call, discard, error_body
from iii.core.tracing import limit, passed_on, with_function
from iii.wire.messages import (
    ABSENT,
    DEFAULT_NAMESPACE,
    NULL,
    Enqueue,
    ErrorBody,
    InvocationResult,
    InvokeFunction,
    encode,
    is_null,
    with_member,
)

if TYPE_CHECKING:
    from iii.core.connections import Connection
    from iii.core.engine import Engine

_ENGINE = Caller()


class MadeCalls:
    """
    Sends a worker's calls on their way, and their outcomes back.

    Its length is the number of calls that the worker waits for.
    """

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self._engine, self._connection = engine, connection
        self._waiting: dict[str, Call] = {}  # by the worker's own ids
        self._held: list[InvokeFunction] = []
        self._missed: list[bytes] = []
        self._missed_bytes = 0
        self._caller_member = b'"_caller_worker_id":"' + connection.id.encode() + b'"}'

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[str]:
        """The ids of the calls that the worker waits for."""
        return iter(self._waiting)

    @property
    def unfinished(self) -> bool:
        """Whether the worker waits for a call, or has made one that is still held back."""
        return bool(self._waiting or self._held)

    def invoke(self, message: InvokeFunction) -> None:
        """Bring a call to whoever serves the function, a queue included."""
        if message.traceparent is not None or message.baggage is not None:
            limit(message)
        namespace = message.namespace
        if namespace is None:
            namespace = DEFAULT_NAMESPACE
        elif not namespace.strip():
            if message.invocation_id is not None:
                self._connection.reply(message.invocation_id, message.function_id, error_body(InvalidNamespace()))
            return
        if type(message.action) is Enqueue:
            self._enqueue(message, namespace, message.action)
            return
        engine, function_id = self._engine, message.function_id
        function = engine.functions.find(namespace, function_id)
        if function is None and self._connection.registrations.holds(function_id) and self._hold(message):
            return
        call = self._call(message)
        data = with_member(message.data, self._caller_member) if message.data else NULL
        if message.traceparent or message.baggage:
            traceparent, baggage = passed_on(message.traceparent, message.baggage, function_id)
        else:
            traceparent = baggage = None
        metadata = ABSENT if is_null(message.metadata) else message.metadata
        engine.route(call, function, namespace, data, metadata, traceparent, baggage, self._connection)

    def _call(self, message: InvokeFunction) -> Call:
        """Note a call; its outcome is sent to the worker if it wants one."""
        timeout = self._engine.call_timeout
        if message.invocation_id is None or message.action is not None and type(message.action) is not Enqueue:
            return Call(message.function_id, discard, timeout)
        invocation_id = message.invocation_id
        call = Call(message.function_id, self._answer, timeout, invocation_id, message.traceparent, message.baggage)
        earlier = self._waiting.get(invocation_id)
        if earlier is not None:
            earlier.fail(InvocationIdReused(invocation_id))
        self._waiting[invocation_id] = call
        return call

    def _answer(self, call: Call, result: Raw, error: ErrorBody | None) -> None:
        """Send the outcome of a call to the worker, which made it."""
        invocation_id = call.invocation_id
        assert invocation_id is not None
        if self._waiting.get(invocation_id) is call:
            del self._waiting[invocation_id]
        if error is not None:
            result = ABSENT
        frame = encode(InvocationResult(invocation_id, call.function_id, result, error, call.traceparent, call.baggage))
        connection = self._connection
        if len(frame) > connection.accepts_bytes:
            self._engine.counters.payloads_too_large += 1
            error = error_body(PayloadTooLarge(len(frame), connection.accepts_bytes))
            frame = encode(InvocationResult(invocation_id, call.function_id, ABSENT, error))
        if connection.closed:
            self._miss(frame)
        else:
            connection.edge.send(frame)

    def _miss(self, frame: bytes) -> None:
        """Keep an answer for when the worker comes back, as much as may wait to be sent to a peer."""
        self._missed_bytes += len(frame)
        if self._missed_bytes <= self._engine.limits.outbox_bytes:
            self._missed.append(frame)
        else:
            self._engine.counters.answers_lost += 1

    def _hold(self, message: InvokeFunction) -> bool:
        """
        Keep a call for a function of the worker's own until its registrations apply: the Node SDK sends what it queued
        while it was offline before it announces itself.  C{False} at the limit.
        """
        if len(self._held) >= self._engine.limits.held_registrations:
            return False
        try:
            self._connection.registrations.budget.take(size_of(message.data, message.metadata))
        except TooManyRegistrations:
            return False
        detach(message)
        self._held.append(message)
        return True

    def _enqueue(self, message: InvokeFunction, namespace: str, action: Enqueue) -> None:
        """Hand a call to the queue provider and answer with the receipt (spec/worker-protocol.md, 7.3)."""
        engine, function_id = self._engine, message.function_id
        request = EnqueueRequest(
            action.queue,
            function_id,
            message.data or NULL,
            ordered_id(int(engine.clock.seconds() * 1000)),
            message.traceparent,
            with_function(message.baggage, function_id),
            None if namespace == DEFAULT_NAMESPACE else namespace,
            action.delay_ms,
            action.run_at,
            action.priority,
            action.deduplication_key,
            action.deduplication_window_ms,
        )
        provider = engine.functions.find(DEFAULT_NAMESPACE, ENQUEUE)
        if isinstance(provider, BuiltinFunction) and provider.declaration.input is EnqueueRequest:
            engine.counters.calls += 1
            provider.run(_Enqueued(self._call(message)), request, _ENGINE)
        else:
            enqueued = _EnqueuedElsewhere(self._call(message), request)
            engine.invoke(ENQUEUE, Raw(request.payload()), lambda _, result, error: enqueued.finish(result, error))

    def release_held(self) -> None:
        """The worker's registrations apply: make the calls that waited for that."""
        held, self._held = self._held, []
        for message in held:
            self._connection.registrations.budget.release(size_of(message.data, message.metadata))
            self.invoke(message)

    def take_over(self, previous: MadeCalls) -> None:
        """Go on for the worker's former connection: its outcomes, those that it has missed included, come here."""
        for invocation_id, call in previous._waiting.items():
            call.complete = self._answer
            if invocation_id in self._waiting:
                call.fail(InvocationIdReused(invocation_id))
            else:
                self._waiting[invocation_id] = call
        previous._waiting = {}
        for frame in previous._missed:
            self._connection.edge.send(frame)
        held, previous._held = previous._held, []
        for message in held:
            if self._connection.namespace is not None or not self._hold(message):
                self.invoke(message)

    def give_up(self) -> None:
        """Nobody waits any more."""
        for call in self._waiting.values():
            call.cancel()
        self._waiting.clear()
        self._held.clear()


@attrs.define(eq=False)  # not frozen: that would cost half a microsecond
class _Enqueued:
    """
    What the queues of the engine tell about a message.

    @ivar waiting: The call that waits for the receipt.
    """

    waiting: Call

    def finish(self, result: Raw, error: ErrorBody | None) -> None:
        if error is None:
            self.waiting.finish(result, None)
        elif error.code == "function_not_found":
            self.waiting.fail(NoQueueProvider(error.message))
        else:
            self.waiting.fail(EnqueueFailed(error.code, error.message))

    def fail(self, error: EngineError) -> None:
        self.finish(ABSENT, error_body(error))


@attrs.define(eq=False)
class _EnqueuedElsewhere(_Enqueued):
    """
    Likewise a provider that is a worker: the receipt is the engine's, unless it may be that of an earlier message.
    """

    request: EnqueueRequest

    def finish(self, result: Raw, error: ErrorBody | None) -> None:
        request = self.request
        if error is None and (request.deduplication_key is None or not result):
            assert request.messageReceiptId is not None
            result = Raw(b'{"messageReceiptId":"%b"}' % request.messageReceiptId.encode())
        super().finish(result, error)
