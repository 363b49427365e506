"""HTTP requests answered by workers: by plain handlers, and by handlers in the SDKs' C{http()} helper."""

from __future__ import annotations

import hashlib
import os

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.integration.engine import HOST
from tests.sdk.contract import Needs, OneSdk, needs, on_each_sdk
from tests.sdk.sdk import MIB, Ability


class Reading(Protocol):
    """A raw HTTP client which waits for text in what it has received."""

    def __init__(self) -> None:
        self._received = b""
        self._awaited = b""
        self._found: Deferred[None] | None = None
        self._lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if self._found is not None and self._awaited in self._received:
            found, self._found = self._found, None
            found.callback(None)

    def connectionLost(self, reason: object) -> None:
        self._lost.callback(None)

    async def until(self, text: bytes) -> bytes:
        """Wait for C{text} and return all that has come."""
        if text not in self._received:
            self._awaited, self._found = text, Deferred()
            await self._found.addTimeout(10, reactor)
        return self._received

    async def leave(self) -> None:
        """Break the connection off, unless it is over."""
        self.transport.abortConnection()
        await self._lost


class PlainHandlersContract(OneSdk):
    async def test_get(self) -> None:
        """The request object of a GET: method, registered path, parameters of path and query, headers, no body."""
        path = f"/{self.worker.name}/answer/42/parts/7?colour=gr%C3%BCn&colour=blue&q=a+b&flag"
        response = await self.request("GET", path, headers={"X-Token": "secret"})
        said = await response.json()
        self.assertEqual(said["headers"].pop("x-token"), "secret")
        del said["headers"]
        expected = {
            "method": "GET",
            "path": f"/{self.worker.name}/answer/:id/parts/:part",
            "path_params": {"id": "42", "part": "7"},
            "query_params": {"colour": "blue", "q": "a b", "flag": ""},
            "body": None,
        }
        self.assertEqual(said, expected)

    async def test_post_json(self) -> None:
        """A JSON body is parsed for the handler, whose status, headers and body are the answer."""
        sent = {"name": "Zoë", "tags": ["a", {"b": None}], "n": 1.5}
        response = await self.request("POST", f"/{self.worker.name}/answer", json=sent)
        self.assertEqual(response.code, 201)
        self.assertEqual(response.headers.getRawHeaders("x-worker"), [self.worker.name])
        self.assertEqual(response.headers.getRawHeaders("content-type"), ["application/json"])
        self.assertEqual((await response.json())["body"], sent)

    async def test_unreadable_json(self) -> None:
        """What not every SDK could read in a message is no JSON to any: its handler is called with null."""
        for body in (b"[" * 126 + b"]" * 126, rb'["\ud800"]'):
            response = await self.request(
                "POST", f"/{self.worker.name}/answer", data=body, headers={"content-type": "application/json"}
            )
            self.assertEqual((response.code, (await response.json())["body"]), (201, None))

    async def test_error(self) -> None:
        """A handler that raises is a 500 with code and message, and without the stack trace."""
        response = await self.request("GET", f"/{self.worker.name}/fail")
        text = await response.text()
        self.assertEqual(response.code, 500)
        error = (await response.json())["error"]
        self.assertEqual(
            (error["code"], error["message"]), ("invocation_failed", f"{self.sdk.error_prefix}failed as told")
        )
        self.assertRegex(error["error_id"], r"^[0-9a-f]{1,12}$")
        self.assertNotIn("worker.", text)

    async def test_unregistered_route(self) -> None:
        """A route is there after its trigger was registered and gone after that was unregistered."""
        route = f"/{self.unique('route')}"
        config = {"api_path": route, "http_method": "GET"}
        await self.worker.do(
            "register_trigger", key=route, type="http", function_id=self.worker.id("answer"), config=config
        )
        await self.eventually("the route answers", lambda: self._answers(route, 201))
        await self.worker.do("unregister", key=route)
        await self.eventually("the route is gone", lambda: self._answers(route, 404))

    async def _answers(self, route: str, code: int) -> bool:
        response = await self.request("GET", route)
        await response.content()
        return response.code == code


