"""Tests for L{tests.sdk.table}: which SDKs and rows it has, not whether what it says still holds."""

from __future__ import annotations

from collections import Counter

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.sdk.environments import SDKS
from tests.sdk.sdk import Ability
from tests.sdk.table import ABSENT, FAILS, PAGE, ROWS, WORKS, NotShown, Shown, cases, shown, table, written

FIRST, SECOND = SDKS[0], attrs.evolve(SDKS[0], name="second", abilities=frozenset({Ability.CHANNELS}))


class PageTests(SynchronousTestCase):
    def test_up_to_date(self) -> None:
        """The table on the page has all SDKs and rows, and what an SDK cannot do is not said to work or fail."""
        expected = table(shown(case) for case in cases()[1])
        self.assertEqual(written(PAGE.read_text()).replace(FAILS, WORKS), expected)

    def test_every_test_has_a_row(self) -> None:
        """Each test of a contract belongs to one row, and rows name no others."""
        named = [(contract, test) for row in ROWS.values() for contract, tests in row.items() for test in tests]
        self.assertEqual(Counter(named), Counter({shown(case).test for case in cases()[1]}))


class TableTests(SynchronousTestCase):
    """A table with two rows, to which each the test C{Some.test} or C{Other.test} belongs."""

    def table(self, *results: Shown) -> list[str]:
        lines = table(results, (FIRST, SECOND), {"some": {"Some": ("test",)}}).splitlines()
        self.assertEqual(lines[:2], [f"|  | {FIRST.name.replace('-', ' ')} | second |", "| --- | --- | --- |"])
        return lines[2:]

    def test_works(self) -> None:
        """A row works for the SDKs all of whose tests passed."""
        passed = Shown(("Some", "test"), (FIRST,), frozenset(), True)
        both = attrs.evolve(passed, sdks=(FIRST, SECOND))
        self.assertEqual(self.table(passed, both), [f"| some | {WORKS} | {WORKS} |"])

    def test_fails(self) -> None:
        """A failed test of a pair counts for both; one of another row does not count."""
        passed = Shown(("Some", "test"), (FIRST, FIRST), frozenset(), True)
        failed = attrs.evolve(passed, sdks=(SECOND, FIRST), passed=False)
        other = attrs.evolve(failed, test=("Other", "test"))
        self.assertEqual(self.table(passed, failed), [f"| some | {FAILS} | {FAILS} |"])
        self.assertEqual(
            self.table(attrs.evolve(passed, sdks=(FIRST, SECOND)), other), [f"| some | {WORKS} | {WORKS} |"]
        )

    def test_absent(self) -> None:
        """What an SDK cannot do in one of the roles is not in it, although it takes part in the other."""
        result = Shown(("Some", "test"), (FIRST, SECOND), frozenset({Ability.REATTACH}), True)
        self.assertEqual(self.table(result), [f"| some | {WORKS} | {ABSENT} |"])

    def test_skipped(self) -> None:
        """Of a test that was skipped, or is not there, the table cannot say anything."""
        skipped = Shown(("Some", "test"), (FIRST, SECOND), frozenset(), None)
        for results in ((skipped,), (attrs.evolve(skipped, sdks=(FIRST,), passed=True),)):
            with self.assertRaises(NotShown):
                self.table(*results)
