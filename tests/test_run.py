"""The closing line of C{make test} decides whether a change lands: it must not hide a failure or invent a success."""

from __future__ import annotations

import os
import sys
from io import StringIO
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.reporter import Reporter
from twisted.trial.runner import TestHolder
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.run import Totals, totals

ROOT = Path(__file__).parent.parent


class _Sample(SynchronousTestCase):
    """Tests with every outcome.  Its methods have no C{test_}, so that Trial does not collect them here."""

    def passes(self) -> None:
        pass

    def fails(self) -> None:
        self.fail("as it must")

    def errs(self) -> None:
        raise ValueError("as it must")

    def fails_and_errs(self) -> None:
        self.addCleanup(self.errs)
        self.addCleanup(self.errs)
        self.fail("as it must")

    def passes_but_errs_cleaning_up(self) -> None:
        self.addCleanup(self.errs)

    def skips(self) -> None:
        pass

    skips.skip = "as it must"

    def skips_but_errs_cleaning_up(self) -> None:
        self.addCleanup(self.errs)
        self.skipTest("as it must")

    def fails_as_expected(self) -> None:
        self.fail("as it must")

    fails_as_expected.todo = "as it must"

    def passes_unexpectedly(self) -> None:
        pass

    passes_unexpectedly.todo = "as it must"

    def logs_an_error(self) -> None:
        log.err(ValueError("as it must"))


class TotalsTests(SynchronousTestCase):
    def _result(self, *names: str) -> Reporter:
        result = Reporter(StringIO())
        for name in names:
            _Sample(name).run(result)
        self.flushLoggedErrors(ValueError)
        return result

    def assertTotals(self, names: str, passed: int, failed: int, skipped: int) -> None:
        """Run the tests of C{_Sample} and compare the totals."""
        self.assertEqual(totals(self._result(*names.split())), Totals(passed, failed, skipped))

    def test_passed(self) -> None:
        """A test that passes is passed."""
        self.assertTotals("passes passes", 2, 0, 0)

    def test_failed(self) -> None:
        """A failed assertion, an exception and a logged error are failures."""
        self.assertTotals("passes fails errs logs_an_error", 1, 3, 0)

    def test_failed_twice(self) -> None:
        """A test that fails and whose clean-up raises is one failure, and hides no other."""
        self.assertTotals("passes fails_and_errs fails", 1, 2, 0)

    def test_clean_up(self) -> None:
        """A test is failed when only its clean-up raises, also after a skip."""
        self.assertTotals("passes_but_errs_cleaning_up skips_but_errs_cleaning_up", 0, 2, 0)

    def test_skipped(self) -> None:
        """Skipped and expected failures are neither passed nor failed."""
        self.assertTotals("passes skips fails_as_expected", 1, 0, 2)

    def test_unexpected_success(self) -> None:
        """A test that passes although it is expected to fail is a failure."""
        self.assertTotals("passes passes_unexpectedly", 1, 1, 0)

    def test_error_after_success(self) -> None:
        """An error reported for a test that has succeeded, as by the clean-up of its class, makes it a failure."""
        result = self._result("passes")
        test = _Sample("passes")
        test.run(result)
        result.addError(test, Failure(ValueError("as it must")))
        self.assertEqual(totals(result), Totals(1, 1, 0))

    def test_error_outside(self) -> None:
        """An error that belongs to no test is a failure of its own."""
        result = self._result("passes")
        result.addError(TestHolder("not in test"), Failure(ValueError("as it must")))
        self.assertEqual(totals(result), Totals(1, 1, 0))

    def test_without_outcome(self) -> None:
        """A test that was started and of which no end is known is a failure."""
        result = self._result("passes")
        result.startTest(_Sample("passes"))
        self.assertEqual(totals(result), Totals(1, 1, 0))

    def test_success(self) -> None:
        """A run is a success when nothing failed and something passed."""
        self.assertTrue(Totals(1, 0, 1).successful)
        self.assertFalse(Totals(1, 1, 0).successful)
        self.assertFalse(Totals(0, 0, 0).successful)
        self.assertFalse(Totals(0, 0, 1).successful)


class ProgramTests(TestCase):
    async def _ends(self, text: str, *options: str) -> tuple[str, int]:
        """Write a test module, run it, and return the last line of the output and the exit status."""
        path = Path(self.mktemp()).absolute() / "test_sample.py"
        path.parent.mkdir()
        path.write_text(f"from twisted.trial.unittest import TestCase\n{text}\n")
        output, _, status = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "tests.run", f"--temp-directory={path.parent / 'trial'}", *options, str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return output.decode().splitlines()[-1], status

    async def test_passed(self) -> None:
        """A run without failures ends with its totals, status 0."""
        sample = "class T(TestCase):\n def test_a(self): pass\n def test_b(self): pass\n test_b.skip = 'no'"
        self.assertEqual(await self._ends(sample), ("1 passed, 0 failed, 1 skipped", 0))

    async def test_failed(self) -> None:
        """A run with a failure has status 1, also where Trial's options wrap the reporter."""
        sample = "class T(TestCase):\n def test_a(self): self.fail()"
        for options in ((), ("--exitfirst",), ("--jobs=2",), ("--until-failure",), ("--unclean-warnings",)):
            self.assertEqual(await self._ends(sample, *options), ("0 passed, 1 failed, 0 skipped", 1), options)

    async def test_unexpected_success(self) -> None:
        """A run with nothing wrong but an unexpected success, which Trial itself calls a success, has status 1."""
        sample = "class T(TestCase):\n def test_a(self): pass\n test_a.todo = 'broken'"
        self.assertEqual(await self._ends(sample), ("0 passed, 1 failed, 0 skipped", 1))

    async def test_dirty_reactor(self) -> None:
        """A test that leaves a delayed call behind fails."""
        sample = (
            "from twisted.internet import reactor\n"
            "class T(TestCase):\n def test_a(self): reactor.callLater(60, print)\n def test_b(self): pass"
        )
        self.assertEqual(await self._ends(sample), ("1 passed, 1 failed, 0 skipped", 1))

    async def test_no_tests(self) -> None:
        """A module without tests is a failed run."""
        self.assertEqual(await self._ends(""), ("0 passed, 0 failed, 0 skipped", 1))

    async def test_import_error(self) -> None:
        """A module that cannot be imported is a failure."""
        self.assertEqual(await self._ends("import no_such_module"), ("0 passed, 1 failed, 0 skipped", 1))


class LayoutTests(SynchronousTestCase):
    def test_packages(self) -> None:
        """Every folder with tests has an C{__init__.py}: Trial passes over one without it, and says nothing."""
        folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
        self.assertEqual([folder for folder in sorted(folders) if not (folder / "__init__.py").exists()], [])
