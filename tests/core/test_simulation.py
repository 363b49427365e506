"""
The rules of connections, calls and registrations hold whatever happens in whatever order.

What can happen is in L{tests.core.simulation}, what must come of it in L{tests.core.model}.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.core.simulation import Simulation, Step

CALLS = {
    "rest": 1, "connect": 1, "announce": 2, "arrive": 4, "cut": 3, "leave": 1, "reattach": 2, "come_back": 3, "pong": 2,
    "clog": 1, "wait": 4, "serve": 7, "serve_no_more": 1, "bind": 2, "call": 10, "fire": 1, "answer": 7,
}  # fmt: skip
TRIGGERS = {
    "rest": 1, "connect": 1, "announce": 1, "arrive": 4, "cut": 2, "leave": 1, "reattach": 1, "come_back": 1, "wait": 1,
    "provide": 5, "provide_no_more": 1, "bind": 16, "bind_no_more": 4, "judge": 4,
}  # fmt: skip
number = st.integers(0, 7)


def steps_of(weights: dict[str, int]) -> st.SearchStrategy[list[Step]]:
    """Steps of which each kind is as frequent as its weight says."""
    kinds = st.sampled_from([kind for kind, weight in weights.items() for _ in range(weight)])
    return st.lists(st.tuples(kinds, number, number, number), min_size=20, max_size=100)


SOAKING = bool(os.environ.get("III_SOAK"))
MANY = settings(
    max_examples=10_000 if SOAKING else 200,
    derandomize=not SOAKING,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class SimulationTests(SynchronousTestCase):
    """After every step the core is where its model is; at the end nothing is left, and no defect has been logged."""

    def simulate(self, steps: list[Step]) -> None:
        """Do the steps; a failure shows all of them."""
        simulation = Simulation()
        simulation.run(steps)
        defects = [str(failure) for failure in self.flushLoggedErrors()]
        assert not defects, "\n".join((*simulation.trace, *defects))

    @MANY
    @given(steps_of(CALLS))
    def test_calls(self, steps: list[Step]) -> None:
        """Calls, answers, cuts and workers that come back, in any order."""
        self.simulate(steps)

    @MANY
    @given(steps_of(TRIGGERS))
    def test_triggers(self, steps: list[Step]) -> None:
        """Triggers, their providers, and connections of both, in any order."""
        self.simulate(steps)
