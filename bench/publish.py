"""
Load of pub/sub: one worker publishes, and many subscribers get every message.

It publishes with the void action, so that the engine spends nothing on answers to the publisher.  A message has its id
in its data.  A subscriber is a function, and answers each message; one connection may serve several.  A message is
answered when every subscriber has it; each must get all of them, in the order in which they were published, or the
round has failed.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import uuid
from collections.abc import Sequence

from bench.broadcast import Broadcast
from bench.calls import ID_KEY, ID_LENGTH, PATIENCE_SECONDS, connected_worker
from bench.frames import ConnectionEnded, WebSocket, frame
from bench.ledger import Ledger, Round
from bench.processes import allow_open_files

TOPIC = "bench.prices"
_PUBLISH = (
    b'{"type":"invokefunction","function_id":"publish","action":{"type":"void"},'
    b'"data":{"topic":"bench.prices","data":{"call":"%b","sku":"A-17","price":1250}}}'
)
_ANSWER = b'{"type":"invocationresult","invocation_id":"%b","function_id":"bench::s%b"}'
_subscriber_of = re.compile(rb'"function_id":"bench::s(\d+)"').search
_id_of = re.compile(rb'"call":"([^"]{36})"').search


def published(
    port: int,
    subscribers: int,
    connections: int,
    in_flight: int,
    watched: tuple[int, ...],
    seconds: float,
    limit: int,
) -> Round:
    """
    Publish to so many subscribers.

    @param connections: Of workers, which serve equally many subscribers each.
    """
    allow_open_files()
    with contextlib.ExitStack() as opened:

        def connected(name: str) -> WebSocket:
            return opened.enter_context(contextlib.closing(connected_worker(port, name)))

        workers = [connected(f"bench-subscribers-{number}") for number in range(connections)]
        for number, worker in enumerate(workers):
            _subscribe(worker, range(number, subscribers, connections))
        publisher = connected("bench-publisher")
        ledger = Ledger(watched, seconds, limit)
        try:
            return _publish(publisher, workers, Broadcast(ledger, subscribers), in_flight)
        except (ConnectionEnded, OSError) as error:
            return ledger.close(str(error))


def _subscribe(worker: WebSocket, subscribers: Sequence[int]) -> None:
    """Register functions and their triggers, and wait until the engine has read that."""
    for number in subscribers:
        function_id = f"bench::s{number}"
        trigger = {"id": str(uuid.uuid4()), "trigger_type": "subscribe", "function_id": function_id}
        for message in (
            {"type": "registerfunction", "id": function_id},
            {"type": "registertrigger", **trigger, "config": {"topic": TOPIC}},
        ):
            worker.send(frame(json.dumps(message).encode()))
    last = {"invocation_id": str(uuid.uuid4()), "function_id": "publish", "data": {"topic": "bench", "data": None}}
    worker.send(frame(json.dumps({"type": "invokefunction", **last}).encode()))
    while messages := worker.receive(PATIENCE_SECONDS):
        for message in messages:
            if last["invocation_id"].encode() in message and b'"error"' not in message:
                return
            if b'"triggerregistrationresult"' not in message or b'"error"' in message:
                raise ConnectionEnded(f"a worker that subscribes gets {message!r}")
    raise ConnectionEnded("a worker that subscribes gets no answer")


def _publish(publisher: WebSocket, workers: Sequence[WebSocket], broadcast: Broadcast, in_flight: int) -> Round:
    poll = select.epoll()
    by_number = {worker.fileno(): worker for worker in workers}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    room = in_flight
    while True:
        if messages := broadcast.ask(room):
            publisher.send(b"".join(frame(_PUBLISH % message) for message in messages))
        if not broadcast.ledger.waits:
            return broadcast.ledger.close()
        ready = poll.poll(PATIENCE_SECONDS)
        if not ready:
            return broadcast.ledger.close()
        if publisher.sends:
            publisher.flush()
        for number, _ in ready:
            worker = by_number[number]
            worker.send(b"".join(_taken(message, broadcast) for message in worker.receive(0)))
        room = broadcast.completed()


def _taken(message: bytes, broadcast: Broadcast) -> bytes:
    """Note a delivery and return the frame that answers it."""
    subscriber, found = _subscriber_of(message), _id_of(message)
    if subscriber is None or found is None:
        raise ConnectionEnded(f"a subscriber got {message!r}")
    broadcast.got(int(subscriber[1]), found[1])
    at = message.find(ID_KEY) + len(ID_KEY)
    return frame(_ANSWER % (message[at : at + ID_LENGTH], subscriber[1]))
