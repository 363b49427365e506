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


class OrderedCalls:
    """
    Makes the calls of one key one after the other, those of different keys concurrently.

    Its length is the number of keys with a call under way.
    """

    log = Logger()

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}  # a key is here while a call is under way

    def __len__(self) -> int:
        return len(self._waiting)

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
        waiting = self._waiting.get(key)
        make = partial(self._make, key, function_id, data, complete, namespace, metadata, wanted)
        limit = self._engine.limits.ordered_backlog
        if waiting is None:
            self._waiting[key] = deque()
            make()
        elif len(waiting) < limit:
            waiting.append(make)
        else:
            self._engine.counters.hit("ordered_backlog")
            complete(Call(function_id, complete, 0.0), ABSENT, error_body(BacklogFull(function_id, limit)))

    def _make(
        self,
        key: Hashable,
        function_id: str,
        data: Raw,
        complete: Completion,
        namespace: str,
        metadata: Raw,
        wanted: Callable[[], bool],
    ) -> None:
        def ended(call: Call, result: Raw, error: ErrorBody | None) -> None:
            try:
                complete(call, result, error)
            finally:
                self._next(key)

        try:
            made = wanted()
            if made:
                self._engine.invoke(function_id, data, ended, namespace=namespace, metadata=metadata)
        except Exception:  # a defect; what waits goes on
            self.log.failure("an ordered call of {function} failed", function=function_id)
            made = False
        if not made:
            self._next(key)

    def _next(self, key: Hashable) -> None:
        waiting = self._waiting[key]
        if waiting:
            self._engine.clock.callLater(0, waiting.popleft())
        else:
            del self._waiting[key]
