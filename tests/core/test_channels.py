"""Tests for L{iii.core.channels}."""

from __future__ import annotations

from uuid import UUID

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.channels import EXPIRY, Channels
from iii.core.errors import TooManyChannels
from tests.core.fakes import FakeSocket

A, B, C = (b"a", True), (b"b", False), (b"c", True)


class ChannelTests(SynchronousTestCase):
    """One channel, which keeps 2 messages or 10 bytes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.channels = Channels(self.clock, 3, 10)
        self.channel = self.channels.create(2)
        self.writer, self.reader = FakeSocket(), FakeSocket()

    def attach(self) -> None:
        self.channel.attach_writer(self.writer)
        self.channel.attach_reader(self.reader)

    def write(self, *messages: tuple[bytes, bool]) -> None:
        for message in messages:
            self.channel.write(*message)

    def known(self) -> bool:
        return self.channels.find(self.channel.id, self.channels.key(self.channel.id)) is not None

    def test_order(self) -> None:
        """Messages of both kinds come in their order."""
        self.attach()
        self.write(A, B, C)
        self.assertEqual(self.reader.events, [A, B, C])

    def test_writer_first(self) -> None:
        """A reader that comes later gets what was written before, also when the writer has closed."""
        self.channel.attach_writer(self.writer)
        self.write(A, B)
        self.channel.end()
        self.channel.attach_reader(self.reader)
        self.assertEqual(self.reader.events, [A, B, "finish"])

    def test_taken(self) -> None:
        """Each end can be taken once; the first is not disturbed."""
        self.attach()
        self.assertFalse(self.channel.attach_writer(FakeSocket()))
        self.assertFalse(self.channel.attach_reader(FakeSocket()))
        self.write(A)
        self.assertEqual(self.reader.events, [A])

    def test_full(self) -> None:
        """With so many messages in between the writer is not read from until there is room."""
        self.channel.attach_writer(self.writer)
        self.write(A)
        self.assertEqual(self.writer.events, [])
        self.write(B)
        self.assertEqual(self.writer.events, ["pause"])
        self.channel.attach_reader(self.reader)
        self.assertEqual(self.writer.events, ["pause", "resume"])

    def test_full_of_bytes(self) -> None:
        """So it is with so many bytes."""
        self.channel.attach_writer(self.writer)
        self.write((b"x" * 10, True))
        self.assertEqual(self.writer.events, ["pause"])

    def test_slow_reader(self) -> None:
        """A reader that takes nothing now gets the messages later, in order."""
        self.attach()
        self.reader.full = True
        self.write(A, B)
        self.assertEqual((self.reader.events, self.writer.events), ([], ["pause"]))
        self.reader.full = False
        self.channel.reader_ready()
        self.write(C)
        self.assertEqual((self.reader.events, self.writer.events), ([A, B, C], ["pause", "resume"]))

    def test_frames_behind_the_pause(self) -> None:
        """What a paused writer still sends is kept, and it is told once."""
        self.channel.attach_writer(self.writer)
        self.write(A, B, C)
        self.channel.attach_reader(self.reader)
        self.assertEqual(self.writer.events, ["pause", "resume"])
        self.assertEqual(self.reader.events, [A, B, C])

    def test_end(self) -> None:
        """When the writer closes, the reader gets everything, then the end; the channel is gone."""
        self.attach()
        self.reader.full = True
        self.write(A)
        self.channel.end()
        self.assertEqual(self.reader.events, [])
        self.reader.full = False
        self.channel.reader_ready()
        self.assertEqual(self.reader.events, [A, "finish"])
        self.assertFalse(self.known())
        self.assertEqual(self.writer.events, [])

    def test_reader_gone(self) -> None:
        """When the reader goes, the writer is told once, and the channel is gone."""
        self.attach()
        self.channel.drop()
        self.channel.drop()
        self.assertEqual(self.writer.events, ["finish"])
        self.assertFalse(self.known())

    def test_reader_gone_first(self) -> None:
        """When the reader goes before a writer comes, there is no channel to write to."""
        self.channel.attach_reader(self.reader)
        self.channel.drop()
        self.assertFalse(self.known())

    def test_expiry(self) -> None:
        """A channel of which an end did not come in time is closed to both."""
        for end, attach in ((self.writer, "attach_writer"), (self.reader, "attach_reader")):
            channel = self.channels.create()
            getattr(channel, attach)(end)
        self.clock.advance(EXPIRY - 1)
        self.channels.sweep()
        self.assertEqual((len(self.channels), self.writer.events), (3, []))
        self.clock.advance(1)
        self.channels.sweep()
        self.assertEqual((len(self.channels), self.writer.events, self.reader.events), (0, ["finish"], ["finish"]))

    def test_no_expiry(self) -> None:
        """A channel with both ends does not expire."""
        self.attach()
        self.clock.advance(10 * EXPIRY)
        self.channels.sweep()
        self.assertTrue(self.known())
        self.assertEqual((self.writer.events, self.reader.events), ([], []))


class ChannelsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.channels = Channels(Clock(), 2, 10)

    def test_ref(self) -> None:
        """A reference has the id, the key and the direction; id and key are UUIDs."""
        channel = self.channels.create()
        ref = self.channels.ref(channel, "read")
        self.assertEqual(
            ref, {"channel_id": channel.id, "access_key": self.channels.key(channel.id), "direction": "read"}
        )
        for name in ("channel_id", "access_key"):
            UUID(ref[name])

    def test_key(self) -> None:
        """Whoever has the key, and only they, find the channel."""
        channel, other = self.channels.create(), self.channels.create()
        key = self.channels.key(channel.id)
        self.assertIs(self.channels.find(channel.id, key), channel)
        for wrong in ("", "é", self.channels.key(other.id)):
            self.assertIsNone(self.channels.find(channel.id, wrong))

    def test_gone(self) -> None:
        """A channel that is gone can be told from one that never was."""
        channel = self.channels.create()
        key = self.channels.key(channel.id)
        channel.drop()
        self.assertIsNone(self.channels.find(channel.id, key))
        self.assertTrue(self.channels.genuine(channel.id, key))
        self.assertFalse(self.channels.genuine("x", key))

    def test_secret(self) -> None:
        """Keys cannot be guessed from ids: another engine makes others."""
        self.assertNotEqual(self.channels.key("x"), Channels(Clock(), 1, 1).key("x"))

    def test_limit(self) -> None:
        """At most so many channels exist, 2 here; when one has gone there is room."""
        channel = self.channels.create()
        self.channels.create()
        self.assertRaises(TooManyChannels, self.channels.create)
        channel.drop()
        self.channels.create()

    def test_size(self) -> None:
        """The number of messages kept is brought into 1 to 1024."""
        for asked, kept in ((0, 1), (1, 1), (1024, 1024), (5000, 1024)):
            channel, writer = Channels(Clock(), 1, 10_000).create(asked), FakeSocket()
            channel.attach_writer(writer)
            count = 0
            while not writer.events:
                channel.write(b"x", True)
                count += 1
            self.assertEqual(count, kept)

    def test_apart(self) -> None:
        """Channels that were made leave no less room for promised ones, nor the other way round."""
        made = [self.channels.create(maker="w") for _ in range(2)]
        ids = self.channels.promise(lambda channel: None, lambda channel: None)
        for promised in (True, False):
            self.assertRaises(TooManyChannels, self.channels.promise, lambda channel: None, lambda channel: None)
            self.assertRaises(TooManyChannels, self.channels.create)
            if promised:
                self.channels.redeem(ids[0])
        self.channels.withdraw(ids)
        made[0].drop()
        self.channels.create()
        self.channels.promise(lambda channel: None, lambda channel: None)
        self.assertEqual(len(self.channels), 4)

    def test_maker(self) -> None:
        """It is known how many channels of whom exist."""
        channel = self.channels.create(maker="w")
        self.channels.create(maker="v")
        self.assertEqual([self.channels.made_by(maker) for maker in ("w", "v", "u")], [1, 1, 0])
        channel.drop()
        channel.drop()
        self.assertEqual(self.channels.made_by("w"), 0)

    def test_maker_gone(self) -> None:
        """What a connection has made and nobody has joined goes with it; the rest goes on."""
        channels = Channels(Clock(), 9, 10)
        unused, written, read, foreign = (channels.create(maker=maker) for maker in "wwwv")
        written.attach_writer(FakeSocket())
        read.attach_reader(FakeSocket())
        channels.maker_gone("w")
        channels.maker_gone("unknown")
        found = [channels.find(each.id, channels.key(each.id)) for each in (unused, written, read, foreign)]
        self.assertEqual(found, [None, written, read, foreign])
