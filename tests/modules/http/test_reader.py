"""Tests for L{iii.modules.http.reader}."""

from __future__ import annotations

import itertools
import os

import attrs
import h11
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.core.limits import Limits
from iii.modules.http.reader import RequestReader, RequestRefused
from iii.modules.http.request import Request

SOAK = settings(
    max_examples=50_000 if os.environ.get("III_SOAK") else 300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@attrs.define
class Received:
    """
    One request as the reader has delivered it.

    @ivar body: What of it has come; complete when C{ended}.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    keep_alive: bool
    body: bytes = b""
    ended: bool = False
    expects_continue: bool = False


class Recorder:
    """Keeps what a reader delivers."""

    def __init__(self, **limits: int) -> None:
        self.requests: list[Received] = []
        self.status: int | None = None
        self.reader = RequestReader(Limits(**limits), self)

    def begin(self, request: Request, body: bytes | None) -> None:
        assert not self.requests or self.requests[-1].ended
        headers = request.headers
        received = Received(request.method, request.path, request.query, headers.values, headers.keep_alive)
        received.expects_continue = headers.expects_continue
        if body is not None:
            received.body, received.ended = body, True
        self.requests.append(received)

    def body(self, data: bytes) -> None:
        assert data and not self.requests[-1].ended
        self.requests[-1].body += data

    def end(self) -> None:
        assert not self.requests[-1].ended
        self.requests[-1].ended = True

    def feed(self, *pieces: bytes) -> Recorder:
        for piece in pieces:
            try:
                self.reader.feed(piece)
            except RequestRefused as refusal:
                assert self.status is None, "refused twice"
                self.status = refusal.status
        return self

    @property
    def outcome(self) -> tuple[int | None, list[Received]]:
        return self.status, self.requests


def read(data: bytes, **limits: int) -> Recorder:
    return Recorder(**limits).feed(data)


class RequestsTests(SynchronousTestCase):
    def only(self, data: bytes) -> Received:
        recorder = read(data)
        self.assertEqual(recorder.status, None)
        (request,) = recorder.requests
        self.assertTrue(request.ended)
        return request

    def test_get(self) -> None:
        """A request without a body is complete with its head."""
        request = self.only(b"GET /a/b?c=d&e HTTP/1.1\r\nHost: x\r\nX-A:  y z \t\r\n\r\n")
        self.assertEqual(request, Received("GET", "/a/b", "c=d&e", {"host": "x", "x-a": "y z"}, True, b"", True))

    def test_length(self) -> None:
        """A body of known length ends there."""
        recorder = read(POST + b"content-length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n")
        self.assertEqual([request.body for request in recorder.requests], [b"hello", b""])
        self.assertEqual(recorder.requests[1].path, "/next")

    def test_chunks(self) -> None:
        """A chunked body is put together; extensions and trailers are dropped."""
        recorder = read(CHUNKED + b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nx-t: 1\r\n\r\nGET /next HTTP/1.1\r\n\r\n")
        self.assertEqual([request.body for request in recorder.requests], [b"hello!", b""])
        self.assertNotIn("x-t", recorder.requests[0].headers)

    def test_end_of_chunks_in_the_body(self) -> None:
        """What looks like the end of a chunked body is data inside a chunk."""
        data = b"0\r\n\r\n\r\n\r\n"
        self.assertEqual(self.only(CHUNKED + b"9\r\n" + data + b"\r\n0\r\n\r\n").body, data)

    def test_repeated_headers(self) -> None:
        """The last value of a header wins, whatever the case of its name."""
        request = self.only(b"GET / HTTP/1.1\r\nA: 1\r\na: 2\r\nA: 3\r\nB: 4\r\n\r\n")
        self.assertEqual(request.headers, {"a": "3", "b": "4"})

    def test_not_visible_ascii(self) -> None:
        """A value with other bytes becomes empty, and only that."""
        request = self.only(b"GET / HTTP/1.1\r\na: caf\xc3\xa9\r\nb: \xff\r\nc: d \r\n\r\n")
        self.assertEqual(request.headers, {"a": "", "b": "", "c": "d"})

    def test_empty_lines_before(self) -> None:
        """Empty lines between requests are skipped."""
        recorder = read(b"\r\n\r\nGET /a HTTP/1.1\r\n\r\n\r\n\r\nGET /b HTTP/1.1\r\n\r\n\r\n")
        self.assertEqual([request.path for request in recorder.requests], ["/a", "/b"])
        self.assertFalse(recorder.reader.in_head)

    def test_absolute_form(self) -> None:
        """The absolute form names host and path (RFC 9112, 3.2.2)."""
        for target, path, query in (
            ("http://other/a?b", "/a", "b"),
            ("https://other", "/", ""),
            ("http://other?b", "/", "b"),
            ("http://other?b/c", "/", "b/c"),
        ):
            request = self.only(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            self.assertEqual((request.path, request.query, request.headers["host"]), (path, query, "other"))

    def test_fragment(self) -> None:
        """A fragment, which has no place in a target, is cut off."""
        request = self.only(b"GET /a?b#c?d HTTP/1.1\r\n\r\n")
        self.assertEqual((request.path, request.query), ("/a", "b"))

    def test_asterisk(self) -> None:
        """C{OPTIONS *} is about the server as a whole."""
        self.assertEqual(self.only(b"OPTIONS * HTTP/1.1\r\n\r\n").path, "*")

    def test_keep_alive(self) -> None:
        """HTTP/1.1 goes on unless told to close, HTTP/1.0 only when asked to."""
        heads = {
            b"GET / HTTP/1.1\r\n\r\n": True,
            b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n": False,
            b"GET / HTTP/1.1\r\nconnection: x, Close\r\nconnection: y\r\n\r\n": False,
            b"GET / HTTP/1.0\r\n\r\n": False,
            b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n": True,
            b"GET / HTTP/1.0\r\nconnection: keep-alive\r\nConnection: x,close\r\n\r\n": False,
            b"GET / HTTP/1.1\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n": False,
        }
        for head, expected in heads.items():
            self.assertEqual(self.only(head).keep_alive, expected, head)

    def test_nothing_after_close(self) -> None:
        """After the last request of a connection nothing is read."""
        recorder = read(b"GET /a HTTP/1.1\r\nconnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
        recorder.feed(b"rubbish\n\n")
        self.assertEqual(([request.path for request in recorder.requests], recorder.status), (["/a"], None))

    def test_upgrade(self) -> None:
        """A request to change the protocol is read as if it did not ask; its body stays its body."""
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
        hidden = b"GET /hidden HTTP/1.1\r\n\r\n"
        for framing, body in (
            (b"content-length: %d\r\n\r\n" % len(hidden), hidden),
            (b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)),
        ):
            recorder = read(POST + upgrade + framing + body + b"GET /next HTTP/1.1\r\n\r\n")
            self.assertEqual([request.path for request in recorder.requests], ["/", "/next"])
            self.assertEqual(recorder.requests[0].body, hidden)
            self.assertNotIn("upgrade", recorder.requests[0].headers)

    def test_websocket(self) -> None:
        """Likewise without a body."""
        request = self.only(b"GET /a HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.assertEqual(request.path, "/a")

    def test_unknown_method(self) -> None:
        """A method that the parser does not know is one like others."""
        recorder = read(b"brew /pot?a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n")
        self.assertEqual([(each.method, each.path, each.body) for each in recorder.requests],
                         [("brew", "/pot", b"abc"), ("GET", "/b", b"")])  # fmt: skip

    def test_expect(self) -> None:
        """C{Expect: 100-continue} counts where a body is to come, and not from HTTP/1.0."""
        heads = {
            b"POST / HTTP/1.1\r\nexpect: 100-Continue\r\ncontent-length: 1\r\n\r\n": True,
            b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n": True,
            b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 0\r\n\r\n": False,
            b"POST / HTTP/1.1\r\nexpect: 200-ok\r\ncontent-length: 1\r\n\r\n": False,
            b"POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n": False,
        }
        for head, expected in heads.items():
            self.assertEqual(read(head).requests[0].expects_continue, expected, head)


class RefusalsTests(SynchronousTestCase):
    """What must not be taken for a request, or for another one than the client or a proxy before us meant."""

    def refused(self, data: bytes, status: int = 400, **limits: int) -> None:
        recorder = read(data, **limits)
        self.assertEqual(recorder.status, status, data[:100])
        self.assertFalse(any(request.ended for request in recorder.requests), data[:100])
        bytewise = Recorder(**limits).feed(*(bytes((byte,)) for byte in data))
        self.assertEqual(bytewise.status, status, data[:100])

    def test_versions(self) -> None:
        """HTTP 1.0 and 1.1 are spoken, nothing else that the parser would take."""
        for version in (
            "HTTP/0.9",
            "HTTP/2.0",
            "HTTP/1.2",
            "HTTP/1.10",
            "RTSP/1.0",
            "ICE/1.0",
            "http/1.1",
            "HTTP/1.1 ",
        ):
            self.refused(f"GET / {version}\r\nhost: x\r\n\r\n".encode())
        self.refused(b"GET /\r\n\r\n")
        self.refused(b"SOURCE / ICE/1.0\r\n\r\n")
        self.refused(b"DESCRIBE / RTSP/1.0\r\n\r\n")
        self.refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

    def test_methods(self) -> None:
        """CONNECT is for proxies, and a method is a token."""
        self.refused(b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n")
        self.refused(b"CONNECT /a HTTP/1.1\r\nhost: x\r\n\r\n")
        self.refused(b"GE(T / HTTP/1.1\r\n\r\n")
        self.refused(b"\xe4 / HTTP/1.1\r\n\r\n")
        self.refused(b"BREW / HTTP/1.1\r\na : b\r\n\r\n")
        self.refused(b" / HTTP/1.1\r\n\r\n")

    def test_targets(self) -> None:
        """A target is a path, absolute, or a star."""
        for target in (b"a", b"?a", b"", b"/a b", b"/\xff", b"/\x7f", b"/\t", b"http:/x", b"://x/"):
            self.refused(b"GET " + target + b" HTTP/1.1\r\n\r\n")

    def test_framing_twice(self) -> None:
        """A request whose length is said twice is refused, whatever is said."""
        for lines in (
            b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
            b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            b"content-length: 5\r\ncontent-length: 5\r\n",
            b"content-length: 5\r\nContent-Length: 6\r\n",
            b"content-length: 5, 5\r\n",
            b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            b"transfer-encoding: chunked, chunked\r\n",
        ):
            self.refused(POST + lines + b"\r\n0\r\n\r\n")

    def test_codings(self) -> None:
        """The only transfer coding is C{chunked}, in HTTP/1.1."""
        for coding in (
            b"gzip, chunked",
            b"gzip",
            b"identity",
            b"xchunked",
            b"chunked;q=1",
            b"\x0bchunked",
            b"",
            b"chunked,",
        ):
            self.refused(POST + b"transfer-encoding: " + coding + b"\r\n\r\n0\r\n\r\n")
        self.refused(POST + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        self.refused(b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")

    def test_lengths(self) -> None:
        """A length is digits."""
        for length in (b"+5", b"-5", b"0x5", b"5 5", b"5a", b"", b"9" * 30):
            self.refused(POST + b"content-length: " + length + b"\r\n\r\nhello")

    def test_hosts(self) -> None:
        """There is one host at most."""
        self.refused(b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n")

    def test_lines(self) -> None:
        """Lines end with CRLF, are not folded, and have a name and a colon without space between."""
        for lines in (
            b"a: b\n\r\n",
            b"a: b\rc\r\n\r\n",
            b"a: b\r\n c\r\n\r\n",
            b"a: b\r\n\tc\r\n\r\n",
            b" a: b\r\n\r\n",
            b"a : b\r\n\r\n",
            b": b\r\n\r\n",
            b"a\r\n\r\n",
            b"a: b\0\r\n\r\n",
            b"a: \x01\r\n\r\n",
            b"a\x0b: b\r\n\r\n",
            b"\xe4: b\r\n\r\n",
        ):
            self.refused(POST + lines)
        self.refused(b"GET / HTTP/1.1\nhost: x\n\n")
        self.refused(b"GET  / HTTP/1.1\r\n\r\n")
        self.refused(b"GET /  HTTP/1.1\r\n\r\n")
        self.refused(b"\nGET / HTTP/1.1\r\n\r\n")
        self.refused(b"\rGET / HTTP/1.1\r\n\r\n")

    def test_chunk_sizes(self) -> None:
        """A chunk has its size in hexadecimal digits, and ends where it says."""
        for chunk in (
            b"0x3\r\nabc\r\n",
            b"3 \r\nabc\r\n",
            b" 3\r\nabc\r\n",
            b"-3\r\nabc\r\n",
            b"+3\r\nabc\r\n",
            b"\r\nabc\r\n",
            b"3\nabc\r\n",
            b"3;a\nb\r\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"g\r\n",
            b"f" * 17 + b"\r\nabc\r\n",
        ):
            self.refused(CHUNKED + chunk + b"0\r\n\r\n")

    def test_trailers(self) -> None:
        """A trailer cannot change the framing."""
        self.refused(CHUNKED + b"0\r\ncontent-length: 5\r\n\r\n")
        self.refused(CHUNKED + b"0\r\ntransfer-encoding: chunked\r\n\r\n")

    def test_smuggled_request(self) -> None:
        """The shapes in which requests were hidden in bodies (CVE-2020-10108, -10109, 2022-24801, 2023-46137)."""
        hidden = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
        self.refused(POST + b"content-length: 0\r\ncontent-length: %d\r\n\r\n" % len(hidden) + hidden)
        self.refused(POST + b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" % len(hidden) + hidden)
        self.refused(POST + b"transfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n" + hidden)
        self.refused(CHUNKED + b"0_0\r\n\r\n" + hidden)
        self.refused(CHUNKED + b"0;\n\r\n\r\n" + hidden)

    def test_head_too_large(self) -> None:
        """A head above the limit is refused as soon as that is known: 431, or 414 while it is all target."""
        self.refused(b"GET / HTTP/1.1\r\na: " + b"b" * 1000, 431, http_head_bytes=1000)
        self.refused(b"GET / HTTP/1.1\r\na: " + b"b" * 1000 + b"\r\n\r\n", 431, http_head_bytes=1000)
        self.refused(b"GET /" + b"a" * 1000, 414, http_head_bytes=1000)
        self.refused(b"GET /" + b"a" * 1000 + b" HTTP/1.1\r\n\r\n", 414, http_head_bytes=1000)

    def test_too_many_headers(self) -> None:
        """More header lines than allowed are refused; exactly as many are taken."""
        self.refused(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4 + b"\r\n", 431, http_headers=3)
        self.assertEqual(read(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 3 + b"\r\n", http_headers=3).status, None)

    def test_extensions_too_large(self) -> None:
        """Chunk extensions and trailers are bounded, too."""
        self.refused(CHUNKED + b"1;" + b"a" * 2000, 431, http_head_bytes=1000)
        self.refused(CHUNKED + b"0\r\nx: " + b"a" * 2000, 431, http_head_bytes=1000)

    def test_many_chunks(self) -> None:
        """That bound is not on the overhead of many small chunks."""
        recorder = read(CHUNKED + b"1;a\r\nx\r\n" * 1000 + b"0\r\n\r\n", http_head_bytes=1000)
        self.assertEqual(recorder.requests[0].body, b"x" * 1000)

    def test_after_a_request(self) -> None:
        """What is refused does not undo what came before it."""
        recorder = read(b"GET /a HTTP/1.1\r\n\r\nrubbish\r\n\r\n")
        self.assertEqual((recorder.status, [request.path for request in recorder.requests]), (400, ["/a"]))
        recorder.feed(b"GET /b HTTP/1.1\r\n\r\n")
        self.assertEqual(len(recorder.requests), 1)


class RecallTests(SynchronousTestCase):
    """Heads like the one before are not parsed again, and nobody can tell the difference."""

    def test_same_head(self) -> None:
        """Only the bodies differ."""
        head = POST + b"content-length: 3\r\n\r\n"
        recorder = Recorder().feed(head + b"abc", head + b"def" + head + b"gh", b"i")
        self.assertEqual([each.body for each in recorder.requests], [b"abc", b"def", b"ghi"])
        self.assertEqual(len({str(each.headers) for each in recorder.requests}), 1)

    def test_same_lines(self) -> None:
        """Method, path and query differ."""
        lines = b"host: x\r\n\r\n"
        recorder = read(b"GET /a?b HTTP/1.1\r\n" + lines + b"PUT /c HTTP/1.1\r\n" + lines)
        self.assertEqual([(each.method, each.path, each.query) for each in recorder.requests],
                         [("GET", "/a", "b"), ("PUT", "/c", "")])  # fmt: skip

    def test_head_in_a_head(self) -> None:
        """What looks like the head before, in the middle of another one, is a part of that."""
        head = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
        recorder = Recorder().feed(head, b"GET /b HTTP/1.1\r\na: ", head)
        self.assertEqual([each.path for each in recorder.requests], ["/a", "/b"])
        self.assertEqual(recorder.requests[1].headers, {"a": "GET /a HTTP/1.1", "host": "x"})

    def test_other_version(self) -> None:
        """The same lines mean another thing in HTTP/1.0."""
        recorder = read(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /a HTTP/1.0\r\nhost: x\r\n\r\n")
        self.assertEqual([each.keep_alive for each in recorder.requests], [True, False])

    def test_longer_target(self) -> None:
        """The limit holds for the whole head."""
        lines = b" HTTP/1.1\r\nhost: x\r\n\r\n"
        recorder = read(b"GET /a" + lines + b"GET /" + b"a" * 1000 + lines, http_head_bytes=1000)
        self.assertEqual((recorder.status, len(recorder.requests)), (414, 1))

    @SOAK
    @given(st.data())
    def test_sequences(self, data: st.DataObject) -> None:
        """A sequence of requests, taken from a few, reads like each of them alone."""
        lines = [b"host: x\r\n", b"host: x\r\ncontent-length: 2\r\n", b"a: \xff \r\n", b"", b"expect: 100-continue\r\n"]
        starts = [
            b"GET /a HTTP/1.1\r\n",
            b"GET /b?c HTTP/1.1\r\n",
            b"BREW /a HTTP/1.1\r\n",
            b"GET http://h/ HTTP/1.1\r\n",
        ]
        one = st.tuples(st.sampled_from(starts), st.sampled_from(lines)).map(
            lambda drawn: drawn[0] + drawn[1] + (b"\r\nab" if b"length" in drawn[1] else b"\r\n")
        )
        requests = data.draw(st.lists(one, max_size=8))
        cuts = data.draw(st.lists(st.integers(0, 500), max_size=4))
        recorder = Recorder().feed(*split(b"".join(requests), cuts))
        self.assertEqual(recorder.outcome, (None, [read(request).requests[0] for request in requests]))


class HeldTests(SynchronousTestCase):
    def test_held(self) -> None:
        """While held, no request is begun; then it goes on where it was."""
        recorder = Recorder()
        recorder.reader.held = True
        recorder.feed(b"GET /a HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n")
        self.assertEqual(recorder.requests, [])
        recorder.reader.held = False
        recorder.reader.resume()
        self.assertEqual([request.path for request in recorder.requests], ["/a", "/b"])

    def test_body_goes_on(self) -> None:
        """The body of a request that has begun is delivered all the same."""
        recorder = read(POST + b"content-length: 3\r\n\r\na")
        recorder.reader.held = True
        recorder.feed(b"bcGET / HTTP/1.1\r\n\r\n")
        self.assertEqual((recorder.requests[0].body, len(recorder.requests)), (b"abc", 1))

    def test_held_within(self) -> None:
        """Holding and resuming from within, between two requests of one read, neither loses nor repeats any."""
        recorder = Recorder()
        begin = recorder.begin

        def hold_and_resume(request: Request, body: bytes | None) -> None:
            begin(request, body)
            recorder.reader.held = True
            recorder.reader.held = False
            recorder.reader.resume()

        recorder.begin = hold_and_resume  # type: ignore[method-assign]
        recorder.feed(b"GET /a HTTP/1.1\r\n\r\n" * 5)
        self.assertEqual(len(recorder.requests), 5)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def encode(request: tuple[str, dict[str, str], bytes, list[int] | None]) -> bytes:
    """Write a request with its body at once, or in chunks of these sizes."""
    path, headers, body, sizes = request
    lines = [f"POST /{path} HTTP/1.1", *(f"x-{name}: {value}" for name, value in headers.items())]
    if sizes is None:
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in split(body, sizes) if piece)
    return "\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode() + chunks + b"0\r\n\r\n"


words = st.text("abcdefghij-", max_size=8)
bodies = st.lists(st.sampled_from([b"\r\n\r\n", b"\r\n", b"0", b"\r", b"\n", b"GET / HTTP/1.1\r\n\r\n", b"a"])).map(
    b"".join
)
valid = st.tuples(
    words,
    st.dictionaries(words.filter(bool), words, max_size=3),
    bodies,
    st.none() | st.lists(st.integers(0, 60), max_size=5),
)
request_lines = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", b"GET http://h/ HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n", b"BREW / HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n", b"GET / HTTP/1.1\n", b"GET /\r\n",
        b"GET /\xff HTTP/1.1\r\n", b"GET / HTTP/2.0\r\n", b"\r\n", b"\n", b"",
    ]
)  # fmt: skip
header_lines = st.sampled_from(
    [
        b"a: b\r\n", b"A:b \t\r\n", b"content-length: 3\r\n", b"content-length: 0\r\n", b"content-length: 10\r\n",
        b"transfer-encoding: chunked\r\n", b"Transfer-Encoding: Chunked\r\n", b"transfer-encoding: gzip, chunked\r\n",
        b"connection: close\r\n", b"connection: keep-alive\r\n", b"connection: upgrade\r\n", b"upgrade: h2c\r\n",
        b"expect: 100-continue\r\n", b"a: b\n", b" folded\r\n", b"a : b\r\n", b"host: y\r\n", b"\xff: b\r\n",
        b"a: \xff\r\n", b"content-length : 3\r\n", b"transfer-encoding:\x0bchunked\r\n", b"content-length: +3\r\n",
    ]
)  # fmt: skip
body_parts = st.sampled_from(
    [
        b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\na: b\r\n\r\n", b"3;x=y\r\nabc\r\n", b"0x3\r\nabc\r\n",
        b"3\nabc\n", b"3 \r\nabc\r\n", b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n", b"0;\n\r\n", b"\x00",
    ]
)  # fmt: skip


def likely(first: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes that are requests, or nearly."""
    parts = st.tuples(
        request_lines, first, st.lists(header_lines, max_size=3).map(b"".join), st.just(b"\r\n"),
        st.lists(body_parts, max_size=3).map(b"".join),
    )  # fmt: skip
    return st.lists(parts.map(b"".join), max_size=4).map(b"".join)


anything = st.one_of(likely(st.sampled_from([b"host: x\r\n", b""])), st.binary(max_size=200))


class PropertyTests(SynchronousTestCase):
    @SOAK
    @given(st.lists(valid, min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=12))
    def test_pieces(self, requests: list[tuple[str, dict[str, str], bytes, list[int] | None]], cuts: list[int]) -> None:
        """Valid requests are delivered as they were written, however the bytes arrive."""
        data = b"".join(encode(request) for request in requests)
        recorder = Recorder().feed(*split(data, cuts))
        self.assertEqual(recorder.status, None)
        self.assertEqual(
            [(request.path[1:], request.body, request.ended) for request in recorder.requests],
            [(path, body, True) for path, _, body, _ in requests],
        )
        self.assertEqual(Recorder().feed(*(bytes((byte,)) for byte in data)).outcome, recorder.outcome)

    @SOAK
    @given(anything, st.lists(st.integers(0, 2000), max_size=12))
    def test_anything(self, data: bytes, cuts: list[int]) -> None:
        """Any bytes are taken or refused, nothing else is raised, and it does not depend on how they arrive."""
        whole, pieces = read(data), Recorder().feed(*split(data, cuts))
        self.assertEqual(whole.status, pieces.status)
        self.assertEqual([request for request in whole.requests if request.ended],
                         [request for request in pieces.requests if request.ended])  # fmt: skip

    @SOAK
    @given(likely(st.just(b"host: x\r\n")))
    def test_like_h11(self, data: bytes) -> None:
        """What is taken, h11, which is strict, takes for the same requests."""
        ours = [(request.method, request.body) for request in read(data).requests if request.ended]
        self.assertEqual(ours, read_with_h11(data)[: len(ours)])


def read_with_h11(data: bytes) -> list[tuple[str, bytes]]:
    """
    Return the methods and bodies of the complete requests that h11 finds, until it refuses.

    Two things that h11 does not know are done for it: empty lines between requests, and keep-alive in HTTP/1.0.
    """
    found: list[tuple[str, bytes]] = []
    while True:
        while data.startswith(b"\r\n"):
            data = data[2:]
        server = h11.Connection(h11.SERVER)
        server.receive_data(data)
        method, body, keep_alive = "", b"", True
        while True:
            try:
                event = server.next_event()
            except h11.RemoteProtocolError:
                return found
            if isinstance(event, h11.Request):
                method = event.method.decode()
                values = b",".join(value.lower() for name, value in event.headers if name == b"connection")
                options = [option.strip() for option in values.split(b",")]
                keep_alive = b"close" not in options
                if event.http_version == b"1.0":
                    keep_alive = keep_alive and b"keep-alive" in options
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return found
        found.append((method, body))
        if not keep_alive:
            return found
        data = server.trailing_data[0]
