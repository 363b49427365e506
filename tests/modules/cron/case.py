"""An engine with cron, on a clock that tests move."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from iii.core.engine import Module
from iii.modules.cron.service import CronService
from iii.modules.cron.store import KvCronStore, MemoryRows, OneShots
from tests.core.fakes import FakeWorker, connect, make_engine

START = 1_770_714_000  # 2026-02-10T09:00:00Z
TTL_MS = 30_000


class KeptRows:
    """Rows that outlive an engine; C{failure}, when there is one, is what writing raises."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.writes = 0

    def load(self) -> list[tuple[str, bytes]]:
        return list(self.values.items())

    def put(self, key: str, value: bytes) -> Any:
        self.values[key] = value
        self.writes += 1
        return MemoryRows().put(key, value)

    def remove(self, key: str) -> Any:
        self.values.pop(key, None)
        return MemoryRows().remove(key)


class CronCase(SynchronousTestCase):
    """
    Starts at 09:00:00 UTC on 10 February 2026.  A worker serves C{f}.

    @cvar limits: Of the engine.
    @ivar rows: What the engine keeps of jobs; likewise C{one_shot_rows}.
    """

    limits: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = float(START)
        self.rows, self.one_shot_rows = KeptRows(), KeptRows()
        self.begin()

    def begin(self) -> None:
        """Start an engine, with its worker; another one may have kept something before it."""
        self.engine = make_engine(self.clock, **self.limits)
        self.store = KvCronStore(self.rows, self.clock, TTL_MS)
        self.service = CronService(self.engine, self.store, OneShots(self.one_shot_rows), self.clock, TTL_MS / 1000)
        self.engine.add_module(
            Module("iii-cron", "iii-cron", "", False), self.service.functions, self.service.trigger_types
        )
        self.service.startService()
        self.addCleanup(self.stop, self.service)
        self.worker = self.connect("worker")
        self.worker.register("f")

    def end(self) -> None:
        """Stop the engine in order."""
        self.engine.stopping = True
        self.stop(self.service)

    def stop(self, service: CronService) -> None:
        """Stop the module of an engine, unless that was done; also of one that has crashed, as far as a test goes."""
        if service.running:
            self.successResultOf(service.stopService())

    def connect(self, name: str) -> FakeWorker:
        return connect(self.engine, name)

    def schedule(self, expression: str | None = None, *, id: str = "job", worker: Any = None, **config: Any) -> Any:
        """Register a trigger for C{f}; return the error that came of it, if one did."""
        worker = worker or self.worker
        members = {key: config.pop(key) for key in ("metadata", "namespace", "function_id") if key in config}
        if expression is not None:
            config["expression"] = expression
        worker.edge.frames.clear()
        worker.register_trigger(id, "cron", members.pop("function_id", "f"), config=config, **members)
        answers = worker.received("triggerregistrationresult")
        return answers[0]["error"] if answers else None

    def wait(self, seconds: float) -> None:
        """Let time pass, second by second."""
        whole = int(seconds)
        self.clock.pump([1.0] * whole + ([seconds - whole] if seconds != whole else []))

    def jump(self, seconds: float) -> None:
        """Set the clock, at once."""
        self.clock.rightNow += seconds
        self.clock.advance(0)

    def calls(self, worker: FakeWorker | None = None) -> list[dict[str, Any]]:
        """Return the calls that have come since the last time."""
        worker = worker or self.worker
        found = worker.received("invokefunction")
        worker.edge.frames.clear()
        return found

    def slots(self, worker: FakeWorker | None = None) -> list[str]:
        """Return the times of day for which calls have come since the last time, and answer these."""
        worker = worker or self.worker
        found = []
        for call in self.calls(worker):
            found.append(call["data"]["scheduled_time"][11:19])
            worker.answer(call, result=None)
        return found

    def ask(self, function_id: str, /, **data: Any) -> Any:
        """Call a function; return its result, or its error as C{(code, message)}."""
        caller = connect(self.engine, "asker")
        return caller.outcome(caller.call(function_id, data))

    def runs(self, id: str = "job") -> list[tuple[str, str | None]]:
        """Return the outcomes of a job's runs and their reasons, oldest first."""
        history = self.ask("engine::cron::history", id=id)["runs"]
        return [(run["outcome"], run["reason"]) for run in reversed(history)]
