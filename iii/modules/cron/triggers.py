"""
The trigger type C{cron} (spec/cron.md, 1 and 6).

A job lives as long as its trigger.  One that runs once (C{at}) is a promise: it is kept in the store, outlives the
worker that registered it and the engine, and ends when it has run, or when it is unregistered on purpose.  When its
time has come and its function is not there, it waits for it; when it cannot be claimed, because it is paused or its
store does not answer, it is tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.budget import detached
from iii.core.engine import Engine
from iii.core.errors import TriggerRefused
from iii.core.shown import shown
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.cron.config import JobConfig
from iii.modules.cron.history import rfc3339
from iii.modules.cron.jobs import Job, JobTable, identity, offset_of, one_shot
from iii.modules.cron.runs import Runs
from iii.modules.cron.schedule import LATE, Due, Schedule
from iii.modules.cron.store import ICronStore, OneShots
from iii.storage.errors import StorageError
from iii.wire.messages import ABSENT, is_null

AGAIN = 30
"""Seconds until a job that runs once is tried again."""


@implementer(ITriggerProvider)
class CronTriggers:
    """
    Makes jobs of triggers.

    @ivar jobs: All jobs.
    @ivar schedule: When they are due.
    """

    log = Logger()
    description = "Cron-based scheduled triggers"

    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "description": "second minute hour day-of-month month day-of-week [year], or a shorthand like @daily",
            },
            "condition_function_id": {
                "type": ["string", "null"],
                "description": "called first with the same payload; false leaves the run out",
            },
            "timezone": {"type": ["string", "null"], "description": "such as Europe/Berlin; default UTC"},
            "at": {"type": ["string", "null"], "description": "instead of an expression: run once, at this time"},
            "overlap": {"enum": ["skip", "queue", "allow", None], "description": "when the run before goes on"},
            "missed": {"enum": ["skip", "once", None], "description": "when the time has passed unseen"},
            "jitter_seconds": {"type": ["integer", "null"], "minimum": 0, "maximum": 3600},
        },
        "required": ["expression"],
    }
    request_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "trigger": {"type": "string"},
            "job_id": {"type": "string", "description": "the trigger's id"},
            "scheduled_time": {"type": "string", "description": "RFC 3339"},
            "actual_time": {"type": "string", "description": "RFC 3339"},
        },
        "required": ["trigger", "job_id", "scheduled_time", "actual_time"],
    }

    def __init__(
        self,
        engine: Engine,
        jobs: JobTable,
        runs: Runs,
        store: ICronStore,
        one_shots: OneShots,
        on_added: Callable[[], None] = lambda: None,
    ) -> None:
        """@param on_added: Told that a job has come."""
        self._on_added = on_added
        self._engine, self._runs, self._store, self._one_shots = engine, runs, store, one_shots
        self.jobs = jobs
        self.schedule: Schedule[Job] = Schedule()
        self._by_trigger: dict[Trigger, Job] = {}
        self._waiting: dict[tuple[str, str], list[Due[Job]]] = {}  # one-shots, for their functions
        self._number_of_one_shots = 0
        self._writes: set[Deferred[None]] = set()

    # What the core tells.

    def register(self, trigger: Trigger) -> None:
        """
        Let a trigger's function be called at its times from now on.

        @raise TriggerRefused: Its config is none, or the engine stops.
        """
        config = JobConfig.read(trigger.config)
        if self._engine.stopping:
            raise TriggerRefused(f"cron scheduler is shutting down; cannot register job '{trigger.id}'")
        key, waiting = self.jobs.free_key(
            identity(trigger.namespace, trigger.function_id, trigger.config, trigger.metadata)
        )
        if waiting is not None:
            waiting.trigger = trigger
            self.jobs.rename(waiting, trigger.id)
            self._by_trigger[trigger] = waiting
            return
        job = Job(
            key=key,
            trigger_id=trigger.id,
            function_id=trigger.function_id,
            namespace=trigger.namespace,
            config=config,
            metadata=trigger.metadata,
            trigger=trigger,
            offset=offset_of(key, config.jitter),
        )
        now = int(self._engine.clock.seconds())
        if config.at is not None and config.at + job.offset > now:
            self._keep(job, trigger)
        self._add(job, now)
        self._by_trigger[trigger] = job
        self._on_added()
        self._say_registered(job)
        if config.missed == "once" and config.at is None:
            self._in_background(self._catch_up(job, now))

    def unregister(self, trigger: Trigger) -> None:
        """Call its function no more; a run under way goes on.  A job that runs once stays when its worker has gone."""
        job = self._by_trigger.pop(trigger)
        job.trigger = None
        gone = trigger.owner is not None and trigger.owner.closed
        if job.promised and (gone or self._engine.stopping):
            return
        self._end(job)
        self.log.info(
            "[UNREGISTERED] Cron job {job} → {function}", job=shown(job.trigger_id), function=shown(job.function_id)
        )

    def _say_registered(self, job: Job) -> None:
        self.log.info(
            "[REGISTERED] Cron job {job} ({schedule}) → {function}",
            job=shown(job.trigger_id), schedule=shown(job.config.schedule), function=shown(job.function_id),
        )  # fmt: skip
        if job.config.warning:
            self.log.warn("cron job {job}: {warning}", job=shown(job.trigger_id), warning=job.config.warning)
        if self.schedule.next_slot(job) is None:
            self.log.warn(
                "cron job {job} ({schedule}) has no time in the future and will never run",
                job=shown(job.trigger_id), schedule=shown(job.config.schedule),
            )  # fmt: skip

    # Jobs.

    def start(self) -> None:
        """Take up the jobs that a former engine has promised to run."""
        for key, kept in self._one_shots.load():
            metadata = ABSENT if is_null(kept.metadata) else detached(kept.metadata)
            try:
                config = JobConfig.read(kept.config)
            except TriggerRefused as error:  # such as a time zone that is not there any more
                self.log.error("cron job {job} is not taken up: {error}", job=shown(kept.trigger_id), error=str(error))
                continue
            job = Job(
                key=key,
                trigger_id=kept.trigger_id,
                function_id=kept.function_id,
                namespace=kept.namespace,
                config=config,
                metadata=metadata,
                offset=offset_of(key, config.jitter),
            )
            assert config.at is not None
            job.promised = True
            self._number_of_one_shots += 1
            self._add(job, config.at + job.offset - 1)
        self._engine.functions.observers.append(self._function_changed)

    async def settled(self) -> None:
        """Wait until what has been promised so far is kept."""
        for writing in list(self._writes):
            await _ended(writing)

    async def stop(self) -> None:
        """End, when what was promised is kept."""
        self._engine.functions.observers.remove(self._function_changed)
        await self.settled()

    def fire(self, due: Due[Job]) -> None:
        """Run a job that is due, as its C{missed} says."""
        job, slot, missed = due
        now = int(self._engine.clock.seconds())
        self._engine.counters.cron_missed += missed
        if missed and job.config.missed == "skip":
            self.log.warn(
                "cron job {job} ({schedule}) has missed runs from {slot} on: `missed` is skip",
                job=shown(job.trigger_id), schedule=shown(job.config.schedule), slot=rfc3339(slot),
            )  # fmt: skip
            if job.config.at is not None:
                self._end(job)
            return
        if job.config.at is not None:
            place = job.namespace, job.function_id
            if self._engine.functions.find(*place) is None:
                self._waiting.setdefault(place, []).append(due._replace(missed=False))  # that was dealt with
                self.log.warn(
                    "cron job {job} is due and waits for its function {function}",
                    job=shown(job.trigger_id), function=shown(job.function_id),
                )  # fmt: skip
                return
        self._run(job, slot, max(slot, now - job.offset) if missed else slot)

    def _run(self, job: Job, slot: int, mark: int) -> None:
        late = slot + job.offset < self._engine.clock.seconds() - LATE
        self._runs.fire(job, slot, mark=mark, late=late, dealt_with=partial(self._dealt_with, job, slot))

    def _dealt_with(self, job: Job, slot: int, done: bool) -> None:
        """Keep a promise no longer, or try again to run it."""
        if not job.promised:
            return
        if done:
            self._forget(job)
            if job.trigger is None:
                self.jobs.remove(job)
        else:
            again = int(self._engine.clock.seconds()) + AGAIN
            self.schedule.add(job, job.config.occurrences, again - slot, again - 1)

    def _function_changed(self, namespace: str, function_id: str) -> None:
        """Run the one-shots that wait for a function that has come; while the engine stops, they stay promised."""
        if not self._engine.stopping and self._engine.functions.find(namespace, function_id) is not None:
            for due in self._waiting.pop((namespace, function_id), []):
                self.fire(due)

    def resumed_at(self, job: Job) -> int | None:
        """Up to when a job that is resumed now counts as run; C{None}: one that runs once has still to."""
        return None if job.promised else int(self._engine.clock.seconds()) - job.offset

    def remove(self, job: Job) -> None:
        """Break the promise of a job without a trigger."""
        self._end(job)
        self.log.info(
            "[REMOVED] Cron job {job} → {function}", job=shown(job.trigger_id), function=shown(job.function_id)
        )

    def _add(self, job: Job, since: int) -> None:
        self.jobs.add(job)
        self.schedule.add(job, job.config.occurrences, job.offset, since)

    def _end(self, job: Job) -> None:
        job.live = False
        self.schedule.remove(job)
        self.jobs.remove(job)
        if job.promised:
            self._forget(job)
            place = job.namespace, job.function_id
            waiting = [due for due in self._waiting.pop(place, []) if due.job is not job]
            if waiting:
                self._waiting[place] = waiting

    async def _catch_up(self, job: Job, now: int) -> None:
        """If times of a job have passed since it ran last, run it once."""
        last = await self._store.last(job.key)
        if last is None:
            await self._store.begin(job.key, now)
            return
        slot = job.config.occurrences.after(last)
        if slot is not None and slot + job.offset <= now and job.live and not self._engine.stopping:
            self._engine.counters.cron_missed += 1
            self._run(job, slot, now - job.offset)

    # One-shots.

    def _keep(self, job: Job, trigger: Trigger) -> None:
        limit = self._engine.limits.cron_one_shots
        if self._number_of_one_shots >= limit:
            self._engine.counters.hit("cron_one_shots")
            raise TriggerRefused(f"{limit} jobs with `at` wait already (`engine.limits.cron_one_shots`)")
        job.promised = True
        self._number_of_one_shots += 1
        self._in_background(self._one_shots.keep(job.key, one_shot(job, trigger.config)))

    def _forget(self, job: Job) -> None:
        """It is a promise no more."""
        if job.promised:
            job.promised = False
            self._number_of_one_shots -= 1
            self._in_background(self._finish(job.key))

    async def _finish(self, key: str) -> None:
        await self._one_shots.forget(key)
        await self._store.finished(key)  # not before: what is promised must be known to have run

    def _in_background(self, work: Awaitable[None]) -> None:
        writing = Deferred.fromCoroutine(self._watched(work))
        self._writes.add(writing)
        writing.addErrback(lambda failure: self.log.failure("keeping what is known of a cron job failed", failure))
        writing.addCallback(lambda _: self._writes.discard(writing))

    async def _watched(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StorageError as error:
            self.log.error("cron: what is to be kept of a job is not: {error}", error=str(error))


def _ended(work: Deferred[None]) -> Deferred[None]:
    """Return what fires when something has ended, however often one waits for that."""
    waiting: Deferred[None] = Deferred()
    work.addCallback(lambda _: waiting.callback(None))
    return waiting
