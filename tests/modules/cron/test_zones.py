from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.cron.grammar import Expression
from iii.modules.cron.zones import InUtc, InZone, Once
from tests.modules.cron import oracle


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def following(expression: str, zone: str, start: str, number: int) -> list[str]:
    """The first instants after one, as local times with their offsets."""
    occurrences = InZone(Expression.parse(expression), ZoneInfo(zone))
    found: list[str] = []
    last: int | None = instant(start)
    for _ in range(number):
        assert last is not None
        last = occurrences.after(last)
        assert last is not None
        found.append(datetime.fromtimestamp(last, UTC).astimezone(ZoneInfo(zone)).isoformat())
    return found


class ClockTests(SynchronousTestCase):
    """Schedules that name hours, where clocks change (Berlin: 29 March and 25 October 2026)."""

    def test_missing_time(self) -> None:
        """A time that does not exist is due when the clocks are set forward; the next day it is due as ever."""
        self.assertEqual(
            following("0 30 2 * * *", "Europe/Berlin", "2026-03-28T03:00:00+01:00", 2),
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        )

    def test_missing_times_are_one(self) -> None:
        """Several times that do not exist are due once."""
        self.assertEqual(
            following("0 0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T01:00:00+01:00", 2),
            ["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"],
        )

    def test_doubled_time(self) -> None:
        """A time that comes twice is due at the first one only."""
        self.assertEqual(
            following("0 30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00+02:00", 2),
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        )

    def test_second_pass(self) -> None:
        """Whoever looks during the second pass finds the next time after it."""
        self.assertEqual(
            following("0 */10 1-3 * * *", "Europe/Berlin", "2026-10-25T02:15:00+01:00", 1),
            ["2026-10-25T03:00:00+01:00"],
        )

    def test_second_pass_is_cheap(self) -> None:
        """Then, the times that were due in the first pass are not looked at one by one."""
        looked = []

        class Counted(Expression):
            def after(self, moment: datetime) -> datetime | None:
                looked.append(moment)
                return super().after(moment)

        parsed = Expression.parse("* * 1-3 * * *")
        counted = Counted(
            **{name: getattr(parsed, name) for name in ("seconds", "minutes", "hours", "days", "months", "weekdays")}
        )
        InZone(counted, ZoneInfo("Europe/Berlin")).after(instant("2026-10-25T02:15:00+01:00"))
        self.assertEqual(len(looked), 1)


class IntervalTests(SynchronousTestCase):
    """Schedules that run in every hour."""

    def test_missing_times(self) -> None:
        """Times that do not exist are left out."""
        self.assertEqual(
            following("0 */30 * * * *", "Europe/Berlin", "2026-03-29T01:15:00+01:00", 3),
            ["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"],
        )

    def test_doubled_times(self) -> None:
        """Times that come twice are due twice."""
        self.assertEqual(
            following("0 30 * * * *", "Europe/Berlin", "2026-10-25T01:00:00+02:00", 4),
            [
                "2026-10-25T01:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00",
                "2026-10-25T03:30:00+01:00",
            ],
        )  # fmt: skip


ZONES = {
    "Europe/Berlin": ("2026-03-28T20:00:00+00:00", "2026-10-24T20:00:00+00:00"),
    "America/New_York": ("2026-03-08T00:00:00+00:00", "2026-11-01T00:00:00+00:00"),
    "Australia/Lord_Howe": ("2026-04-04T08:00:00+00:00", "2026-10-03T08:00:00+00:00"),  # half an hour
    "Africa/Casablanca": ("2026-02-14T20:00:00+00:00", "2026-03-21T20:00:00+00:00"),
    "Asia/Kolkata": ("2026-03-28T20:00:00+00:00",),
    "Pacific/Apia": ("2011-12-29T00:00:00+00:00",),  # the 30th did not exist there
}
HOURS = 14
PLACES = st.sampled_from([(zone, start) for zone, starts in ZONES.items() for start in starts])
MINUTES = st.sampled_from(["*", "0", "30", "59", "*/7", "0,15", "29-31"])


def due(expression: str, zone: str, start: int, end: int) -> list[int]:
    """The slow way: look at every minute of the time between."""
    values = oracle.fields(expression)
    assert values is not None
    every_hour = len(values[2]) == 24
    place = ZoneInfo(zone)
    found: set[int] = set()
    seen: set[datetime] = set()
    before: datetime | None = None
    for now in range(start // 60 * 60 - 30 * 3600, end + 60, 60):
        local = datetime.fromtimestamp(now, UTC).astimezone(place).replace(tzinfo=None, fold=0)
        if oracle.matches(values, local) and (every_hour or local not in seen):
            found.add(now)
        seen.add(local)
        if before is not None and not every_hour:
            minutes = int((local - before).total_seconds()) // 60
            skipped = [before + timedelta(minutes=number) for number in range(1, minutes)]
            if any(oracle.matches(values, wall) for wall in skipped):
                found.add(now)
        before = local
    return sorted(each for each in found if start < each <= end)


class OracleTests(SynchronousTestCase):
    @given(PLACES, MINUTES, st.sampled_from(["*", "*", "0-3", "1,2", "2", "*/2", "23,0", "1-22"]))
    @settings(max_examples=150, deadline=None)
    def test_days_of_change(self, place: tuple[str, str], minutes: str, hours: str) -> None:
        """Around changes of clocks, exactly the instants are due that the rule says."""
        zone, text = place
        start = instant(text)
        end = start + HOURS * 3600
        expression = f"0 {minutes} {hours} * * *"
        occurrences = InZone(Expression.parse(expression), ZoneInfo(zone))
        found: list[int] = []
        last = occurrences.after(start)
        while last is not None and last <= end:
            found.append(last)
            last = occurrences.after(last)
        self.assertEqual(found, due(expression, zone, start, end), (expression, zone))

    @given(PLACES, MINUTES, st.integers(0, HOURS * 3600))
    @settings(max_examples=100, deadline=None)
    def test_from_anywhere(self, place: tuple[str, str], minutes: str, offset: int) -> None:
        """What is next does not depend on where one has been before."""
        zone, text = place
        start = instant(text)
        for hours in ("*", "1,2"):
            expression = f"0 {minutes} {hours} * * *"
            wanted = due(expression, zone, start + offset, start + offset + 2 * 86400)
            occurrences = InZone(Expression.parse(expression), ZoneInfo(zone))
            self.assertEqual(occurrences.after(start + offset), wanted[0], (expression, zone, offset))


class OtherTests(SynchronousTestCase):
    def test_utc(self) -> None:
        """Without a zone, times are UTC."""
        self.assertEqual(InUtc(Expression.parse("@daily")).after(86400), 2 * 86400)
        self.assertIsNone(InUtc(Expression.parse("0 0 0 1 1 * 1971")).after(2 * 365 * 86400))

    def test_once(self) -> None:
        """A single instant is due once."""
        self.assertEqual(Once(10).after(9), 10)
        self.assertIsNone(Once(10).after(10))
