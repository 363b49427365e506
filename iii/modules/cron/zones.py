"""
When a schedule is due: from matching local times to instants.

An instant is a whole number of seconds since 1970, UTC.  Where clocks are set back or forward, this is the rule:

- A schedule that names hours is for people.  A time that does not exist on that day is due at the moment at which the
  clocks are set forward, so that no day is left out; a time that comes twice is due at the first one.
- A schedule that runs in every hour goes by intervals.  Times that do not exist are left out, for the next hour comes;
  times that come twice are due twice, so that there is no gap of an hour.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from iii.modules.cron.grammar import Expression

SECOND = timedelta(seconds=1)


class Occurrences(Protocol):
    """The instants at which a job is due."""

    def after(self, instant: int) -> int | None:
        """Return the first one after an instant; C{None} when there is none any more."""


class Once:
    """One instant."""

    def __init__(self, instant: int) -> None:
        self.instant = instant

    def after(self, instant: int) -> int | None:
        return self.instant if self.instant > instant else None


class InUtc:
    """The instants that match an expression in UTC."""

    def __init__(self, expression: Expression) -> None:
        self._expression = expression

    def after(self, instant: int) -> int | None:
        found = self._expression.after(_utc(instant))
        return None if found is None else _seconds(found)


class InZone:
    """The instants that match an expression in a time zone."""

    def __init__(self, expression: Expression, zone: ZoneInfo) -> None:
        self._expression, self._zone = expression, zone

    def after(self, instant: int) -> int | None:
        return self._by_interval(instant) if self._expression.every_hour else self._by_clock(instant)

    def _by_clock(self, instant: int) -> int | None:
        local = self._local(instant)
        if local.fold:  # up to the end of what comes twice, all was due in the first pass
            change = self._change_near(local.replace(tzinfo=None))
            local = self._wall(change - 1, change) - SECOND
        found: datetime | None = local.replace(tzinfo=None, fold=0)
        while (found := self._expression.after(found)) is not None:  # type: ignore[arg-type]
            due = self._instant(found)
            if not self._exists(found):
                due = self._change_near(found)
            if due > instant:
                return due
        return None

    def _by_interval(self, instant: int) -> int | None:
        local = self._local(instant)
        found = self._expression.after(local.replace(tzinfo=None, fold=0))
        if not local.fold and self._comes_twice(local.replace(tzinfo=None)):
            change = self._change_near(local.replace(tzinfo=None))
            if found is None or _seconds(found) - self._offset(change - 1) >= change:  # the first pass has no more
                found = self._expression.after(self._wall(change, change) - SECOND)
                return None if found is None else self._instant(found, fold=1)
        while found is not None and not self._exists(found):
            change = self._change_near(found)
            found = self._expression.after(self._wall(change, change) - SECOND)
        return None if found is None else self._instant(found, fold=local.fold)

    def _local(self, instant: int) -> datetime:
        return datetime.fromtimestamp(instant, UTC).astimezone(self._zone)

    def _offset(self, instant: int) -> int:
        return round(self._local(instant).utcoffset().total_seconds())  # type: ignore[union-attr]

    def _instant(self, wall: datetime, fold: int = 0) -> int:
        return int(wall.replace(tzinfo=self._zone, fold=fold).timestamp())

    def _wall(self, before: int, instant: int) -> datetime:
        """What clocks show at an instant that had the offset of another one."""
        return _utc(instant + self._offset(before))

    def _exists(self, wall: datetime) -> bool:
        return self._local(self._instant(wall)).replace(tzinfo=None, fold=0) == wall

    def _comes_twice(self, wall: datetime) -> bool:
        return self._instant(wall, fold=1) > self._instant(wall)

    def _change_near(self, wall: datetime) -> int:
        """Return the instant at which clocks are changed, of a time that does not exist because of that, or twice."""
        before, after = sorted((self._instant(wall), self._instant(wall, fold=1)))
        before -= 1
        offset = self._offset(before)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after


def _utc(instant: int) -> datetime:
    return datetime.fromtimestamp(instant, UTC).replace(tzinfo=None)


def _seconds(wall: datetime) -> int:
    return int(wall.replace(tzinfo=UTC).timestamp())
