"""Moments at which something is to be looked at again: one timer for all of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

T = TypeVar("T")
SPARE = 100
"""Former moments that may be remembered."""


class Wakes(Generic[T]):
    """Calls back when the moment of something has come; of several moments of one thing, at the first one."""

    def __init__(self, clock: IReactorTime, wake: Callable[[T], None]) -> None:
        self._clock, self._wake = clock, wake
        self._at: dict[T, int] = {}
        self._order: list[tuple[int, int, T]] = []
        self._numbers = count()
        self._timer: IDelayedCall | None = None
        self._timer_ms = 0

    def __len__(self) -> int:
        """How many things have a moment."""
        return len(self._at)

    def at(self, thing: T, moment_ms: int) -> None:
        """Look at a thing then, in milliseconds since the epoch, or before."""
        present = self._at.get(thing)
        if present is not None and present <= moment_ms:
            return
        self._at[thing] = moment_ms
        heapq.heappush(self._order, (moment_ms, next(self._numbers), thing))
        if len(self._order) > 2 * len(self._at) + SPARE:
            self._forget_former()
        self._schedule()

    def _forget_former(self) -> None:
        """Leave only the moments that count: things whose moments come nearer and nearer would heap up former ones."""
        order = {entry[2]: entry for entry in self._order if self._at.get(entry[2]) == entry[0]}
        self._order = sorted(order.values())

    def stop(self) -> None:
        """Call nobody any more."""
        self._at.clear()
        self._order.clear()
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            if self._order and self._order[0][0] == self._timer_ms:
                return
            self._timer.cancel()
            self._timer = None
        if self._order:
            self._timer_ms = self._order[0][0]
            self._timer = self._clock.callLater(max(0.0, self._timer_ms / 1000 - self._clock.seconds()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = int(self._clock.seconds() * 1000)
        if self._order and self._order[0][0] > now:  # rounding
            now = self._order[0][0] if self._order[0][0] - now <= 1 else now
        woken = []
        while self._order and self._order[0][0] <= now:
            moment, _, thing = heapq.heappop(self._order)
            if self._at.get(thing) == moment:
                del self._at[thing]
                woken.append(thing)
        self._schedule()
        for thing in woken:
            self._wake(thing)
