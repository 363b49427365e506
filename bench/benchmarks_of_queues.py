"""Benchmarks of the queues."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from statistics import median

import attrs

from bench.calls import plain_echo
from bench.compare import MOST_CALLS, WARM_SECONDS, Plan, Side, compare, side_of, yardstick
from bench.engine import Engine, EngineSource, started
from bench.frames import HOST
from bench.jobs import IDLE_SECONDS, WIDE, drained_jobs, enqueued_jobs, has_job, noted_jobs, pipe, raw_jobs
from bench.ledger import Round
from bench.peers import CHOSEN, WORKERS, NotInstalled, install, peer
from bench.processes import StartFailed, resident_bytes, running, wait_until_idle
from bench.report import Aim, Figure, Row, Section
from tests.sdk.environments import NEWEST

IN_FLIGHT = 64
MOST_SECONDS = 1800.0  # for what ends by count
_RAW = "raw worker"
START_AIM_MS = 2.0
READY_SECONDS = 30.0
SDK_PROGRAM = Path(__file__).with_name("sdk_job.py")


def queue(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Durable enqueues against a plain Autobahn echo, jobs from end to end, and how soon a job starts when idle."""
    section = Section("Queue, each job on disk before its receipt")
    with yardstick("echo") as (echo, echo_port):
        for in_flight in (1, IN_FLIGHT):
            with engines() as engine:  # a fresh one, without the jobs that the last left waiting
                target = engine.worker_port, WIDE, in_flight, (engine.pid,)
                ours = side_of(f"enqueue, {in_flight} in flight", load, enqueued_jobs, *target)
                others = side_of(f"Autobahn echo at {in_flight}", load, plain_echo, echo_port, in_flight, (echo.pid,))
                compare(section, plan, ours, others, Aim("≥", 0.6) if in_flight > 1 else None)
    with engines() as engine:
        for name in (WIDE, "default"):
            _rounds(section, plan, _raw(load, engine, name))
        with _sdk_worker(engine) as (sdk, pid, notes):
            _rounds(section, plan, _noted(load, engine, sdk, pid, notes))
    with engines() as engine:
        target = engine.worker_port, "default", 1, IDLE_SECONDS, (engine.pid,)
        found = _rounds(section, plan, side_of("one job at a time, idle", load, raw_jobs, *target))
        starts = [each.latency_p50_us / 1000 for each in found]
        section.figures.append(Figure.of("from the enqueue to the start, p50", starts, " ms", Aim("≤", START_AIM_MS)))
    return section


