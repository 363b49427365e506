"""A real Redis server, in a process and a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SkipTest, TestCase

from iii.storage.redis_protocol import RedisProtocol, Reply
from tests.integration.engine import HOST, free_ports
from tests.integration.process import ChildProcess, eventually


class RedisServer:
    """
    C{redis-server} on a free port.  It may be killed and started again: port and data stay.

    @ivar directory: Its data, and C{redis.log}.
    """

    def __init__(self, reactor: Any, directory: Path, *options: str) -> None:
        """@param options: Of the server, such as C{--requirepass secret}, one word each."""
        self.directory = directory
        (self.port,) = free_ports(1)
        self._reactor, self._options = reactor, options
        self._process: ChildProcess | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @classmethod
    async def for_test(cls, case: TestCase, reactor: Any, *options: str) -> RedisServer:
        """Start a server that ends with the test.  Skips the test where Redis is not installed."""
        server = cls(reactor, Path(case.mktemp()).resolve(), *options)
        case.addCleanup(server.kill)
        await server.start()
        return server

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it serves; what it kept before is there again."""
        program = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise SkipTest("redis-server is not installed")
        command = [program, "--bind", HOST, "--port", str(self.port), "--dir", str(self.directory), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always", *self._options]
        self._process = ChildProcess(self._reactor, "redis-server", self.directory / "redis.log")
        self._process.start(command, self.directory, {})
        await eventually(self._reactor, f"Redis serves on {self.port}", self._serves, 30)

    async def stop(self) -> None:
        """Stop it in order."""
        process, self._process = self._process, None
        assert process is not None
        await process.stop()

    async def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            await process.kill()

    def pause(self) -> None:
        """Let it do nothing, until C{resume}: its sockets stay open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    async def execute(self, *command: bytes | str | int) -> Reply:
        """Carry out a command on a connection of its own.  C{ResponseError} is the server's."""
        protocol: Any = await TCP4ClientEndpoint(self._reactor, HOST, self.port).connect(
            Factory.forProtocol(RedisProtocol)
        )
        try:
            reply: Deferred[Reply] = protocol.execute_command(*command)
            return await reply
        finally:
            protocol.abort("done")
            await protocol.lost

    async def _serves(self) -> bool:
        assert self._process is not None
        self._process.check()
        try:
            reply = await self.execute("PING")
        except ConnectError:
            return False
        except Exception as error:
            return "NOAUTH" in str(error)
        return reply == b"PONG"
