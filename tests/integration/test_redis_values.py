"""L{iii.storage.redis_values} against a real server."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from iii.storage.errors import StorageError
from iii.storage.redis import RedisLink
from iii.storage.redis_values import RedisValues
from tests.integration.process import eventually
from tests.integration.redis import RedisServer
from tests.storage.values_contract import ADD, LIST_BYTES, ValuesContract, operations

WRONG = b'{"a":1'


class RedisValuesTests(ValuesContract, TestCase):
    timeout = 120
    in_order = False

    async def setUp(self) -> None:
        self.server = await RedisServer.for_test(self, reactor)
        self.values = self.engine()

    def engine(self) -> RedisValues:
        """Return the values as one engine has them."""
        link = RedisLink(self.server.url, reactor)
        link.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(link.stop()))
        return RedisValues(link, "state:", LIST_BYTES)

    async def fails(self, answer: Any) -> str:
        """Return the text of the error that something ends with."""
        try:
            result = await answer
        except StorageError as error:
            return str(error)
        raise AssertionError(f"no error, but {result!r}")

    async def test_layout(self) -> None:
        """A scope is a hash of the reference's name, with a field for each key."""
        await self.values.put(("a:b",), "k", b'{"n":1}')
        self.assertEqual(await self.server.execute("HGETALL", "state:a:b"), [b"k", b'{"n":1}'])
        await self.server.execute("HSET", "state:other", "k", "2")
        await self.server.execute("HSET", "stream:other", "k", "2")
        await self.server.execute("SET", "state:text", "2")
        self.assertEqual(await self.values.collections(), [("a:b",), ("other",)])

    async def test_two_engines(self) -> None:
        """Updates of two engines lose nothing, and what each answers fits together."""
        engines = self.values, self.engine()
        answers = await gatherResults([engines[number % 2].update(("s",), "k", ADD) for number in range(500)])
        self.assertEqual(await self.values.get(("s",), "k"), b'{"n":500}')
        self.assertEqual(sorted(json.loads(answer.new)["n"] for answer in answers), list(range(1, 501)))
        await gatherResults([engines[number % 2].put(("s",), "p", b"1") for number in range(10)])
        removed = await gatherResults([engine.delete(("s",), "p") for engine in engines])
        self.assertEqual(sorted(removed, key=str), [None, b"1"])

    async def test_killed(self) -> None:
        """What was answered is there after the server was killed; what is asked for meanwhile fails."""
        await gatherResults([self.values.update(("s",), "k", ADD) for _ in range(20)])
        asked = [self.values.update(("s",), "k", ADD) for _ in range(50)]
        await asked[5]
        await self.server.kill()
        answered = 20
        for answer in asked:
            try:
                await answer
            except StorageError:
                continue
            answered += 1
        self.assertIn("no connection to Redis", await self.fails(self.values.get(("s",), "k")))
        self.assertIn("no connection to Redis", await self.fails(self.values.put(("s",), "k", b"1")))
        await self.server.start()

        async def read() -> bytes | None:
            return await self.values.get(("s",), "k")

        found = await eventually(reactor, "the value can be read", read, ignoring=(StorageError,))
        assert found is not None
        # One more may have been carried out, whose answer was lost.
        self.assertIn(json.loads(found)["n"] - answered, (0, 1))
        self.assertEqual((await self.values.update(("s",), "k", ADD)).old, found)

    async def test_not_json(self) -> None:
        """What another program has stored and is no JSON is not handed on; it can be replaced and removed."""
        for text in (WRONG, b"", b"\xff", b'"\xff"', b"[" * 90_000, b"[" * 126 + b"]" * 126):
            await self.server.execute("HSET", "state:s", "k", text)
            for answer in (
                self.values.get(("s",), "k"),
                self.values.items(("s",)),
                self.values.update(("s",), "k", ADD),
            ):
                self.assertIn("deserialize value", await self.fails(answer))
            self.assertEqual(await self.server.execute("HGET", "state:s", "k"), text)
            self.assertEqual(await self.values.put(("s",), "k", b"1"), b"null")
            await self.server.execute("HSET", "state:s", "k", text)
            self.assertEqual(await self.values.delete(("s",), "k"), b"null")
            self.assertIsNone(await self.values.get(("s",), "k"))

    async def test_spaces(self) -> None:
        """What another program has stored may have spaces around it."""
        await self.server.execute("HSET", "state:s", "k", ' {"n": 1}\n')
        self.assertEqual(json.loads((await self.values.update(("s",), "k", ADD)).new), {"n": 2})
        await self.server.execute("HSET", "state:s", "k", " 7 ")
        updated = await self.values.update(("s",), "k", operations({"type": "increment", "path": "", "by": 1}))
        self.assertEqual((json.loads(updated.old), updated.new), (7, b"8"))

    async def test_other_type(self) -> None:
        """A key of another type is refused by Redis, with its text."""
        await self.server.execute("SET", "state:s", "x")
        for answer in (
            self.values.get(("s",), "k"),
            self.values.put(("s",), "k", b"1"),
            self.values.delete(("s",), "k"),
            self.values.update(("s",), "k", ADD),
            self.values.items(("s",)),
        ):
            self.assertIn("Operation against a key holding the wrong kind of value", await self.fails(answer))
