"""What the tests of this module share."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.config.blocks.observability import ObservabilitySettings
from iii.core.engine import Module
from iii.modules.observability.service import Observability
from tests.core.fakes import FakeWorker, connect, make_engine

NOW = 1_000_000


class ObservabilityTestCase(SynchronousTestCase):
    """
    An engine with nothing but this module, at the time of a million seconds, and a worker that is called C{shop}.

    @cvar settings: Of the module.
    @cvar limits: Of the engine.
    """

    settings: ClassVar[dict[str, Any]] = {}
    limits: ClassVar[dict[str, int]] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.engine = make_engine(self.clock, **self.limits)
        self.module = Observability(
            ObservabilitySettings(**self.settings), self.engine, self.clock, lambda call, *args: call(*args)
        )
        self.engine.add_module(
            Module("iii-observability", "iii-observability", "", True),
            self.module.functions,
            self.module.trigger_types,
        )
        self.module.startService()
        self.addCleanup(self.module.stopService)
        self.worker = connect(self.engine, "shop")
        self.ask("engine::logs::clear")  # the engine says that the worker is here

    def ask(self, function_id: str, data: Any = None, /, **members: Any) -> Any:
        """Return what the worker gets from a function of the engine: the result, or the error as a pair."""
        return self.worker.outcome(self.worker.call(function_id, data or {}, **members))

    def write(self, message: str, level: str = "info", /, **data: Any) -> None:
        """Let the worker write a record."""
        self.assertIsNone(self.ask(f"engine::log::{level}", {"message": message, **data}))

    def kept(self, **query: Any) -> list[dict[str, Any]]:
        """The records of workers in the store, oldest first; what the engine itself logs is left out."""
        logs = self.ask("engine::logs::list", query)["logs"]
        return [record for record in reversed(logs) if record["service_name"] != "iii"]

    def bodies(self, **query: Any) -> list[str]:
        """The texts of these."""
        return [record["body"] for record in self.kept(**query)]

    def listener(self, config: Any = None, function_id: str = "on_log", **members: Any) -> FakeWorker:
        """Return another worker with a trigger of type C{log}."""
        worker = connect(self.engine, "listener")
        worker.register(function_id)
        worker.register_trigger("t", "log", function_id, config=config, **members)
        return worker
