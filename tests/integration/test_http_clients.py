"""
The HTTP listener and the clients that people use: curl, Node, Java, Go and a browser.

Each does the same, as far as it can, and must see the same; what only some do has tests of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.engine import EngineProcess
from tests.integration.http_worker import HttpWorker, connect
from tests.sdk.browser import PROGRAM, Browser, Pages

PROGRAMS = Path(__file__).resolve().parent / "clients"
SECONDS = 120.0  # Go compiles its library first
BINARY = bytes(number % 251 for number in range(300_000))
FILE = "".join(f"{number:05}" for number in range(1000))
TAG, MODIFIED = '"v7"', "Wed, 21 Oct 2015 07:28:00 GMT"
SEEN = {
    "get": [200, "GET", {"colour": "grün", "q": "a b"}, "yes"],
    "json": [200, {"text": "grüße"}],
    "binary": [200, [len(BINARY), hashlib.sha256(BINARY).hexdigest()]],
    "pieces": ["text/plain", "first", "second"],
    "range": [206, "bytes 100-104/5000", FILE[100:105]],
    "unchanged": [304, MODIFIED, ""],
    "missing": [404, "NOT_FOUND"],
}


class ClientCase(TestCase):
    """A test with an engine and routes for all clients."""

    timeout = 300

    async def setUp(self) -> None:
        self.engine = await EngineProcess.for_test(self, reactor)
        self.worker: HttpWorker = await connect(reactor, self.engine.worker_port)
        self.addCleanup(self.worker.close)
        self._releases = DeferredQueue()
        self.requests: list[Any] = []  # to /file and /events
        self.reported: Deferred[Any] = Deferred()
        await self.worker.serve(
            {
                **{f"{method} shown": self._shown for method in ("GET", "POST", "DELETE")},
                **{f"{method} file": self._file for method in ("GET", "HEAD")},
                "GET pieces": self._pieces,
                "POST go-on": self._going_on,
                "GET events": self._events,
                "POST report": self._report,
            }
        )

    # The handlers.

    async def _shown(self, request: Any) -> Any:
        """Say what the request was."""
        data = await self.worker.body(request) if request["method"] == "POST" else b""
        shown = {
            "method": request["method"],
            "query": request["query_params"],
            "custom": request["headers"].get("x-custom"),
            "body": request["body"],
            "bytes": [len(data), hashlib.sha256(data).hexdigest()],
        }
        return {"status_code": 200, "body": shown}

    async def _file(self, request: Any) -> Any:
        """A file with a tag, of which a range may be asked for.  Ranges are written to the channel."""
        self.requests.append(request)
        headers = {"etag": TAG, "last-modified": MODIFIED, "content-type": "text/plain"}
        asked = request["headers"]
        if asked.get("if-none-match") == TAG or asked.get("if-modified-since") == MODIFIED:
            return {"status_code": 304, "headers": headers}
        if "range" not in asked:
            return {"status_code": 200, "headers": headers, "body": FILE}
        first, last = map(int, asked["range"].removeprefix("bytes=").split("-"))
        found = FILE[first : last + 1].encode()
        headers |= {"content-range": f"bytes {first}-{last}/{len(FILE)}", "content-length": str(len(found))}
        response = await self.worker.response(request, headers, 206)
        response.write(found)
        await response.close()
        return None

    async def _pieces(self, request: Any) -> None:
        """Write one piece, and another one when the client has asked for that."""
        response = await self.worker.response(request, {"content-type": "text/plain"})
        response.write(b"first")
        await self._releases.get()
        response.write(b"second")
        await response.close()

    async def _events(self, request: Any) -> None:
        """Write two events, each when the client has the one before, and end."""
        self.requests.append(request)
        last = int(request["headers"].get("last-event-id", "0"))
        response = await self.worker.response(
            request, {"content-type": "text/event-stream", "cache-control": "no-cache"}
        )
        response.write(b"retry: 10\n\n")
        for number in (last + 1, last + 2):
            response.write(f"id: {number}\ndata: event {number}\n\n".encode())
            await self._releases.get()
        await response.close()

    async def _going_on(self, request: Any) -> Any:
        self._releases.put(None)
        return {"status_code": 204}

    async def _report(self, request: Any) -> Any:
        self.reported.callback(request["body"])
        return {"status_code": 204}

    # The clients.

    async def run_client(self, *command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end, in a directory of its own."""
        program = shutil.which(command[0])
        if program is None:
            raise SkipTest(f"not installed: {command[0]}")
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        return await threads.deferToThread(
            subprocess.run,
            [program, *command[1:]],
            cwd=directory,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )


