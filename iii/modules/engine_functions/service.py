"""The functions and trigger types of the core itself, as a module (spec/engine-functions.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from iii.core.announcement import Announcement
from iii.core.engine import Engine
from iii.core.functions import FunctionDeclaration
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.engine_functions import channels, functions, ownerless_triggers, triggers, workers
from iii.modules.engine_functions.events import FunctionChanges, WorkerChanges

SWEEP_INTERVAL = 60.0
"""Seconds between two looks for channels of which an end never came."""


@implementer(IModule)
class EngineFunctions(Service):
    """Introspection, announcements, channels, and triggers without an owner: C{engine::*}."""

    description = "Functions and trigger types of the engine itself"
    internal = True

    def __init__(self, engine: Engine, clock: IReactorTime) -> None:
        self._function_changes, self._worker_changes = FunctionChanges(engine, clock), WorkerChanges(engine)
        self._ownerless_triggers = ownerless_triggers.OwnerlessTriggers(engine, clock)
        self._channel_maker = channels.ChannelMaker(engine)
        self.trigger_types: Mapping[str, ITriggerProvider] = {
            "engine::functions-available": self._function_changes.type,
            "engine::workers-available": self._worker_changes.type,
        }
        self.functions: Sequence[FunctionDeclaration] = self._declare(engine)
        self._sweeps = LoopingCall(engine.channels.sweep)
        self._sweeps.clock = clock

    def startService(self) -> None:
        super().startService()
        self._channel_maker.start()  # first: whoever is told that a worker has gone finds it cleaned up
        self._function_changes.start()
        self._worker_changes.start()
        self._sweeps.start(SWEEP_INTERVAL, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._sweeps.stop()
        self._channel_maker.stop()
        self._function_changes.stop()
        self._worker_changes.stop()
        self._ownerless_triggers.stop()

    def _declare(self, engine: Engine) -> Sequence[FunctionDeclaration]:
        function = functions.Functions(engine)
        trigger_type = triggers.TriggerTypes(engine)
        trigger = triggers.RegisteredTriggers(engine, trigger_type, function)
        worker = workers.Workers(engine, trigger, self._worker_changes.announced)
        return [
            FunctionDeclaration(
                id="engine::channels::create",
                description="Make a channel, a stream of messages from one function to another",
                input=channels.ChannelRequest,
                handler=self._channel_maker.create,
                output=channels.ChannelEnds,
            ),
            FunctionDeclaration(
                id="engine::functions::list",
                description="List functions",
                input=functions.FunctionFilter,
                handler=function.listing,
                output=functions.FunctionList,
            ),
            FunctionDeclaration(
                id="engine::functions::info",
                description="Describe one function, or several",
                input=functions.FunctionQuestion,
                handler=function.info,
            ),
            FunctionDeclaration(
                id="engine::triggers::list",
                description="List trigger types",
                input=triggers.TypeFilter,
                handler=trigger_type.listing,
                output=triggers.TypeList,
            ),
            FunctionDeclaration(
                id="engine::trigger-types::list",
                description="List trigger types, as engines before 0.13 did",
                input=triggers.TypeFilter,
                handler=trigger_type.listing_of_old_engines,
                output=triggers.TypeListOfOldEngines,
            ),
            FunctionDeclaration(
                id="engine::triggers::info",
                description="Describe one trigger type",
                input=triggers.TypeQuestion,
                handler=trigger_type.info,
                output=triggers.TypeDetail,
            ),
            FunctionDeclaration(
                id="engine::registered-triggers::list",
                description="List triggers",
                input=triggers.TriggerFilter,
                handler=trigger.listing,
                output=triggers.TriggerList,
            ),
            FunctionDeclaration(
                id="engine::registered-triggers::info",
                description="Describe one trigger",
                input=triggers.TriggerQuestion,
                handler=trigger.info,
                output=triggers.TriggerDetail,
            ),
            FunctionDeclaration(
                id="engine::register_trigger",
                description="Make a trigger that outlives the worker that asks for it, until the engine stops",
                input=ownerless_triggers.NewTrigger,
                handler=self._ownerless_triggers.register,
                output=ownerless_triggers.Registered,
            ),
            FunctionDeclaration(
                id="engine::unregister_trigger",
                description="End a trigger, whoever owns it",
                input=ownerless_triggers.OldTrigger,
                handler=self._ownerless_triggers.unregister,
                output=ownerless_triggers.Removed,
            ),
            FunctionDeclaration(
                id="engine::workers::list",
                description="List workers and the engine's modules",
                input=workers.WorkerFilter,
                handler=worker.listing,
                output=workers.WorkerList,
            ),
            FunctionDeclaration(
                id="engine::workers::info",
                description="Describe one worker or module",
                input=workers.WorkerQuestion,
                handler=worker.info,
                output=workers.WorkerInfo,
            ),
            FunctionDeclaration(
                id="engine::workers::register",
                description="Say who the calling worker is, and in which namespace its functions live",
                input=Announcement,
                handler=worker.register,
                output=workers.Welcome,
            ),
        ]
