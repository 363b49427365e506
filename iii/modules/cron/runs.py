"""
Running jobs: who may run a slot, and when, and what has become of it (spec/cron.md, 3 to 5).

A run claims its slot, perhaps waits for the run before, asks the condition, and calls the function.  What is due while
a run is under way depends on the job's C{overlap}: C{skip} leaves it out; C{queue} runs it afterwards; C{allow} runs it
at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
import msgspec
from msgspec import Raw
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.core.errors import EngineError
from iii.core.ids import new_id
from iii.core.invocations import CallFailed
from iii.core.shown import shown
from iii.core.tracing import continued
from iii.modules.cron.history import MAX_TEXT, History, Run, rfc3339
from iii.modules.cron.jobs import Job, JobTable
from iii.modules.cron.store import Claim, ICronStore
from iii.storage.errors import StorageError

T = TypeVar("T")

FALSE = Raw(b"false")
RETRY = 1.0
"""Seconds after which a queued run tries again to get the lock that another engine has."""


@attrs.define(str=False)
class JobBusy(EngineError):
    """A run was asked for while another one is under way."""

    code = "cron_job_busy"
    text = "cron job {job} is not run now: {reason}"
    job: str
    reason: str


class _NotRun(Exception):
    """A run ends before its function is called; the text says why."""


class Runs:
    """The runs under way of all jobs.  Its length is their number."""

    log = Logger()

    def __init__(self, engine: Engine, jobs: JobTable, store: ICronStore, history: History, ttl: float) -> None:
        """@param ttl: Seconds after which a lock is free that is not renewed."""
        self._engine, self._jobs, self._store, self._history, self._ttl = engine, jobs, store, history, ttl
        self._lock_complaints = Complaints(self.log, engine.clock)
        self._under_way: set[Deferred[None]] = set()  # bounded: cron_runs_per_job, and every call has a deadline

    def __len__(self) -> int:
        return len(self._under_way)

    def fire(self, job: Job, slot: int, *, mark: int, late: bool, dealt_with: Callable[[bool], None]) -> None:
        """
        Run a job for a slot, unless that is not to be.

        @param mark: All slots up to here are dealt with by this.
        @param late: The slot has passed long ago.
        @param dealt_with: Told, once, whether the slot counts as run now; otherwise it may be fired again.
        """
        run = self._begin(job, slot, late=late)
        reason = self._in_the_way(job)
        if reason is not None:
            self._end(job, run, "skipped", reason)
            dealt_with(False)
            return
        self._start(job, run, self._scheduled(job, run, slot, mark, dealt_with))

    def run_now(self, job: Job) -> None:
        """
        Run a job besides its slots, also when it is paused.

        @raise JobBusy: It must not run now.
        """
        reason = self._in_the_way(job)
        if reason is not None:
            raise JobBusy(job.trigger_id, reason)
        run = self._begin(job, int(self._engine.clock.seconds()), manual=True)
        self._start(job, run, self._asked_for(job, run))

    async def stop(self) -> None:
        """Wait for no function any more, and give the locks back."""
        under_way = list(self._under_way)
        for run in under_way:
            run.cancel()
        await DeferredList(under_way)

    def _in_the_way(self, job: Job) -> str | None:
        """Return why another run of a job cannot begin."""
        if job.config.overlap == "skip":
            return "the run before is still under way" if job.active else None
        limit = self._engine.limits.cron_runs_per_job
        if job.active < limit:
            return None
        self._engine.counters.hit("cron_runs_per_job")
        return f"{limit} runs are under way or wait (`engine.limits.cron_runs_per_job`)"

    def _begin(self, job: Job, slot: int, *, late: bool = False, manual: bool = False) -> Run:
        run = Run(
            scheduled_time=rfc3339(slot),
            actual_time=rfc3339(max(slot, self._engine.clock.seconds())),
            outcome="waiting",
            late=late,
            manual=manual,
        )
        self._history.add(job.key, run)
        return run

    def _start(self, job: Job, run: Run, work: Any) -> None:
        job.active += 1
        under_way = Deferred.fromCoroutine(self._watched(job, run, work))
        self._under_way.add(under_way)

        def ended(result: Any) -> Any:
            job.active -= 1
            self._under_way.discard(under_way)
            return result

        under_way.addBoth(ended)
        under_way.addErrback(lambda failure: self.log.failure("a run of a cron job failed", failure))

    async def _watched(self, job: Job, run: Run, work: Any) -> None:
        """Do the work of a run, and note how it ends."""
        begun = self._engine.clock.seconds()
        try:
            await work
        except _NotRun as reason:
            self._end(job, run, "skipped", str(reason))
        except CallFailed as failed:
            self._end(job, run, "failed", f"{failed.error.code}: {failed.error.message}", begun)
        except StorageError as error:
            self._end(job, run, "failed", f"no lock: {error}", begun)
        except CancelledError:
            self._end(job, run, "failed", "the engine has stopped", begun)
        else:
            self._end(job, run, "succeeded", None, begun)

    def _end(self, job: Job, run: Run, outcome: Any, reason: str | None, begun: float | None = None) -> None:
        run.outcome, run.reason = outcome, None if reason is None else shown(reason, MAX_TEXT)
        if begun is not None:
            run.duration_ms = round((self._engine.clock.seconds() - begun) * 1000)
        if outcome == "failed":
            self._engine.counters.cron_runs_failed += 1
            self._complain(
                job,
                "cron job {job} ({schedule}) -> {function} failed: {reason}",
                schedule=job.config.schedule, function=job.function_id, reason=reason or "",
            )  # fmt: skip
        elif outcome == "skipped":
            self._engine.counters.cron_runs_skipped += 1
            self._history.skipped(job.key, run)
            self.log.debug("cron job {job} is not run: {reason}", job=shown(job.trigger_id), reason=run.reason)

    def _complain(self, job: Job, format: str, **values: Any) -> None:
        """Warn of a failure, at most once a second for each job."""
        if job.complaints is None:
            job.complaints = Complaints(self.log, self._engine.clock)
        job.complaints.warn(format, job=job.trigger_id, **values)

    async def _scheduled(self, job: Job, run: Run, slot: int, mark: int, dealt_with: Callable[[bool], None]) -> None:
        token = new_id()
        exclusive = job.config.overlap == "skip"
        claim: Claim | None = None
        try:
            claim = await self._answered(job, token, self._store.claim(job.key, slot, mark, token, exclusive))
        finally:
            dealt_with(claim in (Claim.TAKEN, Claim.DONE))
        if claim is not Claim.TAKEN:
            raise _NotRun(claim.value)
        await self._proceed(job, run, slot, token)

    async def _asked_for(self, job: Job, run: Run) -> None:
        token, slot = new_id(), int(self._engine.clock.seconds())
        if job.config.overlap == "skip" and not await self._locks(job, token):
            raise _NotRun(Claim.HELD.value)
        await self._proceed(job, run, slot, token)

    async def _proceed(self, job: Job, run: Run, slot: int, token: str) -> None:
        """Run as the job's C{overlap} says; with C{skip}, the token has the lock already."""
        if job.config.overlap == "skip":
            await self._locked(job, run, slot, token)
        elif job.config.overlap == "queue":
            await self._in_turn(job, run, slot, token)
        else:
            await self._call(job, run, slot)

    async def _in_turn(self, job: Job, run: Run, slot: int, token: str) -> None:
        """Wait for the runs before, on this engine and on others."""
        await job.turn.acquire()
        try:
            while True:
                if not job.live and job.key not in self._jobs:  # else it goes on with another replica's trigger
                    raise _NotRun("the job has ended")
                if self._engine.stopping:
                    raise _NotRun("the engine is stopping")
                if await self._locks(job, token):
                    break
                await deferLater(self._engine.clock, RETRY)
            await self._locked(job, run, slot, token)
        finally:
            job.turn.release()

    async def _locked(self, job: Job, run: Run, slot: int, token: str) -> None:
        """Run while we have the lock, and give it back."""
        renewal = LoopingCall(self._renew, job, token)
        renewal.clock = self._engine.clock
        renewal.start(self._ttl / 3, now=False).addErrback(
            lambda failure: self.log.failure("renewing the lock of a cron job failed", failure)
        )
        try:
            await self._call(job, run, slot)
        finally:
            if renewal.running:
                renewal.stop()
            await self._release(job, token)

    async def _locks(self, job: Job, token: str) -> bool:
        return await self._answered(job, token, self._store.lock(job.key, token))

    async def _answered(self, job: Job, token: str, asked: Awaitable[T]) -> T:
        """Wait for what may take the lock; without an answer, perhaps we have it nevertheless, and give it back."""
        try:
            return await asked
        except (StorageError, CancelledError):
            await self._release(job, token)
            raise

    async def _release(self, job: Job, token: str) -> None:
        try:
            await self._store.release(job.key, token)
        except StorageError as error:
            self._lock_complaints.warn(
                "the lock of cron job {job} may block it for {ttl} s, it cannot be released: {error}",
                job=job.trigger_id, ttl=self._ttl, error=str(error),
            )  # fmt: skip

    async def _renew(self, job: Job, token: str) -> None:
        """Keep the lock, or say that it may be lost; the run goes on."""
        try:
            if await self._store.renew(job.key, token):
                return
            error = "another run has it"
        except StorageError as failed:
            error = str(failed)
        self._lock_complaints.warn(
            "the lock of cron job {job} is not renewed; another engine may run it besides: {error}",
            job=job.trigger_id, error=error,
        )  # fmt: skip

    async def _call(self, job: Job, run: Run, slot: int) -> None:
        """Ask the condition and call the function, in one trace."""
        now = max(slot, self._engine.clock.seconds())
        run.outcome, run.actual_time = "running", rfc3339(now)
        payload = Raw(
            msgspec.json.encode(
                {
                    "trigger": "cron",
                    "job_id": job.trigger_id,
                    "scheduled_time": run.scheduled_time,
                    "actual_time": run.actual_time,
                }
            )
        )
        traceparent = continued(None)
        condition = job.config.condition
        if condition is not None:
            try:
                answer = await self._engine.call(condition, payload, namespace=job.namespace, traceparent=traceparent)
            except CallFailed as failed:
                self._complain(
                    job,
                    "cron job {job} is not run: its condition {condition} failed: {code}: {text}",
                    condition=condition, code=failed.error.code, text=failed.error.message,
                )  # fmt: skip
                raise _NotRun(f"the condition failed: {failed.error.code}: {failed.error.message}") from failed
            if answer == FALSE:
                raise _NotRun("the condition said false")
        self._engine.counters.cron_runs += 1
        self.log.info(
            "[TRIGGERED] Cron job {job} → {function}", job=shown(job.trigger_id), function=shown(job.function_id)
        )
        await self._engine.call(
            job.function_id, payload, namespace=job.namespace, metadata=job.metadata, traceparent=traceparent
        )
