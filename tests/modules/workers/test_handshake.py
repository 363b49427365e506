"""Tests for L{iii.modules.workers.handshake}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.modules.workers.handshake import (
    ChannelPath,
    TelemetryPath,
    WorkerPath,
    check_token,
    destination,
    known,
)
from iii.wire.server import Refused


class DestinationTests(SynchronousTestCase):
    def test_paths(self) -> None:
        """Workers connect to C{/}, or to C{/ws} behind a documented proxy; telemetry to C{/otel}."""
        for path in ("/", "/ws", "/ws/"):
            self.assertEqual(destination(path, "any=query"), WorkerPath())
        for path in ("/otel", "/ws/otel"):
            self.assertEqual(destination(path, ""), TelemetryPath())

    def test_channel(self) -> None:
        """A channel's end is named by id, key and direction; other members of the query are ignored."""
        expected = ChannelPath("c1", "k1", "read")
        self.assertEqual(destination("/ws/channels/c1", "key=k1&dir=read"), expected)
        self.assertEqual(destination("/ws/ws/channels/c1", "tenant=7&dir=read&key=k1"), expected)

    def test_channel_without(self) -> None:
        """A channel's path without a key or a direction is a bad request."""
        for query in ("", "key=k", "dir=read", "key=&dir=read", "key=k&dir=both"):
            self.assertEqual(self.assertRaises(Refused, destination, "/ws/channels/c1", query).status, 400)

    def test_elsewhere(self) -> None:
        """Other paths lead nowhere."""
        for path in ("/x", "//", "/ws/channels/", "/ws/channels/a/b", "/otel/", "", "*"):
            self.assertFalse(known(path))
            self.assertEqual(self.assertRaises(Refused, destination, path, "").status, 404)


class TokenTests(SynchronousTestCase):
    def test_none_wanted(self) -> None:
        """Without a token configured, none is asked for."""
        check_token({}, None)

    def test_right(self) -> None:
        """The scheme's case does not matter (RFC 9110, 11.1)."""
        check_token({"authorization": "Bearer s3cret"}, "s3cret")
        check_token({"authorization": "bearer s3cret"}, "s3cret")

    def test_not_ascii(self) -> None:
        """A header's bytes, of which Autobahn makes a character each, are UTF-8."""
        check_token({"authorization": "Bearer " + "schlüssel".encode().decode("latin-1")}, "schlüssel")

    def test_wrong(self) -> None:
        """Anything else is refused."""
        for given in ("", "Bearer", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cret x", "Bearer ü"):
            refusal = self.assertRaises(Refused, check_token, {"authorization": given}, "s3cret")
            self.assertEqual(refusal.status, 401)
        self.assertEqual(self.assertRaises(Refused, check_token, {}, "s3cret").status, 401)
