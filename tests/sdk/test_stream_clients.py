"""The published clients of streams against the engine: in Node, and in a page in a real browser."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import skipIf, skipUnless

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.integration.engine import HOST, EngineProcess, free_ports
from tests.integration.process import ChildProcess, eventually
from tests.sdk.browser import FOREIGN_HOST, PROGRAM, Browser, Pages
from tests.sdk.cable import Cable
from tests.sdk.stream_clients import STREAM_CLIENTS, page
from tests.worker import Worker, connect

SECONDS = 25.0
HI, THERE = {"id": "m1", "text": "hi"}, {"id": "m2", "text": "grüße 🙂"}
PLACE = {"stream_name": "chat", "group_id": "r1"}


class Gatekeeper(Worker):
    """
    Answers every call with what it is told to.

    @ivar verdict: The answer.
    @ivar asked: What it was called with.
    """

    verdict: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, Any]] = []

    def answer(self, invocation: dict[str, Any]) -> None:
        self.asked.append((invocation["function_id"], invocation["data"]))
        answer = {"type": "invocationresult", "invocation_id": invocation["invocation_id"], "result": self.verdict}
        self.sendMessage(json.dumps(answer).encode())

    async def serve_trigger(self, trigger_type: str, function_id: str) -> None:
        """Register a function and bind it."""
        trigger = {"type": "registertrigger", "id": function_id, "trigger_type": trigger_type, "config": {}}
        self.sendMessage(json.dumps({**trigger, "function_id": function_id}).encode())
        await self.serve(function_id)

    def of(self, function_id: str) -> list[Any]:
        """What a function was called with."""
        return [data for asked, data in self.asked if asked == function_id]


class ClientContract(TestCase):
    """What is the same in Node and in a browser.  What a client has come to is read from what it says."""

    async def start_engine(self, settings: dict[str, Any] | None = None, **streams: Any) -> None:
        """@param streams: Settings of C{iii-stream}."""
        (self.port,) = free_ports(1)
        module = {"name": "iii-stream", "config": {"host": HOST, "port": self.port, **streams}}
        self.engine = await EngineProcess.for_test(self, reactor, [module], settings)
        self.directory = self.engine.directory

    async def start(self, **streams: Any) -> None:
        """Start the engine, with a worker and something in the stream."""
        await self.start_engine(**streams)
        await self.meet_worker()
        await self.put(HI)

    async def meet_worker(self) -> None:
        self.worker = await connect(reactor, self.engine.worker_port, kind=Gatekeeper)
        self.addCleanup(self.worker.close)

    async def put(self, value: dict[str, Any]) -> None:
        await self.worker.call("stream::set", {**PLACE, "item_id": value["id"], "data": value})

    async def send(self, kind: str, data: Any, **item: str) -> None:
        await self.worker.call("stream::send", {**PLACE, "type": kind, "data": data, **item})

    def said(self) -> str:
        """All that the client has said."""
        raise NotImplementedError

    async def says(self, what: Any, since: int = 0) -> None:
        """Wait until the client has said something, after so many characters."""
        text = json.dumps(what, separators=(",", ":"), ensure_ascii=False)

        async def has() -> bool:
            self.engine.check()
            return text in self.said()[since:]

        await eventually(reactor, f"the client says {text}", has, SECONDS)

    async def follow(self) -> None:
        """What a client shows of a stream, from its beginning on."""
        await self.says({"group": [HI]})
        await self.says({"item": HI})
        await self.put(THERE)
        await self.says({"group": [HI, THERE]})
        better = {**HI, "text": "hello"}
        await self.put(better)
        await self.says({"group": [better, THERE]})
        await self.says({"item": better})
        await self.send("typing", {"user": 7})
        await self.says({"heard": {"user": 7}})
        await self.send("seen", {"by": "ann"}, id="m1")
        await self.says({"seen": {"by": "ann"}})
        before = len(self.said())
        await self.worker.call("stream::delete", {**PLACE, "item_id": "m1"})
        await self.says({"group": [THERE]}, before)
        await self.says({"item": None}, before)
        self.assertEqual(self.said().count('{"seen":'), 1, "one frame for each event")

    async def return_after_restart(self) -> None:
        """A client connects again after the engine was stopped and started, and sees what is there then."""
        await self.says({"group": [HI]})
        await self.engine.stop()
        await self.engine.start()
        await self.meet_worker()
        await self.put(THERE)
        await self.says({"group": [HI, THERE]})


@skipIf(STREAM_CLIENTS.missing is not None, f"stream clients: {STREAM_CLIENTS.missing}")
class NodeTests(ClientContract):
    process: ChildProcess

    def said(self) -> str:
        return self.process.log.read_text(errors="replace")

    def run_client(self, *protocols: str) -> None:
        program = shutil.which("node")
        assert program is not None
        self.process = ChildProcess(reactor, "the client", Path(self.mktemp()).resolve())
        command = [program, *STREAM_CLIENTS.worker()[1:], f"ws://{HOST}:{self.port}/", *protocols]
        self.process.start(command, self.directory, {"PATH": os.environ["PATH"]})
        self.addCleanup(self.process.kill)

    async def refused(self) -> None:
        """Wait until the client was refused, of which it dies."""

        async def was() -> bool:
            return "Unexpected server response: 401" in self.said()

        await eventually(reactor, "the client was refused", was, SECONDS)

    async def test_follows(self) -> None:
        """It has the snapshot, then each change, and hears each event once."""
        await self.start()
        self.run_client()
        await self.follow()

    async def test_returns(self) -> None:
        """It is there again after a restart."""
        await self.start()
        self.run_client()
        await self.return_after_restart()

    async def test_token(self) -> None:
        """The engine's token lets it in as the subprotocol that it offers after C{Authorization}."""
        await self.start_engine({"token": "s3cret"})
        self.run_client("Authorization", "s3cret")
        await self.says({"group": []})
        self.run_client("Authorization", "wrong")
        await self.refused()

    async def test_auth_function(self) -> None:
        """An auth function sees the subprotocols, and its context comes to the join handlers."""
        await self.start(auth_function="app::auth")
        await self.worker.serve_trigger("stream:join", "app::join")
        await self.worker.serve("app::auth")
        self.worker.verdict = {"unauthorized": True}
        self.run_client("Authorization", "wrong")
        await self.refused()
        self.assertEqual(self.worker.of("app::join"), [])
        self.worker.verdict = {"context": {"user": "ann"}}
        self.run_client("Authorization", "s3cret")
        await self.says({"group": [HI]})
        asked = self.worker.of("app::auth")[1]
        self.assertEqual(asked["headers"]["sec-websocket-protocol"].replace(" ", ""), "Authorization,s3cret")
        self.assertEqual([join["context"] for join in self.worker.of("app::join")], [{"user": "ann"}] * 2)

    async def test_joins(self) -> None:
        """A refused join shows nothing and harms nothing; leave handlers hear of those that were let in."""
        await self.start()
        await self.worker.serve_trigger("stream:join", "app::join")
        await self.worker.serve_trigger("stream:leave", "app::leave")
        self.worker.verdict = {"unauthorized": True}
        self.run_client()
        await self._asked("app::join", 2)
        await self.put(THERE)
        await self.process.kill()
        self.assertEqual(self.said(), "")
        self.worker.verdict = None
        self.run_client()
        await self.says({"group": [HI, THERE]})
        await self.says({"item": HI})
        self.assertEqual(self.worker.of("app::leave"), [])
        await self.process.kill()
        await self._asked("app::leave", 2)
        self.assertEqual(self.worker.of("app::leave"), self.worker.of("app::join")[2:])

    async def _asked(self, function_id: str, times: int) -> None:
        async def so_often() -> bool:
            return len(self.worker.of(function_id)) == times

        await eventually(reactor, f"{function_id} is called {times} times", so_often, SECONDS)


