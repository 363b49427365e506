"""The published clients of streams against the listener: in Node, and in a page in a real browser."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import skipIf, skipUnless

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from iii.config.blocks.stores import StreamSettings
from iii.core.engine import Engine
from iii.core.limits import Limits
from iii.modules.stream.clients import Surroundings
from iii.modules.stream.events import Stamps
from iii.modules.stream.listener import StreamListener
from tests.integration.engine import HOST, free_ports
from tests.integration.process import ChildProcess, eventually
from tests.modules.stream.clients import FakeAttendance, FakeBackend
from tests.sdk.browser import FOREIGN_HOST, PROGRAM, Browser, Pages
from tests.sdk.stream_clients import STREAM_CLIENTS, page

SECONDS = 25.0
HI, THERE = {"id": "m1", "text": "hi"}, {"id": "m2", "text": "grüße 🙂"}


class Streams:
    """A listener for stream clients with a backend in memory, in this process."""

    def __init__(self, token: str | None = None) -> None:
        (self.port,) = free_ports(1)
        self.token = token
        self.stamps = Stamps(reactor)
        self.backend = FakeBackend(self.stamps)
        self.attendance = FakeAttendance()
        self.start()

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}/"

    def start(self) -> None:
        surroundings = Surroundings(
            Engine(reactor, Limits()), self.backend, self.stamps, self.attendance, lambda *address: None, 10.0
        )
        self.listener = StreamListener(
            StreamSettings(port=self.port), surroundings, reactor, token=self.token, origins=(), ping_interval=20
        )
        self.backend.observer = self.listener.deliver
        self.listener.startService()

    async def stop(self) -> None:
        if self.listener.running:
            await self.listener.stopService()

    def put(self, value: dict[str, Any]) -> None:
        self.backend.change("chat", "r1", value["id"], json.dumps(value).encode())

    def send(self, item: str | None, kind: str, data: Any) -> None:
        self.backend.say("chat", "r1", item, json.dumps({"type": kind, "data": data}).encode())

    async def delete(self, item: str) -> None:
        await self.backend.delete("chat", "r1", item)


class ClientContract(TestCase):
    """What is the same in Node and in a browser.  What a client has come to is read from what it says."""

    def setUp(self) -> None:
        self.streams = Streams()
        self.addCleanup(self.streams.stop)
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()

    def said(self) -> str:
        raise NotImplementedError

    async def says(self, what: Any, since: int = 0) -> int:
        """Wait until a client has said something.  @return: How much it had said by then."""
        text = json.dumps(what, separators=(",", ":"), ensure_ascii=False)

        async def has() -> bool:
            return text in self.said()[since:]

        await eventually(reactor, f"the client says {text}", has, SECONDS)
        return len(self.said())

    async def follow(self) -> None:
        """What a client shows of a stream, from its beginning on."""
        await self.says({"group": [HI]})
        await self.says({"item": HI})
        self.streams.put(THERE)
        await self.says({"group": [HI, THERE]})
        better = {**HI, "text": "hello"}
        self.streams.put(better)
        await self.says({"group": [better, THERE]})
        await self.says({"item": better})
        self.streams.send(None, "typing", {"user": 7})
        await self.says({"heard": {"user": 7}})
        self.streams.send("m1", "seen", {"by": "ann"})
        await self.says({"seen": {"by": "ann"}})
        before = len(self.said())
        await self.streams.delete("m1")
        await self.says({"group": [THERE]}, before)
        await self.says({"item": None}, before)
        self.assertEqual(self.said().count('{"seen":'), 1, "one frame for each event")

    async def return_after_restart(self) -> None:
        """A client connects again after the listener was stopped and started, and sees what is there then."""
        await self.says({"group": [HI]})
        await self.streams.stop()
        self.streams.put(THERE)
        self.streams.start()
        await self.says({"group": [HI, THERE]})
        before = len(self.said())
        self.streams.put({**THERE, "text": "again"})
        await self.says({"group": [HI, {**THERE, "text": "again"}]}, before)


@skipIf(STREAM_CLIENTS.missing is not None, f"stream clients: {STREAM_CLIENTS.missing}")
class NodeTests(ClientContract):
    process: ChildProcess

    def said(self) -> str:
        return self.process.log.read_text(errors="replace")

    def run_client(self, *protocols: str) -> None:
        self.process = ChildProcess(reactor, "the client", self.directory / "client.log")
        command = [*STREAM_CLIENTS.worker(), self.streams.url, *protocols]
        program = shutil.which(command[0])
        assert program is not None
        self.process.start([program, *command[1:]], self.directory, {"PATH": os.environ["PATH"]})
        self.addCleanup(self.process.kill)

    async def test_follows(self) -> None:
        """It has the snapshot, then each change, and hears each event once."""
        self.streams.put(HI)
        self.run_client()
        await self.follow()

    async def test_returns(self) -> None:
        """It is there again after a restart."""
        self.streams.put(HI)
        self.run_client()
        await self.return_after_restart()

    async def test_refused_join(self) -> None:
        """A join that is refused shows nothing and does not end the client."""
        self.streams.attendance.allows = False
        self.streams.put(HI)
        self.run_client()
        await eventually(reactor, "both have tried", self._two_joins, SECONDS)
        self.streams.put(THERE)
        self.assertEqual(self.said(), "")
        self.process.check()

    async def test_token(self) -> None:
        """With a token for the engine, it is let in with the subprotocols that the client offers, and not without."""
        await self.streams.stop()
        self.streams.token = "s3cret"
        self.streams.put(HI)
        self.streams.start()
        self.run_client("Authorization", "s3cret")
        await self.says({"group": [HI]})
        await self.process.kill()
        self.run_client("Authorization", "wrong")
        await eventually(reactor, "it was refused", self._ended_with_401, SECONDS)

    async def _ended_with_401(self) -> bool:
        return "Unexpected server response: 401" in self.said()

    async def _two_joins(self) -> bool:
        return len(self.streams.attendance.joined) == 2


@skipIf(STREAM_CLIENTS.missing is not None, f"stream clients: {STREAM_CLIENTS.missing}")
@skipUnless(shutil.which(PROGRAM), f"not installed: {PROGRAM}")
class BrowserTests(ClientContract):
    browser: Browser

    def said(self) -> str:
        # The console's messages are quoted in the log, not escaped.
        return self.browser.log

    def open_page(self, host: str = HOST) -> None:
        pages = Pages(reactor, page())
        self.addCleanup(pages.remove)
        self.browser = Browser(reactor, self.directory / "browser.log")
        self.browser.open(pages.origin(host), self.streams.url, "page")
        self.addCleanup(self.browser.close)

    async def test_follows(self) -> None:
        """It shows the snapshot, then each change, and hears each event once."""
        self.streams.put(HI)
        self.open_page()
        await self.follow()

    async def test_returns(self) -> None:
        """It is there again after a restart."""
        self.streams.put(HI)
        self.open_page()
        await self.return_after_restart()

    async def test_foreign_page(self) -> None:
        """The page of another site is refused."""
        self.streams.put(HI)
        self.open_page(FOREIGN_HOST)
        await eventually(reactor, "the page was refused", self._refused, SECONDS)
        self.assertNotIn("hi", self.said().replace("hidden", ""))

    async def _refused(self) -> bool:
        return self.streams.listener._factory._engine.counters.stream_connections_refused >= 1  # type: ignore[attr-defined]
