"""Tests for L{iii.modules.api.metrics}."""

from __future__ import annotations

from prometheus_client import generate_latest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

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
