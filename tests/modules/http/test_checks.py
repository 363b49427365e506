"""Tests for middleware and conditions: L{iii.modules.http.checks} and how an exchange goes through them."""

from __future__ import annotations

import json
from typing import Any

from iii.modules.http.checks import Middleware
from tests.core.case import PARENT
from tests.core.fakes import capture, connect, make_engine
from tests.modules.http.fakes import Client, Invocation, Response, Server
from tests.modules.http.test_exchange import ExchangeTestCase

CONTINUE = {"action": "continue"}


class ChecksTestCase(ExchangeTestCase):
    def get(self, config: dict[str, Any], target: str = "/a", **headers: str) -> None:
        """Send a request to a route with this config."""
        self.server.route("GET", "a", config=config)
        self.client.request("GET", target, **headers)

    def asked(self) -> list[str]:
        """The functions that were called, in order."""
        return [call.function_id for call in self.server.engine.calls]

    def answer_to(self, result: Any, **config: Any) -> Response:
        """Return the answer to the client when the only check returns this."""
        self.setUp()
        self.get(config)
        self.server.call.returns(result)
        response = self.client.response()
        self.assertNothingLeft()
        return response


class MiddlewareTests(ChecksTestCase):
    """spec/http.md, A9."""

    config = {"middleware_function_ids": ["m"]}

    def answered(self, response: Any) -> Response:
        return self.answer_to({"action": "respond", "response": response}, **self.config)

    def test_input(self) -> None:
        """It gets the request without its body, and the route's path; no channels, no metadata."""
        self.server.route("POST", "users/:id", config=self.config, namespace="tenant")
        self.client.request("POST", "/users/4%2F2?a=1", b"{}", x_api_key="k", content_type="application/json")
        data = self.server.call.data
        self.assertEqual(
            data,
            {
                "phase": "preHandler",
                "request": {
                    "path_params": {"id": "4%2F2"},
                    "decoded_path_params": {"id": "4/2"},
                    "query_params": {"a": "1"},
                    "headers": {
                        "host": "test", "x-api-key": "k", "content-type": "application/json", "content-length": "2",
                    },
                    "method": "POST",
                    "path": "users/:id",
                },
                "context": {},
            },
        )  # fmt: skip
        self.assertEqual(self.server.call.options["namespace"], "tenant")
        self.assertEqual(bytes(self.server.call.options["metadata"]), b"")

    def test_trace(self) -> None:
        """The trace context goes with the call."""
        self.get(self.config, traceparent=PARENT, baggage="k=v")
        options = self.server.call.options
        self.assertEqual((options["traceparent"], options["baggage"]), (PARENT, "k=v,iii.function.id=m"))

    def test_continue(self) -> None:
        """C{continue} lets the next one be asked, in the order of the list, and the handler in the end."""
        self.get({"middleware_function_ids": ["m", "n"]})
        for function_id in ("m", "n"):
            self.assertEqual(self.server.call.function_id, function_id)
            self.server.call.returns(CONTINUE)
        self.assertEqual(self.asked(), ["m", "n", "f"])
        self.server.call.returns({"body": "done"})
        self.assertEqual(self.client.response().json, "done")
        self.assertNothingLeft()

    def test_respond(self) -> None:
        """C{respond} answers, and nothing further runs."""
        response = self.answered({"status_code": 401, "body": {"no": "entry"}, "headers": {"X-A": "b"}})
        self.assertEqual((response.status, response.json, response["x-a"]), (401, {"no": "entry"}, "b"))
        self.assertEqual(response["content-type"], "application/json")
        self.assertEqual(response["access-control-allow-origin"], "*")
        self.assertEqual(self.asked(), ["m"])

    def test_respond_defaults(self) -> None:
        """Without a response, or with what is none, it is 200 and null."""
        for given in (None, {}, "text", [1], {"status_code": "401"}, {"status_code": 401.5}, {"status_code": -1}):
            response = self.answered(given)
            self.assertEqual((response.status, response.body), (200, b"null"), given)
            self.assertEqual(response["content-type"], "application/json")
        response = self.answer_to({"action": "respond"}, **self.config)
        self.assertEqual((response.status, response.body), (200, b"null"))

    def test_respond_text(self) -> None:
        """A text is JSON, too, also with another type."""
        for headers, kind in (({}, "application/json"), ({"Content-Type": "text/plain"}, "text/plain")):
            response = self.answered({"body": "text", "headers": headers})
            self.assertEqual((response.body, response["content-type"]), (b'"text"', kind))

    def test_respond_headers(self) -> None:
        """Headers are an object of texts; if any is none, or it is a list, none of them counts."""
        for headers in ({"a": "1", "b": 2}, ["a: 1"], "a: 1", 5):
            response = self.answered({"headers": headers})
            self.assertEqual((response["a"], response["content-type"]), (None, "application/json"))

    def test_respond_equal_headers(self) -> None:
        """Of names that differ in case alone the last one is sent: two content types would be no response."""
        response = self.answered({"headers": {"Content-Type": "text/plain", "content-type": "text/html"}})
        self.assertEqual([value for name, value in response.headers if name == "content-type"], ["text/html"])

    def test_malformed(self) -> None:
        """What is neither C{continue} nor C{respond} lets the request go on, with a warning that names both ends."""
        for result in ({}, {"action": "stop"}, {"action": 1}, None, [], "continue", 7, True):
            self.setUp()
            events = capture(self)
            self.get(self.config)
            self.server.call.returns(result)
            self.assertEqual(self.asked(), ["m", "f"], result)
            (warning,) = (event for event in events if "neither" in str(event["log_format"]))
            self.assertEqual((warning["function"], warning["route"]), ("m", "GET a"))

    def test_nothing_returned(self) -> None:
        """Likewise without any result."""
        self.get(self.config)
        self.server.call.returns_raw(b"")
        self.assertEqual(self.asked(), ["m", "f"])

    def test_error(self) -> None:
        """An error answers with its code and message, and nothing further runs."""
        self.get(self.config)
        self.server.call.answers_error("denied", "not you")
        response = self.client.response()
        error = response.json["error"]
        self.assertEqual((response.status, error["code"], error["message"]), (500, "denied", "not you"))
        self.assertEqual(len(error["error_id"]), 12)
        self.assertEqual(self.asked(), ["m"])
        self.assertNothingLeft()

    def test_missing(self) -> None:
        """So does one that nobody serves, or whose worker goes."""
        for code, message in (
            ("function_not_found", "Function m not found in namespace default"),
            ("invocation_stopped", "Invocation stopped"),
        ):
            self.setUp()
            self.get(self.config)
            self.server.call.fails(code, message)
            response = self.client.response()
            self.assertEqual((response.status, response.json["error"]["code"]), (500, code))
            self.assertEqual(response.json["error"]["message"], message)

    def test_timeout(self) -> None:
        """One that does not answer in time is named as the reason, whoever notices first."""
        for notice in (lambda: self.server.wait(31), lambda: self.server.call.fails("TIMEOUT", "late")):
            self.setUp()
            self.get(self.config)
            notice()
            response = self.client.response()
            self.assertEqual((response.status, response.json["error"]["code"]), (504, "MIDDLEWARE_TIMEOUT"))
            self.assertEqual(self.asked(), ["m"])
            self.assertNothingLeft()

    def test_client_gone(self) -> None:
        """When the client has gone, nobody else is asked."""
        self.get(self.config)
        self.client.lost()
        self.server.call.returns(CONTINUE)
        self.assertEqual(self.asked(), ["m"])
        self.assertNothingLeft()

    def test_many_at_once(self) -> None:
        """Functions that answer at once are asked one after the other."""
        self.server.engine.at_once = lambda call: call.returns(CONTINUE if call.function_id != "f" else {"body": 1})
        self.get({"middleware_function_ids": [f"m{number}" for number in range(100)]})
        self.assertEqual(len(self.asked()), 101)
        self.assertEqual(self.client.response().json, 1)

    def test_unmatched(self) -> None:
        """Where there is no route, nothing is asked."""
        self.server.route("GET", "a", config=self.config)
        for method, target in (("GET", "/b"), ("POST", "/a"), ("OPTIONS", "/a")):
            self.server.connect().request(method, target)
        self.assertEqual(self.asked(), [])


