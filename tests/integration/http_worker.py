"""A worker whose functions are those of a test: it answers HTTP requests with values, and over their channels."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from tests.integration.engine import HOST
from tests.sdk.client import Client

Handler = Callable[[Any], Awaitable[Any]]


class HttpWorker(Client):
    """
    Serves routes with coroutine functions that take the request object.

    @ivar channels: The ends that they have opened.
    """

    log = Logger()
    reactor: Any
    port: int

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[str, Handler] = {}
        self.channels: list[ChannelSocket] = []

    async def serve(self, routes: dict[str, Handler], **config: Any) -> None:
        """
        Register routes, C{"GET path"} each, and wait until they are there.

        @param config: More of their config.
        """
        for route, handler in routes.items():
            method, _, path = route.partition(" ")
            self._handlers[route] = handler
            trigger = {"type": "registertrigger", "id": str(uuid.uuid4()), "trigger_type": "http", "function_id": route}
            trigger["config"] = {"api_path": path, "http_method": method, **config}
            for message in ({"type": "registerfunction", "id": route}, trigger):
                self.sendMessage(json.dumps(message).encode())
        await self.call("engine::workers::register", {"runtime": "python"})

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        if message["type"] != "invokefunction":
            super().onMessage(payload, isBinary)
            return
        answered = Deferred.fromCoroutine(self._answer(message))
        answered.addErrback(lambda failure: self.log.failure("answering failed", failure))  # fails the test

    async def _answer(self, call: dict[str, Any]) -> None:
        answer = {"type": "invocationresult", "invocation_id": call["invocation_id"]}
        answer["function_id"] = call["function_id"]
        result = await self._handlers[call["function_id"]](call["data"])
        self.sendMessage(json.dumps({**answer, "result": result}).encode())

    async def body(self, request: Any) -> bytes:
        """Read the body of a request from its channel."""
        channel = await self._open(request["request_body"])
        return await channel.read()

    async def response(self, request: Any, headers: dict[str, str], status: int = 200) -> ChannelSocket:
        """Open the channel of the response, and say status and headers."""
        channel = await self._open(request["response"])
        for control in (
            {"type": "set_status", "status_code": status},
            {"type": "set_headers", "headers": headers},
        ):
            channel.sendMessage(json.dumps(control).encode())
        return channel

    async def _open(self, ref: dict[str, str]) -> ChannelSocket:
        path = f"/ws/channels/{ref['channel_id']}?key={ref['access_key']}&dir={ref['direction']}"
        factory = WebSocketClientFactory(f"ws://{HOST}:{self.port}{path}", reactor=self.reactor)
        factory.protocol = ChannelSocket
        factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
        channel: ChannelSocket = await TCP4ClientEndpoint(self.reactor, HOST, self.port).connect(factory)
        self.channels.append(channel)
        await channel.opened
        return channel

    async def close(self) -> None:
        for channel in self.channels:
            await channel.abort()
        await super().close()


@implementer(IPushProducer)
class ChannelSocket(WebSocketClientProtocol):
    """
    One end of a channel.

    @ivar waits: What was written has not been taken: L{taken} will tell when it has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = False
        self._taken: Deferred[None] = Deferred()
        self.opened: Deferred[None] = Deferred()
        self._closed: Deferred[None] = Deferred()
        self._received: list[bytes] = []

    def onOpen(self) -> None:
        self.transport.registerProducer(self, True)
        self.opened.callback(None)

    def pauseProducing(self) -> None:
        self.waits = True

    def resumeProducing(self) -> None:
        self.waits = False
        taken, self._taken = self._taken, Deferred()
        taken.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone, which L{onClose} tells, too."""

    @property
    def still_open(self) -> bool:
        """Whether something can be written: not any more once the engine has begun to close it."""
        return bool(self.state == self.STATE_OPEN)

    async def taken(self) -> None:
        """Wait until more can be written, or until it is closed; in any case for a turn."""
        await deferLater(self.factory.reactor, 0)
        if self.waits and self.still_open:
            await self._taken

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._received.append(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._closed.callback(None)
        self.resumeProducing()

    async def read(self) -> bytes:
        """Return all that is written, when it is complete."""
        await self._closed
        return b"".join(self._received)

    def write(self, data: bytes) -> None:
        """Write one item."""
        self.sendMessage(data, isBinary=True)

    async def abort(self) -> None:
        """Break it off, unless it is closed."""
        if not self._closed.called:
            self.transport.abortConnection()
            await self._closed

    async def close(self) -> None:
        """Close it in order, unless that was done, and wait for the end."""
        self.sendClose()
        await self._closed


async def connect(reactor: Any, port: int) -> HttpWorker:
    """Connect to the worker port of an engine on this machine."""
    factory = WebSocketClientFactory(f"ws://{HOST}:{port}/", reactor=reactor)
    factory.protocol = HttpWorker
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
    worker: HttpWorker = await TCP4ClientEndpoint(reactor, HOST, port).connect(factory)
    worker.reactor, worker.port = reactor, port
    await worker.opened
    return worker
