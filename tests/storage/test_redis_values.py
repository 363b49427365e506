"""What waits for updates of values in Redis.  The rest is tested with a real server (tests/integration)."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from iii.storage import redis_values
from iii.storage.errors import StorageError
from iii.storage.redis import RedisLink
from iii.storage.redis_values import RedisValues


class Link:
    """Keeps commands unanswered."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def execute(self, *command: object) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]


class WaitingTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """When too much waits, one more update is refused, and nothing is kept of it."""
        self.patch(redis_values, "MAX_WAITING", 1)
        link = Link()
        values = RedisValues(cast(RedisLink, link), "state:", 1000)
        first = values.update(("s",), "a", [])
        refusal = self.failureResultOf(values.update(("s",), "b", []), StorageError)
        self.assertIn("1 changes wait for updates of their keys already", refusal.getErrorMessage())
        link.asked[0].errback(StorageError("gone"))
        self.failureResultOf(first, StorageError)
        self.assertEqual(values._changes, {})
