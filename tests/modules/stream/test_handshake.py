"""Tests for L{iii.modules.stream.handshake}."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.stream.handshake import (
    Request,
    check_token,
    context_of,
    headers_of,
    joined,
    known,
    question,
    subprotocol,
)
from iii.wire.messages import ABSENT
from iii.wire.server import Refused


def request(**parts: Any) -> Request:
    whole = {"path": "/", "query": "", "headers": {}, "authorization": b"", "protocols": [], "address": "192.0.2.7:1"}
    return Request(**{**whole, **parts})


class PathTests(SynchronousTestCase):
    def test_clients(self) -> None:
        """Clients connect to C{/}, and to what the documented proxies pass on with their prefix."""
        for path in ("/", "/ws", "/stream", "/stream/", "/streams/", "/ws/streams"):
            self.assertTrue(known(path))
            self.assertIsNone(joined(path))

    def test_group(self) -> None:
        """C{/stream/<name>/<group>} joins that group, also behind a prefix; names are percent-decoded."""
        self.assertEqual(joined("/stream/chat/room%201"), ("chat", "room 1"))
        self.assertEqual(joined("/streams/stream/chat/a%2Fb"), ("chat", "a/b"))
        self.assertEqual(joined("/ws/stream/chat/r"), ("chat", "r"))

    def test_elsewhere(self) -> None:
        """Other paths lead nowhere."""
        for path in ("/x", "//", "", "*", "/stream/chat", "/stream/a/b/c/d", "/stream//g", "/ws/x", "/otel"):
            self.assertFalse(known(path), path)
            self.assertIsNone(joined(path))


class HeaderTests(SynchronousTestCase):
    def test_headers(self) -> None:
        """Names in lower case, of repeated headers the last; values that are not ASCII are left out."""
        head = b"GET / HTTP/1.1\r\nHost: h:3112\r\nX-A: 1\r\nx-a:  2 \r\nX-B: \xc3\xa4\r\nX-C:\r\n\r\n"
        self.assertEqual(headers_of(head), {"host": "h:3112", "x-a": "2", "x-c": ""})


class QuestionTests(SynchronousTestCase):
    def test_exactly(self) -> None:
        """The auth function gets exactly what the contract says."""
        asked = request(
            query="token=a%20b&x&=nobody&x=1+2&&y=a=b",
            headers={"host": "h:3112", "sec-websocket-protocol": "Authorization, tok"},
            address="127.0.0.1:53211",
        )
        self.assertEqual(
            json.loads(bytes(question(asked))),
            {
                "headers": {"host": "h:3112", "sec-websocket-protocol": "Authorization, tok"},
                "path": "/",
                "query_params": {"token": ["a%20b"], "x": ["", "1+2"], "y": ["a=b"]},
                "addr": "127.0.0.1:53211",
            },
        )


class ContextTests(SynchronousTestCase):
    def read(self, answer: bytes | Raw, *, fail_open: bool = False) -> Any:
        return json.loads(bytes(context_of(Raw(answer), 100, fail_open=fail_open)))

    def test_context(self) -> None:
        """An object lets the client in; its context may be any JSON, and none is null."""
        self.assertEqual(self.read(b'{"context": {"user": [1, null]}, "more": 1}'), {"user": [1, None]})
        self.assertEqual(self.read(b'{"context": 0}'), 0)
        self.assertIsNone(self.read(b"{}"))
        self.assertIsNone(self.read(b'{"unauthorized": false, "context": null}'))

    def test_refused(self) -> None:
        """What is no object, or says C{unauthorized}, does not let it in."""
        for answer in (ABSENT, b"null", b"true", b'"ok"', b"[{}]", b'{"unauthorized": true, "context": 1}'):
            refusal = self.assertRaises(Refused, self.read, answer)
            self.assertEqual(refusal.status, 401, answer)

    def test_fail_open(self) -> None:
        """With C{auth_fail_open}, what decides nothing lets the client in without a context; a refusal is one."""
        for answer in (ABSENT, b"null", b"true", b'"ok"', b"[{}]"):
            self.assertIsNone(self.read(answer, fail_open=True))
        refusal = self.assertRaises(Refused, self.read, b'{"unauthorized": true}', fail_open=True)
        self.assertEqual(refusal.status, 401)

    def test_large(self) -> None:
        """A context has a limit, which is named."""
        refusal = self.assertRaises(Refused, self.read, b'{"context": "%s"}' % (b"x" * 100))
        self.assertEqual(refusal.status, 403)
        self.assertIn("engine.limits.stream_context_bytes", refusal.text)


class TokenTests(SynchronousTestCase):
    def test_none_wanted(self) -> None:
        """Without a token configured, none is asked for."""
        check_token(request(), None)

    def test_right(self) -> None:
        """It may be in the header, after C{Authorization} among the subprotocols, or in the query."""
        check_token(request(authorization=b"Bearer s3cret"), "s3cret")
        check_token(request(protocols=["authorization", "s3cret"]), "s3cret")
        check_token(request(protocols=["x", "Authorization", "s3cret"]), "s3cret")
        check_token(request(query="a=1&token=s3%63ret"), "s3cret")
        check_token(request(authorization="Bearer schlüssel".encode()), "schlüssel")

    def test_wrong(self) -> None:
        """Anything else is refused."""
        for parts in (
            {}, {"authorization": b"s3cret"}, {"authorization": b"Bearer wrong"}, {"protocols": ["s3cret"]},
            {"protocols": ["Authorization"]}, {"protocols": ["s3cret", "Authorization"]},
            {"protocols": ["Authorization", "wrong"]}, {"query": "token="}, {"query": "token=wrong&tok=s3cret"},
            {"query": "s3cret"},
        ):  # fmt: skip
            self.assertEqual(self.assertRaises(Refused, check_token, request(**parts), "s3cret").status, 401)


class SubprotocolTests(SynchronousTestCase):
    def test_chosen(self) -> None:
        """One of those offered is answered: C{Authorization}, else the first; never the secret behind it."""
        self.assertIsNone(subprotocol([], "s3cret"))
        self.assertEqual(subprotocol(["Authorization", "s3cret"], None), "Authorization")
        self.assertEqual(subprotocol(["x", "authorization", "s3cret"], None), "authorization")
        self.assertEqual(subprotocol(["s3cret", "x"], "s3cret"), "x")
        self.assertEqual(subprotocol(["x", "y"], None), "x")
