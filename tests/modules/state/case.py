"""What the tests of this module share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from iii.config.blocks.stores import StateSettings
from iii.core.engine import Module
from iii.core.errors import EngineError
from iii.interfaces import Collection, IValues
from iii.modules.state.service import StateModule
from iii.storage.errors import StorageError
from iii.storage.memory import MemoryValues
from iii.storage.updates import Operation, Updated
from tests.core.fakes import FakeWorker, connect, make_engine


@implementer(IValues)
class FakeValues:
    """
    Keeps values, and answers as tests want.

    @ivar failure: What everything fails with, if anything.
    @ivar held: What is to be called for an answer, oldest first; C{None}: answers come at once.
    @ivar updated: What the next updates come to.
    @ivar operations: What the last one was given.
    """

    def __init__(self) -> None:
        self.values = MemoryValues(2**30, 2**30)
        self.failure: Exception | None = None
        self.held: list[Callable[[], None]] | None = None
        self.updated: list[Updated] = []
        self.operations: Sequence[Operation] = ()

    def get(self, collection: Collection, key: str) -> Deferred[bytes | None]:
        return self._answer(lambda: self.values.get(collection, key))

    def put(self, collection: Collection, key: str, value: bytes) -> Deferred[bytes | None]:
        return self._answer(lambda: self.values.put(collection, key, value))

    def delete(self, collection: Collection, key: str) -> Deferred[bytes | None]:
        return self._answer(lambda: self.values.delete(collection, key))

    def update(
        self,
        collection: Collection,
        key: str,
        operations: Sequence[Operation],
        accept: Callable[[bytes], None] | None = None,
    ) -> Deferred[Updated]:
        self.operations = operations
        updated = self.updated.pop(0)
        if accept is not None:
            try:
                accept(updated.new)
            except EngineError as error:
                return fail(error)
        return self._answer(lambda: succeed(updated))

    def items(self, collection: Collection) -> Deferred[list[tuple[str, bytes]]]:
        return self._answer(lambda: self.values.items(collection))

    def collections(self, prefix: Collection = ()) -> Deferred[list[Collection]]:
        return self._answer(lambda: self.values.collections(prefix))

    def _answer(self, act: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        if self.failure is not None:
            return fail(self.failure)
        done = act()
        if self.held is None:
            return done
        later: Deferred[Any] = Deferred()
        self.held.append(lambda: done.chainDeferred(later))
        return later


class StateTestCase(SynchronousTestCase):
    """
    An engine with nothing but this module, on fake values, and a worker.

    @cvar settings: Of the module.
    @cvar limits: Of the engine.
    """

    settings: ClassVar[dict[str, Any]] = {}
    limits: ClassVar[dict[str, int]] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = make_engine(self.clock, **self.limits)
        self.values = FakeValues()
        self.module = StateModule(StateSettings(**self.settings), self.values, self.engine)
        self.engine.add_module(
            Module("iii-state", "iii-state", "", False), self.module.functions, self.module.trigger_types
        )
        self.module.startService()
        self.addCleanup(self.module.stopService)
        self.worker = connect(self.engine, "shop")

    def answer(self, name: str, /, **data: Any) -> dict[str, Any]:
        """Call C{state::name} with these fields, and return the frame of the answer without what every one has."""
        invocation_id = self.worker.call(f"state::{name}", data)
        (answer,) = (
            each for each in self.worker.received("invocationresult") if each["invocation_id"] == invocation_id
        )
        return {key: value for key, value in answer.items() if key not in ("invocation_id", "function_id")}

    def ask(self, name: str, /, **data: Any) -> Any:
        """Likewise the result, or the error as a pair."""
        return self.worker.outcome(self.worker.call(f"state::{name}", data))

    def fail_all(self) -> None:
        """Let the store fail from now on."""
        self.values.failure = StorageError("the disk is gone")

    def listener(self, config: Any, *, id: str = "t", worker: FakeWorker | None = None, **members: Any) -> FakeWorker:
        """Return another worker with a trigger of type C{state} for its function C{on_change}."""
        worker = worker or connect(self.engine, "listener")
        worker.register("on_change", "condition")
        worker.register_trigger(id, "state", "on_change", config=config, **members)
        return worker

    def heard(self, listener: FakeWorker) -> list[dict[str, Any]]:
        """The calls that have come to a listener since the last time."""
        self.clock.advance(0)
        calls = listener.received("invokefunction")
        listener.edge.frames.clear()
        return calls
