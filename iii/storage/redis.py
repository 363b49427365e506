"""
The engine's one way to talk to Redis (spec/state.md, 6.2).

Commands are written in the order in which they are asked for, and answered in that order: one connection carries them
all.  None is ever sent twice: when the connection breaks, or no answer comes in time, nobody knows whether a command
was carried out, and its error says so.  While there is no connection, commands fail at once; only while one is being
made, at the start or right after it has broken, they wait for it.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Sequence
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import attrs
import txredisapi
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from iii.storage.errors import CannotOpenStore, StorageError, StoreBusy
from iii.storage.redis_connection import IReactor, RedisConnection
from iii.storage.redis_protocol import RedisProtocol, Reply, greet
from iii.storage.redis_url import RedisUrl

TIMEOUT = 5.0
"""Seconds for an answer, and for connecting."""
BACKLOG_BYTES = 64 * 2**20
OVERHEAD = 200
"""Bytes that a command costs beside its arguments."""
PROBE_PAUSE = 0.1
UNKNOWN = "whether the command was carried out is not known"


@attrs.define(str=False)
class RedisUnreachable(CannotOpenStore):
    """There is no Redis where the configuration says: the engine does not start."""

    def __str__(self) -> str:
        return self.reason


@attrs.define(str=False)
class RedisRefused(StorageError):
    """
    Redis has answered a command with an error: it was not carried out.

    @ivar code: The error's first word, such as C{WRONGTYPE}.
    """

    code: str


@attrs.define(str=False)
class OutcomeUnknown(StorageError):
    """A command was sent and no answer came: whether it was carried out is not known."""


class Script:
    """A script in Lua, which the server gets once for each connection."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


@attrs.define(eq=False)
class _Command:
    """What has been asked for and not yet answered."""

    arguments: tuple[Any, ...]
    size: int
    answer: Deferred[Any]
    deadline: IDelayedCall | None = None
    sent: bool = False


