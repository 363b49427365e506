"""Load of the state: one connection which keeps a fixed number of calls of one C{state::*} function in flight."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import attrs

from bench.calls import ID_KEY, ID_LENGTH, PATIENCE_SECONDS, connected_worker, has_id_twice, load
from bench.frames import ConnectionEnded, WebSocket, frame
from bench.ledger import Ledger, Round

KEYS = 10_000
IN_FLIGHT_BESIDE = 64
ROUND_BESIDE = 0.5
BUSY, MEASURED = "the load of the state runs", "measured"
_SCOPE = b"bench"
_HEAD = b'{"type":"invokefunction","function_id":"state::%b","invocation_id":"%b","data":{"scope":"%b","key":"k%d"'
_VALUE = (
    b'{"call":"%b","customer":"c-1029","items":[{"sku":"A-17","count":2},{"sku":"B-4","count":1}],"note":"as usual"}'
)


@attrs.frozen
class Kind:
    """What is called, and how an answer is known to be right."""

    frame: Callable[[bytes], bytes]  # takes the id
    right: Callable[[bytes, bytes], bool]  # takes the answer and its id


def _key(call: bytes) -> int:
    """The key of a call: scattered, as those of users are."""
    return int(call[-12:], 16) * 7919 % KEYS


def _set(call: bytes) -> bytes:
    return frame((_HEAD + b',"value":' + _VALUE + b"}}") % (b"set", call, _SCOPE, _key(call), call))


def _get(call: bytes) -> bytes:
    return frame((_HEAD + b"}}") % (b"get", call, _SCOPE, _key(call)))


def _update(call: bytes) -> bytes:
    operations = b',"ops":[{"type":"set","path":"call","value":"%b"},{"type":"increment","path":"count","by":1}]}}'
    return frame((_HEAD + operations) % (b"update", call, _SCOPE, _key(call), call))


KINDS = {
    "set": Kind(_set, has_id_twice),
    "get": Kind(_get, lambda answer, call: b'"result":{"call":' in answer),
    "update": Kind(_update, has_id_twice),
}


def state_calls(port: int, kind: str, in_flight: int, watched: tuple[int, ...], seconds: float, limit: int) -> Round:
    """Call a function of the state, named in L{KINDS}, on scattered keys, which L{fill} has set before."""
    chosen = KINDS[kind]
    return load(
        connected_worker(port, "bench-state"), in_flight, Ledger(watched, seconds, limit), chosen.frame, chosen.right
    )


def fill(port: int) -> None:
    """Set every key once."""
    connection = connected_worker(port, "bench-fill")
    try:
        _fill(connection)
    finally:
        connection.close()


def _fill(connection: WebSocket) -> None:
    for start in range(0, KEYS, 500):
        calls = [b"%08x-be9c-4000-8000-%012x" % (1, number) for number in range(start, start + 500)]
        connection.send(b"".join(map(_set, calls)))
        waiting = set(calls)
        while waiting:
            answers = connection.receive(PATIENCE_SECONDS)
            if not answers:
                raise ConnectionEnded(f"{len(waiting)} keys were not set")
            for answer in answers:
                at = answer.find(ID_KEY) + len(ID_KEY)
                call = answer[at : at + ID_LENGTH]
                if not has_id_twice(answer, call):
                    raise ConnectionEnded(f"a key was not set: {answer!r}")
                waiting.discard(call)


def main(port: int, kind: str) -> None:
    """Keep 64 calls of a kind in flight until this process is ended, and write how they fare; C{nothing} makes none."""
    print(BUSY, flush=True)
    while kind != "nothing":
        found = state_calls(port, kind, IN_FLIGHT_BESIDE, (), ROUND_BESIDE, 1_000_000_000)
        if found.failures:
            raise ConnectionEnded(found.ended)
        print(f"{MEASURED} {found.per_second} {found.latency_p99_us}", flush=True)
    time.sleep(3600.0)


def measured(log: str) -> list[tuple[float, float]]:
    """Return the rates and the p99 in microseconds that C{main} has written."""
    lines = (line.split() for line in log.splitlines() if line.startswith(f"{MEASURED} "))
    return [(float(rate), float(p99)) for _, rate, p99 in lines]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
