"""Tests for L{iii.modules.state.service}."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.logger import Logger, formatEvent
from zope.interface.verify import verifyObject

from iii.config.blocks.stores import KvAdapter, StateSettings, Store
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.state.service import StateModule
from tests.modules.state.case import StateTestCase


class ServiceTests(StateTestCase):
    def test_module(self) -> None:
        """It is a module, and its trigger type is a provider."""
        verifyObject(IModule, self.module)
        verifyObject(ITriggerProvider, self.module.trigger_types["state"])

    def test_schemas(self) -> None:
        """Every function has a schema of its input; of results those whose shape is known."""
        with_output = set()
        for declaration in self.module.functions:
            function: Any = self.engine.functions.find("default", declaration.id)
            self.assertEqual(function.schema("input")["type"], "object")
            if function.schema("output") is not None:
                with_output.add(declaration.id)
        self.assertEqual(with_output, {"state::set", "state::update", "state::list_groups"})

    def test_schemas_of_trigger(self) -> None:
        """The trigger type tells what a config and a payload look like."""
        provider = self.engine.triggers.provider(("default", "state"))
        assert provider is not None
        config, request = (
            msgspec.json.decode(schema) for schema in (provider.configuration_schema, provider.request_schema)
        )
        self.assertEqual(list(config["properties"]), ["scope", "key", "condition_function_id"])
        listener = self.listener({})
        self.ask("set", scope="s", key="k", value=1)
        (call,) = self.heard(listener)
        self.assertEqual(list(call["data"]), request["required"])
        self.assertEqual(list(call["data"]), list(request["properties"]))

    def started(self, settings: StateSettings) -> list[str]:
        """What the start says."""
        module = StateModule(settings, self.values, self.engine)
        logged: list[Any] = []
        self.patch(StateModule, "log", Logger(observer=logged.append))
        module.startService()
        return [formatEvent(event) for event in logged]

    def test_volatile(self) -> None:
        """The start says so when nothing is going to survive the stop, and else nothing."""
        (said,) = self.started(StateSettings(adapter=KvAdapter(config=Store(store_method="in_memory"))))
        self.assertIn("gone when the engine stops", said)
        self.assertEqual(self.started(StateSettings()), [])
