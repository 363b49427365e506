"""Tests for L{iii.lifecycle}."""

from __future__ import annotations

import gc
import os
from typing import Any
from weakref import ref

from msgspec import Raw
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from iii.core.engine import Engine
from iii.core.limits import Limits
from iii.lifecycle import EngineServices
from iii.wire.listen import CannotListen


class Reactor(Clock):
    """A clock with what the services ask of a reactor beside."""

    def __init__(self) -> None:
        super().__init__()
        self.when_running: list[Any] = []

    def callWhenRunning(self, function: Any) -> None:
        self.when_running.append(function)


class Part(Service):
    """Notes when it starts and stops; stopping takes until C{stopped} fires."""

    def __init__(self, name: str, events: list[str]) -> None:
        self.setName(name)
        self.events = events
        self.stopped: Deferred[None] = Deferred()

    def startService(self) -> None:
        self.events.append(f"start {self.name}")

    def stopService(self) -> Deferred[None]:
        self.events.append(f"stop {self.name}")
        return self.stopped


class Door(Part):
    """One that work comes in through."""

    answering = False

    def stop_accepting(self) -> None:
        self.events.append(f"close {self.name}")

    def busy(self) -> bool:
        return self.answering


class BusyWorker:
    """A worker's socket that keeps what it is sent to itself."""

    address, full = None, False

    def send(self, frame: bytes) -> None: ...

    def ping(self) -> None: ...

    def close(self, code: int | None) -> None: ...

    def abort(self) -> None: ...


class EngineServicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor, self.events = Reactor(), []
        self.engine = Engine(self.reactor, Limits())
        self.tree = EngineServices(self.engine, self.reactor, 10.0, ["a note"])  # type: ignore[arg-type]
        self.parts = [Part("storage", self.events), Door("workers", self.events), Door("http", self.events)]
        for part in self.parts:
            part.setServiceParent(self.tree)

    def busy(self) -> Any:
        """Let a worker have a call that it has not answered."""
        connection = self.engine.connected(BusyWorker())
        connection.received(b'{"type":"registerfunction","id":"f"}')
        self.reactor.advance(5)
        self.engine.invoke("f", Raw(b"null"), lambda *_: None)
        return connection

    def test_starts_in_order(self) -> None:
        """The parts start in the order in which they were added; then the engine is ready."""
        self.tree.startService()
        self.assertEqual(self.events, ["start storage", "start workers", "start http"])
        self.assertTrue(self.tree.ready)

    def test_stops_in_phases(self) -> None:
        """Doors are closed first; then the parts stop one after the other, last first."""
        self.tree.startService()
        self.events.clear()
        done = self.tree.stopService()
        self.assertEqual(self.events, ["close workers", "close http", "stop http"])
        self.assertFalse(self.tree.ready)
        self.parts[2].stopped.callback(None)
        self.assertEqual(self.events[-1], "stop workers")
        self.parts[1].stopped.callback(None)
        self.assertEqual(self.events[-1], "stop storage")
        self.assertNoResult(done)
        self.parts[0].stopped.callback(None)
        self.successResultOf(done)

    def test_drains(self) -> None:
        """Nothing stops while a call is unanswered."""
        connection = self.busy()
        self.tree.startService()
        self.events.clear()
        self.tree.stopService()
        self.reactor.advance(1)
        self.assertEqual(self.events, ["close workers", "close http"])
        (invocation_id,) = connection.pending
        connection.received(b'{"type":"invocationresult","invocation_id":"%b"}' % invocation_id.encode())
        self.reactor.advance(0.05)
        self.assertEqual(self.events[-1], "stop http")

    def test_cut_off_workers_are_not_waited_for(self) -> None:
        """A call of a worker that was cut off keeps nothing from stopping: no worker can come back."""
        connection = self.busy()
        self.tree.startService()
        connection.lost()
        self.tree.stopService()
        self.assertEqual(self.events[-1], "stop http")

    def test_cut_off_while_stopping(self) -> None:
        """Likewise of one that is cut off then."""
        connection = self.busy()
        self.tree.startService()
        self.tree.stopService()
        self.assertEqual(self.events[-1], "close http")
        connection.lost()
        self.reactor.advance(0.05)
        self.assertEqual(self.events[-1], "stop http")

    def test_collector(self) -> None:
        """
        When all run, the garbage collector is relieved of what there is, not of what comes: a connection that ends
        leaves nothing.
        """
        gc.unfreeze()
        self.addCleanup(gc.unfreeze)
        self.tree.startService()
        self.assertEqual(gc.get_freeze_count(), 0)
        for function in self.reactor.when_running[1:]:  # without the signals' handlers
            function()
        self.assertGreater(gc.get_freeze_count(), 10_000)
        connection = self.busy()
        connection.lost()
        connection.itself = connection  # a cycle, whatever else there is
        gone = ref(connection)
        self.reactor.advance(60)
        del connection
        gc.collect()
        self.assertIsNone(gone())

    def test_waits_for_doors(self) -> None:
        """An answer that is being streamed is waited for, though its call has ended."""
        door = self.parts[2]
        assert isinstance(door, Door)
        door.answering = True
        self.tree.startService()
        self.tree.stopService()
        self.reactor.advance(1)
        self.assertNotIn("stop http", self.events)
        door.answering = False
        self.reactor.advance(0.05)
        self.assertEqual(self.events[-1], "stop http")

    def test_later_calls_are_not_waited_for(self) -> None:
        """Calls that begin while the engine stops do not keep it from stopping."""
        connection = self.busy()
        self.tree.startService()
        self.tree.stopService()
        self.engine.invoke("f", Raw(b"null"), lambda *_: None)
        first, _ = connection.pending
        connection.received(b'{"type":"invocationresult","invocation_id":"%b"}' % first.encode())
        self.reactor.advance(0.05)
        self.assertEqual(self.events[-1], "stop http")

    def test_part_that_fails_to_stop(self) -> None:
        """A part whose stopping fails does not keep the others from it."""

        def fail() -> None:
            raise ZeroDivisionError

        self.parts[2].stopService = fail  # type: ignore[method-assign]
        self.tree.startService()
        self.tree.stopService()
        self.assertEqual(self.events[-1], "stop workers")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_drain_has_an_end(self) -> None:
        """After the drain time-out the parts stop although a call is unanswered."""
        self.busy()
        self.tree.startService()
        self.tree.stopService()
        self.reactor.pump([0.05] * 198)
        self.assertNotIn("stop http", self.events)
        self.reactor.pump([0.05] * 4)
        self.assertEqual(self.events[-1], "stop http")

    def test_taken_port(self) -> None:
        """A part that cannot listen ends the process with status 1; the log says why."""

        def fail() -> None:
            raise CannotListen("http", "127.0.0.1", 3111, os.strerror(98))

        self.parts[2].startService = fail  # type: ignore[method-assign]
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        exit = self.assertRaises(SystemExit, self.tree.startService)
        self.assertEqual(exit.code, 1)
        (said,) = [formatEvent(event) for event in events if event["log_level"] is LogLevel.critical]
        self.assertEqual(said, "http: cannot listen on 127.0.0.1:3111: Address already in use")

    def test_taken_port_in_the_background(self) -> None:
        """As a daemon it raises on, so that C{twistd} tells the process which the user started."""
        tree = EngineServices(self.engine, self.reactor, 10.0, foreground=False)  # type: ignore[arg-type]
        part = Part("http", self.events)
        part.setServiceParent(tree)

        def fail() -> None:
            raise CannotListen("http", "127.0.0.1", 3111, os.strerror(98))

        part.startService = fail  # type: ignore[method-assign]
        self.assertRaises(CannotListen, tree.startService)
