"""Logs, and what a call knows about its trace, as a module (spec/observability.md; traces and metrics come later)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.threadable import isInIOThread
from zope.interface import implementer

from iii.config.blocks.observability import ObservabilitySettings
from iii.core.connections import Connection
from iii.core.engine import Engine
from iii.core.functions import FunctionDeclaration, NoInput
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.observability import baggage, logs
from iii.modules.observability.records import LEVELS, LogStore
from iii.modules.observability.triggers import LogTriggers


@implementer(ILogObserver)
class EngineLog:
    """Hands on what the engine logs itself, in the reactor's thread."""

    def __init__(self, take: Callable[[LogEvent], None], from_thread: Callable[..., object]) -> None:
        self._take, self._from_thread = take, from_thread

    def __call__(self, event: LogEvent) -> None:
        if isInIOThread():
            self._take(event)
        else:
            self._from_thread(self._take, event)


@implementer(IModule)
class Observability(Service):
    """C{engine::log::*}, C{engine::logs::*}, C{engine::baggage::*} and the trigger type C{log}."""

    description = "Logs of workers and of the engine"
    internal = True

    def __init__(
        self, settings: ObservabilitySettings, engine: Engine, clock: IReactorTime, from_thread: Callable[..., object]
    ) -> None:
        """
        @param from_thread: Calls in the reactor's thread; what other threads log goes through it.
        """
        triggers = LogTriggers(engine)
        self._logs = logs.Logs(settings, LogStore(settings, engine, clock), triggers, clock)
        self._engine, self._engine_log = engine, EngineLog(self._logs.engine_event, from_thread)
        self.trigger_types: Mapping[str, ITriggerProvider] = {"log": triggers} if settings.enabled else {}
        self.functions: Sequence[FunctionDeclaration] = self._declare()

    def startService(self) -> None:
        super().startService()
        self._engine.on_telemetry.append(self._telemetry)
        globalLogPublisher.addObserver(self._engine_log)

    def stopService(self) -> None:
        super().stopService()
        globalLogPublisher.removeObserver(self._engine_log)
        self._engine.on_telemetry.remove(self._telemetry)

    def _telemetry(self, frame: bytes, sender: Connection | None) -> None:
        if frame.startswith(b"LOGS"):
            self._logs.frame_received(frame, sender)

    def _declare(self) -> Sequence[FunctionDeclaration]:
        return [
            *(
                FunctionDeclaration(
                    id=f"engine::log::{level}",
                    description=f"Write one log record of level {level}",
                    input=logs.LogEntry,
                    handler=self._logs.writer(level),
                )
                for level in LEVELS
            ),
            FunctionDeclaration(
                id="engine::logs::list",
                description="List log records, newest first",
                input=logs.LogQuery,
                handler=self._logs.listing,
                output=logs.LogListing,
            ),
            FunctionDeclaration(
                id="engine::logs::clear",
                description="Forget all log records",
                input=NoInput,
                handler=self._logs.clear,
                output=logs.Cleared,
            ),
            FunctionDeclaration(
                id="engine::baggage::get",
                description="Read an entry of the baggage that this call came with",
                input=baggage.BaggageKey,
                handler=baggage.get,
                output=baggage.BaggageValue,
            ),
            FunctionDeclaration(
                id="engine::baggage::set",
                description="Does nothing: baggage is set by whoever makes a call",
                input=baggage.BaggageEntry,
                handler=baggage.set_,
                output=baggage.BaggageNotSet,
            ),
            FunctionDeclaration(
                id="engine::baggage::get_all",
                description="Read the baggage that this call came with",
                input=NoInput,
                handler=baggage.get_all,
                output=baggage.AllBaggage,
            ),
        ]
