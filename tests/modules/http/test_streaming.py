"""Tests for responses that a function writes to its channel (spec/http.md, A8)."""

from __future__ import annotations

import h11
from twisted.trial.unittest import SynchronousTestCase

from tests.modules.http.fakes import Client, Invocation, Response, Server, WorkerEnd


class StreamingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(outbox_bytes=1000, outbox_hard_bytes=10_000_000)
        self.server.route("GET", "a")
        self.server.route("HEAD", "a")
        self.client = self.server.connect()

    def start(self, method: str = "GET", version: str = "1.1", client: Client | None = None) -> WorkerEnd:
        """Send a request and let the worker open its channel."""
        (client or self.client).request(method, "/a", version=version)
        return self.server.end_of("response")

    @property
    def call(self) -> Invocation:
        return self.server.call

    def response(self, method: str = "GET") -> Response:
        return self.client.response(method)

    def assertNothingLeft(self) -> None:
        self.assertTrue(self.server.is_empty())


class ControlTests(StreamingTestCase):
    def test_whole(self) -> None:
        """Status, headers and body are as written, in chunks, item by item; nothing is added to the headers."""
        writer = self.start()
        writer.text(type="set_status", status_code=201)
        writer.text(type="set_headers", headers={"Content-Type": "text/event-stream", "x": "1"})
        self.assertEqual(self.client.raw, b"")
        writer.binary(b"abc")
        self.assertTrue(
            self.client.raw.startswith(b"HTTP/1.1 201 Created\r\ncontent-type: text/event-stream\r\nx: 1\r\n")
        )
        self.assertTrue(self.client.raw.endswith(b"\r\n\r\n3\r\nabc\r\n"))
        writer.binary(b"d" * 20)
        self.assertTrue(self.client.raw.endswith(b"14\r\ndddddddddddddddddddd\r\n"))
        writer.close()
        response = self.response()
        self.assertEqual((response.complete, response.body), (True, b"abc" + b"d" * 20))
        self.assertEqual(response["access-control-allow-origin"], "*")
        self.assertNothingLeft()

    def test_defaults(self) -> None:
        """Without controls it is 200 without a content type."""
        writer = self.start()
        writer.binary(b"a")
        writer.close()
        response = self.response()
        self.assertEqual((response.status, response["content-type"], response.body), (200, None, b"a"))

    def test_repeated(self) -> None:
        """Controls come in any order and repeatedly: the last status counts, headers are merged by their exact name."""
        writer = self.start()
        writer.text(type="set_headers", headers={"a": "1", "b": "2", "B": "3"})
        writer.text(type="set_status", status_code=500)
        writer.text(type="set_headers", headers={"a": "4", "c": 5, "d": None})
        writer.text(type="set_status", status_code=202)
        writer.binary(b"")
        writer.close()
        response = self.response()
        self.assertEqual(response.status, 202)
        self.assertEqual([response.all(name) for name in "abcd"], [["4"], ["2", "3"], [], []])

    def test_ignored(self) -> None:
        """What is no control, or a status that is none, is ignored."""
        writer = self.start()
        for text in (
            b"",
            b"{",
            b"[]",
            b'"set_status"',
            b'{"type":"other"}',
            b'{"type":"set_headers","headers":[]}',
            b"\xff",
        ):
            writer.write(text, False)
        for status in (99, 600, "201", 201.0, None, True, -1, 10**30):
            writer.text(type="set_status", status_code=status)
        writer.text(type="set_headers", headers={"a\r\nb": "c", "d": "e\r\nf: g"})
        writer.binary(b"a")
        writer.close()
        self.assertEqual((self.response().status, self.response()["f"]), (200, None))

    def test_late(self) -> None:
        """After the first piece of the body, text is ignored."""
        writer = self.start()
        writer.binary(b"a")
        writer.text(type="set_status", status_code=500)
        writer.binary(b"b")
        writer.close()
        self.assertEqual((self.response().status, self.response().body), (200, b"ab"))


