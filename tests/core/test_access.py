"""Tests for L{iii.core.access}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.core.access import authorized


class AccessTests(SynchronousTestCase):
    def test_no_token(self) -> None:
        """Without a token configured everybody may pass, also with one."""
        self.assertTrue(authorized(None, None))
        self.assertTrue(authorized(b"Bearer x", None))

    def test_token(self) -> None:
        """The token is sent as a bearer token, whatever the case of the scheme; its bytes are UTF-8."""
        for given in (b"Bearer s3cret", b"bearer s3cret", b"BEARER  s3cret "):
            self.assertTrue(authorized(given, "s3cret"))
        self.assertTrue(authorized("Bearer schlüssel".encode(), "schlüssel"))

    def test_refused(self) -> None:
        """Nothing else passes."""
        for given in (None, b"", b"Bearer", b"Bearer ", b"s3cret", b"Basic s3cret", b"Bearer s3cre", b"Bearer s3cret x",
                      b"Bearer S3CRET", b"Bearer \xff"):  # fmt: skip
            self.assertFalse(authorized(given, "s3cret"), given)
