"""
Load of the HTTP routes: keep-alive connections, each with one request at a time, all driven by one epoll loop.

A request carries an id in its JSON body and the answer must carry the same, so that no answer is counted for another.
"""

from __future__ import annotations

import re
import select
import socket
from itertools import cycle

import attrs

from bench.calls import PATIENCE_SECONDS
from bench.frames import HANDSHAKE_SECONDS, HOST, READ_BYTES, ConnectionEnded
from bench.ledger import Ledger, Round

_BODY = b'{"call":"%b","customer":"c-1029","items":[{"sku":"A-17","count":2},{"sku":"B-4","count":1}],"note":"usual"}'
_BODY_LENGTH = len(_BODY % (b"-" * 36))
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def request_template(path: str) -> bytes:
    """Return a whole request with one C{%b}, where its id goes."""
    head = (
        f"POST /{path}/42 HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: iii-bench\r\nAccept: application/json\r\n"
        f"Content-Type: application/json\r\nContent-Length: {_BODY_LENGTH}\r\n\r\n"
    )
    return head.encode() + _BODY


def split_response(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return head, body and what follows of a response with a content length; nothing while it is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = _CONTENT_LENGTH.search(data, 0, end + 2)
    if length is None:
        raise ConnectionEnded(f"a response has no content-length: {data[:end]!r}")
    start, stop = end + 4, end + 4 + int(length[1])
    return None if len(data) < stop else (data[:end], data[start:stop], data[stop:])


@attrs.define
class _Connection:
    socket: socket.socket
    call: bytes = b""
    unread: bytes = b""

    def ask(self, template: bytes, call: bytes) -> None:
        self.call = call
        self.socket.sendall(template % call)

    def read(self) -> bool | None:
        """Return whether the response is the right one; nothing while it is incomplete."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise ConnectionEnded("the other side closed a connection")
        self.unread += data
        response = split_response(self.unread)
        if response is None:
            return None
        head, body, self.unread = response
        return head.startswith(b"HTTP/1.1 200 ") and self.call in body and not self.unread


def http_requests(
    port: int, paths: list[str], connections: int, watched: tuple[int, ...], seconds: float, limit: int
) -> Round:
    """Send requests over so many connections, to these paths in turn."""
    templates = cycle([request_template(path) for path in paths])
    open_connections: dict[int, _Connection] = {}
    poll = select.epoll()
    try:
        for _ in range(connections):
            connection = _Connection(socket.create_connection((HOST, port), timeout=HANDSHAKE_SECONDS))
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            open_connections[connection.socket.fileno()] = connection
            poll.register(connection.socket, select.EPOLLIN)
        ledger = Ledger(watched, seconds, limit)
        try:
            for connection, call in zip(open_connections.values(), ledger.ask(connections), strict=False):
                connection.ask(next(templates), call)
            while ledger.waits and (events := poll.poll(PATIENCE_SECONDS)):
                for fileno, _ in events:
                    connection = open_connections[fileno]
                    right = connection.read()
                    if right is None:
                        continue
                    ledger.answer(connection.call, right)
                    for call in ledger.ask(1):
                        connection.ask(next(templates), call)
        except (ConnectionEnded, OSError) as error:
            return ledger.close(str(error))
        return ledger.close()
    finally:
        poll.close()
        for connection in open_connections.values():
            connection.socket.close()
