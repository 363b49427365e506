"""A worker over a real socket, written by hand after spec/worker-protocol.md."""

from __future__ import annotations

import json
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory
from twisted.internet import ssl
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, wrapClientTLS

from tests.integration.engine import HOST
from tests.sdk.client import Client


class Worker(Client):
    """
    Serves functions: what they return is their argument, and the name of the function.

    @ivar held: Calls that are to be answered later; C{None} when all are answered at once.
    """

    held: list[dict[str, Any]] | None = None

    async def serve(self, function_id: str) -> None:
        """Say who this is, which applies what is registered, and register a function."""
        self.sendMessage(json.dumps({"type": "registerfunction", "id": function_id}).encode())
        await self.call("engine::workers::register", {"runtime": "python"})

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        if message["type"] != "invokefunction":
            super().onMessage(payload, isBinary)
        elif self.held is not None:
            self.held.append(message)
        else:
            self.answer(message)

    def answer(self, invocation: dict[str, Any]) -> None:
        """Answer a call."""
        result = {"by": invocation["function_id"], "got": invocation["data"]}
        answer = {"type": "invocationresult", "invocation_id": invocation["invocation_id"], "result": result}
        self.sendMessage(json.dumps({**answer, "function_id": invocation["function_id"]}).encode())


async def connect(reactor: Any, port: int, root: bytes | None = None, kind: type[Worker] = Worker) -> Any:
    """
    Connect to the worker port of an engine on this machine.

    @param root: A certificate in PEM; with one, by TLS to an engine that it or its like vouches for.
    @param kind: What answers the calls.
    """
    factory = WebSocketClientFactory(f"{'ws' if root is None else 'wss'}://localhost:{port}/", reactor=reactor)
    factory.protocol = kind
    # Autobahn's own timers would be left behind in the reactor.
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
    endpoint: Any = TCP4ClientEndpoint(reactor, HOST, port)
    if root is not None:
        trust = ssl.optionsForClientTLS("localhost", trustRoot=ssl.Certificate.loadPEM(root))
        endpoint = wrapClientTLS(trust, HostnameEndpoint(reactor, b"localhost", port))
    worker = await endpoint.connect(factory)
    await worker.opened
    return worker
