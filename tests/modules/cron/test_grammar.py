from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.cron.grammar import Expression, InvalidExpression
from tests.modules.cron import oracle

START = datetime(2026, 2, 10, 9, 0, 0)


def following(text: str, number: int = 1, start: datetime = START) -> list[str]:
    """The first times that match, as texts."""
    expression = Expression.parse(text)
    found: list[str] = []
    moment: datetime | None = start
    while len(found) < number and moment is not None:
        moment = expression.after(moment)
        if moment is not None:
            found.append(str(moment))
    return found


class AcceptedTests(SynchronousTestCase):
    """What the contract's tables say is accepted, and what it means."""

    def test_fields(self) -> None:
        """Six fields are second to day of week; a seventh is the year; white space does not count."""
        for text in ("0 */5 9-17 * * Mon-Fri", "  0\t*/5  9-17 * * Mon-Fri ", "0 */5 9-17 * * Mon-Fri *"):
            self.assertEqual(following(text, 2), ["2026-02-10 09:05:00", "2026-02-10 09:10:00"], text)
        self.assertEqual(following("1 2 3 4 5 * 2030"), ["2030-05-04 03:02:01"])

    def test_five_fields(self) -> None:
        """Five fields begin with the minute; the second is 0.  The reference refuses them."""
        self.assertEqual(following("* * * * *", 2), ["2026-02-10 09:01:00", "2026-02-10 09:02:00"])
        self.assertEqual(Expression.parse("5 4 * * Mon"), Expression.parse("0 5 4 * * Mon"))

    def test_shorthands(self) -> None:
        """The five shorthands stand for whole expressions, with white space around them."""
        for text, first in (
            ("@yearly", "2027-01-01 00:00:00"), (" @monthly ", "2026-03-01 00:00:00"),
            ("@weekly", "2026-02-15 00:00:00"), ("\t@daily", "2026-02-11 00:00:00"),
            ("@hourly", "2026-02-10 10:00:00"),
        ):  # fmt: skip
            self.assertEqual(following(text), [first], text)

    def test_equal(self) -> None:
        """Different spellings mean the same."""
        for text, other in (
            ("0 0 0 * * Mon-Fri", "0 0 0 * * 2-6"), ("0 0 0 * * SUN", "0 0 0 ? * 1"),
            ("0 0 0 * * Sunday,tues,Thurs,sAt", "0 0 0 * * */2"), ("0 0 0 * * ?/2", "0 0 0 * * 1-7/2"),
            ("0 0 0 */2 * *", "0 0 0 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 * *"),
            ("0 0 0 ?/30 * *", "0 0 0 1,31 * *"), ("007 0 0 * * *", "7 0 0 * * *"),
            ("50/3 0 0 * * *", "50,53,56,59 0 0 * * *"),
            ("0 0 0 1 February-april *", "0 0 0 1 2,3,4 *"), ("0 0 0 1 Jan-Dec/5 *", "0 0 0 1 1,6,11 *"),
            ("0 0 0 * * Mon,4", "0 0 0 * * Mon,wed"), ("*,5 0 0 * * *", "* 0 0 * * *"),
            ("0 0 0 * * 0", "0 0 0 * * Sun"), ("0 0 0 * * 0,Wed", "0 0 0 * * Sun,Wed"),
        ):  # fmt: skip
            self.assertEqual(Expression.parse(text), Expression.parse(other), text)

    def test_both_days(self) -> None:
        """Day of month and day of week must both match."""
        self.assertEqual(
            following("0 0 0 13 * Fri", 3), ["2026-02-13 00:00:00", "2026-03-13 00:00:00", "2026-11-13 00:00:00"]
        )

    def test_weekdays_from_one(self) -> None:
        """Numbers of weekdays count from 1 = Sunday, and a warning names the days."""
        self.assertEqual(following("0 0 0 * * 1"), ["2026-02-15 00:00:00"])
        self.assertIn("it is Sunday, Monday, Tuesday", Expression.parse("0 0 0 * * 1-3").warning)
        for text in ("0 0 0 * * Mon-Fri", "0 0 0 * * 0", "0 0 0 * * *", "0 0 0 1 * ?"):
            self.assertEqual(Expression.parse(text).warning, "", text)

    def test_never(self) -> None:
        """A schedule without a future date is one."""
        for text in (
            "0 0 0 31 2 *",
            "0 0 0 30 Feb *",
            "0 0 0 31 4,6,9,11 *",
            "0 0 0 1 1 * 1999",
            "0 0 0 1 1 * 1970-2025",
        ):
            self.assertEqual(following(text), [], text)

    def test_rare(self) -> None:
        """Dates that come once in decades are found, up to the last year."""
        self.assertEqual(following("0 0 0 29 2 Mon", 2), ["2044-02-29 00:00:00", "2072-02-29 00:00:00"])
        self.assertEqual(following("59 59 23 31 12 * 2100", 2), ["2100-12-31 23:59:59"])
        self.assertEqual(following("0 0 0 29 2 Mon *", 9)[-1][:4], "2072")


