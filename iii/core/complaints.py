"""Warnings about one peer, or one disk, that do not fill the log, whatever it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from iii.core.shown import shown

NOTHING: Mapping[str, object] = MappingProxyType({})
INTERVAL = 1.0
"""Seconds between two warnings about one peer."""


class Complaints:
    """Passes on at most one warning in an interval; the next one says how many were left out before it."""

    def __init__(self, log: Logger, clock: IReactorTime) -> None:
        self._log, self._clock = log, clock
        self._next = float("-inf")
        self._left_out = 0

    def warn(self, format: str, marks: Mapping[str, object] = NOTHING, **values: Any) -> None:
        """
        Warn, or count the warning.

        @param format: As for L{Logger.warn}.
        @param marks: Members of the event beside its values.
        @param values: What stands in its braces; texts are made harmless here.
        """
        self._say(self._log.warn, format, marks, values)

    def error(self, format: str, **values: Any) -> None:
        """Likewise about what is wrong with the engine's surroundings, such as a disk that fails."""
        self._say(self._log.error, format, NOTHING, values)

    def _say(
        self, log: Callable[..., None], format: str, marks: Mapping[str, object], values: Mapping[str, Any]
    ) -> None:
        now = self._clock.seconds()
        if now < self._next:
            self._left_out += 1
            return
        self._next = now + INTERVAL
        if self._left_out:
            format += " (and {left_out} more warnings before it)"
        harmless = {name: shown(value) if isinstance(value, str) else value for name, value in values.items()}
        log(format, left_out=self._left_out, **harmless, **marks)
        self._left_out = 0
