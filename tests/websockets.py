"""What tests of WebSockets share: a handshake, a client's frames, a connection in memory."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from iii.wire.websocket import header, unmask

PEER = IPv4Address("TCP", "192.0.2.7", 50000)
MASK = b"\x11\x22\x33\x44"


def request(target: str = "/", *extra: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """The head of a handshake."""
    lines = [
        f"{method} {target} {version}",
        "Host: localhost:49134",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *extra,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def masked(opcode: int, payload: bytes, mask: bytes = MASK) -> bytes:
    """A client's frame."""
    head = header(opcode, len(payload))
    return bytes((head[0], head[1] | 0x80)) + head[2:] + mask + unmask(payload, mask)


class Transport(StringTransport):
    """A connection in memory, as lenient as a real one."""

    aborted = False

    def __init__(self) -> None:
        super().__init__(peerAddress=PEER)
        self.options: list[tuple[int, int, int]] = []

    def setTcpNoDelay(self, on: bool) -> None: ...

    def setTcpKeepAlive(self, on: bool) -> None: ...

    @property
    def socket(self) -> Transport:
        return self

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))

    def _checkState(self) -> None:
        """Pausing and resuming what is being closed has no effect."""

    def unregisterProducer(self) -> None:
        self.producer = None

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True


@attrs.define
class Peer:
    """The other end of a socket in memory."""

    protocol: Any
    transport: Transport
    clock: Any

    def send(self, message: object) -> None:
        """Send a message in one frame."""
        self.protocol.dataReceived(masked(0x81, json.dumps(message).encode()))

    def frames(self) -> list[tuple[int, bytes]]:
        """The frames that came since it was asked last."""
        self.clock.advance(0)
        data = self.transport.value()
        self.transport.clear()
        frames = []
        while data:
            length, start = data[1], 2
            if length == 126:
                length, start = int.from_bytes(data[2:4], "big"), 4
            frames.append((data[0], data[start : start + length]))
            data = data[start + length :]
        return frames

    def messages(self) -> list[dict[str, Any]]:
        """The messages among those frames."""
        return [json.loads(payload) for opcode, payload in self.frames() if opcode == 0x81]

    def hang_up(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))
