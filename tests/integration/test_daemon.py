"""The engine as its users start and stop it: C{twistd iii}, daemonised and not, and C{iii}."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.engine import HOST, EngineProcess, free_ports
from tests.integration.process import ProcessFailed, eventually
from tests.worker import connect

BIN = Path(sys.executable).parent
VARIABLES = {name: value for name, value in os.environ.items() if not name.startswith("III_")}


def run(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment to its end."""
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=directory,
        env=VARIABLES,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def wait_until(what: str, seconds: float, check: object) -> None:
    """Wait for something; this runs in a thread, so sleeping keeps nobody."""
    end = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        if time.monotonic() > end:
            raise AssertionError(f"not so within {seconds:g} s: {what}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def answers(port: int) -> bool:
    """Whether the engine's API says that it is alive."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class Configured:
    """A directory with a configuration on free ports."""

    def __init__(self, directory: Path, **engine: object) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.worker_port, self.http_port, self.api_port = free_ports(3)
        self.config: dict[str, Any] = {
            "engine": {"api": {"port": self.api_port}, **engine},
            "workers": [
                {"name": "iii-worker-manager", "config": {"port": self.worker_port}},
                {"name": "http", "config": {"port": self.http_port}},
            ],
        }
        self.write()

    def write(self) -> None:
        (self.directory / "config.yaml").write_text(yaml.safe_dump(self.config))


class DaemonTests(TestCase):
    """Programs run to their end in a thread: what they print and how they end is the subject."""

    timeout = 120

    def setUp(self) -> None:
        self.top = Path(self.mktemp()).resolve()

    async def test_two_daemons(self) -> None:
        """Two daemons on one machine each have their pid file, log file and ports; SIGTERM ends each alone."""
        await threads.deferToThread(self._two_daemons)

    def _two_daemons(self) -> None:
        engines = [Configured(self.top / name) for name in ("one", "two")]
        pids = []
        for engine in engines:
            started = run(engine.directory, "twistd", "iii", "-c", "config.yaml")
            self.assertEqual(started.returncode, 0, started.stderr)
            wait_until("it listens", 20, lambda engine=engine: listens(engine.http_port))
            pids.append(int((engine.directory / "twistd.pid").read_text()))
        for engine, pid in zip(engines, pids, strict=True):
            os.kill(pid, signal.SIGTERM)
            wait_until("it is gone", 20, lambda pid=pid: gone(pid))
            self.assertFalse((engine.directory / "twistd.pid").exists())
            log = (engine.directory / "twistd.log").read_text()
            self.assertIn(f"workers: listening on 127.0.0.1:{engine.worker_port}", log)
            self.assertIn("stopped", log)
            if engine is engines[0]:
                self.assertTrue(listens(engines[1].http_port))

    async def test_taken_port(self) -> None:
        """A port that is taken ends the start with status 1 and a sentence, in the foreground and daemonised."""
        await threads.deferToThread(self._taken_port)

    def _taken_port(self) -> None:
        with socket.socket() as taken:
            taken.bind((HOST, 0))
            taken.listen()
            for key in ("worker", "http", "api"):
                engine = Configured(self.top / key)
                port = taken.getsockname()[1]
                if key == "api":
                    engine.config["engine"]["api"]["port"] = port  # type: ignore[index]
                else:
                    engine.config["workers"][("worker", "http").index(key)]["config"]["port"] = port  # type: ignore[index]
                engine.write()
                ended = run(engine.directory, "twistd", "-n", "--pidfile=", "iii", "-c", "config.yaml")
                self.assertEqual(ended.returncode, 1, ended.stdout + ended.stderr)
                self.assertIn(f"cannot listen on 127.0.0.1:{port}: Address already in use", ended.stdout)
                self.assertNotIn("Traceback", ended.stderr + ended.stdout)
                ended = run(engine.directory, "twistd", "iii", "-c", "config.yaml")
                self.assertEqual(ended.returncode, 1, ended.stdout + ended.stderr)
                self.assertIn(f"cannot listen on 127.0.0.1:{port}", ended.stderr)
                pid_file = engine.directory / "twistd.pid"  # removed after the parent was told
                wait_until(f"{pid_file} is gone", 10, lambda pid_file=pid_file: not pid_file.exists())
                self.assertIn("Address already in use", (engine.directory / "twistd.log").read_text())

    async def test_wrong_file(self) -> None:
        """What is wrong in the file is said with its key, status 1, before anything is opened; no traceback."""
        await threads.deferToThread(self._wrong_file)

    def _wrong_file(self) -> None:
        engine = Configured(self.top / "engine", prot=1)
        for command in (("twistd", "-n", "--pidfile=", "iii"), ("twistd", "iii"), ("iii",)):
            ended = run(engine.directory, *command, "-c", "config.yaml")
            self.assertEqual(ended.returncode, 1, ended.stdout + ended.stderr)
            self.assertIn("config.yaml", ended.stderr)
            self.assertIn("engine.prot", ended.stderr)
            self.assertNotIn("Traceback", ended.stderr)
        ended = run(engine.directory, "iii", "-c", "missing.yaml")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("missing.yaml", ended.stderr)

    async def test_help(self) -> None:
        """C{twistd --help} lists the plugin, and its own help every option."""
        await threads.deferToThread(self._help)

    def _help(self) -> None:
        self.top.mkdir()
        self.assertRegex(run(self.top, "twistd", "--help").stdout, r"\n\s+iii\s+The iii engine")
        for command in (
            ("twistd", "-n", "iii", "--help"),
            ("twistd", "-n", "iii", "-h"),
            ("iii", "--help"),
            ("iii", "-h"),
        ):
            ended = run(self.top, *command)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            for option in ("--config", "--use-default-config", "--no-update-check"):
                self.assertIn(option, ended.stdout)
        self.assertRegex(run(self.top, "iii", "--version").stdout, r"^\d+\.\d+\.\d+\n$")
        self.assertEqual(run(self.top, "iii", "--nonsense").returncode, 2)


class ForegroundTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.engine = Configured(Path(self.mktemp()).resolve())

    async def test_signals(self) -> None:
        """C{iii} says where it listens; SIGTERM and SIGINT stop it in order, with status 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            await threads.deferToThread(self._stops, number, self.engine.directory)

    def _stops(self, number: int, directory: Path) -> None:
        engine, output = self.engine, self.engine.directory / "output"
        with output.open("wb") as file, subprocess.Popen(
            [str(BIN / "iii"), "-c", str(engine.directory / "config.yaml")],
            cwd=directory, env=VARIABLES, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            try:
                wait_until("it runs", 20, lambda: answers(engine.api_port))  # what only listens has no handlers yet
                process.send_signal(number)
                self.assertEqual(process.wait(20), 0, output.read_text())
            finally:
                process.kill()
        ports = (("workers", engine.worker_port), ("http", engine.http_port), ("api", engine.api_port))
        for what, port in ports:
            self.assertIn(f"{what}: listening on 127.0.0.1:{port}\n", output.read_text())
        self.assertIn("stopped\n", output.read_text())

    async def test_unwritable_directory(self) -> None:
        """
        In a directory where nothing can be written C{iii} runs with its data elsewhere, and without that says what it
        cannot make; the daemon, which needs two files, names one.
        """
        nowhere = Path("/proc")  # also root cannot write there
        config = str(self.engine.directory / "config.yaml")
        ended = await threads.deferToThread(run, nowhere, "iii", "-c", config)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("store /proc/data/config/store.db: ", ended.stdout + ended.stderr)
        self.engine.config["engine"]["data_directory"] = str(self.engine.directory / "data")
        self.engine.write()
        await threads.deferToThread(self._stops, signal.SIGTERM, nowhere)
        ended = await threads.deferToThread(run, nowhere, "twistd", "iii", "-c", config)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("/proc/twistd.log", ended.stderr.splitlines()[-1])
        self.assertFalse(listens(self.engine.worker_port))


class StopTests(TestCase):
    timeout = 60

    async def test_status(self) -> None:
        """SIGTERM stops in order, with status 0."""
        engine = await EngineProcess.for_test(self, reactor)
        await engine.stop()  # fails on any other status
        self.assertIn("stopped", engine.log.read_text())

    async def test_second_signal(self) -> None:
        """A call under way holds up the first signal; a second one ends the process at once, with status 1."""
        engine = await EngineProcess.for_test(self, reactor)
        self.addCleanup(engine.kill)  # it has ended by itself, which is right here
        worker = await connect(reactor, engine.worker_port)
        self.addCleanup(worker.close)
        await worker.serve("f")
        worker.held = []
        call = Deferred.fromCoroutine(worker.call("f"))
        while not worker.held:
            await deferLater(reactor, 0.01)
        os.kill(engine.pid, signal.SIGTERM)
        await deferLater(reactor, 1)
        engine.check()  # it still runs
        sent = time.monotonic()
        os.kill(engine.pid, signal.SIGTERM)
        await self.assertFailure(call, ConnectionClosed)
        ended = await self.assertFailure(
            Deferred.fromCoroutine(eventually(reactor, "it has ended", self._check(engine))), ProcessFailed
        )
        self.assertLess(time.monotonic() - sent, 2)
        self.assertIn("exit code 1", str(ended))
        self.assertIn("iii: a second signal: stopped at once", engine.log.read_text())

    def _check(self, engine: EngineProcess) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            engine.check()
            return False

        return check
