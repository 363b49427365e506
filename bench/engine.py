"""The engine under test: started from a generated configuration on free ports, or one that runs already."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import attrs

from bench.frames import HOST
from bench.processes import allow_open_files, free_port, running
from iii.storage.file import StoreFile

CONFIGURATION = """\
engine:
  data_directory: {directory}/data
  api: {{port: {api_port}}}
workers:
  - name: iii-worker-manager
    config: {{host: {host}, port: {worker_port}}}
  - name: iii-http
    config: {{host: {host}, port: {http_port}}}
  - name: iii-state
  - name: iii-cron
  - name: iii-pubsub
  - name: iii-queue
    config: {{queue_configs: {{bench: {{concurrency: 64}}}}}}
  - name: iii-stream
    config: {{host: {host}, port: {stream_port}}}
"""


@attrs.frozen
class Engine:
    """A running engine, and how long it took from its command until the workers' port listened."""

    pid: int
    worker_port: int
    http_port: int
    start_seconds: float
    stream_port: int = 0


EngineSource = Callable[[], AbstractContextManager[Engine]]


@contextlib.contextmanager
def started(prepare: Callable[[Path], object] = lambda data: None) -> Iterator[Engine]:
    """
    Run a new engine until the block ends.

    @param prepare: Puts something into its data directory first, which does not exist yet.
    """
    allow_open_files()
    with tempfile.TemporaryDirectory(prefix="iii-bench-") as name:
        directory, worker_port, http_port, stream_port = Path(name), free_port(), free_port(), free_port()
        prepare(directory / "data")
        configuration = directory / "bench.yaml"
        configuration.write_text(
            CONFIGURATION.format(
                directory=directory,
                host=HOST,
                api_port=free_port(),
                worker_port=worker_port,
                http_port=http_port,
                stream_port=stream_port,
            )
        )
        twistd = str(Path(sys.executable).with_name("twistd"))
        command = [twistd, "-n", "--pidfile=", "iii", "-c", str(configuration)]
        with running("engine", command, directory, measured=True) as process:
            seconds = process.wait_for_port(worker_port)
            process.wait_for_port(http_port)
            yield Engine(process.pid, worker_port, http_port, seconds, stream_port)


def leave_values(directory: Path, count: int) -> None:
    """Leave a store behind as an engine does that is killed after it has written so many values."""
    store = StoreFile(directory)
    store.open()
    store.written()
    connection = store.connect()
    rows = ((f"k{number}", b'{"name":"somebody","count":%d}' % number) for number in range(count))
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO state (scope, key, value) VALUES ('bench', ?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()
    store.close(clean=False)


def attached(address: str) -> EngineSource:
    """Return a source that hands out an engine which runs already, named as PID:WORKER_PORT:HTTP_PORT."""
    pid, worker_port, http_port = map(int, address.split(":"))
    return lambda: contextlib.nullcontext(Engine(pid, worker_port, http_port, 0.0))