class RedisLink:
    """A Redis server for one module of the engine."""

    def __init__(
        self, url: str, reactor: IReactor, *, timeout: float = TIMEOUT, backlog_bytes: int = BACKLOG_BYTES
    ) -> None:
        """
        @param backlog_bytes: Of all commands that are not answered yet.
        @raise InvalidRedisUrl: The text, which is for the user, says why.
        """
        self.url = RedisUrl.parse(url)
        self._reactor, self._timeout, self._backlog_bytes = reactor, timeout, backlog_bytes
        self._connection = RedisConnection(self.url, reactor, RedisProtocol, self._up, self._down, timeout)
        self._protocol: RedisProtocol | None = None
        self._no_connection: str | None = "not started"
        self._commands: dict[_Command, None] = {}  # oldest first
        self._bytes = 0
        self._stopping: list[Deferred[None]] | None = None

    @property
    def failing(self) -> str | None:
        """Why there is no connection; C{None}: there is one, or one is being made and commands wait for it."""
        return None if self._no_connection is None else self._unconnected()

    def probe(self) -> None:
        """
        See that the server is there, logs us in and serves.  Blocks, for at most 5 s: for the start of a service.

        @raise RedisUnreachable: It is not.
        """
        outcome: SimpleQueue[str | None] = SimpleQueue()
        # In a thread, because looking up a name has no time limit of its own.
        Thread(target=_probe, args=(self.url, time.monotonic() + TIMEOUT, outcome), daemon=True).start()
        try:
            problem = outcome.get(timeout=TIMEOUT)
        except Empty:
            problem = "timed out"
        shown = self.url.shown
        if problem == "timed out":
            raise RedisUnreachable(
                shown,
                f"Redis connection timed out after {TIMEOUT:g}s. Please ensure Redis is running at: {shown}",
            )
        if problem is not None:
            raise RedisUnreachable(shown, f"Failed to connect to Redis at {shown}: {problem}")

    def start(self) -> None:
        """Connect, and stay connected."""
        self._no_connection = None
        self._connection.start()

    async def stop(self) -> None:
        """Take no more commands, wait for the answers to those under way, and close the connection."""
        self._no_connection = "the engine is stopping"
        self._stopping = []
        if self._commands:
            drained: Deferred[None] = Deferred()
            self._stopping.append(drained)
            await drained
        await self._connection.stop()

    def execute(self, *command: bytes | str | int) -> Deferred[Reply]:
        """
        Carry out a command.  Texts in the answer are bytes.

        @raise RedisRefused: Redis says no.
        @raise OutcomeUnknown: The connection broke, or no answer came in time.
        @raise StoreBusy: Too much waits for answers already; nothing was sent.
        @raise StorageError: There is no connection; nothing was sent.
        """
        size = OVERHEAD + sum(len(part) for part in command if not isinstance(part, int))
        if self._bytes + size > self._backlog_bytes:
            return fail(StoreBusy(self._backlog_bytes))
        if self._no_connection is not None:
            return fail(StorageError(self._unconnected()))
        answer: Deferred[Any] = Deferred()
        asked = _Command(command, size, answer)
        asked.deadline = self._reactor.callLater(self._timeout, self._overdue, asked)
        self._commands[asked] = None
        self._bytes += size
        if self._protocol is not None:
            self._send(self._protocol, asked)
        return answer

    async def eval(self, script: Script, keys: Sequence[bytes | str], args: Sequence[bytes | str | int]) -> Reply:
        """Carry out a script; errors as for L{execute}."""
        rest = (len(keys), *keys, *args)
        known = set() if self._protocol is None else self._protocol.script_hashes
        if script.sha in known:
            try:
                return await self.execute("EVALSHA", script.sha, *rest)
            except RedisRefused as error:
                if error.code != "NOSCRIPT":  # the server was told to forget all scripts
                    raise
        known.add(script.sha)
        return await self.execute("EVAL", script.text, *rest)

    def _unconnected(self) -> str:
        return f"no connection to Redis at {self.url.shown}: {self._no_connection}"

    def _up(self, protocol: RedisProtocol) -> None:
        self._protocol = protocol
        if self._stopping is None:
            self._no_connection = None
        for command in self._commands:
            self._send(protocol, command)

    def _down(self, reason: str) -> None:
        if self._protocol is None and self._stopping is None:
            self._no_connection = reason  # an attempt has failed: it is better not to wait for the next
        self._protocol = None
        if self._no_connection is not None:
            for command in list(self._commands):
                if not command.sent:
                    self._end(command, StorageError(f"no connection to Redis at {self.url.shown}: {reason}"))

    def _send(self, protocol: RedisProtocol, command: _Command) -> None:
        command.sent = True
        protocol.execute_command(*command.arguments).addCallbacks(
            partial(self._end, command), partial(self._failed, command)
        )

    def _failed(self, command: _Command, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, txredisapi.ResponseError):
            self._end(command, refused(error))
            return
        assert isinstance(error, txredisapi.ConnectionError), failure
        self._end(command, OutcomeUnknown(f"the connection to Redis at {self.url.shown} broke: {UNKNOWN}"))

    def _overdue(self, command: _Command) -> None:
        if not command.sent:
            self._end(command, StorageError(f"no connection to Redis at {self.url.shown} within {self._timeout:g} s"))
            return
        text = f"no answer from Redis at {self.url.shown} within {self._timeout:g} s"
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.abort(text)
        self._end(command, OutcomeUnknown(f"{text}: {UNKNOWN}"))

    def _end(self, command: _Command, outcome: object) -> None:
        if command not in self._commands:
            return  # it was overdue
        del self._commands[command]
        self._bytes -= command.size
        if command.deadline is not None and command.deadline.active():
            command.deadline.cancel()
        if isinstance(outcome, StorageError):
            command.answer.errback(outcome)
        else:
            command.answer.callback(outcome)
        if self._stopping and not self._commands:
            self._stopping.pop().callback(None)


def refused(error: txredisapi.ResponseError) -> RedisRefused:
    """Return an answer's error as ours, in the reference's form."""
    code, _, text = str(error).partition(" ")
    return RedisRefused(f'"{code}": {text}', code)


class _BlockingTransport:
    """What the protocol writes to where no reactor runs.  Whoever reads closes it."""

    def __init__(self, connection: socket.socket) -> None:
        self.write = connection.sendall

    def abortConnection(self) -> None:
        """The protocol is C{broken} now."""


def _probe(url: RedisUrl, end: float, outcome: SimpleQueue[str | None]) -> None:
    """Connect and log in, again while the server still reads its data; put what went wrong, or C{None}."""
    while True:
        try:
            problem = _attempt(url, end)
        except TimeoutError:
            problem = "timed out"
        except OSError as error:
            problem = error.strerror or str(error)
        if problem is None or not problem.startswith("LOADING") or time.monotonic() > end:
            outcome.put(problem)
            return
        time.sleep(PROBE_PAUSE)


def _attempt(url: RedisUrl, end: float) -> str | None:
    with _connected(url, end) as connection:
        protocol = RedisProtocol()
        protocol.makeConnection(_BlockingTransport(connection))
        greeting = Deferred.fromCoroutine(greet(protocol, url))
        problems: list[str] = []
        greeting.addErrback(lambda failure: problems.append(failure.getErrorMessage()))
        while not greeting.called:
            connection.settimeout(_left(end))
            data = connection.recv(4096)
            if not data:
                return "the connection was closed"
            protocol.dataReceived(data)
            if protocol.broken is not None:
                return protocol.broken
        return problems[0] if problems else None


def _connected(url: RedisUrl, end: float) -> socket.socket:
    plain = socket.create_connection((url.host, url.port), timeout=_left(end))
    if not url.tls:
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=url.host)
    except OSError:
        plain.close()
        raise


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
