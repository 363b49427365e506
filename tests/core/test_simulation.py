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
    "rest": 1, "connect": 1, "announce": 2, "arrive": 2, "cut": 3, "leave": 1, "reattach": 1, "come_back": 4, "pong": 3,
    "clog": 1, "wait": 4, "serve": 7, "serve_no_more": 1, "bind": 1, "call": 14, "fire": 2, "answer": 8, "hurry": 2,
}  # fmt: skip
TRIGGERS = {
    "rest": 1, "connect": 1, "announce": 1, "arrive": 3, "cut": 2, "leave": 1, "reattach": 1, "come_back": 1, "wait": 1,
    "provide": 5, "provide_no_more": 1, "bind": 16, "bind_no_more": 4, "judge": 4,
}  # fmt: skip
REPLICA: list[Step] = [("arrive", 0, 2, 0), ("serve", 0, 1, 0)]
TWO_REPLICAS: list[Step] = [*REPLICA, *REPLICA, ("arrive", 0, 2, 0), ("pong", 0, 1, 0)]
PROVIDER_AND_OTHERS: list[Step] = [("arrive", 0, 2, 0), ("provide", 0, 1, 0), ("arrive", 0, 2, 0), ("arrive", 0, 2, 0)]
number = st.integers(0, 7)


def steps_of(first: list[Step], weights: dict[str, int]) -> st.SearchStrategy[list[Step]]:
    """Some steps, then others, of which each kind is as frequent as its weight says."""
    kinds = st.sampled_from([kind for kind, weight in weights.items() for _ in range(weight)])
    return st.lists(st.tuples(kinds, number, number, number), min_size=30, max_size=120).map(first.__add__)


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
    @given(steps_of(TWO_REPLICAS, CALLS))
    def test_calls(self, steps: list[Step]) -> None:
        """Calls, answers, cuts and workers that come back, in any order."""
        self.simulate(steps)

    @MANY
    @given(steps_of(PROVIDER_AND_OTHERS, TRIGGERS))
    def test_triggers(self, steps: list[Step]) -> None:
        """Triggers, their providers, and connections of both, in any order."""
        self.simulate(steps)
