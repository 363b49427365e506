"""Tests for L{iii.modules.engine_functions.service}."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from iii.interfaces import IModule, ITriggerProvider
from tests.modules.engine_functions.case import EngineFunctionsTestCase


class ServiceTests(EngineFunctionsTestCase):
    def test_module(self) -> None:
        """It is a module, and its trigger types are providers."""
        verifyObject(IModule, self.module)
        for provider in self.module.trigger_types.values():
            verifyObject(ITriggerProvider, provider)

    def test_inputs(self) -> None:
        """Every function wants an object: null, a list or a scalar is an error that names the function."""
        for declaration in self.module.functions:
            for data, shown in (("x", '"x"'), ([], "[]"), (1, "1")):
                code, message = self.ask_in_vain(declaration.id, data)
                self.assertEqual(code, "deserialization_error")
                self.assertTrue(message.startswith(f"Failed to deserialize input for {declaration.id}: "), message)
                self.assertIn(shown, message)

    def test_no_input(self) -> None:
        """A call of a worker without a payload is one with null, which is no object."""
        worker = self.connect("w")
        worker.send("invokefunction", invocation_id="0" * 32, function_id="engine::workers::list")
        (answer,) = worker.received("invocationresult")
        self.assertEqual(answer["error"]["code"], "deserialization_error")

    def test_channels_expire(self) -> None:
        """Channels of which an end never came are looked for every minute, until the module stops."""
        self.engine.channels.create()
        self.clock.pump([60.0] * 4)
        self.assertEqual(len(self.engine.channels), 1)
        self.clock.pump([60.0] * 2)
        self.assertEqual(len(self.engine.channels), 0)
