"""One WebSocket of a stream client: carries frames between a socket and L{Client}, and decides who may open it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from msgspec import Raw
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from iii.modules.stream import handshake
from iii.modules.stream.client import Client
from iii.modules.stream.messages import Join, Target
from iii.wire.messages import NULL
from iii.wire.server import PeerProtocol, Refused, check_origin

if TYPE_CHECKING:
    from iii.modules.stream.listener import ClientFactory


log = Logger()


class ClientProtocol(PeerProtocol):
    """A socket of the streams' port."""

    factory: ClientFactory
    peers = "clients of streams"
    _context: Raw = NULL
    _joins: tuple[str, str] | None = None
    _client: Client | None = None
    _deciding: Deferred[str | None] | None = None
    openHandshakeTimeoutCall: Any

    # The handshake.

    def served(self, path: str) -> bool:
        return handshake.known(path)

    def processHandshake(self) -> None:
        if self._deciding is None:  # else what comes before our answer waits for it
            super().processHandshake()

    def onConnect(self, request: ConnectionRequest) -> Deferred[str | None]:  # type: ignore[override]  # may wait
        self.openHandshakeTimeoutCall.cancel()  # the client has done its part
        self.openHandshakeTimeoutCall = None
        self._deciding = Deferred.fromCoroutine(self._decide(request))
        return self._deciding

    async def _decide(self, request: ConnectionRequest) -> str | None:
        """
        Let the client in or not.  Nothing else is read from it until then.

        @return: The subprotocol.
        """
        factory = self.factory
        path, _, query = self.http_request_uri.partition("?")
        authorization = request.headers.get("authorization", "").encode("latin-1")
        headers = handshake.headers_of(self.http_request_data)
        asked = handshake.Request(path, query, headers, authorization, request.protocols, self._address())
        self._joins = handshake.joined(path)
        self.hold("handshake")
        try:
            check_origin(request.headers, factory.origins)
            self._context = await factory.admit(asked)
        except Refused as refusal:
            factory.refused()
            raise ConnectionDeny(refusal.status, refusal.text) from refusal
        except CancelledError as error:  # the client has gone meanwhile
            raise ConnectionDeny(503, "gone") from error
        except Exception as error:  # a defect, of which Autobahn would tell the client and not the log
            log.failure("deciding about a stream client failed")
            raise ConnectionDeny(500, "internal error") from error
        finally:
            self.release("handshake")
        return handshake.subprotocol(request.protocols, factory.token)

    def _address(self) -> str:
        peer = self.transport.getPeer()
        return f"[{peer.host}]:{peer.port}" if ":" in peer.host else f"{peer.host}:{peer.port}"

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self._deciding is not None:
            self._deciding.cancel()

    # The open connection.

    def onOpen(self) -> None:
        super().onOpen()
        self._deciding = None
        self._client = Client(self.factory.clients, self, self._context)
        if self._joins is not None:
            stream, group = self._joins
            self._client.asked(Join(Target(f"{stream}/{group}", stream, group)))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert self._client is not None
        self._client.received(payload)

    def outboxDrained(self) -> None:
        super().outboxDrained()
        if self._client is not None:
            self._client.drained()

    def cut_off(self) -> None:
        """End the connection at once: the client reads too slowly."""
        self.factory.flusher.dropped(self.transport, self.outbox.size)
        self.outbox.abort()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        super().onClose(wasClean, code, reason)
        client, self._client = self._client, None
        if client is not None:
            client.closed()
