"""A client of streams over a real socket, on Autobahn's own client."""

from __future__ import annotations

import json
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS

from tests.integration.engine import HOST


class StreamClient(WebSocketClientProtocol):
    """
    Keeps what comes.

    @ivar messages: All that has come.
    @ivar ended: The close code, when the connection has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.opened: Deferred[None] = Deferred()
        self.ended: Deferred[int | None] = Deferred()

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.append(json.loads(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.ended.callback(code)

    def join(self, subscription: str, stream: str, group: str, **item: str) -> None:
        data = {"subscriptionId": subscription, "streamName": stream, "groupId": group, **item}
        self.sendMessage(json.dumps({"type": "join", "data": data}).encode())

    def close_now(self) -> None:
        if not self.ended.called:
            self.transport.abortConnection()

    @property
    def kinds(self) -> list[str]:
        """The types of the events that have come."""
        return [message["event"]["type"] for message in self.messages]


async def connect_to_streams(reactor: Any, port: int, path: str = "/", root: bytes | None = None) -> StreamClient:
    """
    Connect to the port for stream clients of an engine on this machine.

    @param root: A certificate in PEM; with one, by TLS to an engine that it vouches for.
    """
    factory = WebSocketClientFactory(f"{'ws' if root is None else 'wss'}://localhost:{port}{path}", reactor=reactor)
    factory.protocol = StreamClient
    # Autobahn's own timers would be left behind in the reactor.
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0, serverConnectionDropTimeout=0)
    endpoint: Any = TCP4ClientEndpoint(reactor, HOST, port)
    if root is not None:
        trust = ssl.optionsForClientTLS("localhost", trustRoot=ssl.Certificate.loadPEM(root))
        endpoint = wrapClientTLS(trust, endpoint)
    client: StreamClient = await endpoint.connect(factory)
    await client.opened
    return client
