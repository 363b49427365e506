"""The bound on requests in progress (spec/http.md, A13: C{concurrency_request_limit})."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Entrant(Protocol):
    """What passes the gate."""

    def admitted(self) -> None:
        """It may begin now."""


class Gate:
    """
    Lets so many in at a time, in the order in which they came.

    As many again may wait.  Each that was let in or waits says when it leaves.

    @ivar free: How many more would be let in now.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.free = limit, limit
        self._waiting: OrderedDict[Entrant, None] = OrderedDict()
        self._admitting = False

    def enter(self) -> bool:
        """Let one more in at once, if that is possible; who is not let in may L{wait}."""
        if not self.free or self._waiting:
            return False
        self.free -= 1
        return True

    def wait(self, entrant: Entrant) -> bool:
        """Admit it later; C{False} when too many wait already."""
        if len(self._waiting) >= self.limit:
            return False
        self._waiting[entrant] = None
        return True

    def leave(self, entrant: Entrant) -> None:
        """It has finished, or waits no longer."""
        if entrant in self._waiting:
            del self._waiting[entrant]
            return
        self.free += 1
        if self._admitting or not self._waiting:
            return
        self._admitting = True  # whoever finishes while being admitted comes here again: a loop, no recursion
        try:
            while self.free and self._waiting:
                following, _ = self._waiting.popitem(last=False)
                self.free -= 1
                following.admitted()
        finally:
            self._admitting = False
