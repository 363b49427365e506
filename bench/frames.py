"""
The client's side of WebSocket on a raw socket, as cheap as Python allows: load must cost far less than what it loads.

Only what the benchmarks need of RFC 6455: unfragmented data frames in both directions, and pings are answered.  Every
frame has the same non-zero mask, so that the other side has to unmask, and here it costs one XOR of two integers.
"""

from __future__ import annotations

import select
import socket
from functools import lru_cache

HOST = "127.0.0.1"
MASK = bytes.fromhex("5a17c39e")
READ_BYTES = 8192  # a part of what is in flight: with more, all of it moves as one lump and the processes take turns
HANDSHAKE_SECONDS = 10.0

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
DATA = (TEXT, BINARY)


class ConnectionEnded(Exception):
    """The other side has closed the connection, refused it, or sent what no client can read."""


@lru_cache(maxsize=1024)
def _mask_of(length: int) -> int:
    return int.from_bytes((MASK * (length // 4 + 1))[:length], "little")


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return the whole masked frame that carries this payload."""
    length = len(payload)
    if length < 126:
        head = bytes((opcode, 128 | length))
    elif length < 65536:
        head = bytes((opcode, 128 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((opcode, 128 | 127)) + length.to_bytes(8, "big")
    return head + MASK + (int.from_bytes(payload, "little") ^ _mask_of(length)).to_bytes(length, "little")


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return the complete frames at the start of these unmasked bytes as (first byte, payload), and the rest."""
    found: list[tuple[int, bytes]] = []
    start, end = 0, len(data)
    while end - start >= 2:
        length, at = data[start + 1], start + 2
        if length == 126:
            length, at = int.from_bytes(data[at : at + 2], "big"), at + 2
        elif length == 127:
            length, at = int.from_bytes(data[at : at + 8], "big"), at + 8
        if at + length > end:
            break
        found.append((data[start], data[at : at + length]))
        start = at + length
    return found, data[start:]


class WebSocket:
    """
    One connection.  Sending never blocks: what the socket does not take at once is kept, and goes out while
    L{receive} waits.  So both sides can have more in flight than the kernel buffers, without a deadlock.
    """

    def __init__(self, port: int, target: str = "/", read_bytes: int = READ_BYTES) -> None:
        self._read_bytes = read_bytes
        self._socket = socket.create_connection((HOST, port), timeout=HANDSHAKE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread, self._unsent = self._upgrade(port, target), b""
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def fileno(self) -> int:
        """For select(2)."""
        return self._socket.fileno()

    @property
    def sends(self) -> bool:
        """Whether the socket has not taken yet all that was sent."""
        return bool(self._unsent)

    def _upgrade(self, port: int, target: str) -> bytes:
        """Make the opening handshake and return what came behind its answer."""
        self._socket.sendall(
            b"GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            % (target.encode(), HOST.encode(), port)
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = self._socket.recv(READ_BYTES)
            if not more:
                raise ConnectionEnded(f"port {port} closed the connection in the handshake: {answer!r}")
            answer += more
        head, _, rest = answer.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionEnded(f"port {port} refused the handshake: {head!r}")
        return rest

    def send(self, data: bytes) -> None:
        """Send these frames, now or while receiving."""
        if self._unsent:
            self._unsent += data
            return
        self._unsent = data
        self.flush()
        if self._unsent:
            self._poll.modify(self._socket, select.POLLIN | select.POLLOUT)

    def receive(self, seconds: float) -> list[bytes]:
        """Return the payloads that have come; none when nothing at all comes in this time."""
        while True:
            found, self._unread = split(self._unread)
            messages = [payload for opcode, payload in found if opcode in DATA or self._control(opcode, payload)]
            if messages or not self._read(seconds):
                return messages

    def is_open(self) -> bool:
        """Tell whether the other side has neither closed the connection nor sent a close frame."""
        try:
            while self.receive(0):
                pass
        except (ConnectionEnded, OSError):
            return False
        return True

    def close(self) -> None:
        self._socket.close()

    def _read(self, seconds: float) -> bool:
        while events := self._poll.poll(seconds * 1000):
            if events[0][1] & select.POLLOUT:
                self.flush()
                if not self._unsent:
                    self._poll.modify(self._socket, select.POLLIN)
            if events[0][1] & ~select.POLLOUT:
                data = self._socket.recv(self._read_bytes)
                if not data:
                    raise ConnectionEnded("the other side closed the connection")
                self._unread += data
                return True
        return False

    def flush(self) -> None:
        """Give the socket what it takes now of what was sent."""
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return

    def _control(self, opcode: int, payload: bytes) -> bool:
        if opcode == CLOSE:
            raise ConnectionEnded(f"the other side sent a close frame: {payload!r}")
        if opcode == PING:
            self.send(frame(payload, PONG))
        elif opcode != PONG:
            raise ConnectionEnded(f"a frame begins with {opcode:#x}, which no benchmark asks for")
        return False