class ConditionTests(ChecksTestCase):
    """spec/http.md, A10."""

    config = {"condition_function_id": "c"}

    def test_input(self) -> None:
        """It gets what the handler gets, but the channels."""
        self.server.route("POST", "a/:id", config=self.config)
        self.client.request("POST", "/a/1?q=2", b'{"n":1}', content_type="application/json")
        asked = self.server.call.data
        self.server.call.returns(True)
        handed = dict(self.server.call.data)
        self.assertEqual(asked["body"], {"n": 1})
        self.assertEqual({*handed} - {*asked}, {"request_body", "response"})
        self.assertEqual(asked, {name: handed[name] for name in asked})

    def test_false(self) -> None:
        """C{false} gives 422."""
        response = self.answer_to(False, **self.config)
        self.assertEqual(response.status, 422)
        self.assertEqual(
            response.json,
            {"error": {"code": "CONDITION_NOT_MET", "message": "Request condition not met"}, "skipped": True},
        )
        self.assertEqual(self.asked(), ["c"])

    def test_others(self) -> None:
        """Anything else passes."""
        for result in (True, None, 0, "", "false", [], {}, {"a": False}):
            self.setUp()
            self.get(self.config)
            self.server.call.returns(result)
            self.assertEqual(self.asked(), ["c", "f"], result)

    def test_first(self) -> None:
        """It is asked before middleware."""
        self.get({"middleware_function_ids": ["m"], **self.config})
        self.server.call.returns(None)
        self.server.call.returns(CONTINUE)
        self.assertEqual(self.asked(), ["c", "m", "f"])

    def test_error(self) -> None:
        """An error, or a missing function, gives 500."""
        self.get({"condition_function_id": ""})
        self.assertEqual(self.asked(), [""])
        self.server.call.fails("function_not_found", "Function  not found in namespace default")
        response = self.client.response()
        self.assertEqual((response.status, response.json["error"]["code"]), (500, "function_not_found"))

    def test_timeout(self) -> None:
        """One that does not answer in time ends the request."""
        self.get(self.config)
        self.server.wait(31)
        response = self.client.response()
        self.assertEqual((response.status, response.json["error"]["code"]), (504, "TIMEOUT"))
        self.assertIn("condition", response.json["error"]["message"])


