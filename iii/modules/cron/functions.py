"""C{engine::cron::*}: what one can see of the jobs, and do with them.  Not in the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import attrs
import msgspec
from msgspec import Meta
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from iii.core.errors import EngineError
from iii.core.functions import Caller, FunctionDeclaration
from iii.modules.cron.history import History, Run, rfc3339
from iii.modules.cron.jobs import Job
from iii.modules.cron.runs import Runs
from iii.modules.cron.store import ICronStore
from iii.modules.cron.triggers import CronTriggers
from iii.storage.errors import StoreFailed, failing_as

ROWS = 3
"""Jobs of one turn of a listing: ten times of one on Saturdays, 29 February, take 6 ms to find."""


@attrs.define(str=False)
class JobNotFound(EngineError):
    """There is no such job."""

    code = "cron_job_not_found"
    text = "Cron job '{job}' not found"
    job: str


@attrs.define(str=False)
class JobInUse(EngineError):
    """A job that is to be removed is that of a trigger, which would be there without it."""

    code = "cron_job_in_use"
    text = "Cron job '{job}' belongs to a trigger; end that with engine::unregister_trigger"
    job: str


@attrs.define(str=False)
class CronStoreFailed(StoreFailed):
    """What was asked for cannot be kept, or read; nothing has changed, as far as is known."""

    code = "cron_store_failed"
    text = "the store of cron failed: {cause}"


class ListQuery(msgspec.Struct):
    """Which jobs."""

    function_id: Annotated[str | None, Meta(description="only those of this function")] = None
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    next_runs: Annotated[int, Meta(ge=0, le=10, description="how many of the next times")] = 1


class JobRow(msgspec.Struct):
    """
    A job.

    @ivar id: Of its trigger.
    @ivar key: The same on all engines and after every restart.
    @ivar next_runs: Empty when it will never run again, or waits for its function since its time came.
    @ivar last_run: The last one that is known here.
    @ivar active: Runs that are under way or wait.
    @ivar connected: Its trigger is there; a job with C{at} stays without.
    """

    id: str
    key: str
    function_id: str
    namespace: str
    schedule: str
    overlap: str
    missed: str
    jitter_seconds: int
    paused: bool
    active: int
    connected: bool
    next_runs: list[str]
    last_run: Run | None


class Listing(msgspec.Struct):
    """Jobs, by id."""

    jobs: list[JobRow]
    total: int


class WhichJob(msgspec.Struct):
    """The id of a job's trigger, or its key."""

    id: str


class HistoryQuery(msgspec.Struct):
    """Of which job; the id of its trigger, or its key."""

    id: str
    limit: Annotated[int, Meta(ge=1, le=100)] = 100


class RunListing(msgspec.Struct):
    """Runs of a job, newest first."""

    runs: list[Run]


class Changed(msgspec.Struct):
    """Whether the job is paused now."""

    id: str
    paused: bool


class Started(msgspec.Struct):
    """The job runs, or will when those before it have ended; its history tells how that goes."""

    id: str
    started: bool


class Removed(msgspec.Struct):
    """The job is there no more; a run under way goes on."""

    id: str
    removed: bool


