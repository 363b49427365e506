"""Keep account of one round of load: every call is asked once and must be answered once, under its own id."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import attrs

from bench.processes import CpuMeter


@attrs.frozen
class Round:
    """What one round found: what was asked was answered, was answered wrongly, or is lost."""

    asked: int
    answered: int  # rightly
    wrong: int  # answered under its id with an error, or with another call's payload
    stray: int  # answers under an id that nobody waits for: repeated, or never asked
    seconds: float  # from the first call to the last answer
    latency_p50_us: float
    latency_p99_us: float
    load_cpu_seconds: float
    cpu_seconds: tuple[float, ...]  # of the watched processes, in the order in which they were named
    ended: str = ""  # why the round ended early

    @property
    def lost(self) -> int:
        return self.asked - self.answered - self.wrong

    @property
    def failures(self) -> int:
        return self.lost + self.wrong + self.stray

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds if self.seconds else 0.0

    def cpu_us(self, watched: int = 0) -> float:
        """CPU microseconds, user and system, which a watched process spent for each answer."""
        return self.cpu_seconds[watched] / self.answered * 1e6 if self.answered else math.nan

    @property
    def load_cpu_us(self) -> float:
        return self.load_cpu_seconds / self.answered * 1e6 if self.answered else math.nan

    def busy(self, watched: int = 0) -> float:
        """The share of the round in which a watched process was on a CPU.  Well below 1, it was not the bottleneck."""
        return self.cpu_seconds[watched] / self.seconds if self.seconds else 0.0


class Ledger:
    """
    The account while the load runs.  It says how many more calls may be asked, so that a round ends after a time and a
    count; what is then unanswered is waited for, and what has not come within the patience of the load is lost.
    """

    def __init__(self, watched: tuple[int, ...], seconds: float, limit: int) -> None:
        self._left, self._asked, self._wrong, self._stray = limit, 0, 0, 0
        self._waiting: dict[bytes, float] = {}
        self._latencies: list[float] = []
        self._ids = _ids()
        self._meter = CpuMeter(watched)
        self._load_cpu = time.process_time()
        self._start = self._last = time.perf_counter()
        self._end = self._start + seconds

    @property
    def waits(self) -> bool:
        """Whether a call is unanswered."""
        return bool(self._waiting)

    def ask(self, count: int) -> list[bytes]:
        """Return the ids of up to so many calls to be sent now; none once time or count are used up."""
        now = time.perf_counter()
        count = min(count, self._left) if now < self._end else 0
        ids = [next(self._ids) for _ in range(count)]
        self._waiting.update(dict.fromkeys(ids, now))
        self._left -= count
        self._asked += count
        return ids

    def answer(self, call: bytes, right: bool) -> None:
        """Note an answer which names this call; C{right} when it also has the payload which that call must get."""
        asked = self._waiting.pop(call, None)
        if asked is None:
            self._stray += 1
            return
        self._last = time.perf_counter()
        if right:
            self._latencies.append(self._last - asked)
        else:
            self._wrong += 1

    def close(self, ended: str = "") -> Round:
        """Return what was found.  What still waits is lost."""
        cpu, load_cpu = self._meter.read(), time.process_time() - self._load_cpu
        latencies = sorted(self._latencies)
        return Round(
            asked=self._asked,
            answered=len(latencies),
            wrong=self._wrong,
            stray=self._stray,
            seconds=self._last - self._start,
            latency_p50_us=_quantile(latencies, 0.50) * 1e6,
            latency_p99_us=_quantile(latencies, 0.99) * 1e6,
            load_cpu_seconds=load_cpu,
            cpu_seconds=cpu,
            ended=ended or (f"{len(self._waiting)} answers never came" if self._waiting else ""),
        )


def _ids() -> Iterator[bytes]:
    """Ids in the form of a version 4 UUID, 36 characters, different in every round."""
    run = time.time_ns() & 0xFFFFFFFF
    for number in range(1 << 48):
        yield b"%08x-be9c-4000-8000-%012x" % (run, number)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan
