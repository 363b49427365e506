"""
Load of the streams: one worker sends events, and many stream clients get every one of them.

An event has its id in its data.  It is answered when every client has it; a client must get all of them, in the order
in which they were sent, or the round has failed.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
from collections.abc import Iterator

import attrs

from bench.broadcast import Broadcast
from bench.calls import PATIENCE_SECONDS, connected_worker
from bench.frames import ConnectionEnded, WebSocket, frame
from bench.ledger import Ledger, Round
from bench.processes import allow_open_files

STREAM, GROUP = "bench", "all"
_EVENT = (
    b'{"type":"invokefunction","function_id":"stream::send","invocation_id":"%b","data":{"stream_name":"bench",'
    b'"group_id":"all","type":"price","data":{"call":"%b","sku":"A-17","price":1250}}}'
)
_ids = re.compile(rb'"call":"([^"]{36})"').findall


@attrs.frozen
class Client:
    """A stream client."""

    socket: WebSocket

    def join(self, number: int) -> None:
        """Ask for the events, and wait for the snapshot."""
        data = {"subscriptionId": f"s{number}", "streamName": STREAM, "groupId": GROUP}
        self.socket.send(frame(json.dumps({"type": "join", "data": data}).encode()))
        messages = self.socket.receive(PATIENCE_SECONDS)
        if not messages or b'"sync"' not in messages[0]:
            raise ConnectionEnded(f"a client that joins gets {messages!r}")


def stream_events(
    port: int,
    stream_port: int,
    clients: int,
    stalled: int,
    in_flight: int,
    watched: tuple[int, ...],
    seconds: float,
    limit: int,
) -> Round:
    """
    Send events to so many clients.

    @param stalled: Clients that join besides and never read.
    """
    allow_open_files()
    with (
        _joined(stream_port, clients) as listening,
        _joined(stream_port, stalled),
        contextlib.closing(connected_worker(port, "bench-events")) as worker,
    ):
        ledger = Ledger(watched, seconds, limit)
        try:
            return _send(worker, listening, in_flight, Broadcast(ledger, clients))
        except (ConnectionEnded, OSError) as error:
            return ledger.close(str(error))


@contextlib.contextmanager
def _joined(port: int, number: int) -> Iterator[list[Client]]:
    with contextlib.ExitStack() as opened:
        clients = [Client(opened.enter_context(contextlib.closing(WebSocket(port)))) for _ in range(number)]
        for position, client in enumerate(clients):
            client.join(position)
        yield clients


def _send(worker: WebSocket, clients: list[Client], in_flight: int, broadcast: Broadcast) -> Round:
    poll = select.epoll()
    by_number = {client.socket.fileno(): position for position, client in enumerate(clients)}
    for number in (*by_number, worker.fileno()):
        poll.register(number, select.EPOLLIN)
    room = in_flight
    while True:
        if events := broadcast.ask(room):
            worker.send(b"".join(frame(_EVENT % (event, event)) for event in events))
        if not broadcast.ledger.waits:
            return broadcast.ledger.close()
        ready = poll.poll(PATIENCE_SECONDS)
        if not ready:
            return broadcast.ledger.close()
        for number, _ in ready:
            position = by_number.get(number)
            if position is None:
                if any(b'"error"' in answer for answer in worker.receive(0)):
                    raise ConnectionEnded("an event was refused")
                continue
            for message in clients[position].socket.receive(0):
                found = _ids(message)
                if len(found) != 1:
                    raise ConnectionEnded(f"a client got {message!r}")
                broadcast.got(position, found[0])
        room = broadcast.completed()
