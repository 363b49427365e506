"""The streams as a module: C{iii-stream} (spec/stream.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from iii.config.blocks.stores import StreamKvAdapter, StreamSettings
from iii.core.engine import Engine
from iii.core.functions import FunctionDeclaration
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.stream.attendance import Attendants
from iii.modules.stream.backend import IStreamBackend
from iii.modules.stream.events import Stamps
from iii.modules.stream.functions import Functions
from iii.modules.stream.overrides import Overrides
from iii.modules.stream.triggers import StreamTriggers


@implementer(IModule)
class StreamModule(Service):
    """C{stream::*} and the trigger types C{stream}, C{stream:join} and C{stream:leave}."""

    log = Logger()
    description = "Streams of items that clients see change"
    internal = False

    def __init__(self, settings: StreamSettings, backend: IStreamBackend, stamps: Stamps, engine: Engine) -> None:
        """
        @param backend: Where the streams are kept, as the settings say.
        @param stamps: The backend's.
        """
        self._settings, self._backend = settings, backend
        triggers, attendants = StreamTriggers(engine), Attendants(engine, fail_open=settings.auth_fail_open)
        overrides = Overrides(engine)
        functions = Functions(engine, backend, stamps, overrides, triggers, settings.max_value_bytes)
        self.functions: Sequence[FunctionDeclaration] = functions.declarations()
        self.trigger_types: Mapping[str, ITriggerProvider] = {
            "stream": triggers,
            "stream:join": attendants.join,
            "stream:leave": attendants.leave,
        }

    def startService(self) -> None:
        """Begin to serve.  L{CannotOpenStore} ends the start."""
        self._backend.start()
        super().startService()
        adapter = self._settings.adapter
        if isinstance(adapter, StreamKvAdapter) and adapter.config.store_method == "in_memory":
            self.log.warn("streams: kept in memory only (`store_method: in_memory`), and gone when the engine stops")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._backend.stop())
