"""
The worker of the benchmarks: C{python -m bench.worker PORT}.  It answers calls with the id in their payload, as plain
values and as HTTP responses, by slicing bytes: what it spends on a call must be little beside what the engine spends.
"""

from __future__ import annotations

import json
import sys
import uuid

from bench.calls import ECHO, HTTP, ID_KEY, ID_LENGTH, PATIENCE_SECONDS, call_frame, connected_worker
from bench.frames import ConnectionEnded, WebSocket, frame

READY = "the bench worker is ready"
CALL_KEY = b'"call":"'

_ANSWER = b'{"type":"invocationresult","invocation_id":"%b","function_id":"'
_ECHO_RESULT = ECHO + b'","result":{"call":"%b","accepted":true,"items":[{"sku":"A-17","price":1250}],"total":2500}}'
_HTTP_RESULT = HTTP + (
    b'","result":{"status_code":200,"headers":{},'
    b'"body":{"call":"%b","accepted":true,"items":[{"sku":"A-17","price":1250}],"total":2500}}}'
)
_FOR_HTTP = b'"function_id":"' + HTTP + b'"'


def route(number: int) -> str:
    """Return the path of a route of the benchmarks, without its parameter.  All are equally long."""
    return f"bench/route-{number:04d}"


def http_trigger(number: int) -> bytes:
    """Return the frame that binds a route to the HTTP function."""
    message = {
        "type": "registertrigger",
        "id": str(uuid.uuid4()),
        "trigger_type": "http",
        "function_id": HTTP.decode(),
        "config": {"api_path": f"{route(number)}/:id", "http_method": "POST"},
    }
    return frame(json.dumps(message).encode())


def answer(message: bytes) -> bytes:
    """Return the frame that answers a call, or nothing for any other message."""
    if b'"type":"invokefunction"' not in message:
        return b""
    at = message.find(ID_KEY) + len(ID_KEY)
    invocation_id = message[at : at + ID_LENGTH]
    at = message.find(CALL_KEY) + len(CALL_KEY)
    result = _HTTP_RESULT if _FOR_HTTP in message else _ECHO_RESULT
    return frame((_ANSWER + result) % (invocation_id, message[at : at + ID_LENGTH]))


def register(connection: WebSocket) -> None:
    """Register both functions and the first route, and wait until a call of our own came back through the engine."""
    for function in (ECHO, HTTP):
        connection.send(frame(b'{"type":"registerfunction","id":"%b"}' % function))
    connection.send(http_trigger(0))
    probe = str(uuid.uuid4()).encode()
    connection.send(call_frame(probe))
    while messages := connection.receive(PATIENCE_SECONDS):
        for message in messages:
            if b'"type":"invocationresult"' in message:
                if message.count(probe) < 2:
                    raise ConnectionEnded(f"the worker's call to itself was answered by {message!r}")
                return
            connection.send(answer(message))
    raise ConnectionEnded("the worker's call to itself was not answered")


def main(port: int) -> None:
    connection = connected_worker(port, "bench-worker")
    register(connection)
    print(READY, flush=True)
    while True:
        connection.send(b"".join(map(answer, connection.receive(3600.0))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
