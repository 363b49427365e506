"""
Other queues of Python: where they are installed, how a worker of each is run, and the load that they get.

They are installed under C{.cache/peers}, never into the environment of the engine.  Each works with a Redis of its own
that keeps nothing on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

from bench.calls import PATIENCE_SECONDS
from bench.compare import Side
from bench.frames import HOST
from bench.jobs import Notes, pipe
from bench.ledger import Ledger, Round
from bench.processes import ROOT, free_port, running

ENVIRONMENTS = ROOT / ".cache" / "peers"
# One environment each: they do not agree on a version of the client of Redis.
PACKAGES = {
    "celery": ("celery[redis]==5.7.0", "packaging"),  # its transport needs packaging, and does not ask for it
    "dramatiq": ("dramatiq[redis]==2.2.1",),
    "rq": ("rq==3.0.0",),
    "huey": ("huey[redis]==3.5.4",),
    "arq": ("arq==0.28.0",),
}
PRODUCE = "import bench.peer_job; bench.peer_job.produce()"  # not -m: the job must have its module's name
PROBE_JOBS = 100
FEWEST_JOBS = 50

CHOSEN = "-"  # behind it is what was chosen otherwise than by default
# One worker process each, as one starts it first.
WORKERS = {
    "celery": ("celery", "-A", "bench.peer_job", "worker", "--pool=solo", "--loglevel=error", "--without-mingle"),
    "dramatiq": ("dramatiq", "bench.peer_job", "--processes", "1", "--threads", "8"),
    "rq": ("rq", "worker", "--quiet", "--url", "{redis}"),
    "huey": ("huey_consumer", "bench.peer_job.huey", "--quiet"),
    "huey-8-threads": ("huey_consumer", "bench.peer_job.huey", "--workers", "8", "--quiet"),
    "arq": ("arq", "bench.peer_job.WorkerSettings"),
}


class NotInstalled(Exception):
    """The peers cannot be run here, for this reason."""


def install(name: str) -> None:
    """
    Make the environment of a peer, unless it is there.

    @raise NotInstalled: It cannot be made, or there is no Redis.
    """
    if _redis() is None:
        raise NotInstalled("redis-server is not installed")
    package = name.partition(CHOSEN)[0]
    directory = ENVIRONMENTS / package
    made = directory / "made"
    digest = hashlib.sha256("\0".join((*PACKAGES[package], sys.version, str(directory))).encode()).hexdigest()
    if made.is_file() and made.read_text() == digest:
        return
    pip = (str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for command in ((sys.executable, "-m", "venv", "--clear", str(directory)), (*pip, *PACKAGES[package])):
        found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if found.returncode:
            raise NotInstalled(f"`{' '.join(command)}` failed: {_last_lines(found.stderr)}")
    made.write_text(digest)


def _redis() -> str | None:
    return shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _last_lines(text: str) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-3:])


@attrs.frozen
class Peer:
    """
    A peer whose worker runs.
    """

    name: str
    producer: subprocess.Popen[bytes]
    notes: Path

    def run(self, seconds: float, limit: int) -> Round:
        """Enqueue about as many jobs as run in that time, and wait until all have run."""
        probe = self._jobs(min(PROBE_JOBS, limit))
        if probe.failures:
            return probe
        return self._jobs(min(limit, max(FEWEST_JOBS, int(probe.per_second * seconds))))

    def side(self) -> Side:
        """Itself as one side of a comparison."""
        return Side(self.name, self.run)

    def _jobs(self, count: int) -> Round:
        assert self.producer.stdin is not None and self.producer.stdout is not None
        with contextlib.closing(Notes(self.notes)) as notes:
            ledger = Ledger((), 3600.0, count)
            calls = ledger.ask(count)
            first = calls[0].decode()
            self.producer.stdin.write(f"{first[:-12]} {int(first[-12:], 16)} {count}\n".encode())
            self.producer.stdin.flush()
            while ledger.waits and select.select([notes], [], [], PATIENCE_SECONDS)[0]:
                for call in notes.read():
                    ledger.answer(call, right=True)
            if ledger.waits:
                return ledger.close()
            self.producer.stdout.readline()
            return ledger.close()


@contextlib.contextmanager
def peer(name: str) -> Iterator[Peer]:
    """Run Redis and one worker process of a peer, until the block ends; its first job has run."""
    package = name.partition(CHOSEN)[0]
    with contextlib.ExitStack() as opened:
        directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="iii-bench-")))
        notes = opened.enter_context(pipe(directory))
        port = free_port()
        options = ("--bind", HOST, "--port", str(port), "--dir", str(directory), "--save", "", "--appendonly", "no")
        opened.enter_context(running("redis", [_redis() or "redis-server", *options], directory)).wait_for_port(port)
        variables = {"BENCH_PEER": package, "BENCH_REDIS": str(port), "BENCH_PIPE": str(notes), "PYTHONPATH": str(ROOT)}
        opened.enter_context(_environment(variables))
        programs = ENVIRONMENTS / package / "bin"
        program, *arguments = (each.format(redis=f"redis://{HOST}:{port}/0") for each in WORKERS[name])
        worker = opened.enter_context(running(name, [str(programs / program), *arguments], directory, measured=True))
        producer = subprocess.Popen(
            [str(programs / "python"), "-c", PRODUCE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        opened.callback(_end, producer)
        found = Peer(name, producer, notes)
        if found._jobs(1).failures:
            raise TimeoutError(f"{name} does not run its first job: {_last_lines(worker.log.read_text())}")
        yield found


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.communicate()
