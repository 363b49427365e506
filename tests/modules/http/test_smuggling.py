"""
Bytes in, bytes out: the shapes in which requests were hidden in others, or answers got to the wrong one.

Each was a defect of a server once; a proxy before us may read these bytes in another way than we do, so that what is
not certain is refused.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.modules.http.fakes import Client, Invocation, Server

HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
SIZE = b"%d" % len(HIDDEN)
POST = b"POST /a HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"

# Twisted took the first of two lengths.
CVE_2020_10108 = (
    POST + b"content-length: 0\r\ncontent-length: " + SIZE + b"\r\n\r\n" + HIDDEN,
    POST + b"content-length: " + SIZE + b"\r\ncontent-length: 0\r\n\r\n" + HIDDEN,
    POST + b"content-length: 0\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    POST + b"content-length: 0," + SIZE + b"\r\n\r\n" + HIDDEN,
    POST + b"content-length: 0\r\nx: y\r\nCONTENT-LENGTH: " + SIZE + b"\r\n\r\n" + HIDDEN,
)
# A length beside chunks: whichever was believed, a proxy could believe the other one.
CVE_2020_10109 = (
    POST + b"content-length: " + SIZE + b"\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"Transfer-Encoding:  chunked \t\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"content-length: 5\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"content-length: 5\r\ntransfer-encoding:\r\n\r\n0\r\n\r\n" + HIDDEN,
)
# Numbers and white space as Python, not as the RFC, reads them.
CVE_2022_24801 = (
    *(
        POST + b"content-length: " + length + b"\r\n\r\n" + HIDDEN
        for length in (b"+0", b"-0", b"0x0", b"0_0", b"\x0c0", b"\x0b0", b"0 0", b"0;", b"0.0", b"\xb2")
    ),
    *(
        POST + b"transfer-encoding: " + coding + b"\r\n\r\n0\r\n\r\n" + HIDDEN
        for coding in (b"chunked\x0b", b"\x0cchunked", b'"chunked"', b"identity", b"chunked, identity", b"x chunked")
    ),
    *(
        CHUNKED + size + b"\r\n\r\n" + HIDDEN
        for size in (b"0x0", b"+0", b"-0", b"0_0", b" 0", b"0 ", b"\t0", b"", b";", b"0;a\nb", b"0\n0", b"0\r0")
    ),
    CHUNKED + b"0\n\n" + HIDDEN,
    POST + b"x: y\ncontent-length: 0\r\n\r\n" + HIDDEN,
    POST + b"x: y\rcontent-length: 0\r\n\r\n" + HIDDEN,
    POST + b"content-length : 0\r\n\r\n" + HIDDEN,
    POST + b"x: y\r\n content-length: 0\r\n\r\n" + HIDDEN,
)
KIN = (
    CHUNKED + b"1\r\naXX0\r\n\r\n" + HIDDEN,  # two bytes behind a chunk, whatever they are
    CHUNKED + b"1\r\na\n0\r\n\r\n" + HIDDEN,
    CHUNKED + b"1\r\na\r0\r\n\r\n" + HIDDEN,
    CHUNKED + b"1;a\rb\r\na\r\n0\r\n\r\n" + HIDDEN,  # an extension that ends early for some
    CHUNKED + b"1\r\na\r\n0\r\ncontent-length: 5\r\n\r\n" + HIDDEN,
    CHUNKED + b"fffffffffffffffff\r\n\r\n" + HIDDEN,
    b"POST /a HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"transfer-encoding\x00: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST + b"content-length: 0\x00\r\n\r\n" + HIDDEN,
    POST + b"host: y\r\ncontent-length: 0\r\n\r\n" + HIDDEN,
    POST + b"content-length: 0\r\n\n" + HIDDEN,
    b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n" + HIDDEN,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    b"GET /a\r\n\r\n" + HIDDEN,
)


class SmugglingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        for method in ("GET", "POST", "HEAD", "PUT"):
            self.server.route(method, "a")
        self.server.route("GET", "hidden")

    def paths(self) -> list[str]:
        return [call.data["path"] for call in self.server.engine.calls]

    def feed(self, data: bytes) -> Client:
        client = self.server.connect()
        client.send(data)
        return client

    def feed_bytewise(self, data: bytes) -> Client:
        client = self.server.connect()
        for byte in data:
            client.connection.dataReceived(bytes((byte,)))
        self.server.turn()
        return client


class RefusedTests(SmugglingTestCase):
    def refused(self, *shapes: bytes) -> None:
        """Each shape is answered with 400 at most, the connection ends, and what is hidden is never called."""
        self.server.engine.at_once = lambda call: call.returns({}) if call.data["path"] == "hidden" else None
        for shape in shapes:
            for feed in (self.feed, self.feed_bytewise):
                client = feed(shape)
                self.assertEqual([response.status for response in client.responses("POST")], [400], shape)
                self.assertEqual(client.transport.ended, "half-closed", shape)
                client.send(HIDDEN)
                client.lost()
        self.assertNotIn("hidden", self.paths())
        self.assertTrue(self.server.is_empty())

    def test_cve_2020_10108(self) -> None:
        """Two lengths, equal or not."""
        self.refused(*CVE_2020_10108)

    def test_cve_2020_10109(self) -> None:
        """A length beside a coding."""
        self.refused(*CVE_2020_10109)

    def test_cve_2022_24801(self) -> None:
        """Numbers, codings, white space and ends of lines that only look right."""
        self.refused(*CVE_2022_24801)

    def test_kin(self) -> None:
        """What other servers and proxies fell for."""
        self.refused(*KIN)


class BodiesTests(SmugglingTestCase):
    def test_bodies_are_read(self) -> None:
        """A request in a body of known length stays there, whatever becomes of the request that it came with."""
        length = b"content-length: " + SIZE + b"\r\n\r\n" + HIDDEN
        for head, calls in (
            (POST, 1),
            (b"GET /a HTTP/1.1\r\nhost: x\r\n", 1),
            (b"HEAD /a HTTP/1.1\r\nhost: x\r\n", 1),
            (b"BREW /a HTTP/1.1\r\nhost: x\r\n", 0),
            (b"DELETE /a HTTP/1.1\r\nhost: x\r\n", 0),
            (b"OPTIONS /a HTTP/1.1\r\nhost: x\r\n", 0),
            (b"TRACE /a HTTP/1.1\r\nhost: x\r\n", 0),
            (b"POST /none HTTP/1.1\r\nhost: x\r\n", 0),
            (POST + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n", 1),
            (POST + b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n", 1),
            (POST + b"expect: 100-continue\r\n", 1),
            (POST + b"expect: y 100-continue\r\n", 1),
            (POST + b"transfer_encoding: chunked\r\n", 1),
            (POST + b"content-type: application/json\r\n", 1),
            (b"PUT http://x/a HTTP/1.1\r\nhost: y\r\n", 1),
        ):
            for feed in (self.feed, self.feed_bytewise):
                self.server.engine.calls.clear()
                feed(head + length).lost()
                self.assertEqual(self.paths(), ["a"] * calls, head)

    def test_what_follows_is_served(self) -> None:
        """Behind a body in chunks, with extensions and trailers, the next request is itself."""
        data = CHUNKED + b"%x;a=b\r\n%b\r\n0;c\r\nx: y\r\n\r\n" % (len(HIDDEN), HIDDEN)
        for feed in (self.feed, self.feed_bytewise):
            self.server.engine.calls.clear()
            feed(data + HIDDEN).lost()
            self.assertEqual(self.paths(), ["a", "hidden"])


class OrderTests(SmugglingTestCase):
    """CVE-2023-46137 and its kin: pipelined requests whose answers were mixed up."""

    def test_later_is_ready_first(self) -> None:
        """In whatever pieces requests come, and in whatever order they are answered, answers leave in their order."""
        requests = POST + b"content-length: 3\r\n\r\nabc" + HIDDEN + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + HIDDEN
        for size in (1, 7, 50, len(requests)):
            for order in ((3, 2, 1, 0), (1, 3, 0, 2), (0, 2, 3, 1)):
                self.server.engine.calls.clear()
                client = self.server.connect()
                for start in range(0, len(requests), size):
                    client.send(requests[start : start + size])
                calls: list[Invocation] = list(self.server.engine.calls)
                for number in order:
                    calls[number].returns({"body": number})
                answers = client.responses("POST", "GET", "POST", "GET")
                self.assertEqual([answer.json for answer in answers], [0, 1, 2, 3])
                client.lost()

    def test_answered_between_segments(self) -> None:
        """A request that comes while the one before is being answered does not get into that answer."""
        client = self.server.connect()
        client.send(HIDDEN[:-2])
        client.send(HIDDEN[-2:] + HIDDEN[:10])
        first = self.server.call
        writer = self.server.end_of("response", first)
        writer.binary(b"one")
        client.send(HIDDEN[10:] + HIDDEN)
        self.server.engine.calls[2].returns({"body": 3})
        self.server.engine.calls[1].returns({"body": 2})
        writer.binary(b"more")
        writer.close()
        answers = client.responses("GET", "GET", "GET")
        self.assertEqual([answer.body for answer in answers], [b"onemore", b"2", b"3"])

    def test_refused_behind(self) -> None:
        """An answer under way is completed before the refusal of what came behind it."""
        client = self.server.connect()
        client.send(HIDDEN)
        writer = self.server.end_of("response")
        writer.binary(b"one")
        client.send(b"rubbish\r\n\r\n" + HIDDEN)
        writer.binary(b"more")
        writer.close()
        answers = client.responses("GET", "GET")
        self.assertEqual([(answer.status, answer.body) for answer in answers], [(200, b"onemore"), (400, b"")])
        self.assertEqual(self.paths(), ["hidden"])
