"""Tests for L{iii.modules.http.exchange}: what a request becomes, and what of its outcome reaches the client."""

from __future__ import annotations

import gc
import json

from msgspec import Raw
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iii.core.channels import Channel
from iii.core.errors import FunctionNotFound
from tests.core.case import PARENT
from tests.core.fakes import capture
from tests.modules.http.fakes import Client, Server

ENVELOPE_404 = {"error": {"code": "NOT_FOUND", "message": "Not Found"}}


def count_channels() -> int:
    """How many channels there are in memory."""
    return sum(isinstance(each, Channel) for each in gc.get_objects())


class ExchangeTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.client = self.server.connect()

    def assertNothingLeft(self, server: Server | None = None) -> None:
        self.assertTrue((server or self.server).is_empty())

    def post(self, body: bytes, content_type: str | None = "application/json") -> None:
        """Send a body to a route of its own."""
        self.server.route("POST", "up")
        headers = {} if content_type is None else {"content_type": content_type}
        self.client.request("POST", "/up", body, **headers)


class RequestObjectTests(ExchangeTestCase):
    """spec/http.md, A5."""

    def test_whole(self) -> None:
        """The function gets all members, with the path as it was registered."""
        self.server.route("GET", "users/:id")
        self.client.request("GET", "/users/4%2F2?v=1&v=2", accept="*/*")
        data = self.server.call.data
        refs = {name: data.pop(name) for name in ("request_body", "response")}
        self.assertEqual(
            data,
            {
                "query_params": {"v": "2"},
                "multi_value_query_params": {"v": ["1", "2"]},
                "path_params": {"id": "4%2F2"},
                "decoded_path_params": {"id": "4/2"},
                "headers": {"host": "test", "accept": "*/*"},
                "path": "users/:id",
                "method": "GET",
                "body": None,
                "trigger": {"type": "http", "path": "users/:id", "method": "GET"},
            },
        )
        for name, direction in (("request_body", "read"), ("response", "write")):
            self.assertEqual(set(refs[name]), {"channel_id", "access_key", "direction"})
            self.assertEqual(refs[name]["direction"], direction)

    def test_call(self) -> None:
        """Function, namespace, metadata and trace context go with the call, and so does the deadline."""
        self.server.route("GET", "a", "users::get", namespace="tenant", metadata=Raw(b'{"m":1}'))
        self.client.request("GET", "/a", traceparent=PARENT, baggage="k=v")
        self.assertEqual(self.server.call.function_id, "users::get")
        options = self.server.call.options
        self.assertEqual(bytes(options.pop("metadata")), b'{"m":1}')
        self.assertEqual(
            options,
            {
                "namespace": "tenant",
                "timeout": 30.0,
                "traceparent": PARENT,
                "baggage": "k=v,iii.function.id=users::get",
            },
        )

    def test_bad_trace_context(self) -> None:
        """A trace context that is none, or much too long, is not passed on."""
        self.server.route("GET", "a")
        for headers in ({"traceparent": "00-t-p-01"}, {"baggage": "k=" + "x" * 8192}, {"baggage": "none"}):
            self.server.connect().request("GET", "/a", **headers)
            options = self.server.call.options
            self.assertEqual((options["traceparent"], options["baggage"]), (None, None))

    def test_awkward_names(self) -> None:
        """What needs escaping in JSON is escaped."""
        self.server.route("GET", 'a/{"é}')
        self.client.request("GET", '/a/"\\?"=%22', x_a='"\\')
        data = self.server.call.data
        self.assertEqual((data["path"], data["path_params"]), ('a/{"é}', {'"é': '"\\'}))
        self.assertEqual((data["query_params"], data["headers"]["x-a"]), ({'"': '"'}, '"\\'))