class FirstEventTests(StreamingTestCase):
    """The table of A8: what comes first decides."""

    def test_empty_item(self) -> None:
        """An empty binary message sends the head, too."""
        writer = self.start()
        writer.binary(b"")
        self.assertTrue(self.client.raw.endswith(b"\r\n\r\n"))
        self.call.returns({"body": "late"})
        writer.close()
        self.assertEqual(self.response().body, b"")

    def test_result_after_first_item(self) -> None:
        """After the first item neither a result nor an error matters."""
        for end in (lambda: self.call.returns({"status_code": 500}), lambda: self.call.fails("x", "y")):
            self.setUp()
            writer = self.start()
            writer.binary(b"a")
            end()
            writer.binary(b"b")
            writer.close()
            self.assertEqual((self.response().status, self.response().body), (200, b"ab"))
            self.assertNothingLeft()

    def test_closed_without_item(self) -> None:
        """A writer that closes without a body gives what was set and an empty body; a later value is ignored."""
        writer = self.start()
        writer.text(type="set_status", status_code=202)
        writer.text(type="set_headers", headers={"x": "y"})
        writer.close()
        self.call.returns({"status_code": 500})
        response = self.response()
        self.assertEqual((response.status, response["x"], response.body), (202, "y", b""))
        self.assertEqual((response["content-length"], response["content-type"]), ("0", None))
        self.assertNothingLeft()

    def test_closed_without_anything(self) -> None:
        """A writer that only opens and closes is an empty 200."""
        self.start().close()
        self.assertEqual((self.response().status, self.response().body), (200, b""))

    def test_no_content(self) -> None:
        """C{res.status(204); res.close()} is a 204."""
        writer = self.start()
        writer.text(type="set_status", status_code=204)
        writer.close()
        self.assertEqual((self.response().status, self.response()["content-length"]), (204, None))

    def test_value(self) -> None:
        """A returned value is the answer; the controls are thrown away and the writer is closed."""
        writer = self.start()
        writer.text(type="set_status", status_code=500)
        self.call.returns({"body": 1})
        self.assertEqual((self.response().status, self.response().json), (200, 1))
        self.assertTrue(writer.finished)
        writer.binary(b"late")
        writer.close()
        self.assertEqual(self.response().json, 1)
        self.assertNothingLeft()

    def test_nothing_returned(self) -> None:
        """A function that returned nothing, or null, has yet to write; its writer may come later."""
        for result in (b"", b"null"):
            self.setUp()
            self.client.request("GET", "/a")
            self.call.returns_raw(result)
            self.assertEqual(self.client.raw, b"")
            writer = self.server.end_of("response")
            writer.binary(b"a")
            writer.close()
            self.assertEqual(self.response().body, b"a")
            self.assertNothingLeft()

    def test_never_written(self) -> None:
        """A function that returned nothing, and does not open the writer soon, has nothing to say: 204."""
        self.client.request("GET", "/a")
        self.server.wait(3)
        self.call.returns_raw(b"null")
        self.assertEqual(self.client.raw, b"")
        self.server.wait(2)
        self.assertEqual((self.response().status, self.response().body), (204, b""))
        self.assertNothingLeft()

    def test_opened_and_not_written(self) -> None:
        """One that has opened it has the request's time to write, and no more."""
        for opened_first in (True, False):
            self.setUp()
            self.client.request("GET", "/a")
            if opened_first:
                self.server.end_of("response")
            self.call.returns_raw(b"null")
            if not opened_first:
                self.server.end_of("response")
            self.server.wait(29)
            self.assertEqual(self.client.raw, b"")
            self.server.wait(2)
            self.assertEqual(self.response().status, 504)
            self.assertNothingLeft()

    def test_failed_while_writing(self) -> None:
        """A function that fails and leaves its writer open does not keep the client: its connection is cut."""
        writer = self.start()
        writer.binary(b"a")
        self.call.answers_error("invocation_failed", "boom")
        self.assertIsNone(self.client.transport.ended)
        self.server.wait(2)
        self.assertEqual(self.client.transport.ended, "aborted")
        self.assertTrue(writer.finished)
        self.assertNothingLeft()

    def test_failed_after_writing(self) -> None:
        """One that has written everything, as may be seen a little later, has been of use."""
        writer = self.start()
        writer.binary(b"a")
        self.call.answers_error("invocation_failed", "boom")
        writer.binary(b"b")
        writer.close()
        self.server.wait(3)
        self.assertEqual((self.response().body, self.client.transport.ended), (b"ab", None))

    def test_long_stream(self) -> None:
        """That the call lasts longer than calls may is no failure of a stream."""
        writer = self.start()
        writer.binary(b"a")
        self.call.fails("TIMEOUT", "f did not answer within 30 s")
        self.server.wait(100)
        writer.binary(b"b")
        writer.close()
        self.assertEqual(self.response().body, b"ab")

    def test_broken_off_in_the_body(self) -> None:
        """When the writer's socket breaks off, the client sees that its response is not complete."""
        writer = self.start()
        writer.binary(b"a")
        self.server.turn()
        writer.close(broken=True)
        self.assertEqual(self.client.transport.ended, "aborted")
        self.assertRaises(h11.RemoteProtocolError, self.response)
        self.assertNothingLeft()

    def test_broken_off_before_the_body(self) -> None:
        """Before anything of a body has come, the function may still answer."""
        writer = self.start()
        writer.text(type="set_status", status_code=201)
        writer.close(broken=True)
        self.assertEqual(self.client.raw, b"")
        self.call.returns({"body": 1})
        self.assertEqual((self.response().status, self.response().json), (200, 1))
        self.assertNothingLeft()

    def test_broken_off_and_nothing_returned(self) -> None:
        """If it does not, that is an error, whichever comes first."""
        for returned_first in (True, False):
            self.setUp()
            writer = self.start()
            if returned_first:
                self.call.returns_raw(b"null")
            writer.close(broken=True)
            if not returned_first:
                self.call.returns_raw(b"null")
            error = self.response().json["error"]
            self.assertEqual((self.response().status, error["code"]), (500, "response_broken_off"))
            self.assertNothingLeft()

    def test_error(self) -> None:
        """An error before the first item is the 500."""
        writer = self.start()
        writer.text(type="set_status", status_code=200)
        self.call.fails("a", "b")
        self.assertEqual((self.response().status, self.response().json["error"]["code"]), (500, "a"))
        self.assertTrue(writer.finished)
        self.assertNothingLeft()

    def test_written_before_the_reader(self) -> None:
        """A function may have written before its call has returned to us."""
        self.server.engine.at_once = lambda call: self.server.end_of("response", call).binary(b"a")
        self.client.request("GET", "/a")
        self.assertTrue(self.client.raw.endswith(b"1\r\na\r\n"))

    def test_expired_channel(self) -> None:
        """A channel that expires because who asked for it never came does not answer for the function."""
        server = Server(timeout=1000.0)
        server.route("GET", "a")
        client = server.connect()
        client.request("GET", "/a")
        ref = server.call.data["response"]
        server.engine.channels.find(ref["channel_id"], ref["access_key"])
        server.wait(400)
        server.engine.channels.sweep()
        self.assertEqual(len(server.engine.channels), 1)
        self.assertEqual(client.raw, b"")
        server.call.returns({"body": 1})
        self.assertEqual(client.response().json, 1)
        self.assertTrue(server.is_empty())

    def test_no_limit_after_the_head(self) -> None:
        """After the head, a response may take for ever."""
        writer = self.start()
        writer.binary(b"a")
        self.server.wait(1000)
        writer.binary(b"b")
        writer.close()
        self.assertEqual(self.response().body, b"ab")

    def test_channels_removed(self) -> None:
        """Once the head is sent nobody can join the channels; the connected end goes on."""
        writer = self.start()
        writer.binary(b"a")
        self.assertEqual(len(self.server.engine.channels), 0)


