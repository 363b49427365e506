"""Benchmarks of what the engine stores, and of the streams."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import Executor
from pathlib import Path

from bench.calls import plain_echo, routed_calls
from bench.compare import Plan, Side, alternate, bench_worker, compare, side_of, yardstick
from bench.cron import idle_jobs
from bench.engine import EngineSource, leave_values, started
from bench.fanout import stream_events
from bench.ledger import Round
from bench.processes import running
from bench.publish import published
from bench.report import Aim, Figure, Row, Section
from bench.state import BUSY, KEYS, fill, measured, state_calls

IN_FLIGHT_OF_STATE = (1, 64)
IN_FLIGHT_OF_CALLS = 32
CLIENTS = (1, 100, 1000)
COMPARED_CLIENTS = 100
EVENTS_IN_FLIGHT = 64
SUBSCRIBERS = ((1, 1), (10, 1), (10, 10), (100, 10))  # and the connections that serve them
COMPARED_SUBSCRIBERS = 10
STORED_VALUES = 100_000
CRON_JOBS = 10_000


def state(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Durable sets, gets and updates of the state against a plain Autobahn echo."""
    section = Section(f"State, {KEYS:,} keys, each change on disk before its answer")
    with engines() as engine, yardstick("echo") as (echo, echo_port):
        load.submit(fill, engine.worker_port).result()
        for in_flight in IN_FLIGHT_OF_STATE:
            for kind, aim in (("set", Aim("≥", 0.6)), ("get", Aim("≥", 0.8)), ("update", None)):
                target = engine.worker_port, kind, in_flight, (engine.pid,)
                ours = side_of(f"{kind}, {in_flight} in flight", load, state_calls, *target)
                others = side_of(f"Autobahn echo at {in_flight}", load, plain_echo, echo_port, in_flight, (echo.pid,))
                compare(section, plan, ours, others, aim if in_flight > 1 else None)
    return section


def beside(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Routed calls while another worker keeps 64 durable sets in flight, and while it keeps 64 gets."""
    section = Section(f"Calls worker → engine → worker, {IN_FLIGHT_OF_CALLS} in flight, beside other work")
    with engines() as engine, bench_worker(engine) as worker:
        load.submit(fill, engine.worker_port).result()
        target = engine.worker_port, IN_FLIGHT_OF_CALLS, (engine.pid, worker.pid)
        p99 = {}
        for kind in ("nothing", "get", "set"):
            with tempfile.TemporaryDirectory(prefix="iii-bench-") as directory:
                command = [sys.executable, "-m", "bench.state", str(engine.worker_port), kind]
                with running(f"state {kind}", command, Path(directory)) as process:
                    process.wait_for_line(BUSY)
                    calls = side_of(f"beside {kind}", load, routed_calls, *target)
                    calls.run(plan.seconds, 1_000_000)
                    found = [calls.run(plan.seconds, 1_000_000) for _ in range(plan.repeat)]
                    others = measured(process.log.read_text())
            for each in found:
                section.account_for(calls.name, each)
            section.rows.append(Row.of(calls.name, found))
            p99[kind] = [each.latency_p99_us / 1000 for each in found]
            if others:
                section.figures += [
                    Figure.of(f"{kind}s beside the calls", [rate for rate, _ in others], " per second"),
                    Figure.of(f"p99 of these {kind}s", [late / 1000 for _, late in others], " ms"),
                ]
        differences = [ours - others for ours, others in zip(p99["set"], p99["get"], strict=True)]
        section.figures.append(Figure.of("p99 beside sets above p99 beside gets", differences, " ms"))
    return section


def fanout(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Events of a stream, received by 1, 100 and 1,000 clients, and with one more that never reads."""
    section = Section(f"Stream events worker → engine → clients, {EVENTS_IN_FLIGHT} events in flight")
    with engines() as engine, yardstick("echo") as (echo, echo_port):
        others = side_of("Autobahn echo", load, plain_echo, echo_port, EVENTS_IN_FLIGHT, (echo.pid,))
        for clients, stalled in [*((number, 0) for number in CLIENTS), (COMPARED_CLIENTS, 1)]:
            name = f"{clients:,} clients" + (f" and {stalled} that stalls" if stalled else "")
            ours = side_of(
                name, load, stream_events, engine.worker_port, engine.stream_port, clients, stalled, EVENTS_IN_FLIGHT,
                (engine.pid,),
            )  # fmt: skip
            aim = Aim("≥", 3.0) if clients == COMPARED_CLIENTS and not stalled else None
            _compare_deliveries(section, clients, ours, others, alternate(section, plan, ours, others), aim)
    return section


def publish(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Messages on a topic, received and answered by 1, 10 and 100 subscribers."""
    section = Section(f"Messages worker → engine → subscribers, {EVENTS_IN_FLIGHT} messages in flight, published void")
    with engines() as engine, yardstick("echo") as (echo, echo_port):
        others = side_of("Autobahn echo", load, plain_echo, echo_port, EVENTS_IN_FLIGHT, (echo.pid,))
        for subscribers, connections in SUBSCRIBERS:
            name = f"{subscribers} on {connections} worker{'s' if connections > 1 else ''}"
            target = engine.worker_port, subscribers, connections, EVENTS_IN_FLIGHT, (engine.pid,)
            ours = side_of(name, load, published, *target)
            aim = Aim("≥", 2.0) if subscribers == COMPARED_SUBSCRIBERS else None
            _compare_deliveries(section, subscribers, ours, others, alternate(section, plan, ours, others), aim)
    return section


def cron(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """CPU and memory of an engine with many cron jobs while none is due."""
    section = Section(f"{CRON_JOBS:,} cron jobs, none of which is due")
    with engines() as engine:
        found = load.submit(idle_jobs, engine.worker_port, CRON_JOBS, engine.pid, 5 * plan.seconds).result()
    if found.registered != CRON_JOBS:
        section.failures.append(f"only {found.registered:,} jobs were registered")
    section.figures += [
        Figure.of("CPU without jobs", [1000 * found.cpu_seconds_before], " ms per second"),
        Figure.of("CPU with them", [1000 * found.cpu_seconds], " ms per second"),
        Figure.of("memory for each", [(found.bytes_after - found.bytes_before) / CRON_JOBS / 1000], " kB"),
    ]
    return section


def recovery(plan: Plan, load: Executor, engines: EngineSource) -> Section:
    """Time until the workers' port listens after a crash, with many values in the store, which is checked."""
    section = Section(f"Start after SIGKILL with {STORED_VALUES:,} values in the store")
    seconds = []
    for _ in range(plan.repeat):
        with started(lambda directory: leave_values(directory, STORED_VALUES)) as engine:
            seconds.append(engine.start_seconds)
    section.figures.append(Figure.of("listening", seconds, " s", Aim("≤", 2.0)))
    return section


def _compare_deliveries(
    section: Section, listeners: int, ours: Side, others: Side, found: tuple[list[Round], list[Round]], aim: Aim | None
) -> None:
    """Note how many deliveries of one message to each listener there were for each frame that was echoed."""
    section.rows += [Row.of(ours.name, found[0]), Row.of(others.name, found[1])]
    rates = [listeners * our.per_second / other.per_second for our, other in zip(*found, strict=True)]
    section.figures += [
        Figure.of(f"deliveries, {ours.name} / {others.name}", rates, aim=aim),
        Figure.of(f"CPU for each delivery, {ours.name}", [our.cpu_us() / listeners for our in found[0]], " µs"),
    ]
