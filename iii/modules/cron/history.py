"""What has become of the jobs' runs, as far back as there is room."""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Literal

import msgspec

PER_JOB = 100
"""Runs that are known of one job."""
MAX_TEXT = 500

Outcome = Literal["running", "waiting", "succeeded", "failed", "skipped"]


class Run(msgspec.Struct):
    """
    One run of a job, or why there was none.

    @ivar scheduled_time: The instant at which it was due, or at which it was asked for.
    @ivar actual_time: When it began.
    @ivar reason: Why it was skipped or has failed.
    @ivar late: Its time had passed while nobody looked.
    @ivar manual: C{engine::cron::run} has asked for it.
    @ivar count: So many in a row were skipped for this reason; this is the last of them.
    """

    scheduled_time: str
    actual_time: str
    outcome: Outcome
    duration_ms: int | None = None
    reason: str | None = None
    late: bool = False
    manual: bool = False
    count: int = 1


class History:
    """The last runs of the jobs, by key."""

    def __init__(self, limit: int) -> None:
        """@param limit: Runs of all jobs together."""
        self._limit, self._count = limit, 0
        self._runs: OrderedDict[str, deque[Run]] = OrderedDict()

    def add(self, key: str, run: Run) -> None:
        """Note a run; those of the job that has not run for longest are forgotten where there is no room."""
        runs = self._runs.setdefault(key, deque(maxlen=PER_JOB))
        self._runs.move_to_end(key)
        self._count += len(runs) < PER_JOB
        runs.append(run)
        while self._count > self._limit:
            oldest, others = next(iter(self._runs.items()))
            others.popleft()
            self._count -= 1
            if not others:
                del self._runs[oldest]

    def skipped(self, key: str, run: Run) -> None:
        """A run was skipped: several in a row, for one reason, take the place of one."""
        runs = self._runs.get(key, ())
        place = next((place for place in range(len(runs)) if runs[place] is run), 0)
        before = runs[place - 1] if place else run
        if before is not run and (before.outcome, before.reason) == (run.outcome, run.reason):
            run.count += before.count
            del self._runs[key][place - 1]
            self._count -= 1

    def of(self, key: str) -> list[Run]:
        """Return what is known of a job, newest first."""
        return list(reversed(self._runs.get(key, ())))


def rfc3339(seconds: float) -> str:
    """Return an instant as the contract wants it: with C{+00:00}, and a fraction only where there is one."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()
