"""The state of a real engine: what outlives it, and what does not (spec/state.md, 2, 6 and 8)."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.integration.engine import EngineProcess
from tests.integration.process import ProcessFailed
from tests.sdk.client import Client, connect

MANY = 500


class StateTestCase(TestCase):
    timeout = 120

    async def start(self, **settings: Any) -> EngineProcess:
        """Start an engine whose state has these settings."""
        return await EngineProcess.for_test(self, reactor, [{"name": "iii-state", "config": settings}])

    async def client(self, engine: EngineProcess) -> Client:
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        return client

    async def fill(self, engine: EngineProcess) -> None:
        """Set, update and delete something, and set null."""
        client = await self.client(engine)
        for key in ("a", "b", "c"):
            await client.call("state::set", {"scope": "s", "key": key, "value": {"of": key}})
        await client.call("state::set", {"scope": "s", "key": "a", "value": None})
        await client.call("state::delete", {"scope": "s", "key": "b"})
        ops = [{"type": "increment", "path": "n", "by": 1}]
        await client.call("state::update", {"scope": "s", "key": "c", "ops": ops})
        await client.call("state::set", {"scope": "", "key": "", "value": 1})

    async def check(self, engine: EngineProcess) -> None:
        """See that all of that is there."""
        client = await self.client(engine)
        self.assertEqual(
            await client.call("state::list", {"scope": "s", "include_keys": True}),
            [{"key": "a", "value": None}, {"key": "c", "value": {"of": "c", "n": 1}}],
        )
        self.assertEqual(await client.call("state::list_groups", {}), {"groups": ["", "s"]})
        self.assertEqual(await client.call("state::get", {"scope": "", "key": ""}), 1)


class FileTests(StateTestCase):
    async def test_restart(self) -> None:
        """Everything is there after a stop and a start, in its order."""
        engine = await self.start()
        await self.fill(engine)
        await engine.stop()
        await engine.start()
        await self.check(engine)

    async def test_killed(self) -> None:
        """Likewise after C{kill -9} right after the last answer."""
        engine = await self.start()
        await self.fill(engine)
        await engine.kill()
        await engine.start()
        await self.check(engine)

    async def test_any_texts(self) -> None:
        """Any texts are scopes and keys, also empty ones and such with a NUL; any JSON is a value."""
        engine = await self.start()
        client = await self.client(engine)
        texts = ["", "a\x00b", "a", "a\x00", '"\\', "%_*?[", "ä\u2028\U0001f642", "x" * 5000]
        values = [None, [], {}, "", "\x00", -0.0, 2**64 - 1, -(2**63), 1e300, {"": {"a\x00": [None]}}]
        for text in texts:
            for number, value in enumerate(values):
                await client.call("state::set", {"scope": text, "key": f"{text}{number}", "value": value})
        for _ in range(2):
            for text in texts:
                self.assertEqual(
                    await client.call("state::list", {"scope": text, "include_keys": True}),
                    [{"key": f"{text}{number}", "value": value} for number, value in enumerate(values)],
                )
                self.assertEqual(await client.call("state::get", {"scope": text, "key": f"{text}9"}), values[9])
            self.assertEqual(await client.call("state::list_groups", {}), {"groups": sorted(texts)})
            await engine.kill()
            await engine.start()
            client = await self.client(engine)

    async def test_own_directory(self) -> None:
        """C{file_path} is a directory with a store of its own."""
        directory = Path(self.mktemp()).resolve()
        engine = await self.start(
            adapter={"name": "kv", "config": {"store_method": "file_based", "file_path": str(directory)}}
        )
        await self.fill(engine)
        self.assertTrue((directory / "store.db").exists())
        await engine.stop()
        for where, expected in ((directory, 1), (engine.directory / "data", 0)):
            with contextlib.closing(sqlite3.connect(where / "store.db")) as connection:
                self.assertEqual(connection.execute("SELECT count(*) > 0 FROM state").fetchone(), (expected,))
        await engine.start()
        await self.check(engine)

    async def test_concurrent_updates(self) -> None:
        """Of many updates through several connections at one time none is lost."""
        engine = await self.start()
        clients = [await self.client(engine) for _ in range(5)]
        change = {
            "scope": "s",
            "key": "k",
            "ops": [{"type": "increment", "path": "n", "by": 1}, {"type": "append", "path": "all", "value": 0}],
        }
        calls = [clients[number % 5].call("state::update", change) for number in range(MANY)]
        answers = await gatherResults([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)
        self.assertEqual(sorted(answer["new_value"]["n"] for answer in answers), list(range(1, MANY + 1)))
        value = await clients[0].call("state::get", {"scope": "s", "key": "k"})
        self.assertEqual(value, {"n": MANY, "all": [0] * MANY})


class MemoryTests(StateTestCase):
    async def test_restart(self) -> None:
        """In memory everything is gone after a stop, and the start has said so."""
        engine = await self.start(adapter={"name": "kv", "config": {"store_method": "in_memory"}})
        await self.fill(engine)
        await self.check(engine)
        await engine.stop()
        self.assertIn("gone when the engine stops", engine.log.read_text())
        await engine.start()
        client = await self.client(engine)
        self.assertEqual(await client.call("state::list_groups", {}), {"groups": []})


class RefusalTests(StateTestCase):
    async def test_bridge(self) -> None:
        """An adapter that is not there yet is refused by the start, which names the key."""
        modules = [{"name": "iii-state", "config": {"adapter": {"name": "bridge"}}}]
        engine = EngineProcess(reactor, Path(self.mktemp()).resolve(), modules)
        self.addCleanup(engine.kill)
        try:
            await engine.start()
        except ProcessFailed as error:
            self.assertIn('iii-state: config.adapter.name: "bridge" is not available yet', str(error))
        else:
            self.fail("it has started")
