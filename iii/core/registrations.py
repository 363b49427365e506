"""
What one connection has registered: functions, trigger types and triggers (spec/worker-protocol.md, 6 and 9).

All of it ends with the connection, and nothing else does: what a newer connection has taken over is no longer here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec.structs import astuple
from twisted.logger import Logger

from iii.core.budget import Budget, Kept, detach, size_of
from iii.core.complaints import Complaints
from iii.core.errors import (
    EngineError,
    HttpFunctionsUnavailable,
    IdTooLong,
    InternalError,
    InvalidNamespace,
    TooManyRegistrations,
    TypeOfModule,
)
from iii.core.gate import RegistrationGate
from iii.core.ids import new_id
from iii.core.invocations import error_body
from iii.core.triggers import Provider, ProviderKey, Trigger
from iii.core.worker_provider import WorkerTriggerProvider
from iii.wire.messages import (
    ABSENT,
    DEFAULT_NAMESPACE,
    NULL,
    ErrorBody,
    Message,
    RegisterFunction,
    RegisterService,
    RegisterTrigger,
    RegisterTriggerType,
    RegistrationRejected,
    TriggerRegistrationResult,
    UnregisterFunction,
    UnregisterTrigger,
    UnregisterTriggerType,
    encode,
    is_null,
)

if TYPE_CHECKING:
    from iii.core.connections import Connection
    from iii.core.engine import Engine

FUNCTION_REJECTED = "FUNCTION_NAMESPACE_CONFLICT"
"""The only code of a rejection that SDKs live with; any other one ends their connection for good (spec, 6)."""
MAX_ID = 1024
"""Characters of an id or a namespace."""


class Registrations:
    """
    Applies a connection's registrations to the engine's tables, once its namespace is known.  One that cannot be
    applied, for whatever reason, is refused and skipped.

    @ivar functions: Ids of the functions it serves.
    @ivar triggers: Ids of the triggers it owns.
    @ivar trigger_types: Keys of the types it provides.
    @ivar budget: The bytes of all these, and of whatever else waits for the namespace to be known.
    @ivar complaints: Warnings about this connection.
    """

    log = Logger()

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self._engine, self._connection = engine, connection
        self.complaints = Complaints(self.log, engine.clock)
        self.budget = Budget(engine.limits.registration_bytes_per_connection)
        self.functions: Kept[str] = Kept(self.budget)
        self.triggers: Kept[str] = Kept(self.budget)
        self.trigger_types: Kept[ProviderKey] = Kept(self.budget)
        self._gate = RegistrationGate(engine.limits.held_registrations, self.budget)

    @property
    def namespace(self) -> str | None:
        """Where its functions live; C{None} until that is known."""
        return self._gate.namespace

    @property
    def waiting(self) -> int:
        """How many registrations wait for the namespace to be known."""
        return len(self._gate)

    def holds(self, function_id: str) -> bool:
        """Whether a function waits for the namespace to be known."""
        return function_id in self._gate.functions

    def received(self, message: Message) -> None:
        """Apply a registration, now or when the namespace is known."""
        try:
            check_ids(message)
            detach(message)
            admitted = self._gate.admit(message, size_of(*astuple(message)))
        except EngineError as error:
            self._refuse(message, error)
        else:
            self._apply_all(admitted)

    def open(self, namespace: str) -> None:
        """The namespace is known: apply what was held back, in order."""
        self._apply_all(self._gate.resolve(namespace))

    def _apply_all(self, registrations: list[Message]) -> None:
        for registration in registrations:
            try:
                self._apply[type(registration)](self, registration)
            except EngineError as error:
                self._refuse(registration, error)
            except Exception:
                defect = InternalError(new_id())
                self.log.failure("a registration failed, error {error_id}", error_id=defect.error_id)
                self._refuse(registration, defect)

    def _refuse(self, message: Message, error: EngineError) -> None:
        """Tell the worker as far as its SDK understands it, and the log."""
        if isinstance(error, TooManyRegistrations):
            self._engine.counters.registrations_refused += 1
            self._engine.counters.hit(error.setting)
        if isinstance(message, RegisterFunction):
            self._reject_function(message.id, "")
        elif isinstance(message, RegisterTrigger):
            self._trigger_failed(message, error_body(error))
        self.complaints.warn(
            "worker {worker}: {kind} of {id} is refused: {error}",
            worker=self._connection.label,
            kind=message.__struct_config__.tag,
            id=getattr(message, "id", ""),
            error=str(error),
        )

    def drop(self) -> None:
        """The connection has ended: remove what still belongs to it."""
        self._gate.resolve(DEFAULT_NAMESPACE)  # what is held was never applied
        for function_id in self.functions:
            self._engine.functions.remove(self._namespace, self._connection, function_id)
        for trigger_id in list(self.triggers):
            self._remove_trigger(trigger_id)
        for key in self.trigger_types:
            self._engine.triggers.withdraw(key, self._connection)

    @property
    def _namespace(self) -> str:
        assert self._gate.namespace is not None
        return self._gate.namespace

    def _send(self, message: Message) -> None:
        self._connection.edge.send(encode(message))

    # Functions.

    def _register_function(self, message: RegisterFunction) -> None:
        namespace, engine = self._namespace, self._engine
        if not is_null(message.invocation):
            raise HttpFunctionsUnavailable
        limit = engine.limits.functions_per_connection
        if message.id not in self.functions and len(self.functions) >= limit:
            raise TooManyRegistrations(limit, "functions", "functions_per_connection")
        owner = engine.owner_in_the_way(namespace, message.id, self._connection)
        if owner is not None:
            self._reject_function(message.id, owner)
            return
        self.functions.keep(message.id, size_of(*astuple(message)))
        for other in engine.functions.add(namespace, self._connection, message):
            other.probe()

    def _reject_function(self, function_id: str, owner: str) -> None:
        namespace = self.namespace or DEFAULT_NAMESPACE
        self._send(RegistrationRejected(FUNCTION_REJECTED, namespace, owner, function_id=function_id[:MAX_ID]))

    def _unregister_function(self, message: UnregisterFunction) -> None:
        if message.id in self.functions:
            del self.functions[message.id]
            self._engine.functions.remove(self._namespace, self._connection, message.id)

    # Trigger types.

    def _register_trigger_type(self, message: RegisterTriggerType) -> None:
        namespace = self._namespace if message.namespace is None else message.namespace
        if not namespace.strip():
            raise InvalidNamespace
        key = (namespace, message.id)
        self._count_triggers(key not in self.trigger_types)
        present = self._engine.triggers.provider(key)
        if present is not None and present.module is not None:
            raise TypeOfModule(present.module)
        self.trigger_types.keep(key, size_of(*astuple(message)))
        provider = Provider(
            WorkerTriggerProvider(self._connection, message.description, namespace),
            message.description,
            self._connection,
            configuration_schema=message.trigger_request_format,
            request_schema=message.call_request_format,
        )
        self._engine.triggers.provide(key, provider)

    def _unregister_trigger_type(self, message: UnregisterTriggerType) -> None:
        key = (message.namespace or self._namespace, message.id)
        if key in self.trigger_types:
            del self.trigger_types[key]
            self._engine.triggers.withdraw(key, self._connection)

    def answered(self, message: TriggerRegistrationResult) -> None:
        """The worker says how it took a trigger of a type that it provides."""
        for key in self.trigger_types:
            if key[1] == message.trigger_type:
                self._engine.triggers.answered(key, self._connection, message.id, message.error)

    # Triggers.

    def _register_trigger(self, message: RegisterTrigger) -> None:
        for field in ("namespace", "trigger_namespace"):
            value = getattr(message, field)
            if value is not None and not value.strip():
                raise InvalidNamespace(field)
        self._count_triggers(message.id not in self.triggers)
        trigger = Trigger(
            id=message.id,
            trigger_type=message.trigger_type,
            function_id=message.function_id,
            config=NULL if is_null(message.config) else message.config,
            metadata=ABSENT if is_null(message.metadata) else message.metadata,
            namespace=message.namespace or DEFAULT_NAMESPACE,
            trigger_namespace=message.trigger_namespace,
            origin=self._namespace,
            owner=self._connection,
            report=self._report,
        )
        self.triggers.check(trigger.id, trigger.size)
        previous = self._engine.triggers.find(message.id)
        self._engine.triggers.register(trigger)
        if trigger.binding is None:
            self.complaints.warn(
                "worker {worker}: trigger {id} for {function} waits: {reason}",
                worker=self._connection.label,
                id=trigger.id,
                function=trigger.function_id,
                reason=trigger.reason,
            )
        if previous is not None and previous.owner is not None:
            del previous.owner.registrations.triggers[message.id]
        self.triggers.keep(trigger.id, trigger.size)

    def _count_triggers(self, one_more: bool) -> None:
        limit = self._engine.limits.triggers_per_connection
        if one_more and len(self.triggers) + len(self.trigger_types) >= limit:
            raise TooManyRegistrations(limit, "triggers and trigger types", "triggers_per_connection")

    def _report(self, trigger: Trigger, error: ErrorBody | None) -> None:
        if error is not None:
            self._trigger_failed(trigger, error)

    def _trigger_failed(self, trigger: RegisterTrigger | Trigger, error: ErrorBody) -> None:
        """Tell the worker that a trigger of its own was not taken by the type's provider."""
        self._send(
            TriggerRegistrationResult(
                trigger.id[:MAX_ID], trigger.trigger_type[:MAX_ID], trigger.function_id[:MAX_ID], error
            )
        )

    def _unregister_trigger(self, message: UnregisterTrigger) -> None:
        if message.id in self.triggers:
            self._remove_trigger(message.id)

    def _remove_trigger(self, trigger_id: str) -> None:
        trigger = self._engine.triggers.find(trigger_id)
        assert trigger is not None
        self._engine.remove_trigger(trigger)

    def _nothing(self, message: Message) -> None:
        """Accepted without effect."""

    _apply: ClassVar[dict[type[Message], Callable[[Registrations, Any], None]]] = {
        RegisterFunction: _register_function,
        UnregisterFunction: _unregister_function,
        RegisterService: _nothing,
        RegisterTriggerType: _register_trigger_type,
        UnregisterTriggerType: _unregister_trigger_type,
        RegisterTrigger: _register_trigger,
        UnregisterTrigger: _unregister_trigger,
    }
    kinds = tuple(_apply)
    """The messages that are registrations."""


def check_ids(message: Message) -> None:
    """L{IdTooLong} when something in a registration that is to be an id or a namespace is none."""
    for field in ("id", "trigger_type", "function_id", "namespace", "trigger_namespace"):
        value = getattr(message, field, None)
        if value is not None and len(value) > MAX_ID:
            raise IdTooLong(field, MAX_ID)
