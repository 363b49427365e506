"""Tests for L{iii.storage.redis_protocol}."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from txredisapi import InvalidResponse, ResponseError

from iii.storage.redis_protocol import LINE_BYTES, RedisProtocol, ReplyReader

replies: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40), lambda inner: st.lists(inner, max_size=4)
)


def encoded(reply: Any) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
        case _:
            return b"*%d\r\n%s" % (len(reply), b"".join(map(encoded, reply)))


class ReplyReaderTests(SynchronousTestCase):
    @given(st.lists(replies, max_size=5), st.lists(st.integers(1, 20)))
    def test_any_pieces(self, sent: list[Any], sizes: list[int]) -> None:
        """Answers are the same in whatever pieces they come."""
        reader, data, received = ReplyReader(), b"".join(map(encoded, sent)), []
        for size in sizes:
            received += reader.feed(data[:size])
            data = data[size:]
        received += reader.feed(data)
        self.assertEqual(received, sent)

    def test_lines(self) -> None:
        """Status, error, and the old form of no list."""
        status, error, nothing, listed = ReplyReader().feed(b"+OK\r\n-WRONGTYPE no\r\n*-1\r\n*2\r\n-ERR a\r\n:1\r\n")
        self.assertEqual((status, nothing), (b"OK", None))
        self.assertIsInstance(error, ResponseError)
        self.assertEqual(str(error), "WRONGTYPE no")
        assert isinstance(listed, list)
        self.assertEqual((str(listed[0]), listed[1]), ("ERR a", 1))

    def test_not_redis(self) -> None:
        """What is no answer of Redis is refused, also a line without an end."""
        for data in (b"HTTP/1.1 400\r\n", b"\r\n", b"$x\r\n", b"*\r\n", b":1.5\r\n", b"+" + b"x" * LINE_BYTES):
            self.assertRaises(InvalidResponse, ReplyReader().feed, data)


class RedisProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.protocol, self.transport = RedisProtocol(), StringTransport()
        self.protocol.makeConnection(self.transport)

    def test_command(self) -> None:
        """Arguments are sent as they are, and texts of the answer are bytes, also what looks like a number."""
        answer = self.protocol.execute_command("SET", b"\0\xff", "ü", 12)
        self.assertEqual(
            self.transport.value(),
            b"*4\r\n$3\r\nSET\r\n$2\r\n\0\xff\r\n$2\r\n\xc3\xbc\r\n$2\r\n12\r\n",
        )
        self.protocol.dataReceived(b"$2\r\n12\r\n")
        self.assertEqual(self.successResultOf(answer), b"12")

    def test_unasked(self) -> None:
        """A connection on which an answer comes that belongs to nothing is given up."""
        self.protocol.dataReceived(b":1\r\n")
        self.assertTrue(self.transport.disconnected)

    def test_not_redis(self) -> None:
        """A connection to something else is given up."""
        self.protocol.ping().addErrback(lambda _: None)
        self.protocol.dataReceived(b"HTTP/1.1 400 Bad Request\r\n")
        self.assertTrue(self.transport.disconnected)
