"""Tests for L{iii.wire.server}; what a whole listener does is tested with the modules that listen."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.wire.server import Refused, check_origin


class OriginTests(SynchronousTestCase):
    def test_programs(self) -> None:
        """Programs send no origin and are let in."""
        check_origin({}, ())

    def test_loopback(self) -> None:
        """Pages from this machine are let in."""
        for origin in ("http://localhost", "https://localhost:3000", "http://app.localhost", "http://127.0.0.1:8080",
                       "http://127.9.9.9", "http://[::1]:5173"):  # fmt: skip
            check_origin({"origin": origin}, ())

    def test_listed(self) -> None:
        """A listed origin is let in, byte for byte; a star lists all."""
        check_origin({"origin": "https://app.example.com"}, ["https://app.example.com"])
        check_origin({"origin": "https://app.example.com"}, ["*"])

    def test_others(self) -> None:
        """Pages of other sites are not, whatever they look like."""
        for origin in ("https://example.com", "https://localhost.example.com", "null", "", "file://", "http://[::1",
                       "https://app.example.com:8443", "http://127.0.0.1.example.com"):  # fmt: skip
            refusal = self.assertRaises(Refused, check_origin, {"origin": origin}, ["https://app.example.com"])
            self.assertEqual(refusal.status, 403)
