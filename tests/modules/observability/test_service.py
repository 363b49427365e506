"""Tests for L{iii.modules.observability.service}."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.logger import Logger
from zope.interface.verify import verifyObject

from iii.interfaces import IModule, ITriggerProvider
from iii.modules.observability import service
from tests.modules.observability.case import ObservabilityTestCase


class ServiceTests(ObservabilityTestCase):
    def test_module(self) -> None:
        """It is a module, and its trigger types are providers."""
        verifyObject(IModule, self.module)
        for provider in self.module.trigger_types.values():
            verifyObject(ITriggerProvider, provider)

    def test_schemas(self) -> None:
        """Every function has a schema of its input, those with a result of that too."""
        for declaration in self.module.functions:
            function: Any = self.engine.functions.find("default", declaration.id)
            self.assertEqual(function.schema("input")["type"], "object")
            if not declaration.id.startswith("engine::log::"):
                self.assertEqual(function.schema("output")["type"], "object")


class ThreadTests(ObservabilityTestCase):
    def test_other_threads(self) -> None:
        """What other threads log is taken in the reactor's, whose data it becomes."""
        handed_over: list[Any] = []
        log = service.EngineLog(handed_over.append, lambda call, event: handed_over.append((call, event)))
        event = {"log_format": "of a thread"}
        with mock.patch.object(service, "isInIOThread", lambda: False):
            log(event)
        self.assertEqual([given[1] for given in handed_over], [event])
        with mock.patch.object(service, "isInIOThread", lambda: True):
            log(event)
        self.assertEqual(handed_over[1:], [event])
        self.assertIsNotNone(Logger())
