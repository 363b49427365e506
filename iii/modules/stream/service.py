"""The streams as a module: C{iii-stream} (spec/stream.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

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
from iii.modules.stream.clients import Surroundings
from iii.modules.stream.events import Stamps
from iii.modules.stream.functions import Functions
from iii.modules.stream.listener import ClientFactory, StreamListener
from iii.modules.stream.overrides import Overrides
from iii.modules.stream.triggers import StreamTriggers
from iii.storage.checks import largest_value
from iii.wire.listen import IReactor


@implementer(IModule)
class StreamModule(Service):
    """
    C{stream::*}, the trigger types C{stream}, C{stream:join} and C{stream:leave}, and the listener for clients.

    Stopping has two steps, because workers write until their calls are answered: L{stop_accepting} takes no new
    clients, L{stopService} closes the connections of the others.
    """

    log = Logger()
    description = "Streams of items that clients see change"
    internal = False

    def __init__(
        self,
        settings: StreamSettings,
        backend: IStreamBackend,
        stamps: Stamps,
        engine: Engine,
        reactor: IReactor,
        *,
        token: str | None,
        origins: Collection[str],
        ping_interval: float,
    ) -> None:
        """
        @param backend: Where the streams are kept, as the settings say.
        @param stamps: The backend's.
        @param token: Of the engine, C{engine.token}.
        @param origins: Of browsers that may connect, beside loopback.
        @param ping_interval: Seconds between two pings of one client.
        """
        self._settings, self._backend = settings, backend
        triggers, attendants = StreamTriggers(engine), Attendants(engine, fail_open=settings.auth_fail_open)
        overrides = Overrides(engine)
        max_bytes = largest_value(settings.max_value_bytes, engine.limits.message_bytes)
        functions = Functions(engine, backend, stamps, overrides, triggers, max_bytes)
        self.functions: Sequence[FunctionDeclaration] = functions.declarations()
        self.trigger_types: Mapping[str, ITriggerProvider] = {
            "stream": triggers,
            "stream:join": attendants.join,
            "stream:leave": attendants.leave,
        }
        handler_timeout = settings.handler_timeout_ms / 1000
        surroundings = Surroundings(engine, backend, stamps, attendants, overrides.reader, handler_timeout)
        factory = ClientFactory(
            settings, surroundings, reactor, token=token, origins=origins, ping_interval=ping_interval
        )
        self._listener = StreamListener(factory, settings.host, settings.port, settings.tls, reactor)
        backend.observer = self._listener.deliver

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listener.port

    def startService(self) -> None:
        """Begin to serve.  L{iii.wire.listen.CannotListen} ends the start."""
        self._backend.start()
        self._listener.startService()
        super().startService()
        adapter = self._settings.adapter
        if isinstance(adapter, StreamKvAdapter) and adapter.config.store_method == "in_memory":
            self.log.warn("streams: kept in memory only (`store_method: in_memory`), and gone when the engine stops")

    def stop_accepting(self) -> object:
        """Close the port; clients that are there stay."""
        return self._listener.stop_accepting()

    def busy(self) -> bool:
        """What is under way here are calls, which the engine counts."""
        return self._listener.busy()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._listener.stopService()
        await self._backend.stop()
