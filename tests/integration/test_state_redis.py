"""The state of real engines in a real Redis (spec/state.md, 6.2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.integration.engine import EngineProcess
from tests.integration.process import ProcessFailed, eventually
from tests.integration.redis import RedisServer
from tests.sdk.client import Client, RemoteError, connect

MANY = 500
PLACE = {"scope": "s", "key": "k"}
COUNT = {"type": "increment", "path": "n", "by": 1}


class StateInRedisTests(TestCase):
    timeout = 120

    async def setUp(self) -> None:
        self.redis = await RedisServer.for_test(self, reactor)

    def modules(self, url: str) -> list[Any]:
        return [{"name": "iii-state", "config": {"adapter": {"name": "redis", "config": {"redis_url": url}}}}]

    async def client(self) -> Client:
        """Start an engine and return a client of it."""
        self.engine = await EngineProcess.for_test(self, reactor, self.modules(self.redis.url))
        return await self.connect(self.engine)

    async def connect(self, engine: EngineProcess) -> Client:
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        return client

    async def error(self, client: Client, name: str, **data: Any) -> tuple[str, str]:
        try:
            result = await client.call(f"state::{name}", {**PLACE, **data})
        except RemoteError as error:
            return error.code, error.message
        raise AssertionError(f"{result!r} instead of an error")

    async def test_functions(self) -> None:
        """All functions; a value keeps its digits and empty lists; absent and null are different."""
        client = await self.client()
        value = {"id": 2**63 + 1, "list": [], "float": 1.0}
        answer = await client.call("state::set", {**PLACE, "value": value})
        self.assertEqual(answer, {"old_value": None, "new_value": value})
        answer = await client.call(
            "state::update", {**PLACE, "ops": [COUNT, {"type": "increment", "path": "id", "by": 1}]}
        )
        new = {"id": 2**63 + 2, "list": [], "float": 1.0, "n": 1}
        self.assertEqual((answer["old_value"], answer["new_value"]), (value, new))
        self.assertEqual(await client.call("state::get", PLACE), new)
        await client.call("state::set", {"scope": "", "key": "", "value": None})
        self.assertEqual(await client.call("state::list", {"scope": ""}), [None])
        self.assertEqual(
            await client.call("state::list", {"scope": "s", "include_keys": True}), [{"key": "k", "value": new}]
        )
        self.assertEqual(await client.call("state::list_groups", {}), {"groups": ["", "s"]})
        self.assertEqual(await client.call("state::delete", PLACE), new)
        self.assertEqual(await client.call("state::list_groups", {}), {"groups": [""]})
        self.assertIsNone(await client.call("state::delete", PLACE))

    async def test_layout(self) -> None:
        """The layout is the reference's: a hash for each scope with JSON texts."""
        client = await self.client()
        await client.call("state::set", {**PLACE, "value": [1]})
        self.assertEqual(json.loads(await self.redis.execute("HGET", "state:s", "k")), [1])
        await self.redis.execute("HSET", "state:s", "other", '{"a":1}')
        self.assertEqual(await client.call("state::get", {"scope": "s", "key": "other"}), {"a": 1})

    async def test_no_json(self) -> None:
        """What another program has put there and is no JSON is an error to read, and can be replaced or removed."""
        client = await self.client()
        for name, data in (("set", {"value": 1}), ("delete", {})):
            for nonsense in (b"[" * 130 + b"]" * 130, b'"\xff"', b"nonsense"):
                await self.redis.execute("HSET", "state:s", "k", nonsense)
                self.assertEqual((await self.error(client, "get"))[0], "GET_ERROR")
            code, text = await self.error(client, "get")
            self.assertEqual(code, "GET_ERROR")
            self.assertIn("Failed to deserialize value from Redis", text)
            self.assertEqual((await self.error(client, "list"))[0], "LIST_ERROR")
            self.assertEqual((await self.error(client, "update", ops=[]))[0], "UPDATE_ERROR")
            await client.call(f"state::{name}", {**PLACE, **data})
            await client.call("state::get", PLACE)

    async def test_wrong_kind(self) -> None:
        """A key of another type is an error of Redis."""
        client = await self.client()
        await self.redis.execute("SET", "state:s", "text")
        code, text = await self.error(client, "set", value=1)
        self.assertEqual(code, "SET_ERROR")
        self.assertIn("WRONGTYPE", text)

    async def test_concurrent_updates(self) -> None:
        """Of updates through two engines at one time none is lost, and those of one engine are in order."""
        clients = [await self.client(), await self.client()]
        calls = [clients[number % 2].call("state::update", {**PLACE, "ops": [COUNT]}) for number in range(MANY)]
        answers = await gatherResults([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)
        numbers = [answer["new_value"]["n"] for answer in answers]
        self.assertEqual(sorted(numbers), list(range(1, MANY + 1)))
        for engine in (numbers[::2], numbers[1::2]):
            self.assertEqual(engine, sorted(engine))
        self.assertEqual(await clients[0].call("state::get", PLACE), {"n": MANY})

    async def test_order(self) -> None:
        """Changes of one key are made in the order in which they were asked for, whatever their kinds."""
        client = await self.client()
        calls = []
        for number in range(50):
            calls.append(client.call("state::set", {**PLACE, "value": {"n": number * 10}}))
            calls.append(client.call("state::update", {**PLACE, "ops": [COUNT]}))
            calls.append(client.call("state::update", {**PLACE, "ops": [COUNT]}))
            calls.append(client.call("state::delete", PLACE))
        answers = await gatherResults([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)
        for number in range(50):
            one, two, three, removed = answers[4 * number : 4 * number + 4]
            self.assertEqual(one["old_value"], None)
            self.assertEqual(
                [two["new_value"], three["new_value"], removed], [{"n": number * 10 + n} for n in (1, 2, 2)]
            )

    async def test_server_killed(self) -> None:
        """While Redis is away calls fail and say why; when it is back they succeed, and what was stored is there."""
        client = await self.client()
        await client.call("state::set", {**PLACE, "value": {"n": 1}})
        await self.redis.kill()
        for name, data in (
            ("set", {"value": 1}),
            ("get", {}),
            ("delete", {}),
            ("update", {"ops": [COUNT]}),
            ("list", {}),
        ):
            code, text = await self.error(client, name, **data)
            self.assertEqual(code, f"{name.upper()}_ERROR")
            self.assertIn("Redis", text)
        await self.redis.start()
        value = await eventually(
            reactor, "the value is read", lambda: client.call("state::get", PLACE), ignoring=(RemoteError,)
        )
        self.assertEqual(value, {"n": 1})
        calls = [client.call("state::update", {**PLACE, "ops": [COUNT]}) for _ in range(MANY)]
        await gatherResults([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)
        self.assertEqual(await client.call("state::get", PLACE), {"n": 1 + MANY})

    async def test_waiting_when_killed(self) -> None:
        """Updates that wait for each other when Redis goes all fail, however many; nothing is left behind."""
        client = await self.client()
        self.redis.pause()
        calls = [client.call("state::update", {**PLACE, "ops": [COUNT]}) for _ in range(MANY)]
        outcomes = [Deferred.fromCoroutine(call) for call in calls]
        failed: list[Any] = []
        for outcome in outcomes:
            outcome.addErrback(lambda failure: failed.append(failure.check(RemoteError)))
        await self.redis.kill()
        await gatherResults(outcomes)
        self.assertEqual(failed, [RemoteError] * MANY)
        await self.redis.start()
        await eventually(
            reactor,
            "an update succeeds",
            lambda: client.call("state::update", {**PLACE, "ops": [COUNT]}),
            ignoring=(RemoteError,),
        )

    async def test_engine_restarted(self) -> None:
        """What one engine has stored is there for the next one, after SIGKILL, too."""
        client = await self.client()
        await client.call("state::set", {**PLACE, "value": 7})
        await self.engine.kill()
        await self.engine.start()
        client = await self.connect(self.engine)
        self.assertEqual(await client.call("state::get", PLACE), 7)

    async def test_no_server(self) -> None:
        """An engine whose Redis is not there does not start; the same for what is no URL of one."""
        await self.redis.kill()
        for url, said in ((self.redis.url, "Failed to connect to Redis at"), ("http://a", "iii-state: config.adapter")):
            engine = EngineProcess(reactor, Path(self.mktemp()).resolve(), self.modules(url))
            self.addCleanup(engine.kill)
            try:
                await engine.start()
            except ProcessFailed as error:
                self.assertIn(said, str(error))
            else:
                self.fail("it has started")
