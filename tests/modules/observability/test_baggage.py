"""Tests for L{iii.modules.observability.baggage}."""

from __future__ import annotations

from tests.modules.observability.case import ObservabilityTestCase

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class BaggageTests(ObservabilityTestCase):
    def test_get(self) -> None:
        """An entry of the caller's baggage, percent-decoded and without its properties; null when there is none."""
        baggage = "a=1, b = x%20y ;secret,=3,c"
        for key, value in {"a": "1", "b": "x y", "c": None, "d": None, "": None}.items():
            self.assertEqual(self.ask("engine::baggage::get", {"key": key}, baggage=baggage), {"value": value})

    def test_get_all(self) -> None:
        """All of the caller's entries; what the engine adds for the callee is not the caller's."""
        self.assertEqual(self.ask("engine::baggage::get_all", baggage="a=1,b=2"), {"baggage": {"a": "1", "b": "2"}})
        self.assertEqual(self.ask("engine::baggage::get_all", traceparent=TRACEPARENT), {"baggage": {}})
        self.assertEqual(self.ask("engine::baggage::get_all"), {"baggage": {}})

    def test_set(self) -> None:
        """Setting says that it does nothing."""
        answer = self.ask("engine::baggage::set", {"key": "a", "value": "1"})
        self.assertTrue(answer["success"])
        self.assertIn("to set it, send it with the call", answer["note"])
