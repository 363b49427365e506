"""
How two sides are compared: their rounds alternate, and every second pair is in the other order.  What the machine does
besides then falls on both, and the ratio is taken within each pair.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

import attrs

from bench.engine import Engine, EngineSource
from bench.ledger import Round
from bench.processes import Process, free_port, running
from bench.report import Aim, Section
from bench.worker import READY

WARM_SECONDS = 0.3
MOST_CALLS = 1_000_000  # in a round that ends by time


@attrs.frozen
class Plan:
    """How much is measured."""

    repeat: int
    seconds: float  # of one round
    calls: int  # of each count in flight, to be accounted for
    idle: int  # connections
    backlog: int  # jobs that wait


Benchmark = Callable[[Plan, Executor, EngineSource], Section]


@attrs.frozen
class Side:
    """A load bound to its target, as one side of a comparison."""

    name: str
    run: Callable[[float, int], Round]  # takes the seconds and the number of calls that end it


def side_of(name: str, load: Executor, function: Callable[..., Round], *target: object) -> Side:
    """Bind a load to its target; it runs in the process of the loads."""
    return Side(name, lambda seconds, limit: load.submit(function, *target, seconds, limit).result())


def compare(section: Section, plan: Plan, ours: Side, others: Side, aim: Aim | None) -> None:
    """Run both sides in turn and note what was found."""
    found, found_of_others = alternate(section, plan, ours, others)
    section.compare(ours.name, found, others.name, found_of_others, aim)


def alternate(section: Section, plan: Plan, ours: Side, others: Side) -> tuple[list[Round], list[Round]]:
    """Run both sides in turn, after a short round of each that is not measured, and return their rounds."""

    def run(side: Side, seconds: float) -> Round:
        found = side.run(seconds, MOST_CALLS)
        section.account_for(side.name, found)
        return found

    rounds: dict[Side, list[Round]] = {ours: [], others: []}
    for side in rounds:
        run(side, WARM_SECONDS)
    for number in range(plan.repeat):
        for side in (ours, others) if number % 2 == 0 else (others, ours):
            rounds[side].append(run(side, plan.seconds))
    return rounds[ours], rounds[others]


@contextlib.contextmanager
def yardstick(name: str) -> Iterator[tuple[Process, int]]:
    """Run a yardstick and name its port, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="iii-bench-") as directory:
        port = free_port()
        command = [sys.executable, "-m", "bench.yardsticks", name, str(port)]
        with running(f"yardstick {name}", command, Path(directory), measured=True) as process:
            process.wait_for_port(port)
            yield process, port


@contextlib.contextmanager
def bench_worker(engine: Engine) -> Iterator[Process]:
    """Run the bench worker, registered and called once, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="iii-bench-") as directory:
        command = [sys.executable, "-m", "bench.worker", str(engine.worker_port)]
        with running("bench worker", command, Path(directory)) as process:
            process.wait_for_line(READY)
            yield process