def peers(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """The same job on Celery, Dramatiq, RQ, Huey and arq with Redis, one worker process each."""
    section = Section("No-op jobs from end to end, one worker process each; of the peers, none is on disk")
    names = [name for name in WORKERS if _is_installed(section, name)]
    with contextlib.ExitStack() as opened:
        # Two engines: in one, either worker would get the other's jobs.
        raw_engine, sdk_engine = opened.enter_context(engines()), opened.enter_context(engines())
        sdk, pid, notes = opened.enter_context(_sdk_worker(sdk_engine))
        ours = {
            _raw(load, raw_engine, "default"): False,
            _noted(load, sdk_engine, sdk, pid, notes): False,
            _raw(load, raw_engine, WIDE): True,
        }
        found: dict[str, dict[str, list[Round]]] = {}
        for name in names:
            try:
                with peer(name) as other:
                    found[name] = _in_turn(section, plan, (*ours, other.side()))
            except (StartFailed, TimeoutError) as error:
                section.notes.append(f"{name} is left out: {error}")
    if found:
        _report_peers(section, {side.name: chosen for side, chosen in ours.items()}, found)
    return section


def backlog(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Very many jobs that wait: memory, start after a crash, and how fast they are then done."""
    section = Section(f"{plan.backlog:,} jobs that wait for their function")
    with tempfile.TemporaryDirectory(prefix="iii-bench-") as name:
        kept = Path(name)

        def keep(data: Path) -> None:
            data.symlink_to(kept, target_is_directory=True)

        with started(keep) as engine:
            empty = _resident(engine)
            found = load.submit(
                enqueued_jobs, engine.worker_port, WIDE, IN_FLIGHT, (engine.pid,), MOST_SECONDS, plan.backlog
            ).result()
            section.account_for("enqueue", found)
            section.rows.append(Row.of(f"enqueue, {IN_FLIGHT} in flight", [found]))
            held = _resident(engine) - empty
            section.figures.append(Figure.of("memory above empty, enqueued", [held], " MB", Aim("≤", 100.0)))
            os.kill(engine.pid, signal.SIGKILL)
        with started(keep) as engine:
            section.figures.append(Figure.of("start after SIGKILL", [engine.start_seconds], " s", Aim("≤", 2.0)))
            held = _resident(engine) - empty
            section.figures.append(Figure.of("memory above empty, started", [held], " MB", Aim("≤", 100.0)))
            drained = load.submit(
                drained_jobs, engine.worker_port, (engine.pid,), plan.repeat * plan.seconds, plan.backlog
            ).result()
            section.account_for("drain", drained)
            section.rows.append(Row.of("drain", [drained]))
            held = _resident(engine) - empty
            section.figures.append(Figure.of("memory above empty, drained for a while", [held], " MB"))
    return section


def _is_installed(section: Section, name: str) -> bool:
    try:
        install(name)
    except NotInstalled as error:
        section.notes.append(f"{name} is left out: {error}")
        return False
    return True


def _report_peers(section: Section, ours: dict[str, bool], found: dict[str, dict[str, list[Round]]]) -> None:
    """
    Add the rows of our sides, the rates of the peers, and the ratios.

    @param ours: Each side, and whether more than what it has by default runs at one time.  Only then it is measured
        against a peer of which that holds, too.
    @param found: By peer, then by side, its own and ours.
    """
    rates_of = {other: median(each.per_second for each in sides[other]) for other, sides in found.items()}
    fastest = {
        chosen: max((other for other in found if chosen or CHOSEN not in other), key=rates_of.__getitem__, default="")
        for chosen in (False, True)
    }
    for name in ours:
        section.rows.append(Row.of(name, [each for sides in found.values() for each in sides[name]]))
    for other, sides in found.items():
        section.figures.append(Figure.of(f"rate, {other}", [each.per_second for each in sides[other]], " /s"))
    for name, chosen in ours.items():
        for other, sides in found.items():
            pairs = [(our, its) for our, its in zip(sides[name], sides[other], strict=True) if its.answered]
            if pairs:
                rates = [our.per_second / its.per_second for our, its in pairs]
                aim = Aim("≥", 4.0) if other == fastest[chosen] else None
                section.figures.append(Figure.of(f"rate, {name} / {other}", rates, aim=aim))


def _resident(engine: Engine) -> float:
    """Megabytes of an engine that has come to rest."""
    wait_until_idle(engine.pid)
    return resident_bytes(engine.pid) / 1e6


def _raw(load: Executor, engine: Engine, queue: str) -> Side:
    return side_of(f"{_RAW}, queue {queue}", load, raw_jobs, engine.worker_port, queue, IN_FLIGHT, 0.0, (engine.pid,))


def _noted(load: Executor, engine: Engine, name: str, pid: int, notes: Path) -> Side:
    return side_of(name, load, noted_jobs, engine.worker_port, "default", IN_FLIGHT, notes, (engine.pid, pid))


def _rounds(section: Section, plan: Plan, side: Side) -> list[Round]:
    found = _in_turn(section, plan, (side,))[side.name]
    section.rows.append(Row.of(side.name, found))
    return found


def _in_turn(section: Section, plan: Plan, sides: tuple[Side, ...]) -> dict[str, list[Round]]:
    """Run the sides in turn, after a short round of each that is not measured, and return their rounds by name."""

    def run(side: Side, seconds: float) -> Round:
        found = side.run(seconds, MOST_CALLS)
        section.account_for(side.name, found)
        return found

    for side in sides:
        run(side, WARM_SECONDS)
    rounds: dict[str, list[Round]] = {side.name: [] for side in sides}
    for number in range(plan.repeat):
        for side in sides if number % 2 == 0 else reversed(sides):
            rounds[side.name].append(run(side, plan.seconds))
    return rounds


@contextlib.contextmanager
def _sdk_worker(engine: Engine) -> Iterator[tuple[str, int, Path]]:
    """Run a worker on a published Python SDK that has the job, until the block ends: its name, process and notes."""

    def worker(directory: Path) -> list[str]:
        return [str(directory / "bin" / "python"), "-E", str(SDK_PROGRAM)]  # on a PYTHONPATH may be another iii

    sdk = attrs.evolve(NEWEST[0], worker=worker)
    sdk.make()
    with tempfile.TemporaryDirectory(prefix="iii-bench-") as name, pipe(Path(name)) as notes:
        command = [*sdk.worker(), f"ws://{HOST}:{engine.worker_port}", str(notes)]
        with running(sdk.name, command, Path(name)) as process:
            end = time.perf_counter() + READY_SECONDS
            while not has_job(engine.worker_port):
                if time.perf_counter() > end:
                    raise TimeoutError(f"{sdk.name} does not register its function: {process.log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield f"{sdk.name}, queue default", process.pid, notes
