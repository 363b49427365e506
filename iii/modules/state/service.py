"""The state as a module (spec/state.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.application.service import Service
from twisted.logger import Logger
from zope.interface import implementer

from iii.config.blocks.stores import KvAdapter, StateSettings
from iii.core.engine import Engine
from iii.core.functions import FunctionDeclaration
from iii.interfaces import IModule, ITriggerProvider, IValues
from iii.modules.state.functions import StateFunctions
from iii.modules.state.triggers import StateTriggers
from iii.storage.checks import largest_value


@implementer(IModule)
class StateModule(Service):
    """C{state::*} and the trigger type C{state}."""

    log = Logger()
    description = "Values under scope and key"
    internal = False

    def __init__(self, settings: StateSettings, values: IValues, engine: Engine) -> None:
        """@param values: Where they are kept, as the settings say."""
        self._settings = settings
        triggers = StateTriggers(engine, enabled=settings.triggers_enabled)
        max_bytes = largest_value(settings.max_value_bytes, engine.limits.message_bytes)
        functions = StateFunctions(values, triggers, max_bytes)
        self.functions: Sequence[FunctionDeclaration] = functions.declare()
        self.trigger_types: Mapping[str, ITriggerProvider] = {"state": triggers}

    def startService(self) -> None:
        super().startService()
        adapter = self._settings.adapter
        if isinstance(adapter, KvAdapter) and adapter.config.store_method == "in_memory":
            self.log.warn("state: kept in memory only (`store_method: in_memory`), and gone when the engine stops")
