"""Child processes of a test, and waiting for what they do."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

T = TypeVar("T")


class ProcessFailed(Exception):
    """A process ended on its own, or did not end when told to.  The text has the end of what it wrote."""


class ChildProcess(ProcessProtocol):
    """
    A process whose output goes into a file, C{log}.

    There are no pipes to it, so that one can outlive a test without Trial finding an unclean reactor.
    """

    def __init__(self, reactor: IReactorProcess, name: str, log: Path) -> None:
        self.name, self.log = name, log
        self._reactor = reactor
        self._transport: IProcessTransport | None = None
        self._reason: Failure | None = None
        self._waiting: list[Deferred[None]] = []

    def start(self, command: list[str], directory: Path, variables: Mapping[str, str]) -> None:
        """Start the process, in C{directory}, with these variables only.  C{log} continues if it exists."""
        with self.log.open("ab") as log, open(os.devnull) as nothing:
            self._transport = self._reactor.spawnProcess(
                self,
                command[0],
                command,
                env=variables,
                path=str(directory),
                childFDs={0: nothing.fileno(), 1: log.fileno(), 2: log.fileno()},
            )

    @property
    def pid(self) -> int:
        assert self._transport is not None, "not started"
        return self._transport.pid

    def processEnded(self, reason: Failure) -> None:
        self._reason = reason
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    def check(self) -> None:
        """Raise L{ProcessFailed} if the process does not run any more."""
        if self._reason is not None:
            raise ProcessFailed(f"{self.name} ended by itself: {self._reason.getErrorMessage()}\n{self.tail()}")

    async def stop(self, seconds: float = 15.0) -> None:
        """
        Send SIGTERM and wait for the end.

        @raise ProcessFailed: The process had ended already, or still runs after that time (it is then killed), or ends
            with another status than 0.
        """
        assert self._transport is not None, "not started"
        self.check()
        self._transport.signalProcess("TERM")
        await self._ended(seconds)
        if self._reason is None:
            await self.kill()
            raise ProcessFailed(f"{self.name} still ran {seconds:.0f} s after SIGTERM\n{self.tail()}")
        if not self._reason.check(ProcessDone):
            raise ProcessFailed(f"{self.name} did not stop well: {self._reason.getErrorMessage()}\n{self.tail()}")

    async def kill(self) -> None:
        """Send SIGKILL, if the process runs, and wait for the end."""
        if self._transport is not None and self._reason is None:
            self._transport.signalProcess("KILL")
            await self._ended(None)

    def tail(self, lines: int = 60) -> str:
        """Return the end of what the process wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def _ended(self, seconds: float | None) -> None:
        ended: Deferred[None] = Deferred()
        self._waiting.append(ended)
        if seconds is not None:
            ended.addTimeout(seconds, self._reactor, onTimeoutCancel=lambda result, _: None)
        await ended
        if ended in self._waiting:
            self._waiting.remove(ended)


async def eventually(
    clock: IReactorTime,
    what: str,
    check: Callable[[], Awaitable[T]],
    seconds: float = 10.0,
    ignoring: tuple[type[Exception], ...] = (),
) -> T:
    """
    Call C{check} again and again, until it returns something true, and return that.

    @param what: What is waited for; it is in the error's text.
    @param ignoring: What C{check} may raise as long as it is not yet so.
    @raise AssertionError: It did not come to be in time.
    """
    end = time.monotonic() + seconds
    while True:
        last: object
        try:
            result = await check()
        except ignoring as error:
            last = error
        else:
            if result:
                return result
            last = result
        if time.monotonic() > end:
            raise AssertionError(f"not so within {seconds:g} s: {what}; the last answer was {last!r}")
        await deferLater(clock, 0.05)
