"""What the config of a cron trigger says (spec/cron.md, 1), and what we add to it (docs/cron.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs
from msgspec import Raw

from iii.core.errors import TriggerRefused
from iii.core.shown import shown
from iii.modules.cron.grammar import Expression, InvalidExpression
from iii.modules.cron.zones import InUtc, InZone, Occurrences, Once
from iii.wire.messages import value_of

Overlap = Literal["skip", "queue", "allow"]
Missed = Literal["skip", "once"]

MAX_JITTER = 3600
_parse = lru_cache(maxsize=1024)(Expression.parse)
"""Many jobs have one expression, and reading it takes a third of a millisecond."""
YEARS = range(1970, 2101)


@attrs.frozen(kw_only=True)
class JobConfig:
    """
    When and how a job runs.

    @ivar schedule: Its expression or its instant, as they were written.
    @ivar at: The instant of a job that runs once; C{None}: it has an expression.
    @ivar condition: The function that is asked before each run.
    @ivar overlap: What becomes of a run that is due while another one of the job is under way.
    @ivar missed: What becomes of runs whose time has passed while nobody looked: the engine was down, the machine
        asleep, the worker away.
    @ivar jitter: A run starts so many seconds late, at most.
    @ivar warning: What its author may not have meant; empty for nothing.
    """

    occurrences: Occurrences
    schedule: str
    at: int | None = None
    condition: str | None = None
    overlap: Overlap = "skip"
    missed: Missed = "skip"
    jitter: int = 0
    warning: str = ""

    @classmethod
    def read(cls, config: Raw) -> JobConfig:
        """
        Read a trigger's config.

        @raise TriggerRefused: It is none; the text says which key is wrong.
        """
        given = value_of(config)
        if not isinstance(given, dict):
            given = {}
        expression, at = given.get("expression"), given.get("at")
        condition = given.get("condition_function_id")
        common: dict[str, Any] = {
            "condition": condition if isinstance(condition, str) else None,
            "overlap": _choice(given, "overlap", get_args(Overlap), "skip"),
            "jitter": _jitter(given),
        }
        if at is not None:
            if expression is not None:
                raise TriggerRefused("`expression` and `at` exclude each other")
            instant = _instant(at, _zone(given))
            missed = _choice(given, "missed", get_args(Missed), "once")
            return cls(occurrences=Once(instant), schedule=at, at=instant, missed=missed, **common)
        if not isinstance(expression, str) or not expression:
            raise TriggerRefused("Cron expression is required")
        try:
            parsed = _parse(expression)
        except InvalidExpression as error:
            raise TriggerRefused(f"Invalid cron expression '{_quoted(expression)}': {error}") from error
        zone = _zone(given)
        return cls(
            occurrences=InUtc(parsed) if zone is None else InZone(parsed, zone),
            schedule=expression,
            missed=_choice(given, "missed", get_args(Missed), "skip"),
            warning=parsed.warning,
            **common,
        )


def _quoted(text: str) -> str:
    """Return a text as it came, to be put between quotes; what is long or unprintable as far as it can be shown."""
    return text if text.isprintable() and len(text) <= 200 else shown(text).strip("'")


def _choice(given: dict[str, Any], key: str, allowed: tuple[str, ...], default: str) -> Any:
    value = given.get(key)
    if value is None:
        return default
    if value not in allowed:
        raise TriggerRefused(f"`{key}` is {shown(str(value))}; it can be {', '.join(allowed)}")
    return value


def _jitter(given: dict[str, Any]) -> int:
    value = given.get("jitter_seconds", 0)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= MAX_JITTER:
        raise TriggerRefused(f"`jitter_seconds` is {shown(str(value))}; it can be 0 to {MAX_JITTER}")
    return value


def _zone(given: dict[str, Any]) -> ZoneInfo | None:
    name = given.get("timezone")
    if name is None:
        return None
    try:
        if not isinstance(name, str) or not name.isascii():
            raise ValueError
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise TriggerRefused(
            f"`timezone` is {shown(str(name))}, which is no time zone known here; an example is Europe/Berlin"
        ) from error


def _instant(text: Any, zone: ZoneInfo | None) -> int:
    """Read C{at}: a date and time with an offset, or in the time zone that is given, too."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise TriggerRefused(f"`at` is {shown(str(text))}; an example is 2030-01-31T09:00:00+01:00") from error
    if moment.year not in YEARS:
        raise TriggerRefused(f"`at` is {shown(text)}; its year can be {YEARS[0]} to {YEARS[-1]}")
    if moment.tzinfo is None:
        if zone is None:
            raise TriggerRefused(f"`at` is {shown(text)}, without an offset such as Z; add it, or `timezone`")
        moment = moment.replace(tzinfo=zone)
    elif zone is not None:
        raise TriggerRefused("`at` has an offset, and `timezone` says something else; leave one of them out")
    return int(moment.astimezone(UTC).timestamp())
