"""Tests for L{iii.core.ids}."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from twisted.trial.unittest import SynchronousTestCase

from iii.core.ids import new_id, next_id


class NewIdTests(SynchronousTestCase):
    def test_uuid(self) -> None:
        """Ids are random UUIDs of version 4."""
        ids = {new_id() for _ in range(1000)}
        self.assertEqual(len(ids), 1000)
        for each in ids:
            self.assertEqual((str(UUID(each)), UUID(each).version, UUID(each).variant), (each, 4, RFC_4122))

    def test_next(self) -> None:
        """The quick ones have the form, too, and are never twice the same."""
        ids = [next_id() for _ in range(1000)]
        self.assertEqual(len(set(ids)), 1000)
        for each in ids:
            self.assertEqual((UUID(each).version, str(UUID(each))), (4, each))
