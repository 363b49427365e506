"""
The trigger type C{log} (spec/observability.md, 8.1).

A handler that logs must not call itself, nor another handler that calls it back.  Deliveries have traces of their own,
and records that are written in one of these fire nothing.  Nor do records without any trace of a worker that handles
one, or has done so in the last moment; where it is not known which worker wrote, as in telemetry, any such one counts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
from msgspec import UNSET, Raw
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.core.errors import TriggerRefused
from iii.core.invocations import Call
from iii.core.shown import shown
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.observability.records import LEVELS, LogRecord
from iii.wire.messages import ErrorBody, value_of

if TYPE_CHECKING:
    from iii.core.connections import Connection


QUIET = 1.0
"""Seconds after a delivery in which what its worker writes without a trace fires nothing."""
MAX_PER_OWNER = 100
"""Triggers of one connection: each one multiplies every record."""


@attrs.define(eq=False)
class Listener:
    """
    A live trigger.

    @ivar minimum: The lowest severity number that it wants.
    @ivar trace_id: Of all its deliveries.
    @ivar under_way: How many deliveries its function has not answered.
    """

    trigger: Trigger
    minimum: int
    trace_id: str = attrs.field(factory=lambda: token_hex(16))
    under_way: int = 0


@implementer(ITriggerProvider)
class LogTriggers:
    """
    Calls functions for log records of at least their level.  What they return does not matter.

    @cvar EVENT_KEY: In an event of Twisted's log, marks what is said about a delivery, which is never delivered itself.
    """

    log = Logger()
    description = "A log record has been written"
    EVENT_KEY = "iii_log_delivery"

    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "level": {
                "type": "string",
                "enum": ["all", *LEVELS],
                "default": "all",
                "description": "the lowest level that is delivered",
            },
            "severity_min": {"type": "integer", "description": "likewise, as OpenTelemetry's severity number"},
        },
    }
    request_schema: Mapping[str, Any] = {
        "type": "object",
        "description": "an OpenTelemetry log record",
        "properties": {
            "timestamp_unix_nano": {"type": "integer"},
            "observed_timestamp_unix_nano": {"type": "integer"},
            "severity_number": {"type": "integer"},
            "severity_text": {"type": "string"},
            "body": {"type": "string"},
            "attributes": {"type": "object"},
            "trace_id": {"type": "string", "description": "empty when there is none"},
            "span_id": {"type": "string", "description": "empty when there is none"},
            "resource": {"type": "object"},
            "service_name": {"type": "string"},
            "instrumentation_scope_name": {"type": "string"},
            "instrumentation_scope_version": {"type": "string"},
        },
    }

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._complaints = Complaints(self.log, engine.clock)
        self._listeners: dict[str, Listener] = {}
        self._traces: set[str] = set()
        self._calls: set[Call] = set()  # deliveries that workers have not answered
        self._quiet: OrderedDict[Connection, float] = OrderedDict()  # who has answered one, until when it is quiet
        self._firing = False

    def register(self, trigger: Trigger) -> None:
        """
        Call the trigger's function from now on.

        @raise TriggerRefused: Its level is none, or its owner has too many.
        """
        others = sum(other.trigger.owner is trigger.owner for other in self._listeners.values())
        if trigger.id not in self._listeners and others >= MAX_PER_OWNER:
            raise TriggerRefused(f"a connection may have {MAX_PER_OWNER} triggers of type log")
        listener = Listener(trigger, _minimum(value_of(trigger.config)))
        if trigger.id in self._listeners:
            self.unregister(trigger)
        self._listeners[trigger.id] = listener
        self._traces.add(listener.trace_id)

    def unregister(self, trigger: Trigger) -> None:
        """Call it no more."""
        self._traces.discard(self._listeners.pop(trigger.id).trace_id)

    def fire(self, record: LogRecord, writer: Connection | None = None, *, from_worker: bool) -> None:
        """
        Deliver a record to those that want it.

        @param writer: The worker that wrote it, as far as that is known.
        @param from_worker: A worker did, and not the engine.
        """
        if self._firing:  # it tells of a delivery that has failed at once
            return
        wanting = [listener for listener in self._listeners.values() if record.severity_number >= listener.minimum]
        if not wanting or (from_worker and self._caused(record, writer)):
            return
        payload = _payload(record)
        self._firing = True
        try:
            for listener in wanting:
                self._deliver(listener, payload)
        finally:
            self._firing = False

    def _caused(self, record: LogRecord, writer: Connection | None) -> bool:
        """Whether a record was, as far as one can tell, written because of an earlier one."""
        if record.trace_id is not None:
            return record.trace_id in self._traces
        now = self._engine.clock.seconds()
        while self._quiet and next(iter(self._quiet.values())) <= now:
            self._quiet.popitem(last=False)
        if writer is None:
            return bool(self._calls or self._quiet)
        return writer in self._quiet or any(call.callee is writer for call in self._calls)

    def _deliver(self, listener: Listener, payload: Raw) -> None:
        if listener.under_way >= self._engine.limits.log_deliveries:
            self._engine.counters.hit("log_deliveries")
            return
        trigger = listener.trigger
        listener.under_way += 1
        call = self._engine.invoke(
            trigger.function_id,
            payload,
            partial(self._ended, listener),
            namespace=trigger.namespace,
            metadata=trigger.metadata,
            traceparent=f"00-{listener.trace_id}-{token_hex(8)}-01",
        )
        if call.slot is not None:
            self._calls.add(call)

    def _ended(self, listener: Listener, call: Call, result: Raw, error: ErrorBody | None) -> None:
        listener.under_way -= 1
        self._calls.discard(call)
        if call.callee is not None:
            self._quiet[call.callee] = self._engine.clock.seconds() + QUIET
            self._quiet.move_to_end(call.callee)
            if len(self._quiet) > MAX_PER_OWNER * 10:
                self._quiet.popitem(last=False)
        if error is not None:
            self._complaints.warn(
                "{function} failed on a log record: {code}: {text}",
                function=call.function_id, code=error.code, text=error.message, marks={self.EVENT_KEY: True},
            )  # fmt: skip


def _minimum(config: Any) -> int:
    """Return the lowest severity number that a trigger's config asks for; C{severity_min} is that of old SDKs."""
    if not isinstance(config, dict):
        return 0
    level, number = config.get("level"), config.get("severity_min")
    minimum = number if type(number) is int else 0
    if not isinstance(level, str) or level.lower() == "all":
        return minimum
    if level.lower() not in LEVELS:
        raise TriggerRefused(f"`level` is {shown(level)}; it can be all, {', '.join(LEVELS)}")
    return max(minimum, LEVELS[level.lower()])


def _payload(record: LogRecord) -> Raw:
    """Return a record with all its members; the Rust SDK wants texts where there is nothing."""
    complete = {
        name: "" if value is UNSET or value is None else value for name, value in msgspec.structs.asdict(record).items()
    }
    return Raw(msgspec.json.encode(complete))
