"""A store on a directory of its own, for one test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from iii.storage.file import StoreFile
from iii.storage.sqlite import Store

LIST_BYTES = 1_000_000
CACHE_BYTES = 100_000


class StoreCase(TestCase):
    """
    Opens stores that are closed when the test ends.

    @ivar directory: Where they are.
    """

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.stores: list[Store] = []
        self.addCleanup(self._close)

    def open(self, clock: Any = reactor, **options: Any) -> Store:
        """Return a store, which is running."""
        options = {"max_bytes": 2**30, "backlog_bytes": 2**20, **options}
        store = Store(StoreFile(self.directory), clock, reactor.callFromThread, **options)
        store.startService()
        self.stores.append(store)
        return store

    async def close(self, store: Store) -> None:
        """Stop a store before the test ends."""
        self.stores.remove(store)
        await store.stopService()

    async def _close(self) -> None:
        for store in self.stores:
            await store.stopService()


async def failure_of(waiting: Deferred[Any], kind: type[Exception]) -> str:
    """Return the text of the error that a Deferred fails with, of that kind."""
    try:
        result = await waiting
    except kind as error:
        return str(error)
    raise AssertionError(f"{result!r} instead of {kind.__name__}")
