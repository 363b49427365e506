"""What the tests of this module share."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from msgspec import Raw, Struct
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.engine import Engine, Module
from iii.core.functions import FunctionDeclaration
from iii.modules.engine_functions.service import EngineFunctions
from tests.core.fakes import FakeProvider, FakeWorker, connect, make_engine


class Asked:
    """
    A call of a function of the engine.

    @ivar ended: It has a result or an error.
    """

    def __init__(self, engine: Engine, function_id: str, data: Any) -> None:
        self.ended = False
        self.result: Any = None
        self.error: tuple[str, str] | None = None
        engine.invoke(function_id, Raw(json.dumps(data).encode()), self._complete)

    def _complete(self, call: Any, result: Raw, error: Any) -> None:
        self.ended = True
        if error is not None:
            self.error = (error.code, error.message)
        elif result:
            self.result = json.loads(bytes(result))


class EngineFunctionsTestCase(SynchronousTestCase):
    """
    An engine with nothing but this module, at the time of 1000 seconds.

    @cvar limits: Of the engine, beside the one on triggers without an owner, 3.
    """

    limits: ClassVar[dict[str, int]] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.engine = make_engine(self.clock, ownerless_triggers=3, **self.limits)
        self.module = EngineFunctions(self.engine, self.clock)
        self.add("iii-engine-functions", self.module.functions, self.module.trigger_types, self.module.internal)
        self.module.startService()
        self.addCleanup(self.module.stopService)

    def add(self, name: str, functions: Any = (), trigger_types: Any = None, internal: bool = False) -> None:
        """Add a module to the engine."""
        self.engine.add_module(Module(name, name, f"what {name} does", internal), functions, trigger_types)

    def provide(self, type_id: str, module: str = "iii-test", **schemas: Any) -> FakeProvider:
        """Add a module with one trigger type."""
        provider = FakeProvider(f"what {type_id} does")
        for name, schema in schemas.items():
            setattr(provider, name, schema)
        self.add(module, trigger_types={type_id: provider})
        return provider

    def connect(self, name: str | None = None, *functions: str, **said: Any) -> FakeWorker:
        """Return a worker that has said who it is and registered functions."""
        worker = connect(self.engine, name, **said)
        worker.register(*functions)
        return worker

    def start(self, function_id: str, data: Any = None, /, **members: Any) -> Asked:
        """Call a function of the engine on the engine's own behalf."""
        return Asked(self.engine, function_id, members if data is None else data)

    def ask(self, function_id: str, /, **members: Any) -> Any:
        """Return the result of a function of the engine."""
        asked = self.start(function_id, **members)
        self.assertIsNone(asked.error)
        self.assertTrue(asked.ended)
        return asked.result

    def ask_in_vain(self, function_id: str, data: Any = None, /, **members: Any) -> tuple[str, str]:
        """Return the code and the message of the error of a function of the engine."""
        asked = self.start(function_id, data, **members)
        assert asked.error is not None, asked.result
        return asked.error


class Nothing(Struct):
    """An empty object."""


def declared(function_id: str, handler: Any = None, **members: Any) -> FunctionDeclaration:
    """Return the declaration of a function of a module that takes an empty object."""
    return FunctionDeclaration(
        id=function_id, description=f"what {function_id} does", input=Nothing, handler=handler, **members
    )
