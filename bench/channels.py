"""
Load of a channel: one connection writes large messages, another one reads them, both at the engine.

Each message begins with its id, and the rest is the same in all of them, so that what arrives can be checked whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import uuid

from bench.calls import ID_LENGTH, PATIENCE_SECONDS, connected_worker
from bench.frames import BINARY, ConnectionEnded, WebSocket, frame
from bench.ledger import Ledger, Round

MESSAGE_BYTES = 65536  # SDKs cut what they write into such pieces
READ_BYTES = 256 * 1024

_REST = os.urandom(MESSAGE_BYTES - ID_LENGTH)
_BLANK = frame(b"\0" * ID_LENGTH + _REST, BINARY)  # the id comes to begin at a multiple of the mask's four bytes
_HEAD, _MASKED_REST = _BLANK[:-MESSAGE_BYTES], _BLANK[-len(_REST) :]


def message_frame(message: bytes) -> bytes:
    """Return the masked frame of one message."""
    return _HEAD + frame(message)[-ID_LENGTH:] + _MASKED_REST


def right_message(message: bytes) -> bool:
    """Whether what follows the id of a message is as it was sent."""
    return message[ID_LENGTH:] == _REST


def channel_messages(port: int, in_flight: int, watched: tuple[int, ...], seconds: float, limit: int) -> Round:
    """Write messages to a channel of the engine and read them at its other end."""
    ledger = Ledger(watched, seconds, limit)
    try:
        with contextlib.ExitStack() as opened:
            writer, reader = (opened.enter_context(contextlib.closing(end)) for end in _channel(port))
            return _pass(writer, reader, in_flight, ledger)
    except (ConnectionEnded, OSError) as error:
        return ledger.close(str(error))


def _pass(writer: WebSocket, reader: WebSocket, in_flight: int, ledger: Ledger) -> Round:
    room = in_flight
    while True:
        if messages := ledger.ask(room):
            writer.send(b"".join(map(message_frame, messages)))
        if not ledger.waits:
            return ledger.close()
        readable, writable, _ = select.select([reader], [writer] if writer.sends else [], [], PATIENCE_SECONDS)
        if not readable and not writable:
            return ledger.close()
        if writable:
            writer.flush()
        received = reader.receive(0) if readable else []
        for payload in received:
            ledger.answer(payload[:ID_LENGTH], right=right_message(payload))
        room = len(received)


def _channel(port: int) -> tuple[WebSocket, WebSocket]:
    """Make a channel and return the connections to its ends."""
    with contextlib.closing(connected_worker(port, "bench-channels")) as maker:
        call = str(uuid.uuid4())
        request = {
            "type": "invokefunction",
            "invocation_id": call,
            "function_id": "engine::channels::create",
            "data": {},
        }
        maker.send(frame(json.dumps(request).encode()))
        while answers := maker.receive(PATIENCE_SECONDS):
            for answer in map(json.loads, answers):
                if answer.get("invocation_id") == call:
                    writer, reader = (target(answer["result"][end]) for end in ("writer", "reader"))
                    return WebSocket(port, writer), WebSocket(port, reader, READ_BYTES)
    raise ConnectionEnded("no channel was made")


def target(ref: dict[str, str]) -> str:
    """Return where the end of a channel is connected to."""
    return f"/ws/channels/{ref['channel_id']}?key={ref['access_key']}&dir={ref['direction']}"
