"""
Cron expressions (spec/cron.md, 2): pure, from a text to the times that match it.

The grammar is the contract's, and checked here.  What is found goes to croniter as plain lists of numbers, the form in
which both mean the same: day of month and day of week must both match (C{day_or}), croniter's Sunday is 0 and ours 1,
and years are dealt with here, because croniter knows none after 2099.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import cached_property

import attrs
from croniter import CroniterBadDateError, croniter

from iii.core.shown import shown

Values = tuple[int, ...]

MAX_LENGTH = 4096
"""Characters; all fields with all their values have half as many."""
RARE_YEARS = 50
"""A date that exists at all comes back so soon: a weekday on 29 February after 40 years at the latest."""

_NUMBER = re.compile(r"[0-9]{1,9}").fullmatch
_MONTHS = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
]  # fmt: skip
_DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
_MORE_DAYS = {"tues": 3, "thurs": 5}

SHORTHANDS = {
    "@yearly": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * Sun",
    "@daily": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}


class InvalidExpression(ValueError):
    """A text is no cron expression.  Its own text says what is wrong with which field, on one line."""


@attrs.frozen(kw_only=True)
class Field:
    """
    What may stand at one place of an expression.

    @ivar names: Texts for values, in lower case.
    @ivar question_mark: C{?} may stand for C{*}.
    """

    name: str
    first: int
    last: int
    names: dict[str, int] = attrs.field(factory=dict)
    question_mark: bool = False

    @property
    def all(self) -> Values:
        return tuple(range(self.first, self.last + 1))

    def parse(self, text: str) -> Values:
        """Return the values that a text means, ascending.  L{InvalidExpression} if it means none."""
        values: set[int] = set()
        for item in text.split(","):
            values.update(self._item(item))
        return tuple(sorted(values))

    def _item(self, item: str) -> range:
        base, slash, step_text = item.partition("/")
        step = 1
        if slash:
            step = self._number(step_text, 1, self.last, "a step")
        if base == "*" or (base == "?" and self.question_mark):
            return range(self.first, self.last + 1, step)
        start_text, dash, end_text = base.partition("-")
        if dash:
            start, end = self._range(start_text, end_text)
            return range(start, end + 1, step)
        start = self._value(base)
        if not slash:
            return range(start, start + 1)
        if not base[0].isdigit():
            raise self._error(f"{shown(item)} has a step after a single name; name a range, or use a number")
        return range(start, self.last + 1, step)

    def _range(self, start_text: str, end_text: str) -> tuple[int, int]:
        start, end = self._value(start_text), self._value(end_text)
        text = shown(f"{start_text}-{end_text}")
        if start_text[0].isdigit() != end_text[0].isdigit():
            raise self._error(f"the range {text} mixes a number and a name")
        if start > end:
            raise self._error(f"the range {text} is reversed")
        return start, end

    def _value(self, text: str) -> int:
        named = self.names.get(text.lower()) if text.isascii() else None
        return self._number(text, self.first, self.last, "a value") if named is None else named

    def _number(self, text: str, first: int, last: int, what: str) -> int:
        if not text:
            raise self._error(f"{what} is missing")
        if not _NUMBER(text):
            raise self._error(f"{shown(text)} is not {what}")
        if not first <= int(text) <= last:
            raise self._error(f"{text} is not {what} from {first} to {last}")
        return int(text)

    def _error(self, text: str) -> InvalidExpression:
        return InvalidExpression(f"{self.name}: {text}")


def _named(words: list[str]) -> dict[str, int]:
    return {text: number for number, word in enumerate(words, 1) for text in (word, word[:3])}


SECOND = Field(name="second", first=0, last=59)
MINUTE = Field(name="minute", first=0, last=59)
HOUR = Field(name="hour", first=0, last=23)
DAY = Field(name="day of month", first=1, last=31, question_mark=True)
MONTH = Field(name="month", first=1, last=12, names=_named(_MONTHS))
WEEKDAY = Field(name="day of week", first=1, last=7, names=_named(_DAYS) | _MORE_DAYS, question_mark=True)
YEAR = Field(name="year", first=1970, last=2100)
FIELDS = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, YEAR)


@attrs.frozen(kw_only=True)
class Expression:
    """
    The times of day and the days that match an expression, in whatever time zone.

    @ivar weekdays: 1 is Sunday.
    @ivar years: C{None}: all.
    @ivar warning: What its author may not have meant; empty for nothing.
    """

    seconds: Values
    minutes: Values
    hours: Values
    days: Values
    months: Values
    weekdays: Values
    years: Values | None = None
    warning: str = attrs.field(default="", eq=False)

    @classmethod
    def parse(cls, text: str) -> Expression:
        """
        Read an expression of five (second 0), six or seven fields, or a shorthand such as C{@daily}.

        @raise InvalidExpression: It is none.
        """
        if len(text) > MAX_LENGTH:
            raise InvalidExpression(f"it has more than {MAX_LENGTH} characters")
        words = text.split()
        if len(words) == 1 and words[0].startswith("@"):
            if words[0] not in SHORTHANDS:
                raise InvalidExpression(f"{shown(words[0])} is not known; known are {', '.join(SHORTHANDS)}")
            words = SHORTHANDS[words[0]].split()
        if len(words) == 5:
            words.insert(0, "0")
        if not 6 <= len(words) <= 7:
            raise InvalidExpression(
                f"it has {len(words)} fields; wanted are second (it may be left out), minute, hour, day of month, "
                "month, day of week and, if need be, year"
            )
        weekdays, warning = _weekdays(words[5])
        return cls(
            seconds=SECOND.parse(words[0]),
            minutes=MINUTE.parse(words[1]),
            hours=HOUR.parse(words[2]),
            days=DAY.parse(words[3]),
            months=MONTH.parse(words[4]),
            weekdays=weekdays,
            years=YEAR.parse(words[6]) if len(words) == 7 else None,
            warning=warning,
        )

    @property
    def every_hour(self) -> bool:
        """It names no hours."""
        return self.hours == HOUR.all

    @cached_property
    def _croniter(self) -> croniter:
        weekdays = tuple(value - 1 for value in self.weekdays)
        fields = (
            _plain(self.seconds, SECOND), _plain(self.minutes, MINUTE), _plain(self.hours, HOUR),
            _plain(self.days, DAY), _plain(self.months, MONTH), _plain(weekdays, WEEKDAY),
        )  # fmt: skip
        return croniter(
            " ".join(fields),
            datetime(1970, 1, 1),
            day_or=False,
            second_at_beginning=True,
            max_years_between_matches=RARE_YEARS,
        )

    def after(self, moment: datetime) -> datetime | None:
        """Return the first match after a moment, in whole seconds; C{None} when there is none any more."""
        while True:
            try:
                found: datetime = self._croniter.get_next(datetime, start_time=moment)
            except CroniterBadDateError:
                return None
            if self.years is None or found.year in self.years:
                return found
            following = [year for year in self.years if year > found.year]
            if not following:
                return None
            moment = datetime(following[0], 1, 1) - timedelta(seconds=1)


def _plain(values: Values, field: Field) -> str:
    return "*" if len(values) == field.last - field.first + 1 else ",".join(map(str, values))


def _weekdays(text: str) -> tuple[Values, str]:
    """
    Read the field with the two meanings: the contract counts from 1, its documentation, and crontab, from 0.

    C{0} is Sunday.  Beside other numbers it is refused, for whoever writes it means other days by them.
    """
    items = text.split(",")
    numeric = [item for item in items if item[:1].isdigit()]
    zeros = [item for item in numeric if not re.split("[-/]", item)[0].strip("0")]
    if not zeros:
        values = WEEKDAY.parse(text)
        if not numeric:
            return values, ""
        days = ", ".join(_DAYS[value - 1].capitalize() for value in values)
        return values, f"in the day of week {shown(text)} numbers count from 1 = Sunday, so it is {days}; use names"
    if len(zeros) < len(numeric) or any(item.strip("0") for item in zeros):
        raise InvalidExpression(
            f"day of week: {shown(text)}: 0 is Sunday only where it is the only number, because 1 is Sunday, too, and "
            "7 is Saturday; use names"
        )
    return WEEKDAY.parse(",".join("sun" if item in zeros else item for item in items)), ""
