"""The HTTP listener under clients that mean no good, or are many, over real sockets."""

from __future__ import annotations

import resource
import socket
from typing import Any

import treq
from twisted.internet import reactor, threads
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.engine import HOST, EngineProcess
from tests.integration.http_worker import HttpWorker, connect
from tests.integration.memory import Peak, resident_bytes
from tests.integration.process import eventually

IDLE, WARM = 3000, 500
MOST_EACH = 16_000  # bytes
REQUEST = b"GET /answer HTTP/1.1\r\nhost: x\r\n\r\n"
SECONDS = 20.0
LARGE = 200_000


class EdgeCase(TestCase):
    timeout = 120

    async def setUp(self) -> None:
        self.engine = await EngineProcess.for_test(self, reactor)
        self.worker: HttpWorker = await connect(reactor, self.engine.worker_port)
        self.addCleanup(self.worker.close)
        await self.worker.serve({"GET answer": self.answer, "GET large": self.large, "GET endless": self.endless})

    async def answer(self, request: Any) -> Any:
        return {"body": "here"}

    async def large(self, request: Any) -> Any:
        return {"body": "x" * LARGE}

    async def endless(self, request: Any) -> None:
        """Write until nobody takes it any more."""
        response = await self.worker.response(request, {})
        piece = bytes(65536)
        while response.still_open:
            response.write(piece)
            await response.taken()

    def open(self) -> socket.socket:
        """Return a connection, which ends with the test."""
        client = socket.create_connection((HOST, self.engine.http_port), timeout=SECONDS)
        self.addCleanup(client.close)
        return client

    async def still_answers(self) -> None:
        response = await treq.get(f"{self.engine.http_url}/answer", persistent=False, timeout=SECONDS)
        self.assertEqual((response.code, await response.json()), (200, "here"))


class ManyConnectionsTests(EdgeCase):
    def setUp(self) -> Any:
        self._allow_files()
        return super().setUp()

    def _allow_files(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < IDLE + WARM + 200:
            raise SkipTest(f"only {hard} files may be open")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + WARM + 200), hard))  # also of the engine
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    async def test_idle(self) -> None:
        """Thousands of idle connections are held, each of which has had an answer, for little memory each."""
        await threads.deferToThread(self._add, WARM)
        before = resident_bytes(self.engine.pid)
        clients = await threads.deferToThread(self._add, IDLE)
        each = (resident_bytes(self.engine.pid) - before) / IDLE
        self.assertLess(each, MOST_EACH)
        await self.still_answers()
        await threads.deferToThread(self._ask, clients[-1])  # also on one of them

    def _add(self, number: int) -> list[socket.socket]:
        clients = []
        for _ in range(number):
            clients.append(self.open())
            self._ask(clients[-1])
        return clients

    def _ask(self, client: socket.socket) -> None:
        client.sendall(REQUEST)
        received = b""
        while not received.endswith(b'"here"'):
            data = client.recv(4096)
            assert data, f"closed after {received!r}"
            received += data

    async def test_slow_heads(self) -> None:
        """Thousands of clients whose heads do not get complete keep nobody else from being answered."""
        await threads.deferToThread(self._begin, IDLE)
        await self.still_answers()

    def _begin(self, number: int) -> None:
        for _ in range(number):
            self.open().sendall(REQUEST[:-3])


class ClientsThatDoNotReadTests(EdgeCase):
    async def test_large_answers(self) -> None:
        """A client that asks again and again and reads nothing is soon not read from: memory stays bounded."""
        await self._ask_for_large()
        peak = Peak(self.engine.pid)
        sent = await self._ask_for_large()
        self.assertLess(sent, 64 * 10**6)  # else it was read from all the time
        self.assertLess(peak.growth, 60 * 10**6)
        await self.still_answers()

    async def _ask_for_large(self) -> int:
        """Pipeline many requests, and return how many bytes of them the engine has taken."""
        client = self.open()
        client.settimeout(1)  # to find out that nothing more is taken

        def send() -> int:
            sent = 0
            request = REQUEST.replace(b"/answer", b"/large") * 1000
            try:
                while sent < 64 * 10**6:
                    sent += client.send(request)
            except TimeoutError:
                pass
            return sent

        return await threads.deferToThread(send)

    async def test_endless_answer(self) -> None:
        """The writer of an endless response waits for a client that does not read, and ends when that goes."""
        peak = Peak(self.engine.pid)
        client = self.open()
        client.sendall(REQUEST.replace(b"/answer", b"/endless"))

        async def waits() -> bool:
            return any(channel.waits for channel in self.worker.channels)

        await eventually(reactor, "the writer has to wait", waits)
        await self.still_answers()
        self.assertLess(peak.growth, 50 * 10**6)
        client.close()

        async def ended() -> bool:
            return not any(channel.still_open for channel in self.worker.channels)

        await eventually(reactor, "the writer is closed", ended)
