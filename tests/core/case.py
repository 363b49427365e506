"""What several tests of the core share."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.core.fakes import connect, make_engine

ID = "0af76519-16cd-43dd-8448-eb211c80319c"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class CallerAndCallee(SynchronousTestCase):
    """A caller, and a callee that serves C{f}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = make_engine(
            self.clock, call_timeout=60.0, pending_calls_per_connection=2, functions_per_connection=3
        )
        self.caller, self.callee = connect(self.engine, "caller"), connect(self.engine, "callee")
        self.callee.register("f")

    def invocation(self) -> dict[str, Any]:
        """Return the one call that has come to the callee since the last time."""
        (invocation,) = self.callee.received("invokefunction")
        self.callee.edge.frames.clear()
        return invocation
