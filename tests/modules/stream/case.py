"""What the tests of this module share."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.config.blocks.stores import StreamSettings
from iii.core.engine import Module
from iii.modules.stream.events import Stamps, StreamEvent
from iii.modules.stream.local import LocalBackend
from iii.modules.stream.service import StreamModule
from iii.storage.memory import MemoryValues
from iii.wire.listen import IReactor
from tests.core.fakes import FakeWorker, connect, make_engine

NOW = 1_000_000
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PLACE = {"stream_name": "chat", "group_id": "r1"}
ITEM = {**PLACE, "item_id": "m1"}


class StreamTestCase(SynchronousTestCase):
    """
    An engine with nothing but this module, at the time of a million seconds, and a worker that is called C{shop}.

    @cvar settings: Of the module.
    @cvar limits: Of the engine.
    @ivar told: The events that clients were told.
    """

    settings: ClassVar[dict[str, Any]] = {}
    limits: ClassVar[dict[str, int]] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.engine = make_engine(self.clock, **self.limits)
        stamps = Stamps(self.clock)
        self.values = MemoryValues(10**6, 10**6)
        self.backend = LocalBackend(self.values, stamps)
        self.told: list[StreamEvent] = []
        self.module = StreamModule(
            StreamSettings(**self.settings),
            self.backend,
            stamps,
            self.engine,
            cast(IReactor, self.clock),
            token=None,
            origins=(),
            ping_interval=20.0,
        )
        self.backend.observer = self.told.append
        self.engine.add_module(
            Module("iii-stream", "iii-stream", "", False), self.module.functions, self.module.trigger_types
        )
        self.worker = connect(self.engine, "shop")

    def ask(self, op: str, data: Any, /, **members: Any) -> Any:
        """Return what the worker gets from C{stream::<op>}: the result, or the error as a pair."""
        return self.worker.outcome(self.worker.call(f"stream::{op}", data, **members))

    def set(self, data: Any, item: str = "m1", group: str = "r1", stream: str = "chat", **members: Any) -> Any:
        """Let the worker set an item."""
        place = {"stream_name": stream, "group_id": group, "item_id": item}
        return self.ask("set", {**place, "data": data}, **members)

    def answer(self, call: str) -> dict[str, Any]:
        """Return the whole answer to a call of the worker."""
        (answer,) = (each for each in self.worker.received("invocationresult") if each["invocation_id"] == call)
        return answer

    def calls(self, worker: FakeWorker) -> list[dict[str, Any]]:
        """Return the calls that a worker got since the last time."""
        self.clock.advance(0)
        calls = worker.received("invokefunction")
        worker.edge.frames[:] = [frame for frame in worker.edge.frames if frame["type"] != "invokefunction"]
        return calls
