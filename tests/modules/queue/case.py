"""What the tests of this module share."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.config.blocks.queue import QueueConfig, QueueSettings
from iii.core.engine import Module
from iii.modules.queue.service import QueueModule
from tests.core.fakes import FakeWorker, connect, make_engine
from tests.modules.queue.fakes import SlowStore

NOW = 1_000_000


class QueueBench:
    """
    An engine with nothing but the queues, at the time of a million seconds, and a worker.

    @cvar queues: The named queues.
    @cvar settings: Of the module, beside these.
    @cvar linger: How long the end of a job may wait to be written.
    """

    queues: ClassVar[dict[str, dict[str, Any]]] = {}
    settings: ClassVar[dict[str, Any]] = {}
    linger: ClassVar[float] = 0

    def open(self, store: SlowStore) -> None:
        """Start a clock, and an engine on the store."""
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = store
        self.start()

    def close(self) -> None:
        """Stop the engine, if it runs."""
        if self.module.running:
            self.module.stopService()

    def start(self) -> None:
        """Start an engine on the store."""
        self.engine = make_engine(self.clock)
        configs = {name: msgspec.convert(config, QueueConfig) for name, config in self.queues.items()}
        settings = QueueSettings(queue_configs=configs, **self.settings)
        self.module = QueueModule(settings, self.store, self.engine, self.clock, linger=self.linger)
        self.engine.add_module(
            Module("iii-queue", "iii-queue", "", True), self.module.functions, self.module.trigger_types
        )
        self.module.startService()
        self.worker = connect(self.engine, "shop")
        self.turn()

    def restart(self) -> None:
        """Stop the engine as a crash would, as far as the store is concerned, and start another one."""
        for call in list(self.clock.getDelayedCalls()):
            call.cancel()
        self.start()

    def turn(self, seconds: float = 0) -> None:
        """Let time pass, and the turns of the reactor that are due."""
        self.clock.advance(seconds)
        for _ in range(20):
            self.clock.advance(0)

    def ask(self, function_id: str, data: Any = None, /, **members: Any) -> Any:
        """Return what the worker gets from a function of the engine: the result, or the error as a pair."""
        call = self.worker.call(function_id, {} if data is None else data, **members)
        self.turn()
        return self.worker.outcome(call)

    def enqueue(self, data: Any = None, function_id: str = "f", /, queue: str = "default", **members: Any) -> Any:
        """Enqueue as workers do; return the receipt, or the error as a pair."""
        members = {"action": {"type": "enqueue", "queue": queue, **members.pop("options", {})}, **members}
        call = self.worker.call(function_id, data, **members)
        self.turn()
        answer = self.worker.outcome(call)
        return answer["messageReceiptId"] if isinstance(answer, dict) else answer

    def jobs(self, worker: FakeWorker | None = None) -> list[dict[str, Any]]:
        """The calls that a worker has received."""
        return (worker or self.worker).received("invokefunction")

    def payloads(self, worker: FakeWorker | None = None) -> list[Any]:
        """Their payloads."""
        return [job["data"] for job in self.jobs(worker)]

    def answer(self, job: dict[str, Any], worker: FakeWorker | None = None, **outcome: Any) -> None:
        """Answer one of these."""
        (worker or self.worker).answer(job, **(outcome or {"result": None}))
        self.turn()

    def fail_job(self, job: dict[str, Any], message: str = "boom", **members: Any) -> None:
        """Let one of these fail."""
        self.answer(job, error={"code": "invocation_failed", "message": message}, **members)

    def rows(self, columns: str = "id, state") -> list[tuple[Any, ...]]:
        """The jobs that are on disk."""
        return self.store.read(f"SELECT {columns} FROM job ORDER BY position", ())


class QueueTestCase(QueueBench, SynchronousTestCase):
    """Tests on one of these."""

    def setUp(self) -> None:
        self.open(SlowStore())
        self.addCleanup(self.close)
