"""
Load of streamed responses.

L{streamed_pieces} is worker and HTTP client in one: it writes pieces to the channels C{response} of some requests and
reads them from their responses.  A piece begins with its id or has it within, and the rest is compared, too.
L{downloads} reads whole responses that a worker on a published SDK writes.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import uuid
from collections.abc import Callable, Iterator

import attrs

from bench.calls import ID_LENGTH, PATIENCE_SECONDS, connected_worker
from bench.channels import MESSAGE_BYTES, READ_BYTES, message_frame, right_message, target
from bench.frames import BINARY, HANDSHAKE_SECONDS, HOST, TEXT, ConnectionEnded, WebSocket, frame
from bench.ledger import Ledger, Round

PATH, FUNCTION = "bench/stream", "bench::stream"
_EVENT = b"data: %b\n\n"


@attrs.frozen
class Pieces:
    """What the pieces of a response are."""

    frame: Callable[[bytes], bytes]  # takes the id
    id: Callable[[bytes], bytes]
    right: Callable[[bytes], bool]


PIECES = {
    "large": Pieces(message_frame, lambda piece: piece[:ID_LENGTH], right_message),
    "events": Pieces(
        lambda call: frame(_EVENT % call, BINARY),
        lambda piece: piece[6 : 6 + ID_LENGTH],
        lambda piece: piece == _EVENT % piece[6:-2],
    ),
}


class Response:
    """A request on a connection of its own, and its response in chunks."""

    def __init__(self, http_port: int, path: str) -> None:
        self._socket = socket.create_connection((HOST, http_port), timeout=HANDSHAKE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread, self._headed = b"", False
        self._socket.sendall(f"GET /{path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())

    def fileno(self) -> int:
        """For select(2)."""
        return self._socket.fileno()

    def read(self) -> tuple[list[bytes], bool]:
        """Wait for something, and return the chunks that have come whole, and whether the response is complete."""
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise ConnectionEnded("the response broke off")
        self._unread += data
        if not self._headed:
            head, end, rest = self._unread.partition(b"\r\n\r\n")
            if not end:
                return [], False
            if not head.startswith(b"HTTP/1.1 200 ") or b"\r\ntransfer-encoding: chunked" not in head:
                raise ConnectionEnded(f"the response begins with {head!r}")
            self._headed, self._unread = True, rest
        chunks, at, data = [], 0, self._unread
        while (line := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line], 16)
            if line + size + 4 > len(data):
                break
            at = line + size + 4
            if size == 0:
                return chunks, True
            chunks.append(data[line + 2 : at - 2])
        self._unread = data[at:]
        return chunks, False

    def close(self) -> None:
        self._socket.close()


def streamed_pieces(
    port: int,
    http_port: int,
    kind: str,
    streams: int,
    in_flight: int,
    watched: tuple[int, ...],
    seconds: float,
    limit: int,
) -> Round:
    """
    Write pieces to so many responses, with so many in flight in each, and read them at the other end.

    @param kind: Which pieces, in C{PIECES}.
    """
    ledger = Ledger(watched, seconds, limit)
    try:
        with _streams(port, http_port, streams) as opened:
            return _pass(opened, PIECES[kind], in_flight, ledger)
    except (ConnectionEnded, OSError) as error:
        return ledger.close(str(error))


def _pass(streams: dict[Response, WebSocket], pieces: Pieces, in_flight: int, ledger: Ledger) -> Round:
    room = dict.fromkeys(streams, in_flight)
    while True:
        for response, free in room.items():
            if free and (calls := ledger.ask(free)):
                streams[response].send(b"".join(map(pieces.frame, calls)))
        room = {}
        if not ledger.waits:
            return ledger.close()
        unsent = [writer for writer in streams.values() if writer.sends]
        readable, writable, _ = select.select(list(streams), unsent, [], PATIENCE_SECONDS)
        if not readable and not writable:
            return ledger.close()
        for writer in writable:
            writer.flush()
        for response in readable:
            chunks, complete = response.read()
            if complete:
                raise ConnectionEnded("a response was completed")
            for chunk in chunks:
                ledger.answer(pieces.id(chunk), right=pieces.right(chunk))
            room[response] = len(chunks)


@contextlib.contextmanager
def _streams(port: int, http_port: int, number: int) -> Iterator[dict[Response, WebSocket]]:
    """Send requests, and yield their responses with the connections to their channels, until the block ends."""
    with contextlib.ExitStack() as opened:
        worker = opened.enter_context(contextlib.closing(connected_worker(port, "bench-streams")))
        config = {"api_path": PATH, "http_method": "GET"}
        trigger = {"type": "registertrigger", "id": str(uuid.uuid4()), "trigger_type": "http"}
        ready = str(uuid.uuid4())
        for message in (
            {"type": "registerfunction", "id": FUNCTION},
            {**trigger, "function_id": FUNCTION, "config": config},
            {"type": "invokefunction", "invocation_id": ready, "function_id": "engine::channels::create", "data": {}},
        ):
            worker.send(frame(json.dumps(message).encode()))
        _wait(worker, lambda message: message.get("invocation_id") == ready)  # so the route is there, too
        found: dict[Response, WebSocket] = {}
        for _ in range(number):
            response = opened.enter_context(contextlib.closing(Response(http_port, PATH)))
            called = _wait(worker, lambda message: message["type"] == "invokefunction")
            writer = WebSocket(port, target(called["data"]["response"]))
            opened.enter_context(contextlib.closing(writer))
            headers = {"type": "set_headers", "headers": {"content-type": "text/event-stream"}}
            writer.send(frame(json.dumps(headers).encode(), TEXT))
            found[response] = writer
        yield found


def _wait(worker: WebSocket, wanted: Callable[[dict[str, object]], bool]) -> dict:
    while messages := worker.receive(PATIENCE_SECONDS):
        for message in map(json.loads, messages):
            if wanted(message):
                return message
    raise ConnectionEnded("the engine does not call the function of the stream")


def downloads(http_port: int, path: str, size: int, watched: tuple[int, ...], seconds: float, limit: int) -> Round:
    """Send one request after the other, and read their whole responses, of so many bytes each."""
    ledger = Ledger(watched, seconds, limit)
    try:
        while calls := ledger.ask(1):
            with contextlib.closing(Response(http_port, path)) as response:
                got, complete, right = 0, False, True
                while not complete:
                    chunks, complete = response.read()
                    for number, chunk in enumerate(chunks, got // MESSAGE_BYTES):
                        right = right and chunk[:8] == number.to_bytes(8, "big")
                        got += len(chunk)
            ledger.answer(calls[0], right=right and got == size)
    except (ConnectionEnded, OSError) as error:
        return ledger.close(str(error))
    return ledger.close()
