"""Workers on the SDKs, and the stage on which most tests take place: one engine with one worker on each SDK."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.integration.engine import EngineProcess
from tests.integration.process import ChildProcess, ProcessFailed, eventually
from tests.sdk.client import Client, RemoteError, connect
from tests.sdk.environments import SDKS
from tests.sdk.sdk import Sdk

MODULES = ({"name": "iii-state"}, {"name": "iii-stream", "config": {"port": 0}}, {"name": "iii-pubsub"})


class Worker:
    """A process of the worker program on one SDK.  Its functions begin with its name."""

    def __init__(self, reactor: Any, sdk: Sdk, name: str, directory: Path) -> None:
        self.sdk, self.name = sdk, name
        self._reactor, self._directory = reactor, directory
        self._process = ChildProcess(reactor, f"the worker {name}", directory / f"{name}.log")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """What the process has written so far."""
        return self._process.log.read_text(errors="replace")

    def start(self, url: str) -> None:
        # On a PYTHONPATH the engine's package iii would hide the SDK's.
        foreign = ("III_", "OTEL_", "PYTHON")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        # The Python SDK puts a file into the home directory.  SDKs find the telemetry socket by III_URL, Python's until
        # 0.24, those before 0.9 by III_BRIDGE_URL.
        variables |= {"HOME": str(self._directory), "III_URL": url, "III_BRIDGE_URL": url}
        self._process.start([*self.sdk.worker(), url, self.name], self._directory, variables)

    async def ready(self, client: Client) -> None:
        """Wait until the engine can call the worker, and knows all that it registers by itself."""
        await eventually(
            self._reactor, f"{self.name} can be called", lambda: self._answers(client), 30, ignoring=(RemoteError,)
        )

    async def _answers(self, client: Client) -> bool:
        self._process.check()
        await client.call(f"{self.name}::echo", {})
        return True

    def check(self) -> None:
        """Raise L{ProcessFailed}, with its log, if the process has ended by itself or dropped a message unread."""
        self._process.check()
        if self.sdk.complaint is not None and self.sdk.complaint in self.log:
            raise ProcessFailed(f"{self.name} could not read a message of the engine\n{self._process.tail()}")

    async def stop(self) -> None:
        """Let the worker shut down its SDK and end."""
        await self._process.stop()

    async def kill(self) -> None:
        await self._process.kill()


class StageFailed(Exception):
    """The stage did not start, for the reason that the first test has met and the text repeats."""


class Stage:
    """An engine with a worker on each of these SDKs that is there, named like its SDK."""

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        modules: Sequence[dict[str, Any]] = MODULES,
        sdks: Iterable[Sdk] = SDKS,
    ) -> None:
        self.engine = EngineProcess(reactor, directory, modules)
        self.workers = {sdk: Worker(reactor, sdk, sdk.name, directory) for sdk in sdks if not sdk.missing}
        self._reactor = reactor

    async def start(self) -> None:
        await self.engine.start()
        for worker in self.workers.values():
            worker.start(self.engine.url)
        client = await connect(self._reactor, self.engine.worker_port)
        for worker in self.workers.values():
            await worker.ready(client)
        await client.close()

    async def check(self) -> None:
        """Raise what is wrong, if a process has ended by itself or a worker does not answer."""
        self.engine.check()
        client = await connect(self._reactor, self.engine.worker_port)
        try:
            for worker in self.workers.values():
                worker.check()
            # At once: this is done after each of many hundred tests.
            calls = [client.call(f"{worker.name}::echo", {}, seconds=5) for worker in self.workers.values()]
            await gatherResults([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)
        finally:
            await client.close()

    async def kill(self) -> None:
        for worker in self.workers.values():
            await worker.kill()
        await self.engine.kill()


class Theatre:
    """
    Keeps a stage from test to test, because Trial has no fixtures that outlive one.

    The processes end when Trial shuts the reactor down: after the last test, with C{-j} after every one.
    """

    def __init__(self, make: Callable[[Any, Path], Stage] = Stage) -> None:
        """@param make: Makes a stage in a directory."""
        self._make = make
        self._stage: Stage | None = None
        self._failure: str | None = None

    async def enter(self, case: TestCase, reactor: Any) -> Stage:
        """
        Return the stage for one test.

        The test fails if after it a process is dead, or a worker does not answer; the next test gets a new stage.  A
        stage that does not start is not tried again: all tests fail for that reason.
        """
        if self._failure is not None:
            raise StageFailed(self._failure)
        if self._stage is None:
            stage = self._make(reactor, Path(case.mktemp()).resolve())
            reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(self._close(stage)))
            try:
                await stage.start()
            except Exception as error:
                self._failure = str(error)
                raise
            self._stage = stage
        case.addCleanup(self._leave, self._stage)
        return self._stage

    async def _close(self, stage: Stage) -> None:
        self._stage = None
        await stage.kill()

    async def _leave(self, stage: Stage) -> None:
        try:
            await stage.check()
        except Exception:
            self._stage = None
            raise


theatre = Theatre()
