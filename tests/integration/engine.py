"""A real engine, started as users start it, in a process of its own."""

from __future__ import annotations

import os
import random
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import treq
import yaml
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

from tests.integration.process import ChildProcess, eventually

HOST = "127.0.0.1"


class EngineProcess:
    """
    C{twistd iii} on free ports, with its data in a directory of its own.

    It may be stopped and started again: ports and data stay.

    @ivar directory: Where it runs; C{config.yaml}, C{data/} and C{engine.log} are there.
    """

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        modules: Sequence[dict[str, Any]] = (),
        settings: dict[str, Any] | None = None,
    ) -> None:
        """
        @param modules: Entries of C{workers:} beside the listeners for workers and for HTTP.
        @param settings: Keys of C{engine:} beside C{data_directory} and C{api}.
        """
        self.directory = directory
        self.worker_port, self.http_port, self.api_port = free_ports(3)
        self.log = directory / "engine.log"
        self._reactor = reactor
        self._process: ChildProcess | None = None
        directory.mkdir(parents=True, exist_ok=True)
        engine = {"data_directory": str(directory / "data"), "api": {"port": self.api_port}, **(settings or {})}
        listeners = [
            {"name": "iii-worker-manager", "config": {"host": HOST, "port": self.worker_port}},
            {"name": "iii-http", "config": {"host": HOST, "port": self.http_port, "default_timeout": 5000}},
        ]
        config = {"engine": engine, "workers": [*listeners, *modules]}
        (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    @classmethod
    async def for_test(
        cls,
        case: TestCase,
        reactor: Any,
        modules: Sequence[dict[str, Any]] = (),
        settings: dict[str, Any] | None = None,
    ) -> EngineProcess:
        """Start an engine that stops when the test ends.  If it dies before, the test fails with the engine's log."""
        engine = cls(reactor, Path(case.mktemp()).resolve(), modules, settings)
        case.addCleanup(engine.stop)
        await engine.start()
        return engine

    @property
    def url(self) -> str:
        """Where workers connect."""
        return f"ws://{HOST}:{self.worker_port}"

    @property
    def http_url(self) -> str:
        """Where the routes of users are."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def api_url(self) -> str:
        """Where the engine's own API is."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and wait until it listens for workers and for HTTP."""
        # The twistd of the environment that runs the tests, where the engine must be installed.
        command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "iii", "-c", "config.yaml"]
        # III_HOST, III_TOKEN and the like of whoever runs the tests must not change the engine under test.
        variables = {name: value for name, value in os.environ.items() if not name.startswith("III_")}
        self._process = ChildProcess(self._reactor, "the engine", self.log)
        self._process.start(command, self.directory, variables)
        for port in (self.worker_port, self.http_port):
            await eventually(self._reactor, f"the engine listens on {port}", lambda port=port: self._accepts(port), 30)

    async def stop(self) -> None:
        """Stop it with SIGTERM, unless that was done.  L{ProcessFailed}, with its log, if it had ended by itself."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop()

    async def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            await process.kill()

    def check(self) -> None:
        """Raise L{ProcessFailed}, with the engine's log, if it has ended by itself."""
        if self._process is not None:
            self._process.check()

    async def figure(self, name: str) -> float:
        """Return one of the figures in C{/metrics}."""
        response = await treq.get(f"{self.api_url}/metrics", agent=Agent(self._reactor))
        found = re.search(rf"^{re.escape(name)} (\S+)$", await response.text(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    async def _accepts(self, port: int) -> bool:
        self.check()
        try:
            connection = await TCP4ClientEndpoint(self._reactor, HOST, port).connect(Factory.forProtocol(Protocol))
        except ConnectError:
            return False
        connection.transport.abortConnection()
        return True


def free_ports(number: int) -> list[int]:
    """
    Return ports on which nothing listens.

    They are below those that the kernel gives to outgoing connections (from 32768 on): while an engine restarts, a
    client that tries to reconnect could otherwise be given the very port that it connects to.
    """
    ports: list[int] = []
    while len(ports) < number:
        port = random.randrange(20000, 32000)
        if port not in ports and _is_free(port):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