class FramingTests(StreamingTestCase):
    def test_length(self) -> None:
        """A length that the function gives is used; what exceeds it is cut off, and the connection goes on."""
        writer = self.start()
        writer.text(type="set_headers", headers={"Content-Length": "5"})
        writer.binary(b"abc")
        writer.binary(b"defg")
        writer.binary(b"h")
        writer.close()
        self.client.request("GET", "/none")
        first, second = self.client.responses("GET", "GET")
        self.assertEqual((first["content-length"], first.body, second.status), ("5", b"abcde", 404))
        self.assertEqual(first["transfer-encoding"], None)

    def test_length_not_reached(self) -> None:
        """A body shorter than its length can only be shown by cutting the connection."""
        writer = self.start()
        writer.text(type="set_headers", headers={"content-length": "5"})
        writer.binary(b"abc")
        writer.close()
        self.assertEqual(self.client.transport.ended, "aborted")

    def test_length_zero(self) -> None:
        """A length of nothing is complete with the head."""
        writer = self.start()
        writer.text(type="set_headers", headers={"content-length": "0"})
        writer.binary(b"abc")
        self.assertEqual((self.response().complete, self.response().body), (True, b""))

    def test_bad_length(self) -> None:
        """A length that is none is not used."""
        for length in ("-1", "+5", "5, 5", "", "٣", "0x5"):
            self.setUp()
            writer = self.start()
            writer.text(type="set_headers", headers={"content-length": length})
            writer.binary(b"abc")
            writer.close()
            self.assertEqual((self.response()["content-length"], self.response().body), (None, b"abc"))

    def test_connection_header(self) -> None:
        """C{connection} and C{transfer-encoding} of the function are not sent; the SSE examples set them."""
        writer = self.start()
        writer.text(type="set_headers", headers={"connection": "close", "Transfer-Encoding": "gzip"})
        writer.binary(b"a")
        writer.close()
        self.client.request("GET", "/none")
        first, second = self.client.responses("GET", "GET")
        self.assertEqual((first["connection"], first["transfer-encoding"], first.body), (None, "chunked", b"a"))
        self.assertEqual(second.status, 404)

    def test_no_body(self) -> None:
        """HEAD, 204 and 304 are complete with the head; the writer is not disturbed."""
        for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304)):
            self.setUp()
            writer = self.start(method)
            writer.text(type="set_status", status_code=status)
            writer.text(type="set_headers", headers={"content-length": "6"})
            writer.binary(b"abc")
            writer.binary(b"def")
            self.client.request("GET", "/none")
            first, second = self.client.responses(method, "GET")
            self.assertEqual((first.status, first.body, first["transfer-encoding"]), (status, b"", None))
            self.assertEqual(first["content-length"], None if status == 204 else "6")
            self.assertEqual((second.status, writer.finished), (404, False))
            writer.close()
            self.assertNothingLeft()

    def test_http10(self) -> None:
        """A client of HTTP/1.0 gets no chunks: the body ends with the connection."""
        writer = self.start(version="1.0")
        writer.binary(b"abc")
        writer.binary(b"def")
        self.assertEqual(self.client.transport.ended, None)
        writer.close()
        response = self.response()
        self.assertEqual(
            (response["transfer-encoding"], response["connection"], response.body), (None, "close", b"abcdef")
        )
        self.assertEqual(self.client.transport.ended, "closed")

    def test_http10_keep_alive(self) -> None:
        """Not even when it asks to keep the connection; with a length it is kept."""
        self.client.request("GET", "/a", version="1.0", connection="keep-alive")
        writer = self.server.end_of("response")
        writer.text(type="set_headers", headers={"content-length": "1"})
        writer.binary(b"a")
        self.client.request("GET", "/a", version="1.0", connection="keep-alive")
        self.server.end_of("response").binary(b"b")
        first, second = self.client.responses("GET", "GET")
        self.assertEqual((first["connection"], second["connection"]), ("keep-alive", "close"))

    def test_informational(self) -> None:
        """1xx ends as it does in a returned value."""
        for status, expected in ((100, b"HTTP/1.1 500 "), (101, b"HTTP/1.1 101 "), (199, b"HTTP/1.1 500 ")):
            for body in (b"abc", None):
                self.setUp()
                writer = self.start()
                writer.text(type="set_status", status_code=status)
                if body is not None:
                    writer.binary(body)
                writer.close()
                self.assertTrue(self.client.raw.startswith(expected), self.client.raw)
                self.assertEqual(self.client.raw.count(b"HTTP/1.1"), 1)
                self.assertEqual(self.client.transport.ended, "closed")