@skipIf(STREAM_CLIENTS.missing is not None, f"stream clients: {STREAM_CLIENTS.missing}")
@skipUnless(shutil.which(PROGRAM), f"not installed: {PROGRAM}")
class BrowserTests(ClientContract):
    browser: Browser

    def said(self) -> str:
        return self.browser.log

    def open_page(self, host: str = HOST, address: str | None = None) -> None:
        pages = Pages(reactor, page())
        self.addCleanup(pages.remove)
        self.browser = Browser(reactor, self.directory / "browser.log")
        self.browser.open(pages.origin(host), address or f"ws://{HOST}:{self.port}/", "page")
        self.addCleanup(self.browser.close)

    async def test_follows(self) -> None:
        """It shows the snapshot, then each change, and hears each event once."""
        await self.start()
        self.open_page()
        await self.follow()

    async def test_returns(self) -> None:
        """It is there again after a restart."""
        await self.start()
        self.open_page()
        await self.return_after_restart()

    async def test_foreign_page(self) -> None:
        """The page of another site is refused, and sees nothing."""
        await self.start()
        cable = Cable(reactor, self.port)
        self.addCleanup(cable.remove)
        self.open_page(FOREIGN_HOST, cable.url)

        async def answered() -> bool:
            return bool(cable.answers)

        await eventually(reactor, "the page is answered", answered, SECONDS)
        self.assertEqual(cable.answers[0].partition(b"\r\n")[0], b"HTTP/1.1 403 Forbidden")
        self.assertNotIn("m1", self.said())