class HttpHelperContract(OneSdk):
    common_needs = Needs((Ability.HTTP_HELPER,))

    async def test_answer_written(self) -> None:
        """Status, headers and body that the handler writes are the answer; it reads the request's body as sent."""
        body, json = b'{"a" :  1}', {"content-type": "application/json"}
        response = await self.request("POST", self._path("upload"), data=body, headers=json)
        self.assertEqual(response.code, 202)
        self.assertEqual(response.headers.getRawHeaders("x-worker"), [self.worker.name])
        self.assertEqual(response.headers.getRawHeaders("content-type"), ["text/plain"])
        self.assertEqual(await response.text(), f"{len(body)} {hashlib.sha256(body).hexdigest()}")

    async def test_no_body(self) -> None:
        """A request without a body has an empty one to read."""
        response = await self.request("POST", self._path("upload"))
        self.assertEqual(await response.text(), f"0 {hashlib.sha256(b'').hexdigest()}")

    async def test_large_body(self) -> None:
        """A large binary body reaches the handler complete and in order."""
        body = os.urandom(5 * MIB)
        response = await self.request("POST", self._path("upload"), data=body)
        self.assertEqual(await response.text(), f"{len(body)} {hashlib.sha256(body).hexdigest()}")

    async def test_pieces(self) -> None:
        """A piece that the handler writes goes out at once, while it still works on the next."""
        gate = self.unique("gate")
        client = await self._send("pieces", gate)
        head = await client.until(b"first")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
        self.assertIn(b"text/event-stream", head)
        self.assertNotIn(b"second", head)
        await self.worker.do("open_gate", gate=gate)
        await client.until(b"second")

    async def test_no_content(self) -> None:
        """A handler that sets a status and closes has answered, without a body."""
        response = await self.request("POST", self._path("no_content"))
        self.assertEqual((response.code, await response.content()), (204, b""))

    async def test_value(self) -> None:
        """A handler may return its answer instead, and finds a JSON body parsed."""
        response = await self.request("POST", self._path("value"), json=[1, 2])
        self.assertEqual((response.code, await response.json()), (203, {"parsed": [1, 2]}))

    async def test_client_leaves_early(self) -> None:
        """A client that is gone before the handler opens the response does not cost the worker its process."""
        gate = self.unique("gate")
        client = await self._send("late", gate)
        await self.eventually("the handler waits", lambda: self.worker.received(gate))
        await client.leave()
        await self.worker.do("open_gate", gate=gate)
        await self.eventually("the handler is done", lambda: self._is_done(gate))
        await self._works_on()

    @needs(Ability.BROKEN_CHANNELS)
    async def test_client_leaves_midway(self) -> None:
        """A client that is gone in the middle of the response does not cost the worker its process."""
        gate = self.unique("gate")
        client = await self._send("pieces", gate)
        await client.until(b"first")
        await client.leave()
        await self.worker.do("open_gate", gate=gate)
        await self.eventually("the handler is done", lambda: self._is_done(gate))
        await self._works_on()

    def _path(self, function: str) -> str:
        return f"/{self.worker.name}/{function}"

    async def _send(self, function: str, gate: str) -> Reading:
        """Send a POST which one can leave."""
        endpoint = TCP4ClientEndpoint(reactor, HOST, self.engine.http_port)
        client: Reading = await endpoint.connect(Factory.forProtocol(Reading))
        self.addCleanup(client.leave)
        target = f"{self._path(function)}?gate={gate}"
        client.transport.write(f"POST {target} HTTP/1.1\r\nHost: tests\r\nContent-Length: 0\r\n\r\n".encode())
        return client

    async def _is_done(self, gate: str) -> bool:
        return "done" in await self.worker.received(gate)

    async def _works_on(self) -> None:
        """The worker still answers HTTP requests, in the same process."""
        for _ in range(3):
            response = await self.request("POST", self._path("upload"), data=b"again")
            self.assertEqual(await treq.text_content(response), f"5 {hashlib.sha256(b'again').hexdigest()}")
        self.worker.worker.check()


globals().update(on_each_sdk(PlainHandlersContract), **on_each_sdk(HttpHelperContract))
