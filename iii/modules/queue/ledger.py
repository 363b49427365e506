"""
What has become of jobs, on its way to the disk.

Nobody waits for it, but nothing of it may be lost: what a failed commit takes back is written again, until that
succeeds, and until then no job starts, because its end could not be recorded either.  All that is recorded in one turn
of the reactor is one write.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from iii.modules.queue.jobs import Job, JobStore
from iii.storage.errors import StorageError
from iii.storage.schema import JOB

Written = Callable[[], None]
Entry = tuple[int, Job | None, Written]


class Ledger:
    """
    Writes outcomes.

    @ivar failing: The latest write has failed.
    """

    log = Logger()

    def __init__(self, jobs: JobStore, clock: IReactorTime, recovered: Callable[[], None]) -> None:
        """@param recovered: Called when a write has succeeded again."""
        self._jobs, self._clock, self._recovered = jobs, clock, recovered
        self._entries: list[Entry] = []  # bounded: jobs that ran, and starts pause when writing fails
        self._scheduled = False
        self.failing = False

    def put(self, job: Job, written: Written) -> None:
        """
        Store a job as it is now.

        @param written: Called when that is on disk.
        """
        self._record((job.position, job, written))

    def remove(self, job: Job, written: Written) -> None:
        """Remove a job."""
        self._record((job.position, None, written))

    def _record(self, entry: Entry) -> None:
        self._entries.append(entry)
        if not self._scheduled and not self.failing:
            self._scheduled = True
            self._clock.callLater(0, self.flush)

    def flush(self) -> None:
        """Write what there is."""
        self._scheduled = False
        entries, self._entries = self._entries, []
        if not entries:
            return
        try:
            changes = [(JOB, (position,), None) if job is None else self._jobs.row(job) for position, job, _ in entries]
        except StorageError as error:
            self._failed(entries, str(error))
            return
        self._jobs.write(changes).addCallbacks(
            self._committed, self._not_committed, callbackArgs=(entries,), errbackArgs=(entries,)
        ).addErrback(lambda failure: self.log.failure("what follows the end of a job has failed", failure))

    def _committed(self, _: None, entries: list[Entry]) -> None:
        for _position, _job, written in entries:
            written()
        if self.failing:
            self.failing = False
            self.log.info("the outcomes of jobs are recorded again")
            self._recovered()
            if self._entries:
                self.flush()

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
