"""
Load of the worker protocol: one connection which keeps a fixed number of calls in flight.

A call carries its id in its payload too, and the worker puts the payload's id into its answer.  So an answer which has
its id once only is an error or another call's answer, and both the engine and the plain echo are checked alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from bench.frames import ConnectionEnded, WebSocket, frame
from bench.ledger import Ledger, Round

ECHO, HTTP = b"bench::echo", b"bench::http"  # the functions of the bench worker
ID_KEY, ID_LENGTH = b'"invocation_id":"', 36
PATIENCE_SECONDS = 10.0  # an answer which is not there after so long a silence is lost

_BEFORE = b'{"type":"invokefunction","function_id":"' + ECHO + b'","invocation_id":"'
_BETWEEN = b'","data":{"call":"'
_AFTER = b'","customer":"c-1029","items":[{"sku":"A-17","count":2},{"sku":"B-4","count":1}],"note":"as usual"}}'


def call_frame(call: bytes) -> bytes:
    """Return the masked frame of one call of the echo function."""
    return frame(_BEFORE + call + _BETWEEN + call + _AFTER)


def announcement(name: str) -> bytes:
    """Return the frame by which a worker tells its name, and from which on its registrations count."""
    return frame(
        b'{"type":"invokefunction","function_id":"engine::workers::register","action":{"type":"void"},'
        b'"data":{"runtime":"python","version":"bench","name":"%s","pid":%d}}' % (name.encode(), os.getpid())
    )


def connected_worker(port: int, name: str) -> WebSocket:
    """Return the connection of a named worker: the engine has greeted it, and it has announced itself."""
    connection = WebSocket(port)
    greeting = connection.receive(PATIENCE_SECONDS)
    if not greeting or b'"workerregistered"' not in greeting[0]:
        raise ConnectionEnded(f"the first frame is not workerregistered: {greeting!r}")
    connection.send(announcement(name))
    return connection


def routed_calls(port: int, in_flight: int, watched: tuple[int, ...], seconds: float, limit: int) -> Round:
    """Call the bench worker through the engine."""
    return load(connected_worker(port, "bench-caller"), in_flight, Ledger(watched, seconds, limit))


def plain_echo(port: int, in_flight: int, watched: tuple[int, ...], seconds: float, limit: int) -> Round:
    """Send the same frames to a server that sends them back."""
    return load(WebSocket(port), in_flight, Ledger(watched, seconds, limit))


def has_id_twice(answer: bytes, call: bytes) -> bool:
    """Whether an answer is not only under the call's id, but has its payload, too."""
    return answer.count(call) >= 2


def load(
    connection: WebSocket,
    in_flight: int,
    ledger: Ledger,
    make: Callable[[bytes], bytes] = call_frame,
    right: Callable[[bytes, bytes], bool] = has_id_twice,
) -> Round:
    """
    Keep so many calls in flight until the ledger gives no more.

    @param make: Makes the frame of a call.
    @param right: Tells whether an answer is that of its call.
    """
    try:
        room = in_flight
        while True:
            if calls := ledger.ask(room):
                connection.send(b"".join(map(make, calls)))
            if not ledger.waits:
                return ledger.close()
            answers = connection.receive(PATIENCE_SECONDS)
            if not answers:
                return ledger.close()
            for answer in answers:
                at = answer.find(ID_KEY) + len(ID_KEY)
                call = answer[at : at + ID_LENGTH]
                ledger.answer(call, right=right(answer, call))
            room = len(answers)
    except (ConnectionEnded, OSError) as error:
        return ledger.close(str(error))
    finally:
        connection.close()
