"""What every L{IValues} does."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from iii.core.errors import EngineError
from iii.interfaces import IValues
from iii.storage.errors import StorageError, TooMuchToList
from iii.storage.updates import Operation

LIST_BYTES = 100_000
KEYS = ["k", "", "\0", "a\0b", ":", "a:b", "%", "%41", "*", "é", "\U0001f600", " ", "\n", "K", "k" * 1000]
_decode = msgspec.json.Decoder(list[Operation]).decode


def operations(*listed: dict[str, Any]) -> list[Operation]:
    return _decode(json.dumps(listed))


class NotAccepted(EngineError):
    """What C{accept} raises here."""


ADD = operations({"type": "increment", "path": "n", "by": 1})


class ValuesContract:
    """
    Rules for a C{TestCase}.

    @ivar values: An empty store of collections with one part, with C{LIST_BYTES} for a listing.
    @ivar in_order: A listing has the keys in the order in which they were first put; else they are sorted.
    """

    values: Any
    in_order = True

    def test_interface(self: Any) -> None:
        """It provides the interface."""
        verifyObject(IValues, self.values)

    async def test_put(self: Any) -> None:
        """Put answers with what it replaces, and get with what was put last, byte for byte."""
        for place in ((("s",), "k"), (("s",), "l"), (("t",), "k")):
            self.assertIsNone(await self.values.get(*place))
            old = None
            for value in (b"null", b'{"b":1,"a":[ ],"a":2}', b"1.0", b"123456789012345678901234567890", b"1e400"):
                self.assertEqual(await self.values.put(*place, value), old)
                self.assertEqual(await self.values.get(*place), value)
                old = value

    async def test_delete(self: Any) -> None:
        """Delete answers with what it removes; null is a value, and absence is C{None}."""
        collection = ("s",)
        self.assertIsNone(await self.values.delete(collection, "k"))
        for value in (b"null", b"1"):
            await self.values.put(collection, "k", value)
            self.assertEqual(await self.values.delete(collection, "k"), value)
            self.assertIsNone(await self.values.get(collection, "k"))
            self.assertIsNone(await self.values.delete(collection, "k"))

    async def test_update(self: Any) -> None:
        """Update answers with old and new, absence and null told apart, and stores the new; an error is in it."""
        append = operations({"type": "append", "value": "x"})
        updated = await self.values.update(("s",), "k", append)
        self.assertEqual((updated.old, updated.new), (None, b'"x"'))
        await self.values.put(("s",), "k", b"null")
        updated = await self.values.update(("s",), "k", ADD)
        self.assertEqual((updated.old, updated.new), (b"null", b"null"))
        self.assertEqual([error.code for error in updated.errors], ["increment.target_not_object"])
        updated = await self.values.update(("s",), "new", [])
        self.assertEqual((updated.old, updated.new), (None, b"{}"))
        self.assertEqual(await self.values.get(("s",), "new"), b"{}")

    async def test_untouched(self: Any) -> None:
        """An update leaves alone what it does not name: empty arrays, large integers, numbers beyond a double."""
        rest = '"e":[],"i":12345678901234567890123,"f":1e999,"d":0.1234567890123456789'
        await self.values.put(("s",), "k", f'{{{rest},"n":1}}'.encode())
        updated = await self.values.update(("s",), "k", ADD)
        self.assertEqual(updated.new, f'{{{rest},"n":2}}'.encode())
        self.assertEqual(await self.values.get(("s",), "k"), updated.new)

    async def test_accept(self: Any) -> None:
        """An update whose result is not accepted fails with that error, and changes nothing."""

        def refuse(new: bytes) -> None:
            self.assertEqual(new, b'{"n":2}')
            raise NotAccepted

        await self.values.put(("s",), "k", b'{"n":1}')
        try:
            await self.values.update(("s",), "k", ADD, refuse)
        except NotAccepted:
            pass
        else:
            self.fail("accepted")
        self.assertEqual(await self.values.get(("s",), "k"), b'{"n":1}')
        await self.values.update(("s",), "k", ADD, lambda new: None)
        self.assertEqual(await self.values.get(("s",), "k"), b'{"n":2}')

    async def test_too_deep(self: Any) -> None:
        """An update whose result could not be sent fails, and what comes after it on that key does not."""
        deep = operations({"type": "set", "path": "x", "value": json.loads("[" * 120 + "]" * 120)})
        failed = self.values.update(("s",), "k", deep)
        after = self.values.update(("s",), "k", ADD)
        try:
            await failed
        except StorageError as error:
            self.assertIn("deeper than 120 levels", str(error))
        else:
            self.fail("stored")
        self.assertEqual((await after).new, b'{"n":1}')

    async def test_any_texts(self: Any) -> None:
        """Any text is a scope and a key, and no two are mixed up."""
        places = [((scope,), key) for scope in KEYS for key in KEYS]
        await gatherResults([self.values.put(*place, json.dumps(place).encode()) for place in places])
        for place in places:
            self.assertEqual(await self.values.get(*place), json.dumps(place).encode())
        self.assertEqual(await self.values.collections(), sorted((key,) for key in KEYS))
        listed = await self.values.items((":",))
        self.assertEqual(dict(listed), {key: json.dumps([[":"], key]).encode() for key in KEYS})

    async def test_items(self: Any) -> None:
        """A listing has the keys and values of its collection; a key that is put again keeps its place."""
        for key in ("b", "c", "a", "b", "0"):
            await self.values.put(("s",), key, f'"{key}"'.encode())
        await self.values.put(("t",), "other", b"1")
        await self.values.delete(("s",), "c")
        order = "ba0" if self.in_order else "0ab"
        self.assertEqual(await self.values.items(("s",)), [(key, f'"{key}"'.encode()) for key in order])
        self.assertEqual(await self.values.items(("none",)), [])

    async def test_large_listing(self: Any) -> None:
        """A listing of too many bytes of keys and values is refused; one that has just enough is not."""
        for number in range(10):
            await self.values.put(("s",), str(number), b'"%s"' % (b"x" * (LIST_BYTES // 10 - 3)))
        self.assertEqual(len(await self.values.items(("s",))), 10)
        await self.values.put(("s",), "x", b"1")
        try:
            await self.values.items(("s",))
        except TooMuchToList as error:
            self.assertEqual(error.limit, LIST_BYTES)
        else:
            self.fail("listed")

    async def test_collections(self: Any) -> None:
        """Collections are there while they have values, sorted."""
        self.assertEqual(await self.values.collections(), [])
        for scope in ("b", "a", "", "é", "a:b"):
            await self.values.put((scope,), "k", b"1")
        await self.values.update(("u",), "k", ADD)
        await self.values.delete(("b",), "k")
        self.assertEqual(await self.values.collections(), [("",), ("a",), ("a:b",), ("u",), ("é",)])
        self.assertEqual(await self.values.collections(("a",)), [("a",)])

    async def test_concurrent_updates(self: Any) -> None:
        """Of 500 updates that are asked for at once none is lost, and each sees what those before have done."""
        push = [operations({"type": "append", "path": "l", "value": number}) for number in range(250)]
        answers = []
        for operation in push:
            answers += [self.values.update(("s",), "k", ADD), self.values.update(("s",), "k", operation)]
        answered = await gatherResults(answers)
        final = json.loads(await self.values.get(("s",), "k"))
        self.assertEqual(final, {"n": 250, "l": list(range(250))})
        for before, after in pairwise(answered):
            self.assertEqual(after.old, before.new)

    async def test_order(self: Any) -> None:
        """Changes of a key are applied, and answered, in the order in which they were asked for."""
        chance, answers, order = random.Random(5), [], []
        value, expected = None, []
        for number in range(300):
            kind = chance.choice(("put", "delete", "update"))
            if kind == "put":
                answer: Deferred[Any] = self.values.put(("s",), "k", b"%d" % number)
                expected.append(value)
                value = b"%d" % number
            elif kind == "delete":
                answer = self.values.delete(("s",), "k")
                expected.append(value)
                value = None
            else:
                answer = self.values.update(("s",), "k", operations({"type": "set", "path": "", "value": number}))
                answer.addCallback(lambda updated: updated.old)
                expected.append(value)
                value = b"%d" % number
            answer.addCallback(lambda old, number=number: order.append(number) or old)
            answers.append(answer)
        self.assertEqual(await gatherResults(answers), expected)
        self.assertEqual(order, list(range(300)))
        self.assertEqual(await self.values.get(("s",), "k"), value)

    async def test_large_value(self: Any) -> None:
        """Values of megabytes are kept whole."""
        value = json.dumps({"text": "é\0" * 1_000_000, "n": 0}, separators=(",", ":")).encode()
        await self.values.put(("s",), "k", value)
        await self.values.update(("s",), "k", ADD)
        self.assertEqual(await self.values.get(("s",), "k"), value[:-2] + b"1}")