class FlowTests(StreamingTestCase):
    def test_back_pressure(self) -> None:
        """While the client does not read, the writer is not read from: what waits stays bounded."""
        writer = self.start()
        self.client.transport.takes = False
        pieces = 0
        while not writer.paused:
            writer.binary(b"x" * 50_000)
            self.server.turn()
            pieces += 1
            self.assertLess(pieces, 100)
        self.assertFalse(self.client.transport.reading)
        self.client.transport.takes = True
        self.client.transport.take(10**9)
        self.server.turn()
        self.assertFalse(writer.paused)
        self.assertTrue(self.client.transport.reading)
        writer.close()
        self.assertEqual(self.response().body, b"x" * 50_000 * pieces)

    def test_client_gone(self) -> None:
        """A client that goes ends the writer; nothing is left."""
        writer = self.start()
        writer.binary(b"a")
        self.client.lost()
        self.assertTrue(writer.finished)
        writer.binary(b"b")
        writer.close()
        self.assertNothingLeft()

    def test_client_gone_before(self) -> None:
        """Likewise before the first item, and the call is forgotten."""
        writer = self.start()
        writer.text(type="set_status", status_code=201)
        self.client.lost()
        self.assertTrue(writer.finished)
        self.assertTrue(self.call.cancelled)
        self.assertNothingLeft()

    def test_pipelined(self) -> None:
        """A response whose turn has not come is held, and its writer with it."""
        first = self.start()
        second = self.start()
        second.text(type="set_status", status_code=202)
        for _ in range(100):
            second.binary(b"2")
        self.assertTrue(second.paused)
        self.assertEqual(self.client.raw, b"")
        first.binary(b"1")
        self.assertTrue(second.paused)
        first.close()
        self.assertFalse(second.paused)
        second.close()
        one, two = self.client.responses("GET", "GET")
        self.assertEqual((one.body, two.status, two.body), (b"1", 202, b"2" * 100))
        self.assertNothingLeft()

    def test_upload_and_download(self) -> None:
        """Both channels of one request work at the same time."""
        self.server.route("POST", "echo")
        self.client.send(b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        reader, writer = self.server.end_of("request_body"), self.server.end_of("response")
        for number in range(3):
            self.client.send(b"1\r\n%d\r\n" % number)
            received = reader.received[-1]
            assert isinstance(received, bytes)
            writer.binary(received)
        self.client.send(b"0\r\n\r\n")
        self.assertTrue(reader.finished)
        writer.close()
        self.assertEqual(self.client.response("POST").body, b"012")
        self.assertNothingLeft()
