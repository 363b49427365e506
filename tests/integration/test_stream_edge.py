"""Stream clients on real sockets: one that does not read, large snapshots, and the engine's end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.certificates import self_signed
from tests.integration.engine import HOST, EngineProcess, free_ports
from tests.integration.process import eventually
from tests.integration.stream_client import StreamClient, connect_to_streams
from tests.worker import connect

BUFFER = 200_000
SIZE, EVENTS = 500_000, 60  # together far more than the kernel's buffers hold


class EdgeTestCase(TestCase):
    timeout = 60

    async def start(self, **streams: Any) -> None:
        """@param streams: Settings of C{iii-stream}."""
        (self.port,) = free_ports(1)
        module = {"name": "iii-stream", "config": {"host": HOST, "port": self.port, **streams}}
        settings = {"limits": {"stream_buffer_bytes": BUFFER}}
        self.engine = await EngineProcess.for_test(self, reactor, [module], settings)
        self.worker = await connect(reactor, self.engine.worker_port)
        self.addCleanup(self.worker.close)

    async def client(self, path: str = "/", root: bytes | None = None) -> StreamClient:
        client = await connect_to_streams(reactor, self.port, path, root)
        self.addCleanup(client.close_now)
        return client

    async def set(self, item: str, data: Any) -> None:
        payload = {"stream_name": "s", "group_id": "g", "item_id": item, "data": data}
        await self.worker.call("stream::set", payload)

    async def got(self, client: StreamClient, number: int) -> None:
        """Wait until a client has so many messages."""

        async def has() -> bool:
            return len(client.messages) >= number

        await eventually(reactor, f"{number} messages have come", has, 30)


class StreamEdgeTests(EdgeTestCase):
    async def setUp(self) -> None:
        await self.start()

    async def test_stalled(self) -> None:
        """A client that does not read is cut off and counted; another gets every event, in order."""
        stalled, reader = await self.client(), await self.client()
        for client in (stalled, reader):
            client.join("c", "s", "g")
            await self.got(client, 1)
        stalled.transport.pauseProducing()
        for number in range(EVENTS):
            await self.set("i", {"n": number, "text": "x" * SIZE})
        await self.got(reader, EVENTS + 1)
        self.assertEqual([message["event"]["data"]["n"] for message in reader.messages[1:]], list(range(EVENTS)))
        stamps = [message["timestamp"] for message in reader.messages]
        self.assertEqual(stamps, sorted(set(stamps)))
        self.assertEqual(await self.engine.figure("iii_stream_clients_dropped_total"), 1)
        self.assertEqual(await self.engine.figure('iii_limit_hits_total{limit="stream_buffer_bytes"}'), 1)
        stalled.transport.resumeProducing()
        self.assertEqual(await stalled.ended, 1006)

    async def test_large_snapshot(self) -> None:
        """A snapshot may be far larger than a client's buffer, as may be one event that it has room for."""
        for number in range(20):
            await self.set(str(number), "x" * SIZE)
        client = await self.client("/stream/s/g")
        client.join("again", "s", "g")
        await self.got(client, 2)
        self.assertEqual(client.kinds, ["sync", "sync"])
        self.assertEqual([len(message["event"]["data"]) for message in client.messages], [20, 20])
        self.assertEqual(client.messages[0]["event"]["ids"], [str(number) for number in range(20)])
        self.assertEqual(await self.engine.figure("iii_stream_clients_dropped_total"), 0)

    async def test_exact(self) -> None:
        """Whoever joins while an item changes gets each change that its snapshot does not have, once and in order."""
        await self.set("i", -1)
        written, enough = 0, False

        async def write() -> None:
            nonlocal written
            while not enough:
                await gatherResults([Deferred.fromCoroutine(self.set("i", written + more)) for more in range(10)])
                written += 10

        writing = Deferred.fromCoroutine(write())
        clients = []
        for _ in range(20):
            client = await self.client()
            client.join("c", "s", "g", id="i")
            client.join("d", "s", "g")
            await self.got(client, 2)
            clients.append(client)
            before = written

            async def advanced(before: int = before) -> bool:
                return written > before

            await eventually(reactor, "there are more changes", advanced)
        enough = True
        await writing
        for client in clients:

            async def done(client: StreamClient = client) -> bool:
                return client.messages[-1]["event"]["data"] in (written - 1, [written - 1])

            await eventually(reactor, "the last change has come", done)
            seen = [message["event"]["data"] for message in client.messages if message["id"] == "i"]
            self.assertEqual(seen, list(range(seen[0], written)))
            self.assertEqual(client.kinds.count("sync"), 2)
        firsts = {client.messages[0]["event"]["data"] for client in clients}
        self.assertGreater(len(firsts), 10)  # else nobody has joined in the middle, and this test shows nothing

    async def test_end(self) -> None:
        """When the engine stops, clients are closed with the code that tells them to connect again."""
        client = await self.client()
        client.join("c", "s", "g")
        await self.got(client, 1)
        await self.engine.stop()
        self.assertEqual(await client.ended, 1012)


class TlsTests(EdgeTestCase):
    async def test_tls(self) -> None:
        """Over TLS, too, clients wait for the auth function, get large snapshots and events, and a close frame."""
        certificate, key = self_signed(self.mktemp())
        tls = {"certificate": str(Path(certificate).resolve()), "key": str(Path(key).resolve())}
        await self.start(tls=tls, auth_function="auth")
        await self.worker.serve("auth")
        for number in range(20):
            await self.set(str(number), "x" * SIZE)
        client = await self.client("/stream/s/g", Path(certificate).read_bytes())
        client.join("again", "s", "g")
        await self.got(client, 2)
        self.assertEqual([len(message["event"]["data"]) for message in client.messages], [20, 20])
        await self.set("0", 1)
        await self.got(client, 3)
        self.assertEqual(client.messages[2]["event"], {"type": "update", "data": 1})
        await self.engine.stop()
        self.assertEqual(await client.ended, 1012)