class GlobalMiddlewareTests(ChecksTestCase):
    """spec/http.md, A4 and A9."""

    def setUp(self) -> None:
        self.server = Server(middleware=[Middleware("g", True), Middleware("h", True)], concurrency=1)
        self.client = self.server.connect()

    def pass_all(self) -> None:
        for name in ("g", "h"):
            self.assertEqual(self.server.call.function_id, name)
            self.server.call.returns(CONTINUE)

    def test_order(self) -> None:
        """It is asked first, then condition and middleware of the route."""
        self.get({"middleware_function_ids": ["m"], "condition_function_id": "c"})
        self.pass_all()
        self.server.call.returns(None)
        self.server.call.returns(CONTINUE)
        self.assertEqual(self.asked(), ["g", "h", "c", "m", "f"])
        self.server.call.returns({"body": 1})
        self.assertEqual(self.client.response().json, 1)
        self.assertNothingLeft()

    def test_before_the_body(self) -> None:
        """It is asked before the body is read; one that is turned away need not be sent."""
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        self.assertEqual((self.client.raw, self.asked()), (b"", ["g"]))
        self.server.call.returns({"action": "respond", "response": {"status_code": 401}})
        response = self.client.response("POST")
        self.assertEqual((response.status, response["connection"]), (401, "close"))

    def test_continue_after(self) -> None:
        """A client that waits for it is told to go on when all have let the request in."""
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        self.pass_all()
        self.assertTrue(self.client.raw.startswith(b"HTTP/1.1 100 "))
        reader = self.server.end_of("request_body")
        self.client.send(b"12345")
        self.assertEqual((reader.received, reader.finished), ([b"12345"], True))

    def test_body_waits(self) -> None:
        """Of a body that comes meanwhile nothing is lost, and little is read."""
        for kind in ("application/json", "text/plain"):
            self.setUp()
            self.server.route("POST", "a")
            head = f"POST /a HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 7\r\n\r\n"
            self.client.send(head.encode() + b'{"a')
            self.assertFalse(self.client.transport.reading, kind)
            self.pass_all()
            self.assertTrue(self.client.transport.reading, kind)
            self.client.send(b'":1}')
            data = self.server.call.data
            self.assertEqual(data["body"], {"a": 1} if kind == "application/json" else None)
            reader = self.server.end_of("request_body")
            self.assertEqual((b"".join(reader.received), reader.finished), (b'{"a":1}', True))  # type: ignore[arg-type]
            self.server.call.returns({})
            self.assertNothingLeft()

    def test_chunks_meanwhile(self) -> None:
        """Also when all of it is there before the first answer."""
        for kind in ("application/json", "text/plain"):
            self.setUp()
            self.server.route("POST", "a")
            head = f"POST /a HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
            self.client.send(head.encode() + b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n')
            self.pass_all()
            self.assertEqual(self.server.call.data["body"], {"a": 1} if kind == "application/json" else None)
            reader = self.server.end_of("request_body")
            self.assertEqual((b"".join(reader.received), reader.finished), (b'{"a":1}', True))  # type: ignore[arg-type]

    def test_pipelined(self) -> None:
        """What follows a request that was turned away is read."""
        self.server.route("POST", "a")
        request = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n"
        self.client.send(request + b"1")
        self.server.call.returns({"action": "respond", "response": {"status_code": 403}})
        self.client.send(b"2" + request + b"34")
        self.server.call.returns({"action": "respond", "response": {"status_code": 404}})
        self.assertEqual([response.status for response in self.client.responses("POST", "POST")], [403, 404])

    def test_read_on(self) -> None:
        """However a request ends whose body has not come, the connection reads on, for the next one is behind it."""
        turned_away = {"action": "respond", "response": {"status_code": 403}}
        for end, status in (
            (lambda: self.server.call.returns(turned_away), 403),
            (lambda: self.server.call.fails("broken", ""), 500),
            (lambda: self.server.wait(31), 504),
        ):
            self.setUp()
            self.server.route("POST", "a")
            self.client.send(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n1")
            self.assertFalse(self.client.transport.reading)
            end()
            self.assertEqual(self.client.response("POST").status, status)
            self.assertTrue(self.client.transport.reading, status)

    def test_slow_body_keeps_nobody_out(self) -> None:
        """While the body of a request that was let in is awaited, others are served: one place is enough for both."""
        self.server.route("POST", "a")
        self.client.send(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n1")
        self.pass_all()
        self.assertEqual(self.server.site.gate.free, 1)
        other: Client = self.server.connect()
        other.request("POST", "/a", b"2", content_type="application/json")
        self.pass_all()
        self.server.call.returns({"body": "quick"})
        self.assertEqual(other.response("POST").json, "quick")

    def test_namespace(self) -> None:
        """It is looked for in the route's namespace, then in the default one."""
        engine = make_engine(self.server.clock)
        self.server.engine.functions = engine.functions
        connect(engine, namespace="tenant").register("g")
        self.server.route("GET", "a", namespace="tenant")
        self.client.request("GET", "/a")
        self.assertEqual(self.server.call.options["namespace"], "tenant")
        self.server.call.returns(CONTINUE)
        self.assertEqual((self.server.call.function_id, self.server.call.options["namespace"]), ("h", "default"))

    def test_waits_for_its_turn(self) -> None:
        """Asking counts as work in progress."""
        self.server.route("GET", "a")
        self.client.request("GET", "/a")
        first: Invocation = self.server.call
        other = self.server.connect()
        other.request("GET", "/a")
        self.assertEqual(self.asked(), ["g"])
        first.returns({"action": "respond", "response": {"body": 1}})
        self.assertEqual(self.asked(), ["g", "g"])

    def test_keeps_its_place(self) -> None:
        """Who was let in comes before those that still wait to be asked, or the work already done would be in vain."""
        for body in (None, b"1"):
            self.setUp()
            self.server.route("POST", "a")
            self.client.request("POST", "/a", body)
            other: Client = self.server.connect()
            other.request("POST", "/a", body)
            self.pass_all()
            self.assertEqual(self.asked(), ["g", "h", "f"])
            self.server.call.returns({})
            self.assertEqual(self.asked(), ["g", "h", "f", "g"])


class OwnLimitsTests(ChecksTestCase):
    def test_timeout(self) -> None:
        """A route's own time counts, and goes with the call."""
        self.get({"timeout_ms": 2000})
        self.assertEqual(self.server.call.options["timeout"], 2.0)
        self.server.wait(3)
        response = self.client.response()
        self.assertEqual((response.status, response.json["error"]["message"]), (504, "no response within 2 s"))

    def test_smaller_bodies(self) -> None:
        """A route may take less than the listener, known length or not."""
        self.server.route("POST", "a", config={"max_body_bytes": 3})
        self.client.request("POST", "/a", b"1234")
        self.assertEqual(self.client.response("POST").status, 413)
        chunked = self.server.connect()
        chunked.send(b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\n1234\r\n")
        self.assertEqual(chunked.response("POST").status, 413)

    def test_larger_bodies(self) -> None:
        """Or more; of JSON, which becomes one message, not more than a message may have."""
        self.server = Server(http_body_bytes=10, message_bytes=100)
        self.server.route("POST", "a", config={"max_body_bytes": 1000})
        for size, kind, status in (
            (1000, "text/plain", None), (1001, "text/plain", 413),
            (100, "application/json", None), (101, "application/json", 413),
        ):  # fmt: skip
            client = self.server.connect()
            client.request("POST", "/a", json.dumps("x" * (size - 2)).encode(), content_type=kind)
            if status is None:
                self.assertEqual(client.raw, b"")
            else:
                self.assertEqual(client.response("POST").status, status)