class CurlTests(ClientCase):
    async def curl(self, *arguments: str) -> str:
        """Run curl and return what it prints."""
        ended = await self.run_client("curl", "--silent", "--show-error", "--max-time", "20", *arguments)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        return ended.stdout.decode()

    def url(self, path: str) -> str:
        return f"{self.engine.http_url}/{path}"

    async def test_request_object(self) -> None:
        """A handler gets what the contract names and what we add, and no mark of a calling worker."""
        await self.curl(self.url("file?a=b"))
        (request,) = self.requests
        contract = {"query_params", "path_params", "headers", "path", "method", "body", "trigger"}
        self.assertEqual(set(request), contract | {"request_body", "response", "decoded_path_params"})

    async def test_keep_alive(self) -> None:
        """Several requests go over one connection, also behind one whose response was streamed."""
        urls = (self.url("shown?n=1"), self.url("file"), self.url("shown?n=2"))
        said = await self.curl("--range", "0-4", "--write-out", "\n%{http_code} %{num_connects}\n", *urls)
        self.assertEqual(said.splitlines()[1::2], ["200 1", "206 0", "200 0"])

    async def test_http10(self) -> None:
        """A client of HTTP/1.0 gets a streamed response that ends with the connection."""
        running = Deferred.fromCoroutine(self.curl("--http1.0", "--include", "--no-buffer", self.url("pieces")))
        await self.curl("--retry", "0", "--request", "POST", self.url("go-on"))
        head, _, body = (await running).partition("\r\n\r\n")
        self.assertEqual(body, "firstsecond")
        self.assertIn("\r\nconnection: close", head)
        self.assertNotIn("transfer-encoding", head)

    async def test_chunked_upload(self) -> None:
        """A body in chunks reaches the handler whole."""
        chunked = ("--header", "Transfer-Encoding: chunked", "--header", "Content-Type: application/octet-stream")
        said = await self.curl(*chunked, "--data-binary", f"@{self._body()}", self.url("shown"))
        self.assertEqual(json.loads(said)["bytes"], SEEN["binary"][1])

    async def test_expect(self) -> None:
        """curl is told to go on before it sends a large body, and not when there is no route for it."""
        expect = ("--include", "--header", "Expect: 100-continue", "--expect100-timeout", "15")
        data = ("--header", "Content-Type: application/octet-stream", "--data-binary", f"@{self._body()}")
        said = await self.curl(*expect, *data, self.url("shown"))
        self.assertTrue(said.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), said[:100])
        said = await self.curl(*expect, *data, self.url("nowhere"))
        self.assertTrue(said.startswith("HTTP/1.1 404 Not Found\r\n"), said[:100])

    async def test_head(self) -> None:
        """HEAD brings the head of the route that is registered for it, and no body."""
        said = await self.curl("--head", self.url("file"))
        self.assertTrue(said.startswith("HTTP/1.1 200 OK\r\n"), said)
        self.assertIn(f"\r\ncontent-length: {len(FILE)}\r\n", said)
        self.assertIn(f"\r\netag: {TAG}\r\n", said)

    async def test_range(self) -> None:
        """C{Range} and C{If-Range} reach the handler, and 206 with its headers comes back as it was given."""
        said = await self.curl("--include", "--range", "100-104", "--header", f"If-Range: {TAG}", self.url("file"))
        head, _, body = said.partition("\r\n\r\n")
        self.assertEqual(body, FILE[100:105])
        self.assertTrue(head.startswith("HTTP/1.1 206 Partial Content\r\n"), head)
        lines = head.split("\r\n")
        for line in ("content-range: bytes 100-104/5000", "content-length: 5", f"etag: {TAG}"):
            self.assertIn(line, lines)
        headers = self.requests[0]["headers"]
        self.assertEqual((headers["range"], headers["if-range"]), ("bytes=100-104", TAG))

    async def test_unchanged(self) -> None:
        """C{If-None-Match} and C{If-Modified-Since} reach the handler, and its 304 has no body and no length."""
        for header in (f"If-None-Match: {TAG}", f"If-Modified-Since: {MODIFIED}"):
            said = await self.curl("--include", "--header", header, self.url("file"))
            head, _, body = said.partition("\r\n\r\n")
            self.assertEqual(body, "")
            self.assertTrue(head.startswith("HTTP/1.1 304 Not Modified\r\n"), head)
            lines = head.split("\r\n")
            self.assertIn(f"etag: {TAG}", lines)
            self.assertIn(f"last-modified: {MODIFIED}", lines)
            self.assertNotIn("content-length", head)

    async def test_upgrade(self) -> None:
        """A client that asks for HTTP/2 in its first request stays with HTTP/1.1, also with a body."""
        data = ("--header", "Content-Type: application/octet-stream", "--data-binary", f"@{self._body()}")
        url = self.url("shown")
        said = await self.curl("--http2", *data, "--write-out", "\n%{http_version} %{num_connects}\n", url, url)
        lines = said.splitlines()
        self.assertEqual([json.loads(line)["bytes"] for line in lines[::2]], [SEEN["binary"][1]] * 2)
        self.assertEqual(lines[1::2], ["1.1 1", "1.1 0"])

    def _body(self) -> Path:
        path = Path(self.mktemp()).resolve()
        path.write_bytes(BINARY)
        return path


