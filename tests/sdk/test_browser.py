"""A page in a real browser that connects as a worker, beside a worker on the Python SDK."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest import skipUnless

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.integration.engine import HOST, EngineProcess
from tests.sdk.browser import FOREIGN_HOST, PROGRAM, Browser, Pages
from tests.sdk.cable import Cable
from tests.sdk.client import RemoteError
from tests.sdk.contract import Contract, Handle
from tests.sdk.environments import NEWEST
from tests.sdk.test_calls import VALUES

TEXT = "grüße, 你好, 🙂\n" * 50_000  # 1.1 MB in UTF-8
RETURN_SECONDS = 25.0
PYTHON = NEWEST[0]
INSTALLED = shutil.which(PROGRAM) is not None


class BrowserContract(Contract):
    """A test with an engine, and browsers with a page that is joined to it by a cable."""

    @property
    def engine(self) -> EngineProcess:
        return self._engine

    async def start_engine(self, settings: dict[str, Any] | None = None) -> None:
        self._engine = await EngineProcess.for_test(self, reactor, settings=settings)
        self.client = await self.connect(self._engine)
        self.cable = Cable(reactor, self._engine.worker_port)
        self.addCleanup(self.cable.remove)

    def serve_page(self, host: str = HOST) -> str:
        """Return the origin of the page on this host."""
        pages = Pages(reactor)
        self.addCleanup(pages.remove)
        return pages.origin(host)

    def open_page(self, origin: str, name: str) -> Browser:
        """Start a browser that ends with the test.  The functions of its page begin with this name."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        browser = Browser(reactor, directory / "browser.log")
        browser.open(origin, self.cable.url, name)
        self.addCleanup(browser.close)
        return browser

    async def ready(self, name: str) -> None:
        """Wait until the page can be called."""

        async def answers() -> bool:
            return bool(await self.client.call(f"{name}::echo", [1]) == [1])

        await self.eventually(f"{name} can be called", answers, RETURN_SECONDS, ignoring=(RemoteError,))

    async def about(self) -> Any:
        """Return what the page says of itself."""
        return await self.client.call("page::about", {})


