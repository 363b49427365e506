"""Cron as a module (spec/cron.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.engine import Engine
from iii.core.functions import FunctionDeclaration
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.cron.functions import CronFunctions
from iii.modules.cron.history import History
from iii.modules.cron.jobs import JobTable
from iii.modules.cron.runs import Runs
from iii.modules.cron.store import ICronStore, OneShots
from iii.modules.cron.triggers import CronTriggers

TICK = 1.0
AT_ONCE = 200
"""Jobs of one turn: many may be due at midnight, and others must get their turn in between."""


@implementer(IModule)
class CronService(Service):
    """
    The trigger type C{cron} and C{engine::cron::*}: at every whole second, runs what has become due.

    Twisted's timers go by the system's clock.  When that is set back, they stand still until it has caught up; so do
    the jobs, whose times up to there were dealt with.  What registers meanwhile starts the ticks anew.
    """

    log = Logger()
    description = "Functions called at given times"
    internal = False

    def __init__(self, engine: Engine, store: ICronStore, one_shots: OneShots, clock: IReactorTime, ttl: float) -> None:
        """@param ttl: Seconds after which a lock that is not renewed is free again."""
        self._engine, self._store, self._clock = engine, store, clock
        history, jobs = History(engine.limits.cron_history_runs), JobTable()
        self._runs = Runs(engine, jobs, store, history, ttl)
        self._triggers = CronTriggers(engine, jobs, self._runs, store, one_shots, on_added=self._check_clock)
        self.functions: Sequence[FunctionDeclaration] = CronFunctions(
            self._triggers, self._runs, store, history, clock
        ).declare()
        self.trigger_types: Mapping[str, ITriggerProvider] = {"cron": self._triggers}
        self._loop: LoopingCall | None = None
        self._first: IDelayedCall | None = None
        self._more: IDelayedCall | None = None  # the next turn of what is due now
        self._last_tick = 0.0

    def startService(self) -> None:
        """What is kept must have been opened.  L{iii.storage.errors.StorageError} ends the start."""
        self._store.start()
        super().startService()
        self._triggers.start()
        self._start_ticking()

    async def _stopped(self) -> None:
        await self._runs.stop()
        await self._triggers.stop()

    def stopService(self) -> Deferred[None]:
        """Run nothing more, give up the runs under way, and give their locks back."""
        super().stopService()
        self._stop_ticking()
        return Deferred.fromCoroutine(self._stopped())

    def _start_ticking(self) -> None:
        """Tick at whole seconds: a job is due at one."""
        self._last_tick = self._clock.seconds()
        self._first = self._clock.callLater(-self._last_tick % TICK, self._first_tick)

    def _first_tick(self) -> None:
        self._loop = LoopingCall(self._tick)
        self._loop.clock = self._clock
        self._loop.start(TICK)

    def _stop_ticking(self) -> None:
        for timer in (self._first, self._more):
            if timer is not None and timer.active():
                timer.cancel()
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self._first = self._more = self._loop = None

    def _check_clock(self) -> None:
        """Start the ticks anew if the clock has been set back: they would come when it has caught up."""
        if self.running and self._clock.seconds() < self._last_tick - TICK:
            self.log.warn("the clock was set back by {seconds:.0f} s", seconds=self._last_tick - self._clock.seconds())
            self._stop_ticking()
            self._start_ticking()

    def _tick(self) -> None:
        """Never raises: a looping call whose function does is over."""
        self._last_tick = self._clock.seconds()
        if self._more is None:
            self._run_due()

    def _run_due(self) -> None:
        self._more = None
        if self._engine.stopping:
            return
        now = self._clock.seconds()
        for _ in range(AT_ONCE):
            try:
                due = self._triggers.schedule.take(now)
                if due is None:
                    return
                self._triggers.fire(due)
            except Exception:  # a defect; the other jobs go on
                self.log.failure("a cron job was not run")
        self._more = self._clock.callLater(0, self._run_due)
