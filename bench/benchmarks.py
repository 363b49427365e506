"""
The benchmarks, one function each: start what it needs, load it in short rounds, return what was found.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

from bench.benchmarks_of_data import beside, cron, fanout, publish, recovery, state
from bench.benchmarks_of_queues import backlog, peers, queue
from bench.calls import connected_worker, plain_echo, routed_calls
from bench.channels import MESSAGE_BYTES, channel_messages
from bench.compare import Benchmark, Plan, Side, alternate, bench_worker, compare, side_of, yardstick
from bench.engine import Engine, EngineSource
from bench.frames import HOST
from bench.http_load import http_requests
from bench.idle import idle_workers
from bench.ledger import Round
from bench.processes import Process, running
from bench.report import Aim, Figure, Row, Section
from bench.streams import downloads as whole_responses
from bench.streams import streamed_pieces
from bench.worker import http_trigger, route
from tests.sdk.bulk import on_bulk
from tests.sdk.environments import NEWEST

IN_FLIGHT = 256
IN_FLIGHT_OF_ANSWERS = (8, 64, 512, 4096)
CONNECTIONS = (1, 8, 32, 128)
IN_FLIGHT_OF_CHANNELS = 32
EVENT_STREAMS = 32
DOWNLOAD_BYTES = 50 * 10**6
COMPARED_CONNECTIONS = 32
ROUTES = 1000
MOST_SECONDS = 120.0  # for a round that ends by count
ROUTES_SECONDS = 20.0  # until routes have come or gone


def calls(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Routed calls against a plain Autobahn echo, many in flight."""
    section = Section(f"Calls worker → engine → worker, {IN_FLIGHT} in flight")
    _compare_with_echo(section, plan, load, engines, IN_FLIGHT, Aim("≥", 1.3))
    return section