@skipUnless(INSTALLED, f"not installed: {PROGRAM}")
class BrowserTests(BrowserContract, TestCase):
    async def setUp(self) -> None:
        await self.start_engine()
        self.browser = self.open_page(self.serve_page(), "page")
        await self.ready("page")

    async def test_called_by_worker(self) -> None:
        """A worker's SDK calls the page: any JSON and metadata arrive as they were sent."""
        worker = await self._start_python()
        answer = await worker.call("page::echo", payload=VALUES)
        del answer["_caller_worker_id"]
        self.assertEqual(answer, VALUES)
        self.assertIsNone(await worker.call("page::nothing", payload={}))
        answer = await worker.call("page::metadata_of", payload={}, metadata={"tenant": "ä"})
        self.assertEqual(answer, {"metadata": {"tenant": "ä"}})

    async def test_calls_worker(self) -> None:
        """The page calls a worker: any JSON arrives as it was sent, under the page's own id."""
        await self._start_python()
        answer = await self._call_from_page("worker::echo", VALUES)
        caller = answer["result"].pop("_caller_worker_id")
        self.assertEqual(answer["result"], VALUES)
        self.assertEqual(caller, (await self.about())["workerId"])

    async def test_errors(self) -> None:
        """What a handler raises reaches the caller with code, message and stack trace, in both directions."""
        worker = await self._start_python()
        error = (await worker.do("call", function_id="page::fail", payload={"message": "out of ünits"}))["error"]
        self.assertEqual((error["code"], error["message"]), ("invocation_failed", "out of ünits"))
        self.assertIn("out of ünits", error["stacktrace"])
        error = (await self._call_from_page("worker::fail", {"message": "out of ünits"}))["error"]
        self.assertEqual((error["code"], error["message"]), ("invocation_failed", "out of ünits"))

    async def test_large_messages(self) -> None:
        """Payloads and results of more than 1 MB arrive complete, in both directions."""
        await self._start_python()
        self.assertEqual(await self.client.call("page::echo", [TEXT]), [TEXT])
        times = 300_000
        answer = await self.client.call("page::generate", {"text": "ü🙂", "times": times})
        self.assertEqual(answer, {"text": "ü🙂" * times})
        answer = await self._call_from_page("worker::echo", [TEXT])
        self.assertEqual(answer, {"result": [TEXT]})

    async def test_http(self) -> None:
        """The page answers HTTP requests to its routes."""
        response = await self.request("GET", "/page/answer/42?colour=gr%C3%BCn")
        self.assertEqual(response.code, 201)
        self.assertEqual(response.headers.getRawHeaders("x-worker"), [(await self.about())["workerName"]])
        said = {"method": "GET", "path_params": {"id": "42"}, "query_params": {"colour": "grün"}, "body": None}
        self.assertEqual(await response.json(), said)
        response = await self.request("POST", "/page/answer", json={"text": TEXT})
        self.assertEqual((await response.json())["body"], {"text": TEXT})

    async def test_channels(self) -> None:
        """The page writes to a worker and reads what it writes, on channels of binary and text messages."""
        await self._start_python()
        answer = await self.client.call("page::push", {"function_id": "worker::read_channel", "text": TEXT})
        self.assertEqual(answer["received"]["bytes"], len(TEXT.encode()))
        self.assertEqual(answer["received"]["texts"], ["begin", "end"])
        answer = await self.client.call("page::pull", {"function_id": "worker::write_channel", "bytes": 1_000_000})
        self.assertEqual(answer["received"], {"bytes": 1_000_000, "texts": ["begin", "end"]})

    async def test_listings(self) -> None:
        """The page has a name and is not in the list of workers, having no process id; its functions are listed."""
        about = await self.about()
        rows = (await self.client.call("engine::workers::list", {}))["workers"]
        self.assertNotIn(about["workerName"], [row["name"] for row in rows])
        info = await self.client.call("engine::workers::info", {"name": about["workerName"]})
        self.assertEqual((info["worker"]["id"], info["worker"]["runtime"]), (about["workerId"], "browser"))
        self.assertNotIn("pid", info["worker"])
        self.assertIn("Chrom", info["worker"]["os"])
        self.assertEqual(
            {row["config"]["api_path"] for row in info["registered_triggers"]}, {"/page/answer/:id", "/page/answer"}
        )
        rows = (await self.client.call("engine::functions::list", {"prefix": "page::"}))["functions"]
        self.assertEqual({row["worker_name"] for row in rows}, {about["workerName"]})

    async def test_cut(self) -> None:
        """A page whose connection is cut returns by itself as a new worker, and works again."""
        before = await self.about()
        self.cable.cut()
        await self._is_back(before)

    async def test_half_open(self) -> None:
        """A page that returns while the engine still holds its old socket takes that one's place."""
        before = await self.about()
        self.cable.cut_worker_side()
        await self._is_back(before)

    async def test_engine_killed(self) -> None:
        """After the engine was killed and started again, the page is there again with all that it has registered."""
        before = await self.about()
        await self.engine.kill()
        await self.engine.start()
        self.client = await self.connect(self.engine)
        await self._is_back(before)

    async def test_closed(self) -> None:
        """When the browser is closed, the functions and routes of its page are gone."""
        await self.browser.close()
        await self.eventually("it cannot be called any more", self._is_missing)
        response = await self.request("POST", "/page/answer", json={})
        self.assertEqual(response.code, 404)

    async def _start_python(self) -> Handle:
        worker = await self.start_worker(self.engine.url, PYTHON, "worker")
        await worker.worker.ready(self.client)
        return worker

    async def _call_from_page(self, function_id: str, payload: Any) -> Any:
        """Have the page call a function.  Return C{result} or C{error}."""
        return await self.client.call("page::call", {"function_id": function_id, "payload": payload})

    async def _is_back(self, before: Any) -> None:
        await self.eventually(
            "the page is back", lambda: self._is_another(before), RETURN_SECONDS, ignoring=(RemoteError,)
        )
        await self.ready("page")
        worker = await self._start_python()
        self.assertEqual(await worker.call("page::echo", payload=["to the page"]), ["to the page"])
        self.assertEqual(await self._call_from_page("worker::echo", ["from it"]), {"result": ["from it"]})
        response = await self.request("POST", "/page/answer", json={"n": 1})
        self.assertEqual((await response.json())["body"], {"n": 1})

    async def _is_another(self, before: Any) -> bool:
        """The worker of this name is another than before."""
        info = await self.client.call("engine::workers::info", {"name": before["workerName"]})
        return bool(info["worker"]["id"] != before["workerId"])

    async def _is_missing(self) -> bool:
        try:
            await self.client.call("page::echo", {})
        except RemoteError as error:
            self.assertEqual(error.code, "function_not_found")
            return True
        return False


@skipUnless(INSTALLED, f"not installed: {PROGRAM}")
class OriginTests(BrowserContract, TestCase):
    """A page that is not from this machine, as that of any web site which is open in a browser here."""

    async def test_foreign(self) -> None:
        """The engine refuses the page with 403, each time that it tries."""
        await self.start_engine()
        browser = self.open_page(self.serve_page(FOREIGN_HOST), "page")

        async def tried_twice() -> bool:
            return browser.log.count("closed with 1006") >= 2

        await self.eventually("the page has tried twice", tried_twice, RETURN_SECONDS)
        self.assertGreaterEqual(len(self.cable.answers), 2)
        self.assertEqual({answer.partition(b"\r\n")[0] for answer in self.cable.answers}, {b"HTTP/1.1 403 Forbidden"})
        self.assertNotIn('"connected"', browser.log)

    async def test_listed(self) -> None:
        """The engine takes the page when its origin is in the settings."""
        origin = self.serve_page(FOREIGN_HOST)
        await self.start_engine({"origins": [origin]})
        browser = self.open_page(origin, "page")
        await self.ready("page")
        self.assertEqual((await self.about())["origin"], origin)
        self.assertIn('"connected"', browser.log)
