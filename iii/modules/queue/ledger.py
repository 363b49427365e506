"""
What has become of jobs, on its way to the disk.

Nobody waits for it, but nothing of it may be lost: what a failed commit takes back is written again, until that
succeeds, and until then no job starts, because its end could not be recorded either.  That a job has ended may wait for
L{LINGER}, so that one write tells of many; what a job waits for is written at the end of the reactor's turn.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iii.modules.queue.jobs import Change, Job, JobStore
from iii.storage.errors import StorageError
from iii.storage.schema import JOB

LINGER = 0.005
"""Seconds; a job whose end was told so shortly before a crash runs again."""
Written = Callable[[], None]
Entry = tuple[int, Job | None, Written]


class Ledger:
    """
    Writes outcomes.

    @ivar failing: The latest write has failed.
    """

    log = Logger()

    def __init__(
        self, jobs: JobStore, clock: IReactorTime, recovered: Callable[[], None], linger: float = LINGER
    ) -> None:
        """
        @param recovered: Called when a write has succeeded again.
        @param linger: For so many seconds the end of a job may wait to be written.
        """
        self._jobs, self._clock, self._recovered = jobs, clock, recovered
        self._entries: list[Entry] = []  # bounded: jobs that ran, and starts pause when writing fails
        self._linger = linger
        self._timer: IDelayedCall | None = None
        self._lingers = False
        self.failing = False

    def put(self, job: Job, written: Written) -> None:
        """
        Store a job as it is now.

        @param written: Called when that is on disk.
        """
        self._record((job.position, job, written), 0)

    def remove(self, job: Job, written: Written) -> None:
        """Remove a job."""
        self._record((job.position, None, written), self._linger)

    def _record(self, entry: Entry, within: float) -> None:
        self._entries.append(entry)
        if self.failing:
            return
        if self._timer is None:
            self._timer = self._clock.callLater(within, self.flush)
            self._lingers = within > 0
        elif self._lingers and not within:
            self._timer.reset(0)
            self._lingers = False

    def flush(self) -> None:
        """Write what there is."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        entries, self._entries = self._entries, []
        # Apart from each other: in memory that is full, the ends make room for the others.
        self._write([(self._jobs.outcome(job), entry) for entry in entries if (job := entry[1]) is not None])
        self._write([((JOB, (entry[0],), None), entry) for entry in entries if entry[1] is None])

    def _write(self, parts: list[tuple[Change, Entry]]) -> None:
        if parts:
            entries = [entry for _, entry in parts]
            self._jobs.record(*(change for change, _ in parts)).addCallbacks(
                self._committed, self._not_committed, callbackArgs=(entries,), errbackArgs=(entries,)
            ).addErrback(lambda failure: self.log.failure("what follows the end of a job has failed", failure))

    def _committed(self, _: None, entries: list[Entry]) -> None:
        for _position, _job, written in entries:
            written()
        if self.failing and not self._entries:
            self.failing = False
            self.log.info("the outcomes of jobs are recorded again")
            self._recovered()

    def _not_committed(self, failure: Failure, entries: list[Entry]) -> None:
        failure.trap(StorageError)
        self._failed(entries, str(failure.value))

    def _failed(self, entries: list[Entry], error: str) -> None:
        self._entries[:0] = entries
        if not self.failing:
            self.failing = True
            self.log.error(
                "the outcomes of jobs cannot be recorded; no job starts until they are: {error}", error=error
            )
