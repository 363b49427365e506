"""
Damaged requests, many of them: C{make soak} tries 100,000.

Each is made of good requests and of those that were used to hide others, with some bytes changed by chance; the seed is
fixed.  L{test_reader} searches more cleverly and more slowly.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.modules.http.fakes import Server
from tests.modules.http.test_reader import read, read_with_h11
from tests.modules.http.test_smuggling import (
    CHUNKED,
    CVE_2020_10108,
    CVE_2020_10109,
    CVE_2022_24801,
    HIDDEN,
    KIN,
    POST,
)

INPUTS = 100_000 if os.environ.get("III_SOAK") else 2_000
GOOD = (
    HIDDEN,
    POST + b"content-length: 3\r\n\r\nabc",
    POST + b"content-type: application/json\r\ncontent-length: 2\r\n\r\n[]",
    CHUNKED + b"3\r\nabc\r\n10;a=b\r\n0123456789abcdef\r\n0\r\nx: y\r\n\r\n",
    POST + b"expect: 100-continue\r\ncontent-length: 1\r\n\r\na",
    POST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 1\r\n\r\na",
    b"GET /a HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    b"PUT /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
)
CORPUS = GOOD * 6 + CVE_2020_10108 + CVE_2020_10109 + CVE_2022_24801 + KIN
BYTES = b"\r\n\t :;,+-_0159afAF%/?#\x00\x0b\x7f\x80\xff"
TEXTS = (b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"content-length: 1\r\n", b"transfer-encoding: chunked\r\n", HIDDEN)


def inputs(seed: int, number: int) -> Iterator[bytes]:
    """Yield so many inputs."""
    chance = random.Random(seed)
    for _ in range(number):
        data = bytearray(b"".join(chance.choices(CORPUS, k=chance.randrange(1, 4))))
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(data) + 1)
            kind = chance.randrange(4)
            if kind == 0:
                data[at:at] = chance.choice(TEXTS)
            elif kind == 1:
                del data[at : at + chance.randrange(1, 9)]
            else:
                data[at : at + kind - 2] = bytes((chance.choice(BYTES),))
        yield bytes(data)


class RandomBytesTests(SynchronousTestCase):
    def test_like_h11(self) -> None:
        """What is taken, h11 takes for the same requests; but we do not insist on a C{Host}."""
        for data in inputs(1, INPUTS):
            ours = [request for request in read(data).requests if request.ended]
            theirs = read_with_h11(data)
            for number, request in enumerate(ours):
                if number == len(theirs) and "host" not in request.headers:
                    break
                self.assertLess(number, len(theirs), data)
                self.assertEqual((request.method, request.body), theirs[number], data)

    def test_nothing_escapes(self) -> None:
        """A connection with handlers takes anything, raises nothing, and leaves nothing behind."""
        server = Server(http_pipelined=4, http_body_bytes=40)
        for method in ("GET", "POST", "HEAD", "PUT"):
            server.route(method, "a")
        server.route("GET", "hidden")
        server.engine.at_once = lambda call: call.returns({"body": 1}) if len(server.engine.calls) % 3 else None
        before = 0
        for number, data in enumerate(inputs(2, INPUTS)):
            if number == INPUTS // 10:  # what is made once has been made
                before = self._objects()
            client = server.connect()
            client.send(data[: len(data) // 2])
            if client.transport.ended is None:
                client.send(data[len(data) // 2 :])
            client.lost()
            server.engine.calls.clear()
            server.turn()
        self.assertTrue(server.is_empty())
        self.assertLess(self._objects() - before, 200)

    def _objects(self) -> int:
        gc.collect()
        return len(gc.get_objects())
