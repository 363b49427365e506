"""Streams of engine processes: what they keep, what they share, and how they start and stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import TestCase

from tests.integration.engine import HOST, EngineProcess, free_ports
from tests.integration.process import ProcessFailed, eventually
from tests.integration.redis import RedisServer
from tests.sdk.client import Client, connect

PLACE = {"stream_name": "chat", "group_id": "r1"}


class Viewer(WebSocketClientProtocol):
    """
    A client of the streams' port.

    @ivar events: What it was told: kinds and data.
    """

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[None] = Deferred()
        self.closed: Deferred[int | None] = Deferred()
        self.events: list[tuple[str, Any]] = []

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        event = json.loads(payload)["event"]
        self.events.append((event["type"], event.get("data", event.get("event"))))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.closed.callback(code)

    def join(self) -> None:
        data = {"subscriptionId": "1", "streamName": "chat", "groupId": "r1"}
        self.sendMessage(json.dumps({"type": "join", "data": data}).encode())


class StreamsTests(TestCase):
    timeout = 120

    async def engine(self, adapter: dict[str, Any] | None = None) -> tuple[EngineProcess, int]:
        """Return a running engine, and the port of its streams."""
        (port,) = free_ports(1)
        config = {"port": port, **({"adapter": adapter} if adapter else {})}
        return await EngineProcess.for_test(self, reactor, [{"name": "iii-stream", "config": config}]), port

    async def worker(self, engine: EngineProcess) -> Client:
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        return client

    async def viewer(self, port: int) -> Viewer:
        """Return a client that has joined a group and knows what is in it."""
        factory = WebSocketClientFactory(f"ws://{HOST}:{port}/", reactor=reactor)
        factory.protocol = Viewer
        viewer: Viewer = await TCP4ClientEndpoint(reactor, HOST, port).connect(factory)
        self.addCleanup(self.leave, viewer)
        await viewer.opened
        viewer.join()
        await self.events(viewer, 1)
        return viewer

    async def leave(self, viewer: Viewer) -> None:
        viewer.transport.abortConnection()
        if not viewer.closed.called:
            await viewer.closed

    async def events(self, viewer: Viewer, count: int) -> list[tuple[str, Any]]:
        async def enough() -> bool:
            return len(viewer.events) >= count

        await eventually(reactor, f"{count} events have come", enough, 20)
        return viewer.events

    async def test_kept(self) -> None:
        """What was acknowledged is there after a crash; clients are told when they join."""
        engine, port = await self.engine()
        worker = await self.worker(engine)
        for item in ("b", "a"):
            await worker.call("stream::set", {**PLACE, "item_id": item, "data": {"id": item}})
        await engine.kill()
        await engine.start()
        viewer = await self.viewer(port)
        self.assertEqual(viewer.events, [("sync", [{"id": "b"}, {"id": "a"}])])
        worker = await self.worker(engine)
        await worker.call("stream::delete", {**PLACE, "item_id": "b"})
        await worker.call("stream::send", {**PLACE, "type": "t", "data": 1})
        events = await self.events(viewer, 3)
        self.assertEqual(events[1:], [("delete", {"id": "b"}), ("event", {"type": "t", "data": 1})])

    async def test_stops(self) -> None:
        """An engine that stops closes its clients in order, so that they connect again."""
        engine, port = await self.engine()
        viewer = await self.viewer(port)
        await engine.stop()
        self.assertEqual(await viewer.closed, 1012)

    async def test_shared(self) -> None:
        """Engines on one Redis have the same items, and clients of each see what workers of the other do."""
        server = await RedisServer.for_test(self, reactor)
        adapter = {"name": "redis", "config": {"redis_url": server.url}}
        one, _ = await self.engine(adapter)
        other, port = await self.engine(adapter)
        worker = await self.worker(one)
        await worker.call("stream::set", {**PLACE, "item_id": "m", "data": 1})
        viewer = await self.viewer(port)
        await worker.call("stream::update", {**PLACE, "item_id": "m", "ops": [{"type": "set", "path": "", "value": 2}]})
        away = await self.worker(other)
        self.assertEqual(await away.call("stream::delete", {**PLACE, "item_id": "m"}), {"old_value": 2})
        await worker.call("stream::send", {**PLACE, "type": "t", "data": 3})
        self.assertEqual(
            await self.events(viewer, 4),
            [("sync", [1]), ("update", 2), ("delete", 2), ("event", {"type": "t", "data": 3})],
        )

    async def test_no_redis(self) -> None:
        """Without its Redis an engine does not start, and says why."""
        (port,) = free_ports(1)
        adapter = {"name": "redis", "config": {"redis_url": f"redis://{HOST}:{port}"}}
        modules = [{"name": "iii-stream", "config": {"port": 0, "adapter": adapter}}]
        engine = EngineProcess(reactor, Path(self.mktemp()).resolve(), modules)
        with self.assertRaises(ProcessFailed) as caught:
            await engine.start()
        self.assertIn(f"Failed to connect to Redis at redis://{HOST}:{port}", str(caught.exception))
