"""
The queues as a module (spec/queue.md).

L{Dispatcher} delivers; what it delivers comes from L{NamedQueues} and L{Topics}.  Who gets what is decided in
C{delivery.py}, and what is where on disk in C{jobs.py}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from iii.config.blocks.queue import QueueSettings
from iii.core.engine import Engine
from iii.core.functions import FunctionDeclaration
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.queue.delivery import Line
from iii.modules.queue.dispatcher import Dispatcher
from iii.modules.queue.figures import Figures
from iii.modules.queue.functions import QueueFunctions
from iii.modules.queue.groups import MAX_GROUPS
from iii.modules.queue.housekeeping import Housekeeping
from iii.modules.queue.inspection import Inspection
from iii.modules.queue.jobs import IStore, JobStore
from iii.modules.queue.ledger import LINGER
from iii.modules.queue.named import PREFIX, NamedQueues
from iii.modules.queue.operations import Operations
from iii.modules.queue.pauses import Pauses
from iii.modules.queue.queues import Queue
from iii.modules.queue.retry import Policy
from iii.modules.queue.topics import Topics, topic_of

LOOK_AFTER = 10
"""Seconds between two looks at ages and numbers."""
LOOK_AT = 1000
"""Messages that are asked whom they are for, to find the topic of a queue whose subscription has gone."""


@implementer(IModule)
class QueueModule(Service):
    """C{engine::queue::*}, C{iii::queue::*}, C{iii::durable::publish}, and the trigger type C{durable:subscriber}."""

    log = Logger()
    description = "Named queues and durable topics"
    internal = False

    def __init__(
        self, settings: QueueSettings, store: IStore, engine: Engine, clock: IReactorTime, *, linger: float = LINGER
    ) -> None:
        """
        @param store: Where jobs are kept; it starts before this and stops after it.
        @param linger: For so many seconds the end of a job may wait to be written.
        """
        self._settings, self._engine, self._store = settings, engine, store
        self._jobs = JobStore(store)
        self.dispatcher = Dispatcher(engine, self._jobs, clock, linger=linger)
        self._named = NamedQueues(self.dispatcher, store, settings.queue_configs)
        self._pauses = Pauses(self.dispatcher, store)
        self._topics = Topics(self.dispatcher, store, self._pauses, settings, engine)
        self._operations = Operations(self.dispatcher, self._topics, clock)
        self._housekeeping = Housekeeping(self.dispatcher, self._topics, self._operations, store, settings, clock)
        inspection = Inspection(self.dispatcher, self._topics, settings.queue_configs, engine.limits.message_bytes // 2)
        self._figures = Figures(self.dispatcher)
        functions = QueueFunctions(self._named, self._topics, inspection, self._operations, self._pauses)
        self.functions: Sequence[FunctionDeclaration] = functions.declare()
        self.trigger_types: Mapping[str, ITriggerProvider] = {
            "durable:subscriber": self._topics,
            "queue": self._topics,
        }
        self._ticks = 0
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def startService(self) -> None:
        """Take up what is on disk.  L{iii.storage.errors.StorageError} ends the start."""
        super().startService()
        self._take_up()
        self._engine.figures.append(self._figures.read)
        self.dispatcher.start()
        self._loop.start(1.0, now=False)

    def stop_accepting(self) -> None:
        """Start no more jobs; messages are still taken from functions that are under way."""
        self.dispatcher.drain()

    def busy(self) -> bool:
        """Jobs are under way."""
        return self.dispatcher.busy

    def stopService(self) -> Deferred[list[None]]:
        super().stopService()
        self._loop.stop()
        self._engine.figures.remove(self._figures.read)
        self.dispatcher.stop()
        return gatherResults([self._operations.stop(), self._housekeeping.stop()])

    def _take_up(self) -> None:
        jobs, queues = self._jobs, self.dispatcher.queues
        jobs.start()
        for queue in self._named.queues.values():
            self.dispatcher.add(queue)
        self._pauses.start()
        self._topics.start()
        for name, state, number in jobs.counts():
            if name not in queues:
                self.dispatcher.add(self._abandoned(name))
            queues[name].counts[state] = number
        for queue in queues.values():
            self._pauses.hold(queue)
            if queue.unfinished:
                queue.line.load(jobs.next_due(queue.name, -1), jobs.delayed_groups(queue.name, MAX_GROUPS))
        self._housekeeping.start()

    def _abandoned(self, name: str) -> Queue:
        """Make a queue whose configuration or subscription has gone; its jobs stay, for a while."""
        line = Line(Policy())
        line.attended = False
        if name.startswith(PREFIX):
            shown, topic = name.removeprefix(PREFIX), False
            self.log.warn("queue {name} has messages and is not configured; nobody gets them", name=shown)
        else:
            rows = self._store.read(
                "SELECT DISTINCT function_id FROM (SELECT function_id FROM job WHERE queue = ? LIMIT ?)",
                (name, LOOK_AT),
            )
            shown, topic = topic_of(name, [function_id for (function_id,) in rows]), True
        return Queue(name, shown, line, topic=topic)

    def _tick(self) -> None:
        self.dispatcher.tick()
        self._ticks += 1
        if self._ticks % LOOK_AFTER == 0:
            self._housekeeping.tick()
