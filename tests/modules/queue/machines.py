"""How the machines of these tests run: rules in any order, which Hypothesis makes fewer when something breaks."""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

SOAKING = bool(os.environ.get("III_SOAK"))


class Machine(RuleBasedStateMachine):
    """A machine at whose end all that is left must come to its end, too."""

    def drain(self) -> None:
        """Let all that is left come to its end."""
        raise NotImplementedError

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:  # else a rule has failed, and is the news
            self.drain()


def run_machine(machine: type[Machine], examples: int, steps: int) -> None:
    """
    Run a machine; a failure shows its shortest history.

    @param examples: Histories; fifty times as many while soaking.
    @param steps: Rules of one history.
    """
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples * (50 if SOAKING else 1),
                stateful_step_count=steps,
                derandomize=not SOAKING,
                database=None,
                deadline=None,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception as error:  # Trial does not show notes
        raise AssertionError("\n".join([repr(error), *getattr(error, "__notes__", ())])) from error
