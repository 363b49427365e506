"""
Load of the queues: a connection that enqueues, and whoever tells which jobs were started.

A job's payload carries its id, and the job is right when it is started under that id once: a job that is started twice
in an engine that was not killed counts as a stray answer.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bench.calls import ID_KEY, ID_LENGTH, PATIENCE_SECONDS, connected_worker, load
from bench.frames import ConnectionEnded, WebSocket, frame
from bench.ledger import Ledger, Round
from bench.processes import CpuMeter
from bench.worker import CALL_KEY

JOB = b"bench::job"  # nobody has it when only acknowledgements are measured: the jobs wait
WIDE = "bench"  # a queue with this many of its jobs in progress at one time; the queue C{default} has 10
WIDE_CONCURRENCY = 64
IDLE_SECONDS = 0.005  # between two jobs on an idle system
_JOB = (
    b'{"type":"invokefunction","function_id":"' + JOB + b'","invocation_id":"%b",'
    b'"action":{"type":"enqueue","queue":"%b"},"data":{"call":"%b",'
    b'"customer":"c-1029","items":[{"sku":"A-17","count":2},{"sku":"B-4","count":1}],"note":"as usual"}}'
)
_DONE = b'{"type":"invocationresult","invocation_id":"%b","function_id":"' + JOB + b'","result":null}'
_RECEIPT = b'"messageReceiptId":"'


def job_frame(call: bytes, queue: bytes) -> bytes:
    """Return the masked frame that enqueues one job."""
    return frame(_JOB % (call, queue, call))


def enqueued_jobs(port: int, queue: str, in_flight: int, watched: tuple[int, ...], seconds: float, limit: int) -> Round:
    """Enqueue, with so many jobs not yet acknowledged; what becomes of them is not looked at."""
    name = queue.encode()
    return load(
        connected_worker(port, "bench-producer"),
        in_flight,
        Ledger(watched, seconds, limit),
        lambda call: job_frame(call, name),
        lambda answer, call: _RECEIPT in answer,
    )


def has_job(port: int) -> bool:
    """Tell whether somebody has the function of the jobs."""
    with contextlib.closing(connected_worker(port, "bench-asking")) as connection:
        data = b'{"function_id":"' + JOB + b'"}'
        connection.send(
            frame(
                b'{"type":"invokefunction","function_id":"engine::functions::info","invocation_id":"%b","data":%b}'
                % (str(uuid.uuid4()).encode(), data)
            )
        )
        while messages := connection.receive(PATIENCE_SECONDS):
            for message in messages:
                if b'"type":"invocationresult"' in message:
                    return b'"error":' not in message
    raise ConnectionEnded("the engine does not tell which functions it has")


class Started(Protocol):
    """Where one hears which jobs were started."""

    def fileno(self) -> int:
        """For select(2)."""

    def read(self) -> list[bytes]:
        """Return the ids of jobs that have been started since; called when there is something to read."""


class RawWorker:
    """A worker that has the function, in the process of the load: it answers at once, by slicing bytes."""

    def __init__(self, port: int) -> None:
        self._connection = connected_worker(port, "bench-job-worker")
        self._connection.send(frame(b'{"type":"registerfunction","id":"%b"}' % JOB))

    def fileno(self) -> int:
        return self._connection.fileno()

    def read(self) -> list[bytes]:
        started, answers = [], []
        for message in self._connection.receive(0):
            if b'"type":"invokefunction"' in message:
                at = message.find(CALL_KEY) + len(CALL_KEY)
                started.append(message[at : at + ID_LENGTH])
                at = message.find(ID_KEY) + len(ID_KEY)
                answers.append(frame(_DONE % message[at : at + ID_LENGTH]))
        self._connection.send(b"".join(answers))
        return started

    def close(self) -> None:
        """Leave when all answers are sent, so that no job runs again."""
        while self._connection.sends:
            select.select([], [self._connection], [], PATIENCE_SECONDS)
            self._connection.flush()
        self._connection.close()


class Notes:
    """A named pipe into which workers of any kind write the id of each job, with L{note}."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # also written, so that it never ends
        self._rest = b""

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> list[bytes]:
        data = self._rest + os.read(self._descriptor, 65536)
        whole = len(data) // ID_LENGTH * ID_LENGTH
        self._rest = data[whole:]
        return [data[at : at + ID_LENGTH] for at in range(0, whole, ID_LENGTH)]

    def close(self) -> None:
        os.close(self._descriptor)


