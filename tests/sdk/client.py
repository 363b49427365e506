"""A connection to the worker port which calls functions: the hand with which the tests move the workers."""

from __future__ import annotations

import json
import uuid
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionClosed

from tests.integration.engine import HOST


class RemoteError(Exception):
    """The engine answered a call with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]
        self.message: str = error["message"]


class Client(WebSocketClientProtocol):
    """Written by hand after spec/worker-protocol.md, so that what it shows does not depend on an SDK."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[None] = Deferred()
        self._closed: Deferred[None] = Deferred()
        self._calls: dict[str, Deferred[Any]] = {}

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        if message["type"] == "invocationresult" and message["invocation_id"] in self._calls:
            deferred = self._calls.pop(message["invocation_id"])
            if "error" in message:
                deferred.errback(RemoteError(message["error"]))
            else:
                deferred.callback(message.get("result"))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        lost = ConnectionClosed(f"the connection of the tests was closed: {code} {reason}")
        for deferred in (self.opened, *self._calls.values()):
            if not deferred.called:
                deferred.errback(lost)
        self._closed.callback(None)

    async def call(
        self, function_id: str, data: Any = None, seconds: float = 20.0, action: dict[str, Any] | None = None
    ) -> Any:
        """
        Call a function and return its result, C{None} if it has none.

        @param action: What to do instead of calling it at once: the member C{action} of the message.
        @raise RemoteError: The answer is an error.
        @raise ConnectionClosed: The connection is, or was before the answer came.
        @raise AssertionError: There is no answer in that time.
        """
        if self.state != self.STATE_OPEN:
            raise ConnectionClosed("the connection of the tests is closed")
        invocation_id = str(uuid.uuid4())
        deferred = self._calls[invocation_id] = Deferred()

        def no_answer(result: object, seconds: float) -> None:
            raise AssertionError(f"no answer from {function_id} within {seconds:g} s")

        deferred.addTimeout(seconds, self.factory.reactor, onTimeoutCancel=no_answer)
        message = {"type": "invokefunction", "invocation_id": invocation_id, "function_id": function_id, "data": data}
        if action is not None:
            message["action"] = action
        self.sendMessage(json.dumps(message).encode())
        return await deferred

    async def enqueue(self, queue: str, function_id: str, data: Any) -> str:
        """Put a job into a named queue and return its receipt; errors as of L{call}."""
        answer = await self.call(function_id, data, action={"type": "enqueue", "queue": queue})
        receipt: str = answer["messageReceiptId"]
        return receipt

    async def close(self) -> None:
        self.transport.abortConnection()
        await self._closed


async def connect(reactor: Any, port: int) -> Client:
    """Connect to the worker port of an engine on this machine."""
    factory = WebSocketClientFactory(f"ws://{HOST}:{port}/", reactor=reactor)
    factory.protocol = Client
    # Autobahn's own timers would be left behind in the reactor.
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
    client: Client = await TCP4ClientEndpoint(reactor, HOST, port).connect(factory)
    await client.opened
    return client
