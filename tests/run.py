"""
Run Trial and end with the line C{N passed, N failed, N skipped}.

C{python -m tests.run} takes Trial's options and the names of tests; without names it runs all.  Trial's own exit status
does for neither: it is 0 when no test was found, and when a test that must fail has passed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import attrs
from twisted.python.usage import UsageError
from twisted.scripts import trial
from twisted.trial.itrial import IReporter
from twisted.trial.reporter import TestResult
from twisted.trial.runner import TestHolder


@attrs.frozen
class Totals:
    """How many tests had which end.  Each test counts once, whatever was reported about it."""

    passed: int
    failed: int
    skipped: int

    @property
    def successful(self) -> bool:
        """Nothing failed, and something was run: a run in which every test was skipped has shown nothing."""
        return self.failed == 0 and self.passed > 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def totals(result: TestResult) -> Totals:
    """
    Count what Trial has recorded.

    A test can be in several of Trial's lists: a failure with errors of its clean-up, a success whose class could not be
    cleaned up, a skip of each sub-test.  Whatever had anything wrong is one failure; so is what was started and has no
    outcome, and what went wrong outside of every test.  What failed as expected counts as skipped.
    """
    bad = {id(test): test for test, *_ in (*result.failures, *result.errors, *result.unexpectedSuccesses)}
    skipped = {id(test) for test, *_ in (*result.skips, *result.expectedFailures)} - bad.keys()
    outside = sum(type(test) is TestHolder for test in bad.values())  # such as the reactor left dirty at the end
    ended = result.successes + len(bad) - outside + len(skipped)
    failed = len(bad) + max(result.testsRun - ended, 0)
    return Totals(result.testsRun + outside - failed - len(skipped), failed, len(skipped))


def main(arguments: Sequence[str]) -> int:
    """Run the tests and return the exit status: 0 when they passed, 1 when one failed or none was run."""
    options = trial.Options()
    try:
        options.parseOptions(arguments)
    except UsageError as error:
        raise SystemExit(f"tests.run: {error}") from error
    if options["dry-run"]:
        raise SystemExit("tests.run: --dry-run calls every test a success; use it with trial itself.")
    results: list[TestResult] = []
    reporter = options["reporter"]

    def remembered(*args: object, **keywords: object) -> IReporter:
        results.append(reporter(*args, **keywords))
        return results[-1]

    options["reporter"] = remembered
    options["tests"] = options["tests"] or ["tests"]
    # Trial's main() would exit here with its own idea of success.  Its two steps keep all of its options.
    suite, runner = trial._getSuite(options), trial._makeRunner(options)
    (runner.runUntilFailure if options["until-failure"] else runner.run)(suite)
    total = totals(results[-1])
    print(f"\n{total}", flush=True)
    return 0 if total.successful else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
