"""The values that are kept in memory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.storage.cache import OVERHEAD, Cache


class CacheTests(SynchronousTestCase):
    def test_values(self) -> None:
        """What was put last is there, absence too; of the rest nothing is known."""
        cache = Cache(10_000)
        cache.put("k", b"1")
        cache.put("k", b"2")
        cache.put("gone", None)
        self.assertEqual((cache.get("k"), cache.get("gone")), (b"2", None))
        self.assertIn("gone", cache)
        self.assertNotIn("other", cache)
        self.assertRaises(KeyError, cache.get, "other")

    def test_bounded(self) -> None:
        """The longest unused are forgotten; what is larger than all is not kept."""
        cache = Cache(3 * (OVERHEAD + 10))
        for key in "abc":
            cache.put(key, b"x" * 10)
        cache.get("a")
        cache.put("d", b"x" * 10)
        self.assertEqual([key for key in "abcd" if key in cache], ["a", "c", "d"])
        cache.put("large", b"x" * 10_000)
        self.assertNotIn("large", cache)
        self.assertEqual(cache.size, 0)

    def test_size(self) -> None:
        """Replacing counts what is there, not what was."""
        cache = Cache(10_000)
        for size in (10, 500, 0, 20):
            cache.put("k", b"x" * size)
            self.assertEqual(cache.size, OVERHEAD + size)
        cache.put("k", None)
        self.assertEqual(cache.size, OVERHEAD)
