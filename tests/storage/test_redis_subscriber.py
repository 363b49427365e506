"""Who waits for a subscription.  The rest is tested with a real server (tests/integration)."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.storage.errors import StorageError
from iii.storage.redis_subscriber import RedisSubscriber


def listener(channel: bytes, message: bytes) -> None:
    """Nothing is published here."""


class WaitingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.subscriber = RedisSubscriber("redis://localhost", cast(Any, Clock()))

    def test_given_up(self) -> None:
        """Nothing is kept of those who have given up waiting; the others wait on."""
        waiting = [self.subscriber.subscribe(b"c", listener) for _ in range(3)]
        for given_up in waiting[:2]:
            given_up.cancel()
            self.failureResultOf(given_up, CancelledError)
        self.assertEqual(list(self.subscriber._waiting.values()), [[waiting[2]]])
        self.subscriber.unsubscribe(b"c", listener)
        self.assertNoResult(waiting[2])

    def test_one_gives_up_another(self) -> None:
        """Whoever hears of the stop may give up others that wait."""
        first, second = (self.subscriber.subscribe(b"c", listener) for _ in range(2))
        first.addErrback(lambda failure: (failure.trap(StorageError), second.cancel()))
        self.successResultOf(Deferred.fromCoroutine(self.subscriber.stop()))
        self.failureResultOf(second, CancelledError)
