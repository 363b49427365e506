"""Tests for L{iii.modules.http.triggers}."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import msgspec
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iii.core.errors import TriggerRefused
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.http.router import Route, Router
from iii.modules.http.triggers import METHODS, HttpTriggers


def trigger(config: Any, id: str = "t", function_id: str = "f") -> Trigger:
    return Trigger(id, "http", function_id, Raw(json.dumps(config).encode()))


class TriggersTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.router = Router()
        self.triggers = HttpTriggers(self.router, lambda label: defaultdict(int))

    def register(self, config: Any, id: str = "t", function_id: str = "f") -> Trigger:
        binding = trigger(config, id, function_id)
        self.triggers.register(binding)
        return binding

    def refused(self, config: Any, id: str = "t") -> str:
        return str(self.assertRaises(TriggerRefused, self.register, config, id))

    def route(self, path: str, method: str = "GET") -> Route | None:
        endpoint, _ = self.router.find(path)
        return endpoint.routes.get(method) if endpoint is not None else None


class ConfigTests(TriggersTestCase):
    """spec/http.md, A3."""

    def test_interface(self) -> None:
        """It is a trigger provider."""
        verifyObject(ITriggerProvider, self.triggers)

    def test_defaults(self) -> None:
        """A path is enough; the method is GET, and unknown keys are ignored."""
        self.register({"api_path": "users/:id", "description": "d", "metadata": {}})
        self.assertEqual(str(self.route("/users/1")), "GET users/:id")

    def test_path(self) -> None:
        """The path is a text."""
        for config in ({}, {"api_path": None}, {"api_path": 1}, None, [], "users"):
            self.assertEqual(self.refused(config), "api_path is required for http triggers")
        self.assertRaises(TriggerRefused, self.triggers.register, Trigger("t", "http", "f", Raw(b"")))

    def test_method(self) -> None:
        """The method is one of seven in any case; what is no text is GET."""
        for method in METHODS:
            self.register({"api_path": "a", "http_method": method.lower()}, id=method)
            self.assertIsNotNone(self.route("/a", method))
        self.register({"api_path": "b", "http_method": 5})
        self.assertIsNotNone(self.route("/b"))

    def test_unknown_method(self) -> None:
        """Another method is refused: a route that is never served would be a riddle."""
        self.assertEqual(
            self.refused({"api_path": "a", "http_method": "trace"}),
            "http_method 'TRACE' is not one of GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS",
        )

    def checks(self, **config: object) -> list[str]:
        """Return who is asked before the function of a route with this config."""
        self.register({"api_path": "a", **config})
        return [f"{type(check).__name__} {check.function_id}" for check in self.route("/a").checks]

    def test_checks(self) -> None:
        """The condition is asked first, then middleware in the order of the list."""
        self.assertEqual(
            self.checks(condition_function_id="c", middleware_function_ids=["n", "m"]),
            ["Condition c", "Middleware n", "Middleware m"],
        )
        self.assertEqual(self.checks(condition_function_id=""), ["Condition "])
        self.assertEqual(self.checks(condition_function_id=None, middleware_function_ids=None), [])

    def test_wrong_checks(self) -> None:
        """What cannot be asked is refused: a route that seems to be guarded must be."""
        for value in (5, True, ["c"]):
            reason = self.refused({"api_path": "a", "condition_function_id": value})
            self.assertEqual(reason, "`condition_function_id` is to be a text")
        for value in ("m", [1], ["m", None], {}):
            reason = self.refused({"api_path": "a", "middleware_function_ids": value})
            self.assertEqual(reason, "`middleware_function_ids` is to be a list of texts")

    def test_much_middleware(self) -> None:
        """A list without end is refused."""
        reason = self.refused({"api_path": "a", "middleware_function_ids": ["m"] * 101})
        self.assertEqual(reason, "middleware_function_ids names 101 functions; 100 are allowed")

    def test_own_limits(self) -> None:
        """A route may have its own time and size of bodies; what is no positive integer is refused by name."""
        self.register({"api_path": "a", "timeout_ms": 1500, "max_body_bytes": 2**31})
        route = self.route("/a")
        self.assertEqual((route.timeout, route.max_body), (1.5, 2**31))
        self.register({"api_path": "b", "timeout_ms": None})
        self.assertIsNone(self.route("/b").timeout)
        for key in ("timeout_ms", "max_body_bytes"):
            for value in (0, -1, 1.5, "1", True, 2**41):
                reason = self.refused({"api_path": "c", key: value})
                self.assertEqual(reason, f"`{key}` is to be an integer from 1 to {2**40}")

    def test_schemas(self) -> None:
        """What introspection shows can be written as JSON and names the keys."""
        self.assertEqual(self.triggers.configuration_schema["required"], ["api_path"])
        for schema in ("configuration_schema", "request_schema", "response_schema"):
            msgspec.json.encode(getattr(self.triggers, schema))


class LifeTests(TriggersTestCase):
    def test_unregister(self) -> None:
        """The route goes with its trigger."""
        self.triggers.unregister(self.register({"api_path": "a"}))
        self.assertTrue(self.router.is_empty())

    def test_take_over(self) -> None:
        """A newer trigger takes over a route, and gives it back when it goes."""
        self.register({"api_path": "a"}, "old", "old")
        newer = self.register({"api_path": "/a"}, "new", "new")
        self.assertEqual(self.function("/a"), "new")
        self.triggers.unregister(newer)
        self.assertEqual(self.function("/a"), "old")

    def test_register_again(self) -> None:
        """A trigger registered again, under another path or other names, leaves nothing behind."""
        self.register({"api_path": "a/:x"})
        self.register({"api_path": "a/:y"})
        binding = self.register({"api_path": "b"})
        self.assertIsNone(self.route("/a/1"))
        self.triggers.unregister(binding)
        self.assertTrue(self.router.is_empty())

    def test_refused_again(self) -> None:
        """A refused re-registration leaves the earlier route alone."""
        self.register({"api_path": "a/:x"}, "other")
        self.register({"api_path": "b"})
        self.assertIn("conflicts with already-registered route", self.refused({"api_path": "a/:y"}))
        self.assertIn("api_path is required", self.refused({}))
        self.assertEqual(str(self.route("/b")), "GET b")

    def test_unknown(self) -> None:
        """Unregistering what was refused does nothing."""
        self.triggers.unregister(trigger({}))

    def function(self, path: str) -> str:
        route = self.route(path)
        assert route is not None
        return route.function_id
