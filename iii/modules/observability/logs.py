"""
Log records from where they are written to where they go (spec/observability.md, 5 and 7).

They come from the functions C{engine::log::*}, from C{LOGS} frames, and from the engine's own log.  They go into the
store, to C{log} triggers and, those of workers, into the engine's log.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Raw
from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogEvent, Logger, LogLevel, formatEvent

from iii import __version__
from iii.config.blocks.observability import ObservabilitySettings
from iii.core.complaints import Complaints
from iii.core.functions import Caller, NoInput
from iii.core.shown import ACCESS_KEY, shown
from iii.modules.observability.otlp import BadFrame, log_records
from iii.modules.observability.records import LEVELS, NOTHING, LogRecord, LogStore
from iii.modules.observability.triggers import LogTriggers
from iii.wire.messages import ABSENT, MAX_DEPTH, is_null, nested_deeper, value_of

if TYPE_CHECKING:
    from iii.core.connections import Connection

WORKERS = "worker"
"""The namespace in Twisted's log of what workers have written."""
MAX_NESTING = MAX_DEPTH - 7
MAX_SHOWN = 4000
"""Characters of a worker's record in the engine's log; the store has all."""
_TWISTED_LEVELS = ((17, LogLevel.error), (13, LogLevel.warn), (9, LogLevel.info), (0, LogLevel.debug))
_USUAL = {"service.name", "trace_id", "span_id"}
_NUMBERS = {
    LogLevel.debug: LEVELS["debug"],
    LogLevel.info: LEVELS["info"],
    LogLevel.warn: LEVELS["warn"],
    LogLevel.error: LEVELS["error"],
    LogLevel.critical: 21,
}


log, of_workers = Logger(), Logger(namespace=WORKERS)  # as a member of a class, one is named after the class


class LogEntry(msgspec.Struct):
    """What to write."""

    message: str
    data: Annotated[Raw, Meta(description="an object; its members become attributes")] = msgspec.field(
        default_factory=lambda: ABSENT
    )
    trace_id: Annotated[str | None, Meta(description="default: that of the call")] = None
    span_id: str | None = None
    service_name: Annotated[str | None, Meta(description="default: the worker's name")] = None


class LogQuery(msgspec.Struct):
    """Which records; each member leaves out others."""

    start_time: Annotated[int | None, Meta(description="in ms since the epoch, inclusive")] = None
    end_time: Annotated[int | None, Meta(description="in ms since the epoch, inclusive")] = None
    trace_id: str | None = None
    span_id: str | None = None
    severity_min: Annotated[int | None, Meta(description="OpenTelemetry's severity number")] = None
    severity_text: Annotated[str | None, Meta(description="in any case")] = None
    offset: Annotated[int, Meta(ge=0)] | None = None
    limit: Annotated[int, Meta(ge=0)] | None = None

    def wants(self, record: LogRecord) -> bool:
        """Whether a record is one of these."""
        milliseconds = record.timestamp_unix_nano // 1_000_000
        return (
            (self.start_time is None or milliseconds >= self.start_time)
            and (self.end_time is None or milliseconds <= self.end_time)
            and (self.trace_id is None or record.trace_id == self.trace_id)
            and (self.span_id is None or record.span_id == self.span_id)
            and (self.severity_min is None or record.severity_number >= self.severity_min)
            and (self.severity_text is None or record.severity_text.lower() == self.severity_text.lower())
        )


class LogListing(msgspec.Struct):
    """Records, newest first, and how many there are without C{offset} and C{limit}."""

    logs: list[LogRecord]
    total: int
    query: LogQuery
    timestamp: Annotated[int, Meta(description="now, in ms since the epoch")]


class Cleared(msgspec.Struct):
    """The store is empty."""

    success: bool = True