def raw_jobs(
    port: int, queue: str, in_flight: int, pause: float, watched: tuple[int, ...], seconds: float, limit: int
) -> Round:
    """Enqueue jobs that a raw worker runs; see L{_run}."""
    with contextlib.closing(RawWorker(port)) as worker:
        return _run(port, queue, in_flight, pause, worker, Ledger(watched, seconds, limit))


def noted_jobs(
    port: int, queue: str, in_flight: int, path: Path, watched: tuple[int, ...], seconds: float, limit: int
) -> Round:
    """Enqueue jobs that a worker elsewhere runs, which notes them in a pipe; see L{_run}."""
    with contextlib.closing(Notes(path)) as notes:
        return _run(port, queue, in_flight, 0.0, notes, Ledger(watched, seconds, limit))


def drained_jobs(port: int, watched: tuple[int, ...], seconds: float, limit: int) -> Round:
    """
    Be the worker of jobs that wait, for so long or until so many have been started.

    How long each has waited is not told.  Those under way at the end are left to the engine, which gives them to the
    next worker.
    """
    started: set[bytes] = set()
    count, ended = 0, ""
    with contextlib.closing(RawWorker(port)) as worker:
        meter, load_cpu = CpuMeter(watched), time.process_time()
        start = last = time.perf_counter()
        while last - start < seconds and len(started) < limit and not ended:
            if select.select([worker], [], [], PATIENCE_SECONDS)[0]:
                calls = worker.read()
                started.update(calls)
                count += len(calls)
                last = time.perf_counter() if calls else last
            else:
                ended = f"{limit - len(started):,} jobs never came"
        cpu, load_cpu = meter.read(), time.process_time() - load_cpu
    return Round(
        asked=limit if ended else len(started),
        answered=len(started),
        wrong=0,
        stray=count - len(started),
        seconds=last - start,
        latency_p50_us=math.nan,
        latency_p99_us=math.nan,
        load_cpu_seconds=load_cpu,
        cpu_seconds=cpu,
        ended=ended,
    )


def _run(port: int, queue: str, in_flight: int, pause: float, started: Started, ledger: Ledger) -> Round:
    """
    Enqueue with so many jobs not yet acknowledged, and wait until all have been started.

    @param pause: Seconds between a job that has been started and the next one, when there is one at a time.
    """
    try:
        with contextlib.closing(connected_worker(port, "bench-producer")) as producer:
            _pass(producer, queue.encode(), in_flight, pause, started, ledger)
        return ledger.close()
    except (ConnectionEnded, OSError) as error:
        return ledger.close(str(error))


def _pass(producer: WebSocket, queue: bytes, in_flight: int, pause: float, started: Started, ledger: Ledger) -> None:
    unacknowledged = 0
    while True:
        idle = not ledger.waits and not unacknowledged
        if idle and pause:
            time.sleep(pause)
        if idle or not pause:
            calls = ledger.ask(in_flight - unacknowledged)
            unacknowledged += len(calls)
            if calls:
                producer.send(b"".join(job_frame(call, queue) for call in calls))
        if not ledger.waits and not unacknowledged:
            return
        unsent = [producer] if producer.sends else []
        readable, writable, _ = select.select([producer, started], unsent, [], PATIENCE_SECONDS)
        if not readable and not writable:
            return
        if writable:
            producer.flush()
        for source in readable:
            if source is producer:
                unacknowledged -= sum(map(_acknowledges, producer.receive(0)))
            else:
                for call in started.read():
                    ledger.answer(call, right=True)


def _acknowledges(message: bytes) -> bool:
    if b'"type":"invocationresult"' not in message:
        return False
    if _RECEIPT not in message:
        raise ConnectionEnded(f"a job was refused: {message!r}")
    return True


@contextlib.contextmanager
def pipe(directory: Path) -> Iterator[Path]:
    """Make a pipe for L{Notes}, and keep it open until the block ends, so that workers can always open it."""
    path = directory / "notes"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield path
    finally:
        os.close(descriptor)
