"""A worker that moves large bodies, C{workers/bulk.py}, and a blocking client for them."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.integration.engine import HOST
from tests.sdk.sdk import HERE, Sdk

PROGRAM = HERE / "workers" / "bulk.py"
PIECE_BYTES = 65536
REST = bytes(range(251)) * (PIECE_BYTES // 251 + 1)
SECONDS = 120.0


def on_bulk(sdk: Sdk) -> Sdk:
    """Return a Python SDK whose workers run this program."""

    def worker(directory: Path) -> list[str]:
        return [str(directory / "bin" / "python"), str(PROGRAM)]

    return attrs.evolve(sdk, worker=worker)


def pieces(size: int) -> Iterator[bytes]:
    """Yield the content of a body of this size, as C{workers/bulk.py} makes it."""
    for number in range(-(-size // PIECE_BYTES)):
        data = number.to_bytes(8, "big") + REST[: PIECE_BYTES - 8]
        yield data[: size - number * PIECE_BYTES]


def digest(size: int) -> str:
    """Return the digest of the body of this size."""
    found = hashlib.sha256()
    for data in pieces(size):
        found.update(data)
    return found.hexdigest()


class Transfer:
    """One request on a connection of its own.  All methods block: they are for threads."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
        self._digest, self._size = hashlib.sha256(), 0

    def get(self, path: str) -> int:
        """Send a GET, wait for the head of the response and return its status."""
        self._connection.request("GET", path)
        self._response = self._connection.getresponse()
        return self._response.status

    def post(self, path: str, size: int, *, chunked: bool) -> tuple[int, str]:
        """Send the body of this size and return the status and text of the response."""
        headers = {} if chunked else {"Content-Length": str(size)}
        self._connection.request("POST", path, pieces(size), headers, encode_chunked=chunked)
        return self.answer()

    def answer(self) -> tuple[int, str]:
        """Wait for the response to what was posted, and return its status and text."""
        response = self._connection.getresponse()
        return response.status, response.read().decode()

    def begin_post(self, path: str, size: int, sent: int) -> None:
        """Announce a body of this size, and send only so much of it."""
        self._connection.putrequest("POST", path)
        self._connection.putheader("Content-Length", str(size))
        self._connection.endheaders()
        for data in pieces(sent):
            self._connection.send(data)

    def read(self, size: int | None = None) -> tuple[int, str]:
        """
        Read so much more of the response, or all; return how much has come, and its digest.

        @raise http.client.IncompleteRead: The response broke off; likewise L{ConnectionError}.
        """
        end = None if size is None else self._size + size
        while end is None or self._size < end:
            data = self._response.read(2**18 if end is None else min(2**18, end - self._size))
            if not data:
                if self._response.length:  # http.client says so by itself only of a body that is read at once
                    raise http.client.IncompleteRead(b"", self._response.length)
                break
            self._digest.update(data)
            self._size += len(data)
        return self._size, self._digest.hexdigest()

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        if hasattr(self, "_response"):
            self._response.close()
        self._connection.close()
