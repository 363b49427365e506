"""A server without sockets: bytes in, bytes out, functions that answer when the test says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import h11
from msgspec import Raw
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from zope.interface import implementer

from iii.config.blocks.listeners import Cors
from iii.core.channels import Channel, Channels
from iii.core.engine import Counters
from iii.core.functions import FunctionTable
from iii.core.invocations import EngineErrorBody
from iii.core.limits import Limits
from iii.core.triggers import Trigger
from iii.interfaces import IChannelSocket
from iii.modules.http.checks import Check
from iii.modules.http.connection import HttpConnection
from iii.modules.http.router import Router
from iii.modules.http.site import Site
from iii.modules.http.triggers import HttpTriggers
from iii.wire.messages import ABSENT, ErrorBody
from iii.wire.outbox import Flusher

START = 1_000_000_000.0
DATE = b"Sun, 09 Sep 2001 01:46:40 GMT"


class MemoryTransport:
    """
    A socket's transport.

    @ivar taken: What the client has taken.
    @ivar takes: The client reads; else what is written stays in C{dataBuffer}.
    @ivar reading: The server reads.
    @ivar ended: C{"closed"}, C{"half-closed"} or C{"aborted"}.
    """

    bufferSize = 2**16

    def __init__(self) -> None:
        self.taken = b""
        self.takes = self.reading = True
        self.ended: str | None = None
        self.dataBuffer, self.offset, self._tempDataLen = b"", 0, 0
        self._producer: Any = None
        self._producer_paused = False

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "10.0.0.9", 1234)

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def setTcpKeepAlive(self, enabled: bool) -> None: ...

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        assert self.ended is None, f"written after the connection was {self.ended}"
        self.dataBuffer += data
        if self.takes:
            self.take(len(self.dataBuffer))
        elif len(self.dataBuffer) > self.bufferSize and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def take(self, size: int) -> None:
        """The client reads so many bytes."""
        self.taken += self.dataBuffer[:size]
        self.dataBuffer = self.dataBuffer[size:]
        if not self.dataBuffer and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def loseConnection(self) -> None:
        self.ended = "closed"

    def loseWriteConnection(self) -> None:
        self.ended = "half-closed"

    def abortConnection(self) -> None:
        self.ended = "aborted"


@attrs.define(eq=False)
class Invocation:
    """A call that a function has received."""

    function_id: str
    data: Any
    complete: Callable[..., None]
    options: dict[str, Any]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def returns(self, value: Any) -> None:
        """The function returns a value."""
        self.returns_raw(json.dumps(value).encode())

    def returns_raw(self, result: bytes) -> None:
        """The function returns JSON; C{b""} is no result at all."""
        if not self.cancelled:
            self.complete(self, Raw(result), None)

    def answers_error(self, code: str, message: str, stacktrace: str | None = None) -> None:
        """The function answers with an error of its own."""
        if not self.cancelled:
            self.complete(self, ABSENT, ErrorBody(code, message, stacktrace))

    def fails(self, code: str, message: str) -> None:
        """The call ends with an error."""
        if not self.cancelled:
            self.complete(self, ABSENT, EngineErrorBody(code, message))


class FakeEngine:
    """
    The part of the engine that routes use.

    @ivar calls: Every call, in order.
    @ivar at_once: Called with each call before C{invoke} returns.
    """

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self.clock, self.limits = clock, limits
        self.channels = Channels(clock, limits.channels, limits.channel_buffer_bytes)
        self.counters = Counters()
        self.stopping = False
        self.calls: list[Invocation] = []
        self.functions = FunctionTable()
        self.at_once: Callable[[Invocation], None] = lambda call: None

    def invoke(self, function_id: str, data: Raw, complete: Callable[..., None], **options: Any) -> Invocation:
        call = Invocation(function_id, json.loads(bytes(data)), complete, options)
        self.calls.append(call)
        self.at_once(call)
        return call


@implementer(IChannelSocket)
class WorkerEnd:
    """
    A worker's socket at one end of a channel.

    @ivar received: The messages that a reader has got.
    @ivar finished: The channel has ended it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel: Channel | None = channel
        self.full = self.paused = self.finished = False
        self.received: list[bytes | str] = []

    def send(self, payload: bytes, is_binary: bool) -> None:
        self.received.append(payload if is_binary else payload.decode())

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def finish(self) -> None:
        self.finished, self._channel = True, None

    def write(self, payload: bytes, is_binary: bool) -> None:
        """A writer sends a message; once the channel has ended, to nobody."""
        if self._channel is not None:
            self._channel.write(payload, is_binary)

    def text(self, **message: Any) -> None:
        """A writer sends a control message."""
        self.write(json.dumps(message).encode(), False)

    def binary(self, data: bytes) -> None:
        """A writer sends a piece of a body."""
        self.write(data, True)

    def close(self, *, broken: bool = False) -> None:
        """A writer closes its socket, or that breaks off."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.end(broken=broken)


@attrs.frozen
class Response:
    """
    What a client has understood.

    @ivar headers: As they came, with lower-case names.
    @ivar complete: Its end has come.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool

    def __getitem__(self, name: str) -> str | None:
        """The value of a header, which there is at most once."""
        values = self.all(name)
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


