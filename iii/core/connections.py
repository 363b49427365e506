"""
A worker's connection: what it sent becomes entries in the engine's tables, calls and answers.

Everything that a connection registers belongs to it, and its clean-up removes only that.  Reading from it is never
paused because of another one: a call to a peer that does not read is refused instead (DESIGN.md, 4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Raw
from twisted.logger import Logger

from iii.core.errors import (
    BlankWorkerNamespace,
    ChannelSendFailed,
    EngineError,
    InvocationIdReused,
    InvocationStopped,
    MalformedMessage,
    MalformedResult,
    PayloadTooLarge,
    WorkerOverloaded,
)
from iii.core.ids import new_id, next_id
from iii.core.invocations import Call, error_body
from iii.core.made_calls import MadeCalls
from iii.core.reattach import ANSWER_TIMEOUT
from iii.core.registrations import Registrations
from iii.core.shown import shown
from iii.interfaces import IConnection
from iii.wire.messages import (
    ABSENT,
    DEFAULT_NAMESPACE,
    NULL,
    TELEMETRY_PREFIXES,
    ErrorBody,
    InvocationResult,
    InvokeFunction,
    Message,
    Ping,
    Pong,
    Reattach,
    RegistrationRejected,
    TriggerRegistrationResult,
    Undecodable,
    WorkerRegistered,
    canonical_uuid,
    check_utf8,
    decode,
    encode,
    is_null,
)

if TYPE_CHECKING:
    from iii.core.announcement import Announcement
    from iii.core.engine import Engine

MiB = 2**20


class Connection:
    """
    One connection of a worker.

    @ivar id: Of this connection; a worker that reconnects gets a new one.
    @ivar announcement: What the worker said about itself, once it has (C{engine::workers::register}).
    @ivar pending: Calls that this worker is to answer, by the id that it knows them by.
    @ivar made: Calls that this worker made.
    @ivar suspect: Another connection took one of its functions, and it has not answered a ping since: perhaps the
        socket of a worker that is gone.
    @ivar accepts_bytes: The largest message that its SDK takes.
    @ivar closed: Its clean-up has begun.
    """

    log = Logger()

    def __init__(self, engine: Engine, edge: IConnection) -> None:
        self.id, self.token = new_id(), new_id()
        self.edge, self.connected_at = edge, engine.clock.seconds()
        self.announcement: Announcement | None = None
        self.pending: dict[str, Call] = {}
        self.made = MadeCalls(engine, self)
        self.suspect = self.closed = False
        self.accepts_bytes = 64 * MiB
        self._max_pending = engine.limits.pending_calls_per_connection
        self._engine = engine
        self.registrations = Registrations(engine, self)
        self._grace = engine.clock.callLater(engine.namespace_grace, self._grace_over)
        edge.send(encode(WorkerRegistered(self.id, self.token)))

    @property
    def namespace(self) -> str | None:
        """Where its functions live; C{None} until that is known."""
        return self.registrations.namespace

    @property
    def name(self) -> str | None:
        """What the worker calls itself."""
        return None if self.announcement is None else self.announcement.name

    @property
    def label(self) -> str:
        """How logs and errors name this worker."""
        return self.name or self.id

    # Frames.

    def received(self, frame: bytes, is_binary: bool = False) -> None:
        """
        Act on one message of the worker.  Never raises for the worker's sake.

        @param frame: A text message, whose UTF-8 has been checked, or a binary one.
        """
        if self.closed:
            return
        try:
            if is_binary:
                if frame[:4] in TELEMETRY_PREFIXES:
                    self._engine.telemetry_received(frame, self)
                    return
                check_utf8(frame)
            message = decode(frame)
        except Undecodable as error:
            self._undecodable(frame, error)
        else:
            try:
                self._handlers[type(message)](self, message)
            except Exception:  # a defect; whatever its frame met, the worker goes on
                self.log.failure(
                    "acting on {type} of worker {worker} failed", type=type(message).__name__, worker=self.label
                )

    def _undecodable(self, frame: bytes, error: Undecodable) -> None:
        """Drop a frame that is no message; if it stands out which call it speaks of, nobody is kept waiting for it."""
        if not frame.strip():
            return
        self._engine.counters.malformed_frames += 1
        self._complain("worker {worker} sent a frame that is no message: {error}", error=error.detail)
        if error.invocation_id is None:
            return
        if error.type == "invocationresult":
            call = self.pending.pop(error.invocation_id, None)
            if call is not None:
                self._engine.deadlines.remove(call)
                call.fail(MalformedResult(error.detail))
        elif error.type == "invokefunction":
            self.reply(error.invocation_id, "", error_body(MalformedMessage(error.detail)))

    def reply(
        self, invocation_id: str, function_id: str, error: ErrorBody, asked: InvokeFunction | None = None
    ) -> None:
        """Answer a call that was not made."""
        traceparent, baggage = (asked.traceparent, asked.baggage) if asked else (None, None)
        self.edge.send(encode(InvocationResult(invocation_id, function_id, ABSENT, error, traceparent, baggage)))

    def _invoke(self, message: InvokeFunction) -> None:
        self.made.invoke(message)

    def _complain(self, text: str, **values: Any) -> None:
        self.registrations.complaints.warn(text, worker=self.label, **values)

    def _nothing(self, message: Message) -> None:
        """Accepted without effect."""

    def _ping(self, message: Ping) -> None:
        self.edge.send(encode(Pong()))

    # Calls that the worker receives.

    def deliver(
        self, call: Call, data: Raw, metadata: Raw, traceparent: str | None = None, baggage: str | None = None
    ) -> None:
        """Ask this worker to carry out a call.  It is noted first: the answer may come before C{send} returns."""
        edge, pending = self.edge, self.pending
        if self.closed:
            call.fail(ChannelSendFailed())
            return
        if edge.full or len(pending) >= self._max_pending:
            self._engine.counters.calls_refused += 1
            self._engine.counters.hit("outbox_bytes" if edge.full else "pending_calls_per_connection")
            detail = "it does not read what is sent to it" if edge.full else f"{len(pending)} calls are unanswered"
            call.fail(WorkerOverloaded(self.label, detail))
            return
        invocation_id = call.invocation_id
        if invocation_id is None or invocation_id in pending:
            invocation_id = next_id()
        frame = encode(
            InvokeFunction(
                invocation_id=invocation_id,
                function_id=call.function_id,
                data=data or NULL,
                metadata=metadata or ABSENT,  # any other empty Raw would be sent, as nothing
                traceparent=traceparent,
                baggage=baggage,
            )
        )
        if len(frame) > self.accepts_bytes:
            self._engine.counters.payloads_too_large += 1
            call.fail(PayloadTooLarge(len(frame), self.accepts_bytes))
            return
        pending[invocation_id] = call
        call.callee, call.wire_id = self, invocation_id
        self._engine.deadlines.add(call)
        edge.send(frame)

    def _result(self, message: InvocationResult) -> None:
        call = self.pending.pop(message.invocation_id, None) or self._asked_otherwise(message.invocation_id)
        if call is None:
            self._engine.counters.late_answers += 1
            return
        self._engine.deadlines.remove(call)
        result = message.result
        call.finish(ABSENT if is_null(result) else result, message.error)

    def _asked_otherwise(self, invocation_id: str) -> Call | None:
        """Find the call of an answer whose id may be written in another way (spec, 3)."""
        try:
            return self.pending.pop(canonical_uuid(invocation_id), None)
        except ValueError:
            return None

    def expire(self, call: Call, error: EngineError) -> None:
        """A call's time is over; a late answer will be dropped."""
        self.pending.pop(call.wire_id, None)
        call.fail(error)

    # Liveness.

    def probe(self) -> None:
        """Route around this connection until it shows a sign of life."""
        if not self.suspect:
            self.suspect = True
            self.edge.ping()

    def ponged(self) -> None:
        """The worker has answered a ping."""
        self.suspect = False

    # Who it is, and what it registers.

    def announce(self, announcement: Announcement) -> bool:
        """
        The worker says who it is; with the first announcement its namespace is known and what it registered applies.

        @return: Whether it may stay.  C{False}: another worker has the name, and this connection is being closed.
        @raise BlankWorkerNamespace: It named a namespace and left it blank.
        """
        declared = announcement.namespace
        if declared is not None and not declared.strip():
            raise BlankWorkerNamespace(announcement.name or "", declared)
        namespace = self.namespace or declared or DEFAULT_NAMESPACE
        if declared is not None and declared != namespace:
            self._complain(
                "worker {worker} stays in namespace {namespace}; it announced {declared} too late",
                namespace=namespace,
                declared=declared,
            )
        owner = self._engine.exclusive_owner_of_name(namespace, announcement.name, self)
        if owner is not None:
            rejection = RegistrationRejected(
                "WORKER_NAMESPACE_CONFLICT", namespace, owner.id, worker_name=announcement.name
            )
            self.edge.send(encode(rejection))
            self.edge.close(None)
            return False
        if self.announcement is None:
            self.announcement = announcement
            self._say("worker {worker} is here: {runtime} {version}, namespace {namespace}", namespace=namespace)
        else:
            self.announcement = self.announcement.updated(announcement)
        self.accepts_bytes = self.announcement.accepts_bytes
        self._open_gate(namespace)
        return True

    def _say(self, text: str, **values: object) -> None:
        """Log what happens to a worker that has said who it is."""
        known = self.announcement
        if known is not None:
            runtime, version = shown(known.runtime or "unknown"), shown(known.version or "?")
            self.log.info(text, worker=shown(self.label), runtime=runtime, version=version, **values)

    def _register(self, message: Message) -> None:
        self.registrations.received(message)

    def _trigger_result(self, message: TriggerRegistrationResult) -> None:
        self.registrations.answered(message)

    def _grace_over(self) -> None:
        if self.registrations.waiting:  # not the telemetry socket of an old SDK, which registers nothing
            self._complain("worker {worker} announced no namespace in time; it is in `default` now")
        self._open_gate(DEFAULT_NAMESPACE)

    def _open_gate(self, namespace: str) -> None:
        if self._grace.active():
            self._grace.cancel()
        self.registrations.open(namespace)
        self.made.release_held()

    # The end.

    def _reattach(self, message: Reattach) -> None:
        """The worker proves which connection it had: that one is gone, whatever its socket says."""
        engine, previous_id = self._engine, message.previous_worker_id
        previous = engine.connections.get(previous_id) or engine.broken_off.find(previous_id)
        if previous is None or previous is self:
            return
        if message.reattach_token != previous.token:
            self._complain("worker {worker} named {id} as its former connection without its token", id=previous.id)
            return
        previous.edge.abort()
        previous.lost()
        if engine.broken_off.find(previous_id) is not None:
            engine.broken_off.release(previous)
            self._take_over(previous)

    def _take_over(self, previous: Connection) -> None:
        """Go on with the calls of the worker's former connection."""
        self.accepts_bytes = previous.accepts_bytes  # until it is announced, which SDKs do last
        for wire_id, call in previous.pending.items():
            if wire_id in self.pending:
                call.fail(InvocationIdReused(wire_id))
                self._engine.deadlines.remove(call)
                continue
            self.pending[wire_id] = call
            call.callee = self
            call.cut = self._engine.deadlines.shorten(call, ANSWER_TIMEOUT) or call.cut
        previous.pending = {}
        self.made.take_over(previous.made)

    def left(self) -> None:
        """The worker has closed its connection in order: remove what still belongs to it, and nothing else."""
        if not self.closed:
            self._say("worker {worker} has left")
            self._leave()
            self.give_up()

    def lost(self) -> None:
        """The connection has broken off: likewise, but calls under way wait for the worker to come back."""
        if self.closed:
            return
        self._say("worker {worker} has broken off; {count} calls wait for it", count=len(self.pending))
        self._leave()
        if self.pending or self.made.unfinished:
            self._engine.broken_off.keep(self)

    def _leave(self) -> None:
        self.closed = True
        engine = self._engine
        if self._grace.active():
            self._grace.cancel()
        del engine.connections[self.id]
        self.registrations.drop()
        for observer in engine.on_disconnected:
            observer(self)

    def give_up(self) -> None:
        """The worker does not come back: nobody will answer its calls, nor wait for them."""
        self.made.give_up()
        pending, self.pending = self.pending, {}
        for call in pending.values():
            self._engine.deadlines.remove(call)
            call.fail(InvocationStopped())

    _handlers: ClassVar[dict[type[Message], Callable[[Connection, Any], None]]] = {
        InvokeFunction: _invoke,
        InvocationResult: _result,
        TriggerRegistrationResult: _trigger_result,
        Reattach: _reattach,
        Ping: _ping,
        Pong: _nothing,
        WorkerRegistered: _nothing,
        RegistrationRejected: _nothing,
        **dict.fromkeys(Registrations.kinds, _register),
    }
