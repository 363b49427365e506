"""
A worker on a published Python SDK that moves large bodies: C{bulk.py ENGINE_URL NAME}.

Like C{worker.py} it runs in the SDK's own environment.  Piece number N of a download is N in eight bytes, then
C{REST}: so both sides know the content without sending it, and no two pieces are alike.
"""

from __future__ import annotations

import hashlib
import signal
import sys
from collections import defaultdict
from typing import Any

from interface import connect, http

PIECE_BYTES = 65536  # SDKs cut what they write into such pieces
REST = bytes(range(251)) * (PIECE_BYTES // 251 + 1)
MOST_BYTES = 2**31


def piece(number: int, size: int) -> bytes:
    """Return the first bytes of a piece of a download."""
    return number.to_bytes(8, "big")[:size] + REST[: max(size - 8, 0)]


class Bulk:
    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.iii = connect(url, name)
        self.told: defaultdict[str, list[str]] = defaultdict(list)

    def start(self) -> None:
        self.iii.register_function(f"{self.name}::told_under", self.told_under)
        for method, handler in (("GET", self.download), ("GET", self.events), ("POST", self.upload)):
            self.iii.register_function(f"{self.name}::{handler.__name__}", http(handler))
            config = {
                "api_path": f"{self.name}/{handler.__name__}",
                "http_method": method,
                "max_body_bytes": MOST_BYTES,
                "timeout_ms": 30_000,  # longer than the engine waits for a worker to return
            }
            trigger = {"type": "http", "function_id": f"{self.name}::{handler.__name__}", "config": config}
            self.iii.register_trigger(trigger)
        self.iii.register_function(f"{self.name}::echo", self.echo)  # the last: then the rest is there too

    async def echo(self, data: Any) -> Any:
        return data

    async def told_under(self, data: Any) -> Any:
        """Return what the handlers have noted under a key: that they have begun, and how they ended."""
        return {"told": self.told[data["key"]]}

    async def download(self, request: Any, response: Any) -> None:
        """Write C{bytes} bytes; in a response of known length, if the query says C{length}."""
        query = request.query_params
        left, number, told = int(query["bytes"]), 0, self.told[query.get("key", "")]
        headers = {"content-type": "application/octet-stream"}
        if "length" in query:
            headers["content-length"] = query["bytes"]
        try:
            await response.headers(headers)
            told.append("begun")
            while left:
                size = min(left, PIECE_BYTES)
                await response.writer.write(piece(number, size))
                left, number = left - size, number + 1
            await response.writer.close_async()
        except Exception as error:
            told.append(f"ended by {type(error).__name__}")
        else:
            told.append("complete")

    async def events(self, request: Any, response: Any) -> None:
        """Write C{items} small events, each as an item of its own."""
        await response.headers({"content-type": "text/event-stream"})
        for number in range(int(request.query_params["items"])):
            await response.writer.write(b"data: %012d\n\n" % number)
        await response.writer.close_async()

    async def upload(self, request: Any, response: Any) -> None:
        """Read the body as it comes, and answer with its size and digest."""
        digest, size, told = hashlib.sha256(), 0, self.told[request.query_params.get("key", "")]
        told.append("begun")
        async for data in request.request_body:
            digest.update(data)
            size += len(data)
        told.append(f"read {size}")
        await response.headers({"content-type": "text/plain"})
        await response.writer.write(f"{size} {digest.hexdigest()}".encode())
        await response.writer.close_async()


def main() -> None:
    url, name = sys.argv[1:]
    stopping = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    worker = Bulk(url, name)
    worker.start()
    signal.sigwait(stopping)
    worker.iii.shutdown()


if __name__ == "__main__":
    main()