class Logs:
    """
    Takes in log records.

    @ivar store: Those that are kept.
    @ivar triggers: Who is told.
    """

    def __init__(
        self,
        settings: ObservabilitySettings,
        store: LogStore,
        triggers: LogTriggers,
        clock: IReactorTime,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        @param chance: Returns a number from 0 to 1, for C{logs_sampling_ratio}.
        """
        self.store, self.triggers = store, triggers
        self._settings, self._clock, self._chance = settings, clock, chance
        self._complaints = Complaints(log, clock)
        self._on = settings.enabled and settings.logs_enabled
        self._least_shown = LEVELS.get(settings.plain_level, LEVELS["info"])
        self._engine_resource = Raw(msgspec.json.encode({"service.name": settings.service_name}))

    # Where records come from.

    def writer(self, level: str) -> Callable[[LogEntry, Caller], None]:
        """Return the function C{engine::log::LEVEL}."""

        def write(entry: LogEntry, caller: Caller) -> None:
            if not self._on or self._chance() >= self._settings.logs_sampling_ratio:
                return
            now = self._now()
            record = LogRecord(
                timestamp_unix_nano=now,
                observed_timestamp_unix_nano=now,
                severity_number=LEVELS[level],
                severity_text=level.upper(),
                body=entry.message,
                attributes=_attributes(entry.data),
                trace_id=entry.trace_id or _part(caller.traceparent, 1),
                span_id=entry.span_id or (None if entry.trace_id else _part(caller.traceparent, 2)),
                resource=self._engine_resource,
                service_name=entry.service_name or _name(caller.connection) or "unknown",
                instrumentation_scope_name="iii",
                instrumentation_scope_version=__version__,
            )
            self._show(record, None if caller.connection is None else caller.connection.label)
            self._take(record, caller.connection)

        return write

    def frame_received(self, frame: bytes, sender: Connection | None) -> None:
        """
        Take the records of a C{LOGS} frame.

        @param sender: Who sent it; C{None} on a connection for telemetry only.
        """
        if not self._on:
            return
        name = "a telemetry connection" if sender is None else f"worker {sender.label}"
        try:
            records, bad = log_records(frame, self._now())
        except BadFrame as error:
            self._complaints.warn("a LOGS frame of {sender} is dropped: {error}", sender=name, error=str(error))
            return
        if bad:
            self._complaints.warn("{count} records of a LOGS frame of {sender} are dropped", sender=name, count=bad)
        for record in records:
            self._show(record, record.service_name)
            self._take(record, sender)

    def engine_event(self, event: LogEvent) -> None:
        """
        Take an event of Twisted's log, unless it is a worker's record, which has been taken, a line about one request,
        or below the level of the settings.
        """
        if not self._on or event.get("log_namespace") == WORKERS or ACCESS_KEY in event:
            return
        level = event.get("log_level", LogLevel.info)
        if _NUMBERS[level] < self._least_shown:
            return
        failure = event.get("log_failure")
        text = formatEvent(event)
        now = self._now()
        record = LogRecord(
            timestamp_unix_nano=int(event.get("log_time", now / 1e9) * 1e9),
            observed_timestamp_unix_nano=now,
            severity_number=_NUMBERS[level],
            severity_text="FATAL" if level is LogLevel.critical else level.name.upper(),
            body=text if failure is None else f"{text}\n{failure.getTraceback()}",
            attributes=Raw(msgspec.json.encode({"target": event.get("log_namespace") or ""})),
            resource=self._engine_resource,
            service_name=self._settings.service_name,
            instrumentation_scope_name="iii",
            instrumentation_scope_version=__version__,
        )
        self.store.add(record)
        if LogTriggers.EVENT_KEY not in event:
            self.triggers.fire(record, from_worker=False)

    # Where they go.

    def _take(self, record: LogRecord, writer: Connection | None) -> None:
        self.store.add(record)
        self.triggers.fire(record, writer, from_worker=True)

    def _show(self, record: LogRecord, writer: str | None) -> None:
        """Write a worker's record to the engine's log, on one line."""
        if not self._settings.logs_console_output or record.severity_number < self._least_shown:
            return
        level = next(level for least, level in _TWISTED_LEVELS if record.severity_number >= least)
        data = _noteworthy(record)
        of_workers.emit(
            level,
            "{writer}: {body}{data}{trace}",
            writer=shown(writer or "engine"),
            body=shown(record.body, MAX_SHOWN),
            data=f" {shown(msgspec.json.encode(data).decode(), MAX_SHOWN)}" if data else "",
            trace=f" trace_id={shown(record.trace_id)}" if record.trace_id else "",
        )

    # What functions see of them.

    def listing(self, query: LogQuery, caller: Caller) -> LogListing:
        """C{engine::logs::list}."""
        found = [record for record in self.store.newest_first() if query.wants(record)]
        start = query.offset or 0
        end = None if query.limit is None else start + query.limit
        return LogListing(found[start:end], len(found), query, self._now() // 1_000_000)

    def clear(self, _: NoInput, caller: Caller) -> Cleared:
        """C{engine::logs::clear}."""
        self.store.clear()
        return Cleared()

    def _now(self) -> int:
        return int(self._clock.seconds() * 1e9)


def _attributes(data: Raw) -> Raw:
    """
    Return what was logged as a JSON object that every reader takes: numbers beyond a double's range become null, and
    what is nested so deeply that a listing of it would be no message becomes a text.
    """
    if is_null(data):
        return NOTHING
    value: object = bytes(data).decode() if nested_deeper(bytes(data), MAX_NESTING) else value_of(data)
    return Raw(msgspec.json.encode(value if isinstance(value, dict) else {"data": value}))


def _noteworthy(record: LogRecord) -> object:
    """Return what stands in a record's attributes beside what SDKs put into all of them."""
    attributes = {key: value for key, value in value_of(record.attributes).items() if key not in _USUAL}
    return attributes.pop("log.data") if attributes.keys() == {"log.data"} else attributes


def _name(connection: Connection | None) -> str | None:
    return None if connection is None else connection.name


def _part(traceparent: str | None, index: int) -> str | None:
    """Return a part of a W3C C{traceparent} that was checked."""
    return None if traceparent is None else traceparent.split("-")[index]
