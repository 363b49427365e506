"""
Calls that wait for one another: sources that promise order, such as the events of one worker or of one key, call a
function again only when it has answered the call before (DESIGN.md, 4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from functools import partial

from msgspec import Raw
from twisted.logger import Logger

from iii.core.engine import Engine
from iii.core.errors import BacklogFull
from iii.core.invocations import Call, Completion, error_body
from iii.wire.messages import ABSENT, DEFAULT_NAMESPACE, ErrorBody

Done = Callable[[], None]
"""Says that a piece of work has ended; only the first time counts."""


class Turns:
    """
    Does the work of one key piece after piece, that of different keys concurrently.

    A key is in it while its work is under way; its length is the number of these.
    """

    log = Logger()

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}  # a key is here while its work is under way

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._waiting

    def take(self, key: Hashable, work: Callable[[Done], None]) -> bool:
        """
        Start a piece of work when all earlier ones of this key have ended: perhaps before this returns.

        @param work: Given what it calls when it has ended, however it did; raising ends it, too.
        @return: C{False}: C{ordered_backlog} pieces wait already, and this one is not done; that has been counted.
        """
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            self._start(key, work)
        elif len(waiting) < self._engine.limits.ordered_backlog:
            waiting.append(partial(self._start, key, work))
        else:
            self._engine.counters.hit("ordered_backlog")
            return False
        return True

    def _start(self, key: Hashable, work: Callable[[Done], None]) -> None:
        ended = False

        def done() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._next(key)

        try:
            work(done)
        except Exception:  # a defect; what waits goes on
            self.log.failure("work in turn has failed")
            done()

    def _next(self, key: Hashable) -> None:
        waiting = self._waiting[key]
        if waiting:
            self._engine.clock.callLater(0, waiting.popleft())
        else:
            del self._waiting[key]


class OrderedCalls:
    """
    Makes the calls of one key one after the other, those of different keys concurrently.

    Its length is the number of keys with a call under way.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self._turns = engine, Turns(engine)

    def __len__(self) -> int:
        return len(self._turns)

    def invoke(
        self,
        key: Hashable,
        function_id: str,
        data: Raw,
        complete: Completion,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        metadata: Raw = ABSENT,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """
        Call a function when all earlier calls of this key have ended, however they did.

        @param complete: As for L{Engine.invoke}; gets a L{BacklogFull} when too many wait, and then no call is made.
        @param wanted: Asked when its turn comes; C{False} leaves the call out, and C{complete} hears nothing.
        """

        def work(done: Done) -> None:
            def ended(call: Call, result: Raw, error: ErrorBody | None) -> None:
                try:
                    complete(call, result, error)
                finally:
                    done()

            if wanted():
                self._engine.invoke(function_id, data, ended, namespace=namespace, metadata=metadata)
            else:
                done()

        if not self._turns.take(key, work):
            full = BacklogFull(function_id, self._engine.limits.ordered_backlog)
            complete(Call(function_id, complete, 0.0), ABSENT, error_body(full))