def read_responses(data: bytes, methods: list[str], closed: bool) -> tuple[list[Response], bytes]:
    """
    Read responses as h11 does, which is strict, and return them with the bytes behind.

    @param methods: Of the requests: what a response to HEAD is, only the request tells.
    @param closed: The connection has ended after these bytes.
    """
    responses = []
    for method in methods:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("host", "x"), ("connection", "keep-alive")]))
        client.send(h11.EndOfMessage())
        if not data:
            break
        client.receive_data(data)
        if closed:
            client.receive_data(b"")
        head, body, complete = None, b"", False
        while True:
            event = client.next_event()
            if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                continue
            if isinstance(event, h11.Response | h11.InformationalResponse):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                complete = isinstance(event, h11.EndOfMessage)
                break
        assert head is not None, f"no response in {data!r}"
        headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
        responses.append(Response(head.status_code, headers, body, complete))
        data = client.trailing_data[0]
    return responses, data


class Client:
    """One connection to the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport = MemoryTransport()
        self.connection = HttpConnection(server.site)
        self.connection.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """The client sends bytes, and the server's turn ends."""
        self.connection.dataReceived(data)
        self.server.turn()

    def request(
        self, method: str = "GET", target: str = "/", body: bytes | None = None, version: str = "1.1", **headers: str
    ) -> None:
        """Send a request; in the names of headers C{_} stands for C{-}."""
        lines = [f"{method} {target} HTTP/{version}", "host: test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    @property
    def raw(self) -> bytes:
        """All bytes that the client has got."""
        self.server.turn()
        return self.transport.taken

    def responses(self, *methods: str) -> list[Response]:
        """What the client has got, which is this and nothing more, in answer to requests with these methods."""
        responses, behind = read_responses(self.raw, list(methods), self.transport.ended is not None)
        assert behind == b"", behind
        return responses

    def response(self, method: str = "GET") -> Response:
        """The only response."""
        (response,) = self.responses(method)
        return response

    def lost(self) -> None:
        """The connection is gone."""
        self.connection.connectionLost()


class Server:
    """A site with routes."""

    def __init__(
        self,
        *,
        timeout: float = 30.0,
        concurrency: int = 1024,
        cors: Cors | None = None,
        middleware: Sequence[Check] = (),
        access_log: bool = False,
        **limits: int,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.engine: Any = FakeEngine(self.clock, Limits(**limits))
        self.router = Router()
        self.triggers = HttpTriggers(self.router, self.engine.counters.responses_of)
        self.site = Site(
            self.engine,
            self.router,
            Flusher(self.clock),
            timeout=timeout,
            concurrency=concurrency,
            cors=cors,
            middleware=middleware,
            access_log=access_log,
        )

    def route(
        self, method: str, path: str, function_id: str = "f", config: dict[str, Any] | None = None, **members: Any
    ) -> Trigger:
        """Register a route; C{config} has members beside path and method."""
        config = {"api_path": path, "http_method": method, **(config or {})}
        trigger = Trigger(f"{method} {path} {function_id}", "http", function_id, Raw(json.dumps(config).encode()))
        for name, value in members.items():
            setattr(trigger, name, value)
        self.triggers.register(trigger)
        return trigger

    def connect(self) -> Client:
        """Return a new connection."""
        return Client(self)

    def turn(self) -> None:
        """End the reactor's turn: what was written is sent."""
        self.clock.advance(0)

    def wait(self, seconds: int) -> None:
        """Let time pass, with a check each second."""
        for _ in range(seconds):
            self.clock.advance(1)
            self.site.tick()
            for connection in list(self.site.connections):
                connection.check(self.site.now)
        self.turn()

    @property
    def call(self) -> Invocation:
        """The last call."""
        call: Invocation = self.engine.calls[-1]
        return call

    def end_of(self, name: str, call: Invocation | None = None) -> WorkerEnd:
        """Let the worker take its end of a channel of a call: C{"request_body"} or C{"response"}."""
        ref = (call or self.call).data[name]
        channel = self.engine.channels.find(ref["channel_id"], ref["access_key"])
        assert channel is not None, f"the channel {name} cannot be joined"
        end = WorkerEnd(channel)
        joined = channel.attach_reader(end) if ref["direction"] == "read" else channel.attach_writer(end)
        assert joined, f"{name} is taken"
        return end

    def is_empty(self) -> bool:
        """Whether nothing is left of any request."""
        gate = self.site.gate
        return len(self.engine.channels) == 0 and gate.free == gate.limit
