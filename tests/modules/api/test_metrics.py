"""Tests for L{iii.modules.api.metrics}."""

from __future__ import annotations

from prometheus_client import generate_latest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.figures import Figure
from iii.modules.api.metrics import registry
from tests.core.fakes import make_engine


class MetricsTests(SynchronousTestCase):
    def test_limit_hits(self) -> None:
        """Each limit that was hit has a counter of its own."""
        engine = make_engine(Clock())
        for limit in ("channels", "connections", "channels"):
            engine.counters.hit(limit)
        text = generate_latest(registry(engine)).decode()
        self.assertIn('\niii_limit_hits_total{limit="channels"} 2.0\n', text)
        self.assertIn('\niii_limit_hits_total{limit="connections"} 1.0\n', text)

    def test_figures(self) -> None:
        """Modules may have figures of their own, told apart by labels."""
        engine = make_engine(Clock())
        engine.figures.append(
            lambda: [
                Figure("cups", "gauge", "Cups.", ("colour",), {("red",): 1, ("blue",): float("nan")}),
                Figure("drinks", "counter", "Drinks.", (), {(): 3}),
            ]
        )
        text = generate_latest(registry(engine)).decode()
        self.assertIn('\niii_cups{colour="red"} 1.0\niii_cups{colour="blue"} NaN\n', text)
        self.assertIn("\niii_drinks_total 3.0\n", text)
