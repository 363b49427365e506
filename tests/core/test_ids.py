"""Tests for L{iii.core.ids}."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from twisted.trial.unittest import SynchronousTestCase

from iii.core.ids import new_id, next_id, ordered_id, random_hex


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

    def test_ordered(self) -> None:
        """Those that begin with their time are in its order, and random otherwise."""
        ids = [ordered_id(moment) for moment in (1, 1_000_000_000_000, 1_000_000_000_001) for _ in range(300)]
        self.assertEqual(len(set(ids)), 900)
        self.assertEqual([each[:13] for each in sorted(ids)], [each[:13] for each in ids])
        for each in ids:
            self.assertEqual((UUID(each).version, UUID(each).variant, str(UUID(each))), (4, RFC_4122, each))

    def test_random(self) -> None:
        """Random digits are as many as asked for, also across what is fetched at one time."""
        taken = [random_hex(31) for _ in range(2000)]
        self.assertEqual({len(each) for each in taken}, {31})
        self.assertEqual(len(set(taken)), 2000)
