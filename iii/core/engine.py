"""The engine without I/O: the tables, and the way of a call through them.  Start reading at L{Engine.route}."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import attrs
import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from iii.core.channels import Channels
from iii.core.connections import Connection
from iii.core.errors import AnswerLost, CallTimedOut, FunctionNotFound
from iii.core.figures import Figure
from iii.core.functions import BuiltinFunction, Caller, Function, FunctionDeclaration, FunctionTable
from iii.core.invocations import Call, CallFailed, Completion, Deadlines
from iii.core.limits import Limits
from iii.core.reattach import ANSWER_TIMEOUT, BrokenOff
from iii.core.triggers import Provider, Trigger, TriggerTable
from iii.interfaces import IConnection, ITriggerProvider
from iii.wire.messages import ABSENT, DEFAULT_NAMESPACE, ErrorBody

MAX_LABEL = 200
"""Characters of a route in metrics."""
MAX_ROUTES_COUNTED = 10_000
"""Routes that are counted apart, former ones included; others are counted together."""

Ownership = Literal["shared", "exclusive"]


@attrs.define
class Counters:
    """Events since the start, exported as C{iii_*_total}; plain integers, because some count on the hot path."""

    calls: int = 0
    calls_refused: int = 0
    calls_timed_out: int = 0
    late_answers: int = 0
    answers_lost: int = 0
    malformed_frames: int = 0
    payloads_too_large: int = 0
    registrations_refused: int = 0
    connections: int = 0
    connections_refused: int = 0
    peers_dropped: int = 0
    telemetry_frames: int = 0
    telemetry_bytes: int = 0
    pubsub_messages: int = 0
    pubsub_deliveries: int = 0
    pubsub_dropped: int = 0
    pubsub_failed: int = 0
    pubsub_gaps: int = 0
    stream_connections: int = 0
    stream_connections_ended: int = 0
    stream_connections_refused: int = 0
    stream_subscriptions: int = 0
    stream_subscriptions_ended: int = 0
    stream_events: int = 0
    stream_deliveries: int = 0
    stream_clients_dropped: int = 0
    stream_gaps: int = 0
    cron_runs: int = 0
    cron_runs_failed: int = 0
    cron_runs_skipped: int = 0
    cron_missed: int = 0
    store_failed_commits: int = 0
    limit_hits: dict[str, int] = attrs.field(factory=dict)
    http_responses: dict[str, defaultdict[int, int]] = attrs.field(factory=dict)

    def responses_of(self, route: str) -> defaultdict[int, int]:
        """
        Where the responses of a route are counted, by status.

        @param route: Its method and path; empty for requests that reach no route.
        """
        route = route[:MAX_LABEL]
        if len(self.http_responses) >= MAX_ROUTES_COUNTED:
            route = route if route in self.http_responses else "…"
        return self.http_responses.setdefault(route, defaultdict(int))

    def hit(self, limit: str) -> None:
        """Something was refused, dropped or put off at the limit of this name."""
        self.limit_hits[limit] = self.limit_hits.get(limit, 0) + 1


@attrs.frozen
class Module:
    """
    A module as introspection shows it.

    @ivar id: Its entry in the configuration (C{iii-worker-manager#1}).
    """

    id: str
    name: str
    description: str
    internal: bool


class Engine:
    """
    Connections, functions, triggers, calls and channels of one engine.

    @ivar connections: All open connections by id.
    @ivar on_connected: Told of each new connection, which has not said who it is.
    @ivar on_disconnected: Told of each connection that has ended, when it is cleaned up.
    @ivar on_telemetry: Told of each telemetry frame, its prefix included, and who sent it, if that is known.
    @ivar figures: What modules export beside the counters: asked for each time.
    @ivar sockets: Open sockets of all worker listeners, counted by these.
    @ivar stopping: The engine takes no new work from outside; calls under way may still make others.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        limits: Limits,
        *,
        ownership: Ownership = "shared",
        call_timeout: float = 3600.0,
        namespace_grace: float = 5.0,
    ) -> None:
        """
        @param call_timeout: Seconds after which a call without a deadline of its own fails.
        @param namespace_grace: Seconds that a connection may stay without a namespace (spec/worker-protocol.md, 2.1).
        """
        self.clock, self.limits = clock, limits
        self.ownership, self.call_timeout, self.namespace_grace = ownership, call_timeout, namespace_grace
        self.connections: dict[str, Connection] = {}
        self.modules: list[Module] = []
        self.functions = FunctionTable()
        self.triggers = TriggerTable()
        self.channels = Channels(clock, limits.channels, limits.channel_buffer_bytes)
        self.deadlines = Deadlines(clock, self._expired)
        self.broken_off = BrokenOff(clock, limits.connections)
        self.counters = Counters()
        self.figures: list[Callable[[], Iterable[Figure]]] = []
        self.on_connected: list[Callable[[Connection], None]] = []
        self.on_disconnected: list[Callable[[Connection], None]] = []
        self.on_telemetry: list[Callable[[bytes, Connection | None], None]] = []
        self.stopping = False
        self.sockets = 0

    # Who takes part.

    def connected(self, edge: IConnection) -> Connection:
        """A worker has connected: give it an id and a say."""
        connection = Connection(self, edge)
        self.connections[connection.id] = connection
        self.counters.connections += 1
        for observer in self.on_connected:
            observer(connection)
        return connection

    def add_module(
        self,
        module: Module,
        functions: Sequence[FunctionDeclaration] = (),
        trigger_types: Mapping[str, ITriggerProvider] | None = None,
    ) -> None:
        """Take in what a module of the engine provides.  C{ValueError} when another one has declared it before."""
        self.modules.append(module)
        for declaration in functions:
            self.functions.declare(declaration, module.name)
        for type_id, handler in (trigger_types or {}).items():
            provider = Provider(handler, handler.description, module=module.name)
            for schema in ("configuration_schema", "request_schema", "response_schema"):
                described = getattr(handler, schema, None)
                if described is not None:
                    setattr(provider, schema, Raw(msgspec.json.encode(described)))
            self.triggers.provide((DEFAULT_NAMESPACE, type_id), provider)

    def peer_dropped(self, peer: object) -> None:
        """Count a peer that was cut off because too much waited to be sent to it."""
        self.counters.peers_dropped += 1
        self.counters.hit("outbox_hard_bytes")

    def telemetry_received(self, frame: bytes, sender: Connection | None = None) -> None:
        """
        A telemetry frame has come.  Never raises for the frame's sake.

        @param sender: The worker that sent it; C{None} on a connection for telemetry only.
        """
        self.counters.telemetry_frames += 1
        self.counters.telemetry_bytes += len(frame)
        if len(frame) > self.limits.telemetry_frame_bytes:
            self.counters.hit("telemetry_frame_bytes")
            return
        for observer in self.on_telemetry:
            try:
                observer(frame, sender)
            except Exception:  # a defect; whatever its frame met, the peer goes on
                self.log.failure("taking a telemetry frame failed")

    def owner_in_the_way(self, namespace: str, function_id: str, claimant: Connection) -> str | None:
        """
        Tell whose function keeps a connection from registering an id: a connection's id, C{""} for the engine's own,
        C{None} for nobody's.
        """
        if namespace != DEFAULT_NAMESPACE and function_id.startswith("engine::"):
            return ""
        function = self.functions.find(namespace, function_id)
        if isinstance(function, BuiltinFunction):
            return ""
        if function is not None and self.ownership == "exclusive":
            return next((owner.id for owner in function.owners if owner is not claimant), None)
        return None

    def exclusive_owner_of_name(self, namespace: str, name: str | None, claimant: Connection) -> Connection | None:
        """With exclusive ownership, return the other connection that has a worker name."""
        if self.ownership != "exclusive" or name is None:
            return None
        for other in self.connections.values():
            if other is not claimant and other.namespace == namespace and other.name == name:
                return other
        return None

    def remove_trigger(self, trigger: Trigger) -> None:
        """End a trigger that is in the table, whoever owns it."""
        if trigger.owner is not None:
            del trigger.owner.registrations.triggers[trigger.id]
        self.triggers.remove(trigger)

    # Calls.

    def invoke(
        self,
        function_id: str,
        data: Raw,
        complete: Completion,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        metadata: Raw = ABSENT,
        timeout: float | None = None,
        traceparent: str | None = None,
        baggage: str | None = None,
    ) -> Call:
        """
        Call a function on behalf of the engine: a trigger has fired, or a module needs something.

        @param complete: Called once with the outcome, perhaps before this returns.
        @param timeout: Seconds; the engine's generous default without one.
        @return: The call, to cancel it when nobody waits any more.
        """
        call = Call(function_id, complete, self.call_timeout if timeout is None else timeout)
        function = self.functions.find(namespace, function_id)
        self.route(call, function, namespace, data, metadata, traceparent, baggage, None)
        return call

    def call(
        self,
        function_id: str,
        data: Raw,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        metadata: Raw = ABSENT,
        timeout: float | None = None,
        traceparent: str | None = None,
        baggage: str | None = None,
    ) -> Deferred[Raw]:
        """L{invoke} for code that is not on the hot path: the result, or a failure with L{CallFailed}."""

        def complete(_: Call, result: Raw, error: ErrorBody | None) -> None:
            if error is None:
                waiting.callback(result)
            else:
                waiting.errback(CallFailed(error))

        waiting: Deferred[Raw] = Deferred(lambda _: call.cancel())
        call = self.invoke(
            function_id,
            data,
            complete,
            namespace=namespace,
            metadata=metadata,
            timeout=timeout,
            traceparent=traceparent,
            baggage=baggage,
        )
        return waiting

    def route(
        self,
        call: Call,
        function: Function | None,
        namespace: str,
        data: Raw,
        metadata: Raw,
        traceparent: str | None,
        baggage: str | None,
        caller: Connection | None,
    ) -> None:
        """Bring a call to whoever serves the function, or end it with an error."""
        self.counters.calls += 1
        if function is None:
            elsewhere = [] if caller is None else self.functions.namespaces_of(call.function_id)
            call.fail(FunctionNotFound(call.function_id, namespace, elsewhere))
        elif isinstance(function, BuiltinFunction):
            function.call(call, data, Caller(caller, traceparent, baggage))
        else:
            function.pick().deliver(call, data, metadata, traceparent, baggage)

    def _expired(self, call: Call) -> None:
        self.counters.calls_timed_out += 1
        assert call.callee is not None
        error = AnswerLost(ANSWER_TIMEOUT) if call.cut else CallTimedOut(call.function_id, call.timeout)
        call.callee.expire(call, error)

    def under_way(self) -> set[Call]:
        """The calls that workers have not answered yet."""
        waited_for = (*self.connections.values(), *self.broken_off)
        return {call for connection in waited_for for call in connection.pending.values()}

    def unanswered(self) -> int:
        """How many these are."""
        return sum(len(connection.pending) for connection in self.connections.values()) + self.broken_off.unanswered()

    def close(self) -> None:
        """End no more calls: the engine has stopped."""
        self.broken_off.close()
        self.deadlines.stop()
