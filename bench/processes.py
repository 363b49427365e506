"""Start, watch and stop the processes that take part in a run, and read from the kernel what they have used."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from bench.frames import HOST

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 15.0
SERVERS_CPU = min(os.sched_getaffinity(0))


class StartFailed(Exception):
    """A process ended, or did not become ready in time.  The text has the end of what it wrote."""


@attrs.frozen
class Process:
    """A running process and the time at which it was started."""

    popen: subprocess.Popen[bytes]
    name: str
    log: Path
    started: float

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_for_port(self, port: int) -> float:
        """Return how many seconds after the start this port was found listening."""
        while not _listens(port):
            self._check(f"port {port} does not listen")
            time.sleep(0.002)
        return time.perf_counter() - self.started

    def wait_for_line(self, line: str) -> None:
        """Wait until the process has written this line."""
        while line not in self.log.read_text(errors="replace").splitlines():
            self._check(f"{line!r} was not written")
            time.sleep(0.01)

    def _check(self, missing: str) -> None:
        late = time.perf_counter() - self.started > START_SECONDS
        if late or self.popen.poll() is not None:
            state = f"still runs after {START_SECONDS:.0f} s" if late else f"exited with status {self.popen.returncode}"
            tail = "".join(f"\n    {line}" for line in self.log.read_text(errors="replace").splitlines()[-12:])
            raise StartFailed(f"{self.name} {state}, {missing}:{tail}")


def keep_off_the_servers_cpu() -> None:
    """
    Leave the first CPU to what is measured; load and worker, which are started from here, share the others.  Without
    that the kernel now and then runs all of them on one CPU, and rates of one and the same run differ by a third.
    """
    cpus = os.sched_getaffinity(0)
    if len(cpus) > 1:
        os.sched_setaffinity(0, cpus - {SERVERS_CPU})


@contextlib.contextmanager
def running(name: str, command: list[str], directory: Path, *, measured: bool = False) -> Iterator[Process]:
    """
    Run a command from the root of the repository, its output in a file of this directory, until the block ends.

    @param measured: It runs on the CPU that is left to what is measured.
    """
    log = directory / f"{name.replace(' ', '-')}.log"
    with log.open("wb") as output:
        started = time.perf_counter()
        popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if measured:
        os.sched_setaffinity(popen.pid, {SERVERS_CPU})
    try:
        yield Process(popen, name, log, started)
    finally:
        popen.terminate()
        try:
            popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def allow_open_files() -> int:
    """Raise the limit of open files of this process and its children as far as it goes, and return it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class CpuMeter:
    """CPU seconds, user and system of all threads, which some processes use from now on; nanoseconds count."""

    def __init__(self, pids: tuple[int, ...]) -> None:
        self._clocks = [(~pid << 3) | 2 for pid in pids]  # as clock_getcpuclockid(3) makes them, which Python lacks
        self._start = self._now()

    def read(self) -> tuple[float, ...]:
        return tuple(now - start for now, start in zip(self._now(), self._start, strict=True))

    def _now(self) -> list[float]:
        return [time.clock_gettime(clock) for clock in self._clocks]


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wait_until_idle(pid: int, seconds: float = 15.0) -> None:
    """Return when a process has used next to no CPU for a quarter of a second, or after C{seconds}."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        meter = CpuMeter((pid,))
        time.sleep(0.25)
        if meter.read()[0] < 0.005:
            return


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