def latency(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Routed calls against a plain Autobahn echo, one at a time."""
    section = Section("Calls worker → engine → worker, one at a time")
    _compare_with_echo(section, plan, load, engines, 1)
    return section


def answers(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Every call has its answer, at any number in flight."""
    section = Section("Every call answered, and rightly")
    with engines() as engine, bench_worker(engine) as worker:
        for in_flight in IN_FLIGHT_OF_ANSWERS:
            label = f"{plan.calls:,} calls, {in_flight:,} in flight"
            side = side_of(label, load, routed_calls, engine.worker_port, in_flight, (engine.pid, worker.pid))
            found = side.run(MOST_SECONDS, plan.calls)
            unanswered = plan.calls - found.answered
            section.figures.append(Figure.of(f"{label}: not asked or not answered", [unanswered], aim=Aim("≤", 0)))
            section.account_for(label, found)
    return section


def http(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """HTTP request → worker → response against a bare twisted.web resource."""
    section = Section(f"JSON POST → worker → response, on {', '.join(map(str, CONNECTIONS))} keep-alive connections")
    with engines() as engine, bench_worker(engine) as worker, yardstick("web") as (web, web_port):
        for connections in CONNECTIONS:
            watched = (engine.pid, worker.pid)
            ours = side_of(
                f"engine at {connections}", load, http_requests, engine.http_port, [route(0)], connections, watched
            )
            others = side_of(
                f"twisted.web at {connections}", load, http_requests, web_port, [route(0)], connections, (web.pid,)
            )
            compare(section, plan, ours, others, Aim("≥", 4.0) if connections == COMPARED_CONNECTIONS else None)
    return section


def routes(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """The same engine with 1,000 routes, which are requested in turn, and with one."""
    section = Section(f"JSON POST → worker → response, {COMPARED_CONNECTIONS} connections, {ROUTES:,} routes or one")
    with engines() as engine, bench_worker(engine) as worker:
        target = COMPARED_CONNECTIONS, (engine.pid, worker.pid)
        one = side_of("1 route", load, http_requests, engine.http_port, [route(0)], *target)
        every = [route(number) for number in range(ROUTES)]
        many = side_of(f"{ROUTES:,} routes", load, http_requests, engine.http_port, every, *target)

        def run_with_more_routes(seconds: float, limit: int) -> Round:
            with _more_routes(engine):
                return many.run(seconds, limit)

        compare(section, plan, Side(many.name, run_with_more_routes), one, Aim("≥", 0.95))
    return section


def channels(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Bytes through a channel in the time in which a plain Autobahn echo returns one small frame."""
    section = Section(f"Channel worker → engine → worker, messages of {MESSAGE_BYTES // 1024} KiB")
    with engines() as engine, yardstick("echo") as (echo, echo_port):
        target = engine.worker_port, IN_FLIGHT_OF_CHANNELS, (engine.pid,)
        ours = side_of("engine", load, channel_messages, *target)
        others = side_of("Autobahn echo", load, plain_echo, echo_port, IN_FLIGHT, (echo.pid,))
        found, echoed = alternate(section, plan, ours, others)
    section.rows += [Row.of(ours.name, found), Row.of(others.name, echoed)]
    _compare_bytes(section, "engine", MESSAGE_BYTES, found, echoed)
    return section


def downloads(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Bytes of a streamed HTTP response in the time in which a plain Autobahn echo returns one small frame."""
    section = Section(f"Download worker → channel → engine → HTTP, pieces of {MESSAGE_BYTES // 1024} KiB")
    with engines() as engine, yardstick("echo") as (echo, echo_port):
        others = side_of("Autobahn echo", load, plain_echo, echo_port, IN_FLIGHT, (echo.pid,))
        target = engine.worker_port, engine.http_port, "large", 1, IN_FLIGHT_OF_CHANNELS, (engine.pid,)
        raw = side_of("raw worker", load, streamed_pieces, *target)
        found, echoed = alternate(section, plan, raw, others)
        section.rows += [Row.of(raw.name, found), Row.of(others.name, echoed)]
        _compare_bytes(section, raw.name, MESSAGE_BYTES, found, echoed)
        with _sdk_worker(engine) as (name, worker):
            path = f"bulk/download?bytes={DOWNLOAD_BYTES}"
            whole = side_of(
                name, load, whole_responses, engine.http_port, path, DOWNLOAD_BYTES, (engine.pid, worker.pid)
            )
            found, echoed = alternate(section, plan, whole, others)
        section.rows.append(Row.of(f"{name}, each {DOWNLOAD_BYTES // 10**6} MB", found))
        _compare_bytes(section, name, DOWNLOAD_BYTES, found, echoed)
        busy = [each.busy(1) for each in found]
        section.figures.append(Figure.of(f"share of the time that {name} was on a CPU", busy))
    return section


def events(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Small events of streamed responses, each flushed alone, against a plain Autobahn echo with as many in flight."""
    section = Section(f"Events worker → channel → engine → HTTP, {EVENT_STREAMS} responses, one in flight in each")
    with engines() as engine, yardstick("echo") as (echo, echo_port):
        target = engine.worker_port, engine.http_port, "events", EVENT_STREAMS, 1, (engine.pid,)
        ours = side_of("engine", load, streamed_pieces, *target)
        others = side_of("Autobahn echo", load, plain_echo, echo_port, EVENT_STREAMS, (echo.pid,))
        compare(section, plan, ours, others, None)
    return section


def memory(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Resident memory for each idle worker connection, in a fresh engine."""
    section = Section(f"Memory of {plan.idle:,} connected, named and idle workers")
    with engines() as engine:
        found = load.submit(idle_workers, engine.worker_port, plan.idle, engine.pid).result()
    if found.kept == plan.idle:
        kilobytes = found.per_connection_bytes / 1000
        section.figures.append(Figure.of("for each connection", [kilobytes], " kB", Aim("≤", 20.0)))
    else:
        section.failures.append(f"only {found.kept:,} connections were made and kept: {found.ended}")
    return section


def startup(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Time from the command until the workers' port listens, after one start that is not counted."""
    section = Section("Start: from the command until the workers' port listens")
    seconds = []
    for _ in range(1 + plan.repeat):
        with engines() as engine:
            seconds.append(engine.start_seconds)
    section.figures.append(Figure.of("listening", seconds[1:], " s", Aim("≤", 1.0)))
    return section


BENCHMARKS: dict[str, Benchmark] = {
    each.__name__: each
    for each in (
        *(calls, latency, answers, http, routes, channels, downloads, events),
        *(state, beside, fanout, publish, cron, memory, startup, recovery),
        *(queue, backlog, peers),
    )
}
NEED_A_FRESH_ENGINE = (
    *("state", "beside", "fanout", "publish", "cron", "memory", "startup", "recovery"),
    *("queue", "backlog", "peers"),
)


def _compare_with_echo(
    section: Section, plan: Plan, load: Executor, engines: EngineSource, in_flight: int, aim: Aim | None = None
) -> None:
    with engines() as engine, bench_worker(engine) as worker, yardstick("echo") as (echo, echo_port):
        ours = side_of("engine", load, routed_calls, engine.worker_port, in_flight, (engine.pid, worker.pid))
        others = side_of("Autobahn echo", load, plain_echo, echo_port, in_flight, (echo.pid,))
        compare(section, plan, ours, others, aim)


def _compare_bytes(section: Section, name: str, size: int, found: list[Round], echoed: list[Round]) -> None:
    """Note how many bytes went through in the time, and for the CPU time, in which one small frame is echoed."""
    pairs = [(our, other) for our, other in zip(found, echoed, strict=True) if our.answered and other.answered]
    if not pairs:
        return
    kilobytes = size / 1000
    rates = [our.per_second * kilobytes / 1000 for our, _ in pairs]
    costs = [our.cpu_us() / kilobytes for our, _ in pairs]
    by_rate = [our.per_second * kilobytes / other.per_second for our, other in pairs]
    by_cpu = [kilobytes * other.cpu_us() / our.cpu_us() for our, other in pairs]
    section.figures += [
        Figure.of(f"rate, {name}", rates, " MB/s"),
        Figure.of(f"CPU of the engine, {name}", costs, " ms per MB"),
        Figure.of(f"rate, {name} / Autobahn echo", by_rate, " kB per frame", Aim("≥", 13.0)),
        Figure.of(f"bytes for the CPU time of an echoed frame, {name}", by_cpu, " kB"),
    ]


@contextlib.contextmanager
def _sdk_worker(engine: Engine) -> Iterator[tuple[str, Process]]:
    """Run a worker on a published Python SDK, which is installed if it is not, until the block ends."""
    sdk = on_bulk(NEWEST[0])
    sdk.make()
    with tempfile.TemporaryDirectory(prefix="iii-bench-") as directory:
        command = [*sdk.worker(), f"ws://{HOST}:{engine.worker_port}", "bulk"]
        with running(sdk.name, command, Path(directory)) as process:
            path = "bulk/download?bytes=8"
            _until(lambda: whole_responses(engine.http_port, path, 8, (), 5.0, 1).answered == 1, time.sleep)
            yield sdk.name, process


@contextlib.contextmanager
def _more_routes(engine: Engine) -> Iterator[None]:
    """Have a second worker bind all routes but the first, until the block ends."""
    with contextlib.closing(connected_worker(engine.worker_port, "bench-routes")) as connection:
        connection.send(b"".join(http_trigger(number) for number in range(1, ROUTES)))
        _until(lambda: _last_route_answers(engine), connection.receive)  # receiving sends what the socket did not take
        yield
    _until(lambda: not _last_route_answers(engine), time.sleep)


def _last_route_answers(engine: Engine) -> bool:
    """Tell whether all routes are there: they come in order, and go together."""
    return http_requests(engine.http_port, [route(ROUTES - 1)], 1, (), 5.0, 1).answered == 1


def _until(reached: Callable[[], bool], pause: Callable[[float], object]) -> None:
    end = time.perf_counter() + ROUTES_SECONDS
    while not reached():
        if time.perf_counter() > end:
            raise TimeoutError(f"the routes had not come or gone after {ROUTES_SECONDS:.0f} s")
        pause(0.02)
