"""
What one connection has registered: functions, trigger types and triggers (spec/worker-protocol.md, 6 and 9).

All of it ends with the connection, and nothing else does: what a newer connection has taken over is no longer here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Raw
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.errors import InvalidNamespace, TooManyRegistrations, TriggerRefused
from iii.core.gate import RegistrationGate
from iii.core.invocations import error_body
from iii.core.triggers import Provider, ProviderKey, Trigger
from iii.interfaces import ITriggerProvider
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


class Registrations:
    """
    Applies a connection's registrations to the engine's tables, once its namespace is known.

    @ivar functions: Ids of the functions it serves.
    @ivar triggers: Ids of the triggers it owns.
    @ivar trigger_types: Keys of the types it provides.
    """

    log = Logger()

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self._engine, self._connection = engine, connection
        self._gate = RegistrationGate(engine.limits.held_registrations)
        self.functions: dict[str, None] = {}
        self.triggers: dict[str, None] = {}
        self.trigger_types: dict[ProviderKey, None] = {}

    @property
    def namespace(self) -> str | None:
        """Where its functions live; C{None} until that is known."""
        return self._gate.namespace

    def holds(self, function_id: str) -> bool:
        """Whether a function waits for the namespace to be known."""
        return function_id in self._gate.functions

    def received(self, message: Message) -> None:
        """Apply a registration, now or when the namespace is known."""
        try:
            for registration in self._gate.admit(message):
                self._apply[type(registration)](self, registration)
        except TooManyRegistrations as error:
            self._too_many(error)

    def open(self, namespace: str) -> None:
        """The namespace is known: apply what was held back, in order."""
        for registration in self._gate.resolve(namespace):
            try:
                self._apply[type(registration)](self, registration)
            except TooManyRegistrations as error:
                self._too_many(error)

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

    def _too_many(self, error: TooManyRegistrations) -> None:
        self._engine.counters.registrations_refused += 1
        self.log.warn("worker {worker}: {error}", worker=self._connection.label, error=str(error))
        self._send(RegistrationRejected("TOO_MANY_REGISTRATIONS", self.namespace or DEFAULT_NAMESPACE, ""))

    def _send(self, message: Message) -> None:
        self._connection.edge.send(encode(message))

    # Functions.

    def _register_function(self, message: RegisterFunction) -> None:
        namespace, engine = self._namespace, self._engine
        if message.invocation:
            self.log.warn(
                "worker {worker} registered the HTTP function {function}; HTTP functions are not available yet",
                worker=self._connection.label,
                function=message.id,
            )
            return
        if message.id not in self.functions and len(self.functions) >= engine.limits.functions_per_connection:
            raise TooManyRegistrations(engine.limits.functions_per_connection, "functions")
        owner = engine.owner_in_the_way(namespace, message.id, self._connection)
        if owner is not None:
            self._send(RegistrationRejected("FUNCTION_NAMESPACE_CONFLICT", namespace, owner, function_id=message.id))
            return
        for name in ("request_format", "response_format", "metadata"):
            setattr(message, name, getattr(message, name).copy())  # the frame need not stay in memory
        self.functions[message.id] = None
        for other in engine.functions.add(namespace, self._connection, message):
            other.probe()

    def _unregister_function(self, message: UnregisterFunction) -> None:
        if message.id in self.functions:
            del self.functions[message.id]
            self._engine.functions.remove(self._namespace, self._connection, message.id)

    # Trigger types.

    def _register_trigger_type(self, message: RegisterTriggerType) -> None:
        namespace = self._namespace if message.namespace is None else message.namespace
        if not namespace.strip():
            self.log.warn("worker {worker}: {error}", worker=self._connection.label, error=str(InvalidNamespace()))
            return
        key = (namespace, message.id)
        self._count_triggers(key not in self.trigger_types)
        present = self._engine.triggers.provider(key)
        if present is not None and present.module is not None:
            self.log.warn(
                "worker {worker} registered trigger type {type}, which module {module} provides; it is ignored",
                worker=self._connection.label,
                type=message.id,
                module=present.module,
            )
            return
        self.trigger_types[key] = None
        provider = Provider(
            WorkerTriggerProvider(self._connection, message.description, namespace),
            message.description,
            self._connection,
            configuration_schema=message.trigger_request_format.copy(),
            request_schema=message.call_request_format.copy(),
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
                self._trigger_failed(message, error_body(InvalidNamespace(field)))
                return
        self._count_triggers(message.id not in self.triggers)
        trigger = Trigger(
            id=message.id,
            trigger_type=message.trigger_type,
            function_id=message.function_id,
            config=NULL if is_null(message.config) else message.config.copy(),
            metadata=ABSENT if is_null(message.metadata) else message.metadata.copy(),
            namespace=message.namespace or DEFAULT_NAMESPACE,
            trigger_namespace=message.trigger_namespace,
            origin=self._namespace,
            owner=self._connection,
            report=self._report,
        )
        previous = self._engine.triggers.find(message.id)
        try:
            self._engine.triggers.register(trigger)
        except TriggerRefused as error:
            self._trigger_failed(message, error_body(error))
            return
        if previous is not None and previous.owner is not None:
            del previous.owner.registrations.triggers[message.id]
        self.triggers[message.id] = None

    def _count_triggers(self, one_more: bool) -> None:
        limit = self._engine.limits.triggers_per_connection
        if one_more and len(self.triggers) + len(self.trigger_types) >= limit:
            raise TooManyRegistrations(limit, "triggers and trigger types")

    def _report(self, trigger: Trigger, error: ErrorBody | None) -> None:
        if error is not None:
            self._trigger_failed(trigger, error)

    def _trigger_failed(self, trigger: RegisterTrigger | Trigger, error: ErrorBody) -> None:
        """Tell the worker that a trigger of its own was not taken by the type's provider."""
        self._send(TriggerRegistrationResult(trigger.id, trigger.trigger_type, trigger.function_id, error))

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


@implementer(ITriggerProvider)
class WorkerTriggerProvider:
    """A worker that provides a trigger type: it is told in messages, and fires by itself (spec, 9.5)."""

    def __init__(self, connection: Connection, description: str, namespace: str) -> None:
        self.description = description
        self._connection = connection
        self._namespace = None if namespace == DEFAULT_NAMESPACE else namespace

    def register(self, trigger: Trigger) -> None:
        message = RegisterTrigger(
            trigger.id,
            trigger.trigger_type,
            trigger.function_id,
            Raw(trigger.config),
            trigger.metadata,
            None if trigger.namespace == DEFAULT_NAMESPACE else trigger.namespace,
            self._namespace,
        )
        self._connection.edge.send(encode(message))

    def unregister(self, trigger: Trigger) -> None:
        self._connection.edge.send(encode(UnregisterTrigger(trigger.id, trigger.trigger_type)))
