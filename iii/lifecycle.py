"""
Starting in order, stopping in phases (DESIGN.md, 12).

Twisted neither waits for children to start nor stops them in order: here each child starts in turn, so that what cannot
be opened ends the start with status 1, and stopping takes no new work, waits for the work under way, and then stops the
children one after the other, last started first.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Protocol, runtime_checkable

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from iii.core.engine import Engine
from iii.storage.errors import CannotOpenStore
from iii.wire.listen import CannotListen, IReactor

POLL = 0.05
STDERR = 2


@runtime_checkable
class Accepts(Protocol):
    """A child that work comes in through."""

    def stop_accepting(self) -> object:
        """Take no new work; what is under way goes on."""

    def busy(self) -> bool:
        """Something that came in here is under way, beside calls."""


class EngineServices(MultiService):
    """
    The engine's services, and the order in which they start and stop.

    @ivar ready: All have started and none is stopping.
    """

    log = Logger()

    def __init__(
        self,
        engine: Engine,
        reactor: IReactor,
        drain_timeout: float,
        notes: Sequence[str] = (),
        *,
        foreground: bool = True,
    ) -> None:
        """
        @param drain_timeout: Seconds that calls under way may take when the engine stops.
        @param notes: Lines for the log at the start.
        @param foreground: The process that the user started is this one.
        """
        super().__init__()
        self._engine, self._reactor, self._drain_timeout, self._notes = engine, reactor, drain_timeout, notes
        self._foreground = foreground
        self.ready = False

    def startService(self) -> None:
        """
        Start each child; one that cannot open its port or store ends the process with status 1.

        @raise Exception: As a daemon: only through an C{Exception} does C{twistd} tell the process that the user
            started, which would wait for ever otherwise.
        """
        allow_descriptors()
        for note in self._notes:
            self.log.info("{note}", note=note)
        self._reactor.callWhenRunning(self._handle_signals)
        try:
            super().startService()
        except (CannotListen, CannotOpenStore) as error:
            self.log.critical("{error}", error=str(error))
            if self._foreground:
                raise SystemExit(1) from error
            raise
        self._reactor.callWhenRunning(spare_the_collector)  # after what the children do then
        self.ready = True
        self.log.info("ready")

    def _handle_signals(self) -> None:
        """
        The first SIGTERM or SIGINT stops in order and exits with 0; a second one ends the process at once, with 1.
        Twisted's own handlers would end the process by the signal, which supervisors take for a crash.
        """
        stopping = False

        def handle(number: int, frame: FrameType | None) -> None:
            nonlocal stopping
            if stopping:
                os.write(STDERR, b"iii: a second signal: stopped at once\n")  # sys.stderr is the log's by now
                os._exit(1)
            stopping = True
            self._reactor.callFromThread(self._reactor.stop)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handle)

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.log.info("stopping: no new work is accepted")
        self.ready, self._engine.stopping = False, True
        for child in self.services:
            if isinstance(child, Accepts):
                child.stop_accepting()
        self._engine.broken_off.close()
        await self._drain()
        for child in reversed(list(self.services)):
            try:
                await maybeDeferred(child.stopService)
            except Exception:  # a defect of this one; the others must stop, too
                self.log.failure("stopping {child} failed", child=child.name)
        self._engine.close()
        self.log.info("stopped")

    async def _drain(self) -> None:
        """Wait for the calls that are under way now, and those that they make."""
        deadline = self._reactor.seconds() + self._drain_timeout
        calls = self._engine.under_way()
        doors = [child for child in self.services if isinstance(child, Accepts)]
        while (calls or any(door.busy() for door in doors)) and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, POLL)
            calls = {call for call in calls if call.slot is not None}
        if calls:
            self.log.warn(
                "stopping although {count} calls are unanswered after {seconds:g} s",
                count=len(calls),
                seconds=self._drain_timeout,
            )


def spare_the_collector() -> None:
    """
    Let the garbage collector leave alone what there is now, modules and services: it stays until the end.

    Otherwise each full collection, during which nobody is answered, goes through these 80,000 objects.  Measured in a
    started engine, and again with 100,000 cached values: 25 to 50 ms with them, 1 ms without; 100,000 C{state::set}
    cost 48 collections, together 2.6 s with them, 0.3 s without.  What comes later is collected as ever.
    """
    gc.collect()  # garbage would stay as well
    gc.freeze()


def allow_descriptors() -> None:
    """Let the process open as many sockets as the system allows it: the soft limit is often 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