class CronFunctions:
    """The functions of the module."""

    def __init__(
        self, triggers: CronTriggers, runs: Runs, store: ICronStore, history: History, clock: IReactorTime
    ) -> None:
        self._triggers, self._runs, self._store, self._history = triggers, runs, store, history
        self._clock = clock

    def declare(self) -> Sequence[FunctionDeclaration]:
        return [
            FunctionDeclaration(
                id="engine::cron::list",
                description="List cron jobs with their next times",
                input=ListQuery,
                handler=self.list,
                output=Listing,
            ),
            FunctionDeclaration(
                id="engine::cron::history",
                description="List the last runs of a cron job, also those that were skipped",
                input=HistoryQuery,
                handler=self.history,
                output=RunListing,
            ),
            FunctionDeclaration(
                id="engine::cron::pause",
                description="Run a cron job no more until it is resumed, also after a restart",
                input=WhichJob,
                handler=self.pause,
                output=Changed,
            ),
            FunctionDeclaration(
                id="engine::cron::resume",
                description="Run a paused cron job again",
                input=WhichJob,
                handler=self.resume,
                output=Changed,
            ),
            FunctionDeclaration(
                id="engine::cron::run",
                description="Run a cron job now, besides its times",
                input=WhichJob,
                handler=self.run,
                output=Started,
            ),
            FunctionDeclaration(
                id="engine::cron::remove",
                description="Forget a job that runs once and whose worker has gone",
                input=WhichJob,
                handler=self.remove,
                output=Removed,
            ),
        ]

    async def list(self, query: ListQuery, caller: Caller) -> Listing:
        """C{engine::cron::list}.  A job with C{at} that is listed is on disk."""
        await self._triggers.settled()
        with failing_as(CronStoreFailed):
            paused = await self._store.paused()
        chosen = sorted(
            (job for job in self._triggers.jobs if query.function_id in (None, job.function_id)),
            key=lambda job: (job.trigger_id, job.key),
        )
        page = chosen[query.offset : query.offset + query.limit]
        rows: list[JobRow] = []
        for job in page:
            if rows and len(rows) % ROWS == 0:
                await deferLater(self._clock, 0)  # others get their turn
            rows.append(self._row(job, job.key in paused, query.next_runs))
        return Listing(rows, len(chosen))

    def history(self, query: HistoryQuery, caller: Caller) -> RunListing:
        """C{engine::cron::history}."""
        job = self._triggers.jobs.find(query.id)
        runs = self._history.of(query.id if job is None else job.key)
        if job is None and not runs:
            raise JobNotFound(query.id)
        return RunListing(runs[: query.limit])

    async def pause(self, which: WhichJob, caller: Caller) -> Changed:
        """C{engine::cron::pause}."""
        job = self._find(which.id)
        with failing_as(CronStoreFailed):
            await self._store.pause(job.key)
        return Changed(job.trigger_id, True)

    async def resume(self, which: WhichJob, caller: Caller) -> Changed:
        """C{engine::cron::resume}."""
        job = self._find(which.id)
        with failing_as(CronStoreFailed):
            await self._store.resume(job.key, self._triggers.resumed_at(job))
        return Changed(job.trigger_id, False)

    def run(self, which: WhichJob, caller: Caller) -> Started:
        """C{engine::cron::run}."""
        job = self._find(which.id)
        self._runs.run_now(job)
        return Started(job.trigger_id, True)

    async def remove(self, which: WhichJob, caller: Caller) -> Removed:
        """C{engine::cron::remove}, for jobs whose worker has gone and is not coming back."""
        job = self._find(which.id)
        if job.trigger is not None:
            raise JobInUse(job.trigger_id)
        self._triggers.remove(job)
        await self._triggers.settled()
        return Removed(job.trigger_id, True)

    def _find(self, text: str) -> Job:
        job = self._triggers.jobs.find(text)
        if job is None:
            raise JobNotFound(text)
        return job

    def _row(self, job: Job, paused: bool, next_runs: int) -> JobRow:
        slots: list[str] = []
        slot = self._triggers.schedule.next_slot(job)
        while slot is not None and len(slots) < next_runs:
            slots.append(rfc3339(slot + job.offset))
            slot = job.config.occurrences.after(slot)
        config, runs = job.config, self._history.of(job.key)
        return JobRow(
            id=job.trigger_id,
            key=job.key,
            function_id=job.function_id,
            namespace=job.namespace,
            schedule=config.schedule,
            overlap=config.overlap,
            missed=config.missed,
            jitter_seconds=config.jitter,
            paused=paused,
            active=job.active,
            connected=job.trigger is not None,
            next_runs=slots,
            last_run=runs[0] if runs else None,
        )