class RequestBodyTests(ExchangeTestCase):
    """spec/http.md, A6."""

    def received(self) -> list[bytes | str]:
        """What a worker reads from the channel, which must then end."""
        end = self.server.end_of("request_body")
        self.assertTrue(end.finished)
        return end.received

    def test_json(self) -> None:
        """A JSON body is parsed, and is in the channel as it came, in one piece."""
        body = b'{"a" :  [1.0, 1e300, "\\u00e9", 123456789012345678901234567890]}'
        self.post(body)
        self.assertEqual(self.server.call.data["body"], json.loads(body))
        self.assertEqual(self.received(), [body])

    def test_json_type(self) -> None:
        """What counts as JSON: the type contains C{application/json} in this spelling."""
        types = {
            "application/json": True,
            "application/json; charset=utf-8": True,
            "text/x, application/json": True,
            "Application/JSON": False,
            "application/problem+json": False,
            "text/plain": False,
            None: False,
        }
        for content_type, parsed in types.items():
            self.setUp()
            self.post(b"[1]", content_type)
            self.assertEqual(self.server.call.data["body"], [1] if parsed else None, content_type)
            self.assertEqual(self.received(), [b"[1]"])

    def test_invalid_json(self) -> None:
        """What is not JSON gives C{null}; the function is called all the same and can read the bytes."""
        deep = (b"[" * 126 + b"]" * 126, b"[" * 100_000)
        for body in (b"{", b" ", b"\xef\xbb\xbf1", b"1 2", b'"\xff"', b"NaN", *deep):
            self.setUp()
            self.post(body)
            self.assertIsNone(self.server.call.data["body"], body[:10])
            self.assertEqual(self.received(), [body])

    def test_deep_json(self) -> None:
        """125 levels are taken, which makes 127 of the message to the worker, and brackets in strings are none."""
        for body in (b"[" * 125 + b"]" * 125, b'["' + b"[" * 200 + b'"]'):
            self.setUp()
            self.post(body)
            self.assertIsNotNone(self.server.call.data["body"])

    def test_empty(self) -> None:
        """Without a body, C{body} is null and the channel ends at once, whatever the type says."""
        for content_type in ("application/json", "text/plain", None):
            for body in (b"", None):
                self.setUp()
                self.server.route("POST", "up")
                headers = {} if content_type is None else {"content_type": content_type}
                self.client.request("POST", "/up", body, **headers)
                self.assertIsNone(self.server.call.data["body"])
                self.assertEqual(self.received(), [])

    def test_get_with_json(self) -> None:
        """A GET may have a JSON body."""
        self.server.route("GET", "a")
        self.client.request("GET", "/a", b"[1]", content_type="application/json")
        self.assertEqual(self.server.call.data["body"], [1])

    def test_json_waits(self) -> None:
        """With JSON, the function is called when the body is complete."""
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[1")
        self.assertEqual(self.server.engine.calls, [])
        self.client.send(b"]")
        self.assertEqual(self.server.call.data["body"], [1])

    def test_large_json(self) -> None:
        """A JSON body that SDKs could not take as one message is cut into items."""
        body = json.dumps(["x" * 100] * 20_000).encode()
        self.post(body)
        items = self.received()
        self.assertLessEqual(max(map(len, items)), 2**16)
        self.assertEqual(b"".join(item for item in items if isinstance(item, bytes)), body)

    def test_stream(self) -> None:
        """Other bodies are passed on as they arrive; the function is called when the head has come."""
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")
        end = self.server.end_of("request_body")
        self.client.send(b"3\r\nabc\r\n")
        self.client.send(b"3\r\ndef\r\n")
        self.assertEqual((end.received, end.finished), ([b"abc", b"def"], False))
        self.client.send(b"0\r\n\r\n")
        self.assertTrue(end.finished)

    def test_back_pressure(self) -> None:
        """When a channel has 64 items that nobody reads, the client is not read from until somebody does."""
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(63):
            self.client.send(b"1\r\nx\r\n")
        self.assertTrue(self.client.transport.reading)
        self.client.send(b"1\r\nx\r\n")
        self.assertFalse(self.client.transport.reading)
        end = self.server.end_of("request_body")
        self.assertTrue(self.client.transport.reading)
        self.assertEqual(len(end.received), 64)

    def test_never_read(self) -> None:
        """A body that the function does not read is dropped when it has answered, and the connection goes on."""
        gc.collect()
        before = count_channels()
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n")
        for _ in range(70):
            self.client.send(b"1\r\nx\r\n")
        self.assertFalse(self.client.transport.reading)
        self.server.call.returns({"body": "early"})
        for _ in range(200):
            self.client.send(b"1\r\nx\r\n")
        self.assertTrue(self.client.transport.reading)
        self.assertEqual(count_channels(), before)
        self.client.send(b"1\r\nx\r\n0\r\n\r\n")
        self.client.request("GET", "/none")
        self.assertEqual([each.status for each in self.client.responses("POST", "GET")], [200, 404])
        self.assertNothingLeft()

    def test_read_after_the_answer(self) -> None:
        """A reader that is there goes on reading after the answer."""
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        end = self.server.end_of("request_body")
        self.server.call.returns({})
        self.client.send(b"3\r\nabc\r\n0\r\n\r\n")
        self.assertEqual((end.received, end.finished), ([b"abc"], True))
        self.assertNothingLeft()

    def test_too_large(self) -> None:
        """A body above the limit is refused: at once when its length is known, else when it is exceeded."""
        for head, rest in (
            (b"content-length: 11\r\n\r\n", b""),
            (b"transfer-encoding: chunked\r\n\r\n", b"b\r\n01234567890\r\n0\r\n\r\n"),
            (b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n", b"b\r\n01234567890\r\n0\r\n\r\n"),
        ):
            server = Server(http_body_bytes=10)
            server.route("POST", "a")
            client = server.connect()
            client.send(b"POST /a HTTP/1.1\r\n" + head)
            client.send(rest)
            response = client.response("POST")
            self.assertEqual(response.status, 413)
            self.assertEqual(
                response.json, {"error": {"code": "PAYLOAD_TOO_LARGE", "message": "Request body too large"}}
            )
            self.assertEqual(response["access-control-allow-origin"], "*")
            self.assertEqual((response["connection"], client.transport.ended), ("close", "half-closed"))
            self.assertTrue(all(call.cancelled for call in server.engine.calls))
            self.assertNothingLeft(server)

    def test_broken_off(self) -> None:
        """A client that goes in the middle of a body is gone: nothing is called, what was called is forgotten."""
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n1")
        self.client.lost()
        other = self.server.connect()
        other.send(b"POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\n1")
        end = self.server.end_of("request_body")
        other.lost()
        self.assertEqual([call.cancelled for call in self.server.engine.calls], [True])
        self.assertTrue(end.finished)
        self.assertNothingLeft()


class ContinueTests(ExchangeTestCase):
    """C{Expect: 100-continue} (spec/http.md, A6; RFC 9110, 10.1.1)."""

    def expect(self, path: str) -> None:
        self.server.route("POST", "a")
        self.client.send(f"POST {path} HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n".encode())

    def test_continue(self) -> None:
        """The client is told to go on as soon as its body will be read."""
        self.expect("/a")
        self.assertEqual(self.client.raw, b"HTTP/1.1 100 Continue\r\n\r\n")
        self.client.send(b"abc")
        self.server.call.returns({"body": 1})
        self.assertEqual((self.client.response("POST").json, self.client.transport.ended), (1, None))

    def test_body_with_the_head(self) -> None:
        """A client that did not wait is not told anything."""
        self.server.route("POST", "a")
        self.client.request("POST", "/a", b"abc", expect="100-continue")
        self.server.call.returns({"body": 1})
        self.assertTrue(self.client.raw.startswith(b"HTTP/1.1 200 "))
        self.assertEqual(self.client.transport.ended, None)

    def test_no_continue(self) -> None:
        """An answer instead ends the connection: nobody can know whether the body will still come."""
        self.expect("/none")
        response = self.client.response("POST")
        self.assertEqual((response.status, response["connection"]), (404, "close"))
        self.assertEqual(self.client.transport.ended, "half-closed")

    def test_in_order(self) -> None:
        """It is not told before the answers to earlier requests."""
        self.server.route("GET", "first")
        self.client.request("GET", "/first")
        self.expect("/a")
        self.assertEqual(self.client.raw, b"")
        self.server.engine.calls[0].returns({"body": 1})
        self.assertTrue(self.client.raw.endswith(b"\r\n\r\n1HTTP/1.1 100 Continue\r\n\r\n"), self.client.raw)


class AnswersTests(ExchangeTestCase):
    """spec/http.md, A7 as a client sees it; every row of its tables is in C{test_response}."""

    def get(self, *, method: str = "GET") -> Client:
        self.server.route(method, "a")
        self.client.request(method, "/a")
        return self.client

    def test_value(self) -> None:
        """A returned value is the answer, with its length, the date, and CORS headers."""
        self.get()
        self.server.call.returns({"status_code": 201, "headers": {"X-A": "b"}, "body": {"c": 1}})
        self.assertEqual(
            self.client.raw,
            b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nx-a: b\r\ncontent-length: 8\r\n"
            b"access-control-allow-origin: *\r\n"
            b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
            b"access-control-expose-headers: *\r\n"
            b'date: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\n{"c": 1}',
        )
        self.assertNothingLeft()

    def test_head(self) -> None:
        """To HEAD the head alone is sent, with the length of what is not."""
        self.get(method="HEAD")
        self.server.call.returns({"body": "abc"})
        response = self.client.response("HEAD")
        self.assertEqual((response.body, response["content-length"]), (b"", "5"))

    def test_head_with_length(self) -> None:
        """To HEAD, the length that the function gives is the one that counts."""
        self.get(method="HEAD")
        self.server.call.returns({"headers": {"content-length": "1234"}})
        self.assertEqual(self.client.response("HEAD")["content-length"], "1234")

    def test_no_body(self) -> None:
        """204 and 304 have no body, and no length of one."""
        for status in (204, 304):
            self.setUp()
            self.get()
            self.server.call.returns({"status_code": status, "headers": {"etag": '"1"'}, "body": "abc"})
            self.client.request("GET", "/none")
            first, second = self.client.responses("GET", "GET")
            self.assertEqual(
                (first.status, first.body, first["content-length"], first["etag"]), (status, b"", None, '"1"')
            )
            self.assertEqual(second.status, 404)

    def test_no_body_with_length(self) -> None:
        """A 304 may tell the length of what it stands for; a 204 stands for nothing."""
        for status, length in ((204, None), (304, "9")):
            self.setUp()
            self.get()
            self.server.call.returns({"status_code": status, "headers": {"content-length": "9"}})
            self.assertEqual(self.client.response()["content-length"], length)

    def test_informational(self) -> None:
        """100 and 102 to 199 cannot be sent: an empty 500, and the connection ends."""
        for status in (100, 102, 103, 199):
            self.setUp()
            self.get()
            self.server.call.returns({"status_code": status})
            response = self.client.response()
            self.assertEqual(
                (response.status, response.body, response["access-control-allow-origin"]), (500, b"", None)
            )
            self.assertEqual(self.client.transport.ended, "closed")

    def test_switching_protocols(self) -> None:
        """101 is sent without a body, and the connection ends."""
        self.get()
        self.server.call.returns({"status_code": 101, "body": "abc"})
        self.assertTrue(self.client.raw.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        self.assertTrue(self.client.raw.endswith(b"\r\n\r\n"))
        self.assertEqual(self.client.transport.ended, "closed")

    def test_framing_is_ours(self) -> None:
        """What a function says about length, coding and connection does not break the framing."""
        for headers in (
            {"content-length": "1"},
            {"Content-Length": "100"},
            {"transfer-encoding": "chunked"},
            {"connection": "close"},
            {"Connection": "upgrade", "upgrade": "x"},
        ):
            self.setUp()
            self.get()
            self.server.call.returns({"headers": headers, "body": "abc"})
            self.client.request("GET", "/none")
            first, second = self.client.responses("GET", "GET")
            self.assertEqual((first.body, first["content-length"], first["connection"]), (b'"abc"', "5", None))
            self.assertEqual(second.status, 404)

    def test_date(self) -> None:
        """There is one date, ours."""
        self.get()
        self.server.call.returns({"headers": {"date": "never"}})
        self.assertEqual(self.client.response()["date"], "Sun, 09 Sep 2001 01:46:40 GMT")

    def test_injection(self) -> None:
        """A header that would inject another one, or end the head, is left out."""
        self.get()
        logged = capture(self)
        bad = {"a": "1\r\nset-cookie: x", "b": "1\n", "c": "\0", "d\r\ne": "f", "g h": "i", "": "j", "k": "l"}
        self.server.call.returns({"headers": bad})
        response = self.client.response()
        self.assertEqual([(name, value) for name, value in response.headers if name in ("k", "set-cookie", "a", "e")],
                         [("k", "l")])  # fmt: skip
        self.assertEqual(len(logged), 6)


class ErrorsTests(ExchangeTestCase):
    """spec/http.md, A11."""

    def test_not_found(self) -> None:
        """An unknown path gives 404 in the envelope, without an id; nothing is called."""
        self.client.request("GET", "/none")
        response = self.client.response()
        self.assertEqual((response.status, response.json), (404, ENVELOPE_404))
        self.assertEqual(response["content-type"], "application/json")
        self.assertEqual(self.server.engine.calls, [])
        self.assertNothingLeft()

    def test_method_not_allowed(self) -> None:
        """A known path with another method gives 405 with C{Allow}; also for methods nobody knows."""
        self.server.route("GET", "a")
        self.server.route("POST", "a")
        for method in ("PUT", "TRACE", "BREW", "PROPFIND"):
            client = self.server.connect()
            client.request(method, "/a")
            response = client.response(method)
            self.assertEqual((response.status, response.json["error"]["code"]), (405, "METHOD_NOT_ALLOWED"))
            self.assertEqual(response["allow"], "GET,POST,HEAD")
            self.assertEqual(response["access-control-allow-origin"], "*")

    def test_head_of_get(self) -> None:
        """HEAD on a path that has only GET gives the 404 without its body; without GET it gives 405."""
        self.server.route("GET", "a")
        self.server.route("POST", "b")
        self.client.request("HEAD", "/a")
        self.client.request("HEAD", "/b")
        first, second = self.client.responses("HEAD", "HEAD")
        self.assertEqual(
            (first.status, first["content-length"]), (404, str(len(json.dumps(ENVELOPE_404, separators=(",", ":")))))
        )
        self.assertEqual((second.status, second["allow"]), (405, "POST"))

    def failed(self, code: str, message: str) -> dict[str, str]:
        """Let a call end with an error and return that of the response, without its id."""
        self.setUp()
        self.server.route("GET", "a", "users::get", namespace="tenant")
        self.client.request("GET", "/a")
        logged = capture(self)
        self.server.call.fails(code, message)
        response = self.client.response()
        self.assertEqual((response.status, response["content-type"]), (500, "application/json"))
        error: dict[str, str] = response.json["error"]
        error_id = error.pop("error_id")
        self.assertRegex(error_id, "^[0-9a-f]{12}$")
        self.assertEqual([event["error_id"] for event in logged], [error_id])
        self.assertNothingLeft()
        return error

    def test_function_failed(self) -> None:
        """An error of the function or of its call is passed on as 500 with an id."""
        for code, message in (
            ("invocation_failed", "boom"),
            ("invocation_stopped", "Invocation stopped"),
            ("channel_send_failed", "channel closed"),
            ("MY_CODE", ""),
        ):
            self.assertEqual(self.failed(code, message), {"code": code, "message": message})

    def test_function_not_found(self) -> None:
        """A missing function is named without the engine's full stop and hint; a function's own text is left alone."""
        expected = {"code": "function_not_found", "message": "Function users::get not found in namespace tenant"}
        self.assertEqual(self.failed("function_not_found", str(FunctionNotFound("users::get", "tenant"))), expected)
        self.assertEqual(
            self.failed("function_not_found", str(FunctionNotFound("users::get", "tenant", ["other"]))), expected
        )
        self.assertEqual(self.failed("function_not_found", "no x here")["message"], "no x here")

    def test_at_once(self) -> None:
        """A call may fail before it returns."""
        self.server.engine.at_once = lambda call: call.fails("function_not_found", "x")
        self.server.route("GET", "a")
        self.client.request("GET", "/a")
        self.assertEqual(self.client.response().status, 500)
        self.assertNothingLeft()

    def test_codes_of_functions(self) -> None:
        """A function's own error is a 500 with its code and message, also if the engine has one of that name."""
        for code in ("TIMEOUT", "worker_overloaded", "engine_stopping", "too_many_channels"):
            self.setUp()
            self.server.route("GET", "a")
            self.client.request("GET", "/a")
            self.server.call.answers_error(code, "mine")
            response = self.client.response()
            error = response.json["error"]
            self.assertEqual((response.status, error["code"], error["message"]), (500, code, "mine"))

    def test_too_large_for_the_worker(self) -> None:
        """A request that the worker's SDK cannot take is too large, with the reason."""
        self.server.route("GET", "a")
        self.client.request("GET", "/a")
        self.server.call.fails("payload_too_large", "a message of 2 bytes exceeds the 1 bytes")
        response = self.client.response()
        self.assertEqual((response.status, response.json["error"]["code"]), (413, "payload_too_large"))

    def test_try_again(self) -> None:
        """Busy and stopping are 503 with C{Retry-After}, without an id."""
        for code in ("worker_overloaded", "engine_stopping"):
            self.setUp()
            self.server.route("GET", "a")
            self.client.request("GET", "/a")
            self.server.call.fails(code, "later")
            response = self.client.response()
            self.assertEqual((response.status, response["retry-after"]), (503, "1"))
            self.assertEqual(response.json, {"error": {"code": code, "message": "later"}})

    def test_stopping(self) -> None:
        """While the engine stops, a route gives 503 without a call."""
        self.server.route("GET", "a")
        self.server.engine.stopping = True
        self.client.request("GET", "/a")
        response = self.client.response()
        self.assertEqual((response.status, response.json["error"]["code"]), (503, "engine_stopping"))
        self.assertEqual(self.server.engine.calls, [])

    def test_too_many_channels(self) -> None:
        """Without channels a request is not served, and leaves none."""
        server = Server(channels=2)
        server.route("GET", "a")
        client = server.connect()
        client.request("GET", "/a")
        client.request("GET", "/a")
        server.call.returns({})
        self.assertEqual([each.status for each in client.responses("GET", "GET")], [200, 503])
        self.assertNothingLeft(server)


class TimeoutTests(ExchangeTestCase):
    """spec/http.md, A13."""

    def assertTimedOut(self) -> None:
        response = self.client.response()
        self.assertEqual((response.status, response.json["error"]["code"]), (504, "TIMEOUT"))
        self.assertEqual(response["access-control-allow-origin"], "*")
        self.assertNothingLeft()

    def test_timeout(self) -> None:
        """Without a response in time the client gets 504; a late result is dropped."""
        self.server.route("GET", "a")
        self.client.request("GET", "/a")
        self.server.wait(29)
        self.assertEqual(self.client.raw, b"")
        self.server.wait(2)
        self.assertTimedOut()
        self.assertTrue(self.server.call.cancelled)

    def test_never_early(self) -> None:
        """A request that comes just before the look at the clock has all of its time, too."""
        self.server.route("GET", "a")
        self.server.clock.advance(0.9)
        self.client.request("GET", "/a")
        self.server.clock.advance(0.1)
        self.server.wait(29)
        self.assertEqual(self.client.raw, b"")
        self.server.wait(1)
        self.assertTimedOut()

    def test_timeout_of_the_call(self) -> None:
        """The engine may notice first."""
        self.server.route("GET", "a")
        self.client.request("GET", "/a")
        self.server.call.fails("TIMEOUT", "f did not answer within 30 s")
        self.assertTimedOut()

    def test_upload_counts(self) -> None:
        """The time for which a JSON body is uploaded counts."""
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n")
        for _ in range(31):
            self.client.send(b" ")
            self.server.wait(1)
        self.assertTimedOut()

    def test_disconnect(self) -> None:
        """A client that goes takes its call with it."""
        self.server.route("GET", "a")
        self.client.request("GET", "/a")
        self.client.lost()
        self.assertTrue(self.server.call.cancelled)
        self.assertNothingLeft()


class ConcurrencyTests(ExchangeTestCase):
    """C{concurrency_request_limit}: so many in progress, as many waiting, then 503."""

    def setUp(self) -> None:
        self.server = Server(concurrency=2)
        self.server.route("GET", "a")
        self.clients = [self.server.connect() for _ in range(5)]
        for client in self.clients:
            client.request("GET", "/a")

    def statuses(self) -> list[int | None]:
        return [client.response().status if client.raw else None for client in self.clients]

    def test_limit(self) -> None:
        """Only so many calls are made; those that wait follow as others end."""
        self.assertEqual(len(self.server.engine.calls), 2)
        self.assertEqual(self.statuses(), [None, None, None, None, 503])
        self.server.engine.calls[1].returns({})
        self.assertEqual(len(self.server.engine.calls), 3)
        self.server.engine.calls[2].returns({})
        self.assertEqual(self.statuses(), [None, 200, 200, None, 503])

    def test_refused(self) -> None:
        """The 503 says when to come again."""
        response = self.clients[4].response()
        self.assertEqual((response["retry-after"], response.json["error"]["code"]), ("1", "worker_overloaded"))

    def test_time_after_waiting(self) -> None:
        """Who has waited has the whole time for its call."""
        self.server.wait(29)
        self.server.engine.calls[0].returns({})
        self.server.wait(29)
        self.assertEqual(self.statuses(), [200, 504, None, None, 503])

    def test_waiting_is_bounded(self) -> None:
        """Who has waited for as long as a call may take is turned away."""
        self.server.engine.calls[0].returns({})
        self.clients[0].request("GET", "/a")
        self.server.wait(32)
        self.assertEqual([each.status for each in self.clients[0].responses("GET", "GET")], [200, 503])

    def test_leaving_the_queue(self) -> None:
        """A client that goes while it waits is not called for."""
        self.clients[2].lost()
        self.server.engine.calls[0].returns({})
        self.clients[3].lost()
        self.server.engine.calls[1].returns({})
        self.assertEqual([call.cancelled for call in self.server.engine.calls], [False, False, True])
        self.assertNothingLeft()

    def test_streams_do_not_count(self) -> None:
        """A response that has begun makes room for another request."""
        writer = self.server.end_of("response", self.server.engine.calls[0])
        writer.binary(b"x")
        self.assertEqual(len(self.server.engine.calls), 3)

    def test_many_fail_at_once(self) -> None:
        """A long queue that fails as fast as it is let in does not go as deep."""
        server = Server(concurrency=3000)
        server.route("GET", "a")
        clients = [server.connect() for _ in range(6000)]
        for client in clients:
            client.request("GET", "/a")
        server.engine.at_once = lambda call: call.fails("function_not_found", "x")
        server.engine.calls[0].returns({})
        self.assertEqual(sum(client.raw.startswith(b"HTTP/1.1 500") for client in clients), 3000)


class TellingTests(ExchangeTestCase):
    """What operators learn about requests."""

    def lines(self, events: list[dict[str, object]]) -> list[str]:
        return [formatEvent(event) for event in events]

    def test_counted(self) -> None:
        """Responses are counted by route and status; those without a route together."""
        self.server.route("GET", "users/:id")
        for target, result in (("/users/1", {}), ("/users/2", {}), ("/users/3", {"status_code": 404})):
            self.client.request("GET", target)
            self.server.call.returns(result)
        self.client.request("GET", "/nowhere")
        self.client.send(b"rubbish\r\n\r\n")
        self.assertEqual(
            self.server.engine.counters.http_responses,
            {"": {404: 1, 400: 1}, "GET users/:id": {200: 2, 404: 1}},
        )

    def test_what_was_sent(self) -> None:
        """A status that cannot be sent counts as what is sent instead, and a body that is too large for its route."""
        self.server.route("POST", "a", config={"max_body_bytes": 2})
        self.client.request("POST", "/a", b"123")
        other = self.server.connect()
        other.request("POST", "/a", b"1")
        self.server.call.returns({"status_code": 150})
        self.assertEqual(self.server.engine.counters.http_responses["POST a"], {413: 1, 500: 1})

    def test_streams_counted(self) -> None:
        """A streamed response counts with its own status."""
        self.server.route("GET", "a")
        self.client.request("GET", "/a")
        writer = self.server.end_of("response")
        writer.text(type="set_status", status_code=206)
        writer.binary(b"a")
        self.assertEqual(self.server.engine.counters.http_responses, {"": {}, "GET a": {206: 1}})

    def test_bounded(self) -> None:
        """However many routes and statuses there are, the memory for counting them is bounded."""
        counters = self.server.engine.counters
        for number in range(20_000):
            counted = counters.responses_of(f"GET {number}")
            counted[200] = counted.get(200, 0) + 1
        self.assertLessEqual(len(counters.http_responses), 10_001)
        self.assertEqual(sum(counted[200] for counted in counters.http_responses.values() if counted), 20_000)

    def test_access_log(self) -> None:
        """Each request is one line: who, what without the query, and how it ended after how long."""
        self.server = Server(access_log=True)
        self.server.route("GET", "a/:id")
        events = capture(self)
        client = self.server.connect()
        client.request("GET", "/a/1?token=secret")
        self.server.clock.advance(0.25)
        self.server.call.returns({"status_code": 201})
        client.request("GET", "/b")
        client.request("GET", "/a/2")
        client.lost()
        self.assertEqual(
            self.lines(events),
            [
                "10.0.0.9:1234 GET /a/1 201 250.0 ms, route GET a/:id",
                "10.0.0.9:1234 GET /b 404 0.0 ms, route none",
                "10.0.0.9:1234 GET /a/2 - 0.0 ms, route GET a/:id, the client has gone",
            ],
        )

    def test_no_access_log(self) -> None:
        """Without that setting a request is no line."""
        self.server.route("GET", "a")
        events = capture(self)
        self.client.request("GET", "/a")
        self.server.call.returns({})
        self.assertEqual(events, [])

    def test_stack_trace(self) -> None:
        """The stack trace of a function is in the log only, and no line of it looks like another event."""
        self.server.route("GET", "a")
        events = capture(self)
        self.client.request("GET", "/a")
        self.server.call.answers_error("invocation_failed", "boom", "Traceback:\n  File \x1b[2J\nBoom")
        (line,) = self.lines(events)
        self.assertTrue(line.endswith(")\n    Traceback:\n    '  File \\x1b[2J'\n    Boom"), line)
        self.assertNotIn(b"Traceback", self.client.raw)


class ChangesTests(ExchangeTestCase):
    """Routes that come and go never disturb requests in progress (spec/http.md, A3.2)."""

    def test_route_goes(self) -> None:
        """A request whose route has gone is read to its end and answered; the next one finds no route."""
        route = self.server.route("POST", "up")
        self.client.send(b"POST /up HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
        call, reader = self.server.call, self.server.end_of("request_body")
        self.server.triggers.unregister(route)
        self.client.send(b"cdPOST /up HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        self.assertEqual((b"".join(reader.received), reader.finished), (b"abcd", True))  # type: ignore[arg-type]
        call.returns({"body": 1})
        answers = self.client.responses("POST", "POST")
        self.assertEqual([answer.status for answer in answers], [200, 404])

    def test_route_replaced(self) -> None:
        """One that was taken over meanwhile is answered by the function that was called."""
        self.server.route("GET", "a", "old")
        self.client.request("GET", "/a")
        old = self.server.call
        self.server.route("GET", "a", "new")
        self.client.request("GET", "/a")
        self.assertEqual([call.function_id for call in self.server.engine.calls], ["old", "new"])
        self.server.call.returns({"body": "new"})
        old.returns({"body": "old"})
        self.assertEqual([answer.json for answer in self.client.responses("GET", "GET")], ["old", "new"])

    def test_route_goes_in_a_stream(self) -> None:
        """A streamed response goes on, too."""
        route = self.server.route("GET", "a")
        self.client.request("GET", "/a")
        writer = self.server.end_of("response")
        writer.binary(b"one")
        self.server.triggers.unregister(route)
        writer.binary(b"two")
        writer.close()
        self.assertEqual(self.client.response().body, b"onetwo")
