"""Tests for L{iii.core.announcement}."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from iii.core.announcement import Announcement, MiB, Telemetry


class AnnouncementTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Names and descriptions lose what could garble a listing."""
        for text, expected in (
            ("shop", "shop"),
            (" sh\nop\x00\x7f\x9b ", "shop"),
            ("\u202ea\u2066b\u2028c\u2029", "abc"),
            ("é" * 300, "é" * 280),
            (" \t", None),
            ("", None),
            (None, None),
        ):
            announcement = Announcement(name=text, description=text)
            self.assertEqual((announcement.name, announcement.description), (expected, expected))

    def test_decoded(self) -> None:
        """It is what SDKs send; null is absent and unknown members are ignored."""
        said = msgspec.json.decode(
            b'{"runtime":"python","name":"host:4711","pid":4711,"isolation":null,"namespace":null,"features":null,'
            b'"telemetry":{"language":"en","amplitude_api_key":"x"},"_caller_worker_id":"1"}',
            type=Announcement,
        )
        self.assertEqual(
            said, Announcement(runtime="python", name="host:4711", pid=4711, telemetry=Telemetry(language="en"))
        )

    def test_updated(self) -> None:
        """Said again, runtime, version and telemetry are replaced, the rest only when given."""
        first = Announcement("python", "1", "shop", "Sells", "Linux", 1, "docker", telemetry=Telemetry("en"))
        self.assertEqual(
            first.updated(Announcement(os="BSD")), Announcement(None, None, "shop", "Sells", "BSD", 1, "docker")
        )

    def test_size(self) -> None:
        """What the SDK takes without closing its connection depends on its language and version."""
        for runtime, version, expected in (
            ("python", "0.23.9", 1),
            ("python", "0.24.0", 64),
            ("python", "1.0.0", 64),
            ("python", "0.9.0", 1),
            ("rust", "0.24.1", 16),
            ("rust", "0.25.0", 64),
            ("node", "0.2.1", 64),
            ("python", "unreadable", 64),
            ("python", None, 64),
            (None, "0.1.0", 64),
        ):
            self.assertEqual(Announcement(runtime, version).accepts_bytes, expected * MiB, (runtime, version))

    def test_large_messages(self) -> None:
        """An SDK that says so takes large messages whatever its version."""
        self.assertEqual(Announcement("python", "0.1.0", features=["large-messages.v1"]).accepts_bytes, 64 * MiB)

    def test_small(self) -> None:
        """Whatever is sent, what is kept is small."""
        text = 10_000 * "x"
        said = Announcement(
            text, text, text, text, text, None, text, telemetry=Telemetry(text, text, text), features=[text] * 1000
        )
        self.assertLess(len(msgspec.json.encode(said)), 15_000)
        self.assertEqual((said.os, said.isolation), (280 * "x", 280 * "x"))

    def test_long_namespace(self) -> None:
        """A namespace cannot be shortened: a long one is an error."""
        self.assertRaises(
            msgspec.ValidationError,
            msgspec.json.decode, b'{"namespace":"%s"}' % (1025 * b"x"), type=Announcement,
        )  # fmt: skip
