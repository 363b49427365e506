"""Tests for L{iii.modules.engine_functions.channels}."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.core.fakes import FakeSocket, FakeWorker
from tests.modules.engine_functions.case import EngineFunctionsTestCase

CREATE = "engine::channels::create"


class CreateTests(EngineFunctionsTestCase):
    def _size(self, **request: object) -> int:
        """Make a channel and return how many messages it keeps before its writer is paused."""
        ref = self.ask(CREATE, **request)["writer"]
        channel, writer = self.engine.channels.find(ref["channel_id"], ref["access_key"]), FakeSocket()
        assert channel is not None
        channel.attach_writer(writer)
        size = 0
        while not writer.events:
            channel.write(b"x", True)
            size += 1
        return size

    def test_refs(self) -> None:
        """Both ends have the channel's id and key; they differ in their direction."""
        ends = self.ask(CREATE)
        writer, reader = ends["writer"], ends["reader"]
        self.assertEqual(set(ends), {"writer", "reader"})
        self.assertEqual((writer.pop("direction"), reader.pop("direction")), ("write", "read"))
        self.assertEqual(writer, reader)
        self.assertEqual(set(writer), {"channel_id", "access_key"})
        self.assertIsNotNone(self.engine.channels.find(writer["channel_id"], writer["access_key"]))

    def test_size(self) -> None:
        """The buffer has the size asked for, between 1 and 1024 messages; absent and null are 64."""
        self.assertEqual(self._size(), 64)
        self.assertEqual(self._size(buffer_size=None), 64)
        self.assertEqual(self._size(buffer_size=7), 7)
        self.assertEqual(self._size(buffer_size=0), 1)
        self.assertEqual(self._size(buffer_size=1025), 1024)

    def test_no_size(self) -> None:
        """A size below zero or with a fraction is an error."""
        for size in (-1, 1.5, "8"):
            code, message = self.ask_in_vain(CREATE, buffer_size=size)
            self.assertEqual(code, "deserialization_error")
            self.assertTrue(message.startswith(f"Failed to deserialize input for {CREATE}: "), message)


class LimitTests(EngineFunctionsTestCase):
    """At most 3 channels, of one connection 2."""

    limits: ClassVar[dict[str, int]] = {"channels": 3, "channels_per_connection": 2}

    def _create(self, worker: FakeWorker) -> Any:
        return worker.outcome(worker.call(CREATE, {}))

    def test_connection(self) -> None:
        """One connection can make so many; others still can, and so can the engine."""
        one, two = self.connect("one"), self.connect("two")
        for _ in range(2):
            self.assertIn("writer", self._create(one))
        self.assertEqual(
            self._create(one),
            ("too_many_channels", "at most 2 channels made by one connection may exist at one time"),
        )
        self.assertIn("writer", self._create(two))
        self.assertEqual(
            self._create(two), ("too_many_channels", "at most 3 channels made by functions may exist at one time")
        )
        self.assertEqual(self.engine.counters.limit_hits, {"channels_per_connection": 1, "channels": 1})

    def test_gone(self) -> None:
        """Channels that nobody has joined go with the connection that has made them."""
        one = self.connect("one")
        self._create(one)
        self.ask(CREATE)
        one.leave()
        self.assertEqual(len(self.engine.channels), 1)

    def test_stopped(self) -> None:
        """Once stopped, the module does not follow the connections any more."""
        self.module.stopService()
        self.assertEqual(self.engine.on_disconnected, [])
        self.module.startService()
