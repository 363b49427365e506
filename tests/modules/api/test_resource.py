"""Tests for L{iii.modules.api.resource}."""

from __future__ import annotations

from typing import Any

from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.engine import Engine
from iii.core.limits import Limits
from iii.modules.api.metrics import HELP, registry
from iii.modules.api.resource import Api


class ApiTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.engine = Engine(Clock(), Limits())
        self.parts = {"engine": ""}
        self.use(None)

    def use(self, token: str | None) -> None:
        api = Api(lambda: self.parts, registry(self.engine), token)
        self.treq = StubTreq(api.app.resource())

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        response = self.successResultOf(self.treq.get(f"http://localhost{path}", headers=headers or {}))
        return response.code, self.successResultOf(response.text())

    def json(self, path: str) -> tuple[int, Any]:
        response = self.successResultOf(self.treq.get(f"http://localhost{path}"))
        self.assertEqual(response.headers.getRawHeaders("content-type"), ["application/json"])
        return response.code, self.successResultOf(response.json())

    def test_health(self) -> None:
        """The process is alive as soon as it answers, also when it is not ready."""
        self.parts["engine"] = "stopping"
        self.assertEqual(self.json("/healthz"), (200, {"status": "ok"}))

    def test_ready(self) -> None:
        """It is ready when all parts are, and tells which is not, and why."""
        self.assertEqual(self.json("/readyz"), (200, {"status": "ready", "parts": {"engine": True}}))
        self.parts["store"] = "disk full"
        said = {
            "status": "not ready",
            "parts": {"engine": True, "store": False},
            "problems": {"store": "disk full"},
        }
        self.assertEqual(self.json("/readyz"), (503, said))

    def test_metrics(self) -> None:
        """Every gauge and counter of the engine, and figures of its process, in Prometheus' format."""
        self.engine.counters.calls = 7
        status, text = self.get("/metrics")
        self.assertEqual(status, 200)
        self.assertIn("\niii_calls_total 7.0\n", text)
        self.assertIn("\niii_worker_connections 0.0\n", text)
        self.assertIn("process_resident_memory_bytes", text)
        for name in HELP:
            self.assertIn(f"iii_{name}_total", text)

    def test_token(self) -> None:
        """With a token, metrics need it; health checks never do."""
        self.use("s3cret")
        self.assertEqual(self.get("/metrics")[0], 401)
        self.assertEqual(self.get("/metrics", {"authorization": "Bearer wrong"})[0], 401)
        for given in ("Bearer s3cret", "bearer s3cret"):
            self.assertEqual(self.get("/metrics", {"authorization": given})[0], 200)
        self.assertEqual(self.get("/healthz")[0], 200)

    def test_elsewhere(self) -> None:
        """Other paths are 404; other methods 405."""
        self.assertEqual(self.get("/nowhere")[0], 404)
        response = self.successResultOf(self.treq.post("http://localhost/healthz"))
        self.assertEqual(response.code, 405)
