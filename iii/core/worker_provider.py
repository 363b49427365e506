"""Workers that provide trigger types (spec/worker-protocol.md, 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw
from zope.interface import implementer

from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.wire.messages import DEFAULT_NAMESPACE, RegisterTrigger, UnregisterTrigger, encode

if TYPE_CHECKING:
    from iii.core.connections import Connection


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
