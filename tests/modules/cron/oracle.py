"""The slow reading of spec/cron.md, 2: what an expression matches, found by looking at every value and every day."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

RANGES = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (1, 7), (1970, 2100))
MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11,
    "dec": 12, "january": 1, "february": 2, "march": 3, "april": 4, "june": 6, "july": 7, "august": 8, "september": 9,
    "october": 10, "november": 11, "december": 12,
}  # fmt: skip
DAYS = {
    "sun": 1, "mon": 2, "tue": 3, "tues": 3, "wed": 4, "thu": 5, "thurs": 5, "fri": 6, "sat": 7, "sunday": 1,
    "monday": 2, "tuesday": 3, "wednesday": 4, "thursday": 5, "friday": 6, "saturday": 7,
}  # fmt: skip
NAMES: tuple[dict[str, int], ...] = ({}, {}, {}, {}, MONTHS, DAYS, {})
QUESTION = (3, 5)


def field_values(place: int, text: str) -> set[int] | None:
    """The values of a field, by its place; C{None}: the contract refuses it."""
    low, high = RANGES[place]
    names = NAMES[place]
    found: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"(\*|\?|([0-9]+)(?:-([0-9]+))?|([a-zA-Z]+)(?:-([a-zA-Z]+))?)(?:/([0-9]+))?", item)
        if match is None:
            return None
        base, number, number_end, name, name_end, step_text = match.groups()
        step = 1
        if step_text is not None:
            step = int(step_text)
            if not 1 <= step <= high:
                return None
        if base in ("*", "?"):
            if base == "?" and place not in QUESTION:
                return None
            first, last = low, high
        elif number is not None:
            first = int(number)
            last = int(number_end) if number_end is not None else (high if step_text is not None else first)
        else:
            if name_end is None and step_text is not None:
                return None
            if name.lower() not in names or (name_end or name).lower() not in names:
                return None
            first, last = names[name.lower()], names[(name_end or name).lower()]
        if not low <= first <= last <= high:
            return None
        found |= {value for value in range(low, high + 1) if first <= value <= last and (value - first) % step == 0}
    return found


def fields(text: str) -> list[set[int]] | None:
    """The values of all seven fields; C{None}: the contract, which knows six fields or seven, refuses it."""
    words = text.split()
    if len(words) not in (6, 7):
        return None
    if len(words) == 6:
        words.append("*")
    found = [field_values(place, word) for place, word in enumerate(words)]
    return None if None in found else found  # type: ignore[return-value]


def matches_day(values: list[set[int]], day: datetime) -> bool:
    """Both day of month and day of week must match; Monday is 0 in Python, 2 in the contract."""
    weekday = (day.weekday() + 1) % 7 + 1
    return day.day in values[3] and day.month in values[4] and weekday in values[5] and day.year in values[6]


def matches(values: list[set[int]], moment: datetime) -> bool:
    return (
        moment.second in values[0]
        and moment.minute in values[1]
        and moment.hour in values[2]
        and matches_day(values, moment)
    )


def first_after(values: list[set[int]], moment: datetime) -> datetime | None:
    """Look at every day up to the end of 2100, and at every matching time of it."""
    day = moment.replace(hour=0, minute=0, second=0)
    while day.year <= 2100:
        if matches_day(values, day):
            for hour in sorted(values[2]):
                for minute in sorted(values[1]):
                    for second in sorted(values[0]):
                        found = day.replace(hour=hour, minute=minute, second=second)
                        if found > moment:
                            return found
        day += timedelta(days=1)
    return None