class RefusedTests(SynchronousTestCase):
    """What the contract's tables say is refused."""

    def refusal(self, text: str) -> str:
        return str(self.assertRaises(InvalidExpression, Expression.parse, text))

    def test_texts(self) -> None:
        """Each error names the field, the value and what is allowed, on one line."""
        for text, wanted in (
            ("0 0 25 * * *", "hour: 25 is not a value from 0 to 23"),
            ("0 60 0 * * *", "minute: 60 is not a value from 0 to 59"),
            ("0/0 0 0 * * *", "second: 0 is not a step from 1 to 59"),
            ("0 0 0 17-5 * *", "day of month: the range 17-5 is reversed"),
            ("0 0 0 1,,2 * *", "day of month: a value is missing"),
            ("0 0 0 * sept *", "month: sept is not a value"),
            ("0 0 0 * * 2-Fri", "day of week: the range 2-Fri mixes a number and a name"),
            ("0 0 0 * * Mon/2", "day of week: Mon/2 has a step after a single name; name a range, or use a number"),
            ("0 0 0 * * * 1969", "year: 1969 is not a value from 1970 to 2100"),
        ):
            self.assertEqual(self.refusal(text), wanted, text)

    def test_number_of_fields(self) -> None:
        """Fewer than five fields and more than seven are refused."""
        for text in ("", " ", "*", "* * * *", "* * * * * * * *"):
            self.assertIn(f"it has {len(text.split())} fields", self.refusal(text))

    def test_refused(self) -> None:
        """Nothing else is known."""
        for text in (
            "@annually", "@midnight", "@reboot", "@every 5m", "@Daily", "@daily x", "TZ=UTC 0 0 0 * * *", "0 0 0 L * *",
            "0 0 0 15W * *", "0 0 0 * * Mon#2", "? 0 0 * * *", "0 0 0 * ? *", "0 0 0 * * * ?", "0 0 0 ,1 * *",
            "0 0 0 1, * *", "0 0 0 * * thur", "0 0 0 * * weds", "0 0 0 * * Fri-Mon", "0 0 0 1/32 * *", "0 0 0 * * 8",
            "0 0 0 * * */8", "0 0 -1 * * *", "0 0 1- * * *", "0 0 +1 * * *", "0 0 1/ * * *", "0 0 1//2 * * *",
            "0 0 ٣ * * *", "0 0 0 0 * *", "0 0 0 1 0 *", "0 0 0 1 13 *", "0 0 1-2-3 * * *", "0 0 0 * Mon *",
            "H 0 0 * * *",            "0 0 0 * * mon-", "0 0 0 * * -fri",
        ):  # fmt: skip
            self.refusal(text)

    def test_zero_beside_numbers(self) -> None:
        """0 is Sunday, but not beside numbers that its author would count differently."""
        for text in ("0 0 0 * * 0,6", "0 0 0 * * 0-4", "0 0 0 * * 0/2", "0 0 0 * * 00,1"):
            self.assertIn("0 is Sunday only where it is the only number", self.refusal(text))

    def test_long(self) -> None:
        """An expression has a bound."""
        self.assertEqual(self.refusal("1" * 5000), "it has more than 4096 characters")


def _item(place: int) -> st.SearchStrategy[str]:
    low, high = oracle.RANGES[place]
    numbers = st.integers(max(0, low - 1), high + 1).map(str) if place != 5 else st.integers(1, 8).map(str)
    names = st.sampled_from(sorted(oracle.NAMES[place]) or ["x"]).map(str.title)
    base = st.one_of(
        st.sampled_from(["*", "*", "?"]), numbers, names, st.tuples(numbers, numbers).map("-".join),
        st.tuples(names, names).map("-".join), st.tuples(numbers, names).map("-".join),
    )  # fmt: skip
    return st.one_of(base, st.tuples(base, st.integers(0, 9).map(str)).map("/".join))


EXPRESSIONS = st.tuples(
    *(st.one_of(st.just("*"), st.lists(_item(place), min_size=1, max_size=3).map(",".join)) for place in range(6))
).map(" ".join)
YEARS = st.one_of(st.just(""), st.sampled_from([" 2026", " 2026-2030", " 2096-2100/2", " *", " 1970", " 2101"]))
MOMENTS = st.integers(0, 60 * 365 * 86400).map(lambda seconds: datetime(2020, 1, 1) + timedelta(seconds=seconds))


class OracleTests(SynchronousTestCase):
    """Random expressions, compared with the slow reading of the contract."""

    @given(EXPRESSIONS, YEARS)
    @settings(max_examples=400, deadline=None)
    def test_grammar(self, text: str, years: str) -> None:
        """An expression is accepted exactly when the contract accepts it."""
        wanted = oracle.fields(text + years)
        try:
            Expression.parse(text + years)
        except InvalidExpression:
            self.assertIsNone(wanted, text + years)
        else:
            self.assertIsNotNone(wanted, text + years)

    @given(EXPRESSIONS.filter(lambda text: oracle.fields(text) is not None), YEARS, MOMENTS)
    @settings(max_examples=150, deadline=None)
    @example("0 0 0 29 2 Mon", "", datetime(2073, 1, 1))
    @example("0 0 0 1 1 *", " 2026-2030", datetime(2026, 1, 1))
    def test_times(self, text: str, years: str, moment: datetime) -> None:
        """The next time is the first one after the moment that matches."""
        values = oracle.fields(text + years)
        if values is None:
            return
        wanted = oracle.first_after(values, moment)
        found = Expression.parse(text + years).after(moment)
        if wanted is None and found is not None:
            self.assertGreater(found.year, 2100)
        else:
            self.assertEqual(found, wanted, (text + years, moment))