class LanguageTests(ClientCase):
    """The clients of three languages."""

    async def _sees(self, *command: str, **variables: str) -> dict[str, Any]:
        ended = await self.run_client(*command, self.engine.http_url, **variables)
        self.assertEqual(ended.returncode, 0, ended.stderr.decode())
        seen: dict[str, Any] = json.loads(ended.stdout)
        return seen

    async def test_node(self) -> None:
        """Node's C{fetch}."""
        seen = await self._sees("node", str(PROGRAMS / "client.mjs"))
        self.assertEqual(seen, {**SEEN, "ended": True})

    async def test_java(self) -> None:
        """Java's C{HttpClient}, which asks for h2c, also in requests with a body."""
        self.assertEqual(_short(await self._sees("java", str(PROGRAMS / "Client.java"))), SEEN)

    async def test_go(self) -> None:
        """Go's default client; it sends a body in chunks, when it is told to."""
        variables = {"GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
        self.assertEqual(_short(await self._sees("go", "run", str(PROGRAMS / "client.go"), **variables)), SEEN)


def _short(seen: dict[str, Any]) -> dict[str, Any]:
    """Pick out of whole JSON answers what the other clients say."""
    short = dict(seen)
    status, shown = seen["get"]
    short["get"] = [status, shown["method"], shown["query"], shown["custom"]]
    short["json"] = [seen["json"][0], seen["json"][1]["body"]]
    short["binary"] = [seen["binary"][0], seen["binary"][1]["bytes"]]
    short["missing"] = [seen["missing"][0], seen["missing"][1]["error"]["code"]]
    return short


class BrowserTests(ClientCase):
    """A page of another origin, in Chromium."""

    async def setUp(self) -> None:
        if shutil.which(PROGRAM) is None:
            raise SkipTest(f"not installed: {PROGRAM}")
        await super().setUp()

    async def test_page(self) -> None:
        """
        C{fetch} with and without a preflight request, JSON and binary bodies, responses read piece by piece, and an
        C{EventSource} that gets its events one by one and comes back for the rest with the id of the last.
        """
        programs = "".join((PROGRAMS / name).read_text() for name in ("page.mjs", "client.mjs"))
        pages = Pages(reactor, f"<!doctype html><meta charset=utf-8><script type=module>{programs}</script>".encode())
        self.addCleanup(pages.remove)
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        browser = Browser(reactor, directory / "browser.log")
        browser.open(pages.origin(), self.engine.http_url, "page")
        self.addCleanup(browser.close)
        self.reported.addTimeout(60, reactor)
        seen = await self.reported
        events = [[f"event {number}", str(number)] for number in (1, 2, 3, 4)]
        only = {"events": events, "opened": 2, "preflighted": ["DELETE", "preflighted"], "origin": pages.origin()}
        self.assertEqual(seen, {**SEEN, "ended": True, **only})
        asked = [request["headers"] for request in self.requests if request["path"] == "events"]
        self.assertEqual([headers.get("last-event-id") for headers in asked], [None, "2"])
        self.assertEqual({headers["origin"] for headers in asked}, {pages.origin()})
