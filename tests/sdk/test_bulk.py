"""
Large uploads and downloads with a published Python SDK: complete, in flat memory, and what is left when an end goes.

1 GB each with C{III_SOAK}, else 100 MB.
"""

from __future__ import annotations

import http.client
import os
import re

import treq
from twisted.internet import reactor, threads
from twisted.trial.unittest import TestCase

from tests.integration.engine import EngineProcess
from tests.integration.memory import Peak
from tests.sdk.bulk import Transfer, digest, on_bulk
from tests.sdk.contract import Contract, Handle
from tests.sdk.environments import NEWEST

SIZE = 10**9 if os.environ.get("III_SOAK") else 100 * 10**6
WARM_BYTES = 30 * 10**6  # more than any buffer takes
MOST_GROWTH = 20 * 10**6
NEVER_COMPLETE = 10**9  # far more than the buffers between client and worker hold
BULK = on_bulk(NEWEST[0])


class BulkContract(Contract):
    """A test with an engine and a worker that moves large bodies."""

    @property
    def engine(self) -> EngineProcess:
        return self._engine

    async def setUp(self) -> None:
        self.require(BULK)
        self._engine = await EngineProcess.for_test(self, reactor)
        self.client = await self.connect(self._engine)
        self.worker: Handle = await self.start_worker(self._engine.url, BULK, "bulk")
        await self.worker.worker.ready(self.client)
        self._before = await self._gauges()

    def transfer(self) -> Transfer:
        transfer = Transfer(self._engine.http_port)
        self.addCleanup(transfer.close)
        return transfer

    async def told(self, key: str, words: str) -> str:
        """Wait until the last that a handler has noted under a key begins with these words, and return it."""

        async def last() -> str:
            told = (await self.worker.do("told_under", key=key))["told"]
            return told[-1] if told and told[-1].startswith(words) else ""

        return await self.eventually(f"the worker says {words}", last)

    async def nothing_left(self) -> None:
        """Wait until the engine has no channels, no calls, and no more sockets than before the transfer."""

        async def gauges() -> bool:
            found = await self._gauges()
            idle = found["iii_channels"] == 0 and found["iii_calls_unanswered"] == 0
            return idle and found["process_open_fds"] <= self._before["process_open_fds"]

        await self.eventually("nothing is left in the engine", gauges)

    async def _gauges(self) -> dict[str, float]:
        response = await treq.get(f"{self._engine.api_url}/metrics", persistent=False)
        return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", await response.text(), re.MULTILINE)}


class SizeTests(BulkContract, TestCase):
    timeout = 600

    async def test_download(self) -> None:
        """A long response arrives complete, in chunks and of known length, while the engine's memory is flat."""
        await self._download(WARM_BYTES, "")
        peak = Peak(self.engine.pid)
        await self._download(SIZE, "")
        await self._download(WARM_BYTES, "&length")
        self.assertLess(peak.growth, MOST_GROWTH)
        await self.nothing_left()

    async def _download(self, size: int, more: str) -> None:
        transfer = self.transfer()
        self.assertEqual(
            await threads.deferToThread(transfer.get, f"/bulk/download?bytes={size}{more}"), http.client.OK
        )
        self.assertEqual(await threads.deferToThread(transfer.read), (size, await threads.deferToThread(digest, size)))
        transfer.close()

    async def test_upload(self) -> None:
        """A long body arrives complete, of known length and in chunks, while the engine's memory is flat."""
        await self._upload(WARM_BYTES, chunked=False)
        peak = Peak(self.engine.pid)
        await self._upload(SIZE, chunked=False)
        await self._upload(WARM_BYTES, chunked=True)
        self.assertLess(peak.growth, MOST_GROWTH)
        await self.nothing_left()

    async def _upload(self, size: int, *, chunked: bool) -> None:
        transfer = self.transfer()
        answer = await threads.deferToThread(transfer.post, "/bulk/upload", size, chunked=chunked)
        self.assertEqual(answer, (http.client.OK, f"{size} {await threads.deferToThread(digest, size)}"))
        transfer.close()


class BreakingOffTests(BulkContract, TestCase):
    timeout = 120

    async def test_client_leaves_download(self) -> None:
        """When the client goes, the worker's writer ends, although it was held back before."""
        transfer = self.transfer()
        await self._begin_download(transfer)
        await threads.deferToThread(transfer.close)
        await self.told("key", "ended by ConnectionClosed")
        await self.nothing_left()

    async def test_client_leaves_upload(self) -> None:
        """When the client goes, the worker's reader ends with what has come."""
        sent = 3 * 10**6
        transfer = self.transfer()
        await threads.deferToThread(transfer.begin_post, "/bulk/upload?key=key", NEVER_COMPLETE, sent)
        await self.told("key", "begun")
        await threads.deferToThread(transfer.close)
        said = await self.told("key", "read")
        self.assertLessEqual(int(said.removeprefix("read ")), sent)
        await self.nothing_left()

    async def test_worker_dies_in_download(self) -> None:
        """When the worker dies, the client sees a response that broke off, in chunks and of known length."""
        for more in ("", "&length"):
            transfer = self.transfer()
            await self._begin_download(transfer, more)
            await self.worker.worker.kill()
            await self.assertFailure(threads.deferToThread(transfer.read), http.client.IncompleteRead, ConnectionError)
            transfer.close()
            await self.nothing_left()
            self.worker = await self.start_worker(self.engine.url, BULK, "bulk")
            await self.worker.worker.ready(self.client)

    async def test_worker_dies_in_upload(self) -> None:
        """When the worker dies, a client that still sends gets an answer that says so."""
        transfer = self.transfer()
        await threads.deferToThread(transfer.begin_post, "/bulk/upload?key=key", NEVER_COMPLETE, 10**6)
        await self.told("key", "begun")
        await self.worker.worker.kill()
        status, text = await threads.deferToThread(transfer.answer)
        self.assertEqual(status, http.client.INTERNAL_SERVER_ERROR)
        self.assertIn("invocation_stopped", text)
        await threads.deferToThread(transfer.close)
        await self.nothing_left()

    async def _begin_download(self, transfer: Transfer, more: str = "") -> None:
        """Read something of a response that is far from complete."""
        path = f"/bulk/download?bytes={NEVER_COMPLETE}&key=key{more}"
        self.assertEqual(await threads.deferToThread(transfer.get, path), http.client.OK)
        begun = 5 * 10**6
        size, _ = await threads.deferToThread(transfer.read, begun)
        self.assertEqual(size, begun)
