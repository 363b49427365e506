"""The engine's own REST API, by default on port 9464 (DESIGN.md, 6 and 11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from iii.config.settings import DEFAULT_API_PORT, ApiSettings
from iii.core.engine import Engine
from iii.wire.listen import CannotListen, IReactor, listen, port_of


class ApiService(Service):
    """
    Serves health, readiness and metrics, from the first moment to the last.

    What it is made of (Klein, twisted.web, prometheus_client) is imported when everything listens: measured, that lets
    the ports open 0.3 s earlier.
    """

    log = Logger()
    name = "api"

    def __init__(
        self,
        settings: ApiSettings,
        token: str | None,
        engine: Engine,
        ready: Callable[[], dict[str, str]],
        reactor: IReactor,
        implicit_port: int = DEFAULT_API_PORT,
    ) -> None:
        """
        @param ready: See L{Api<iii.modules.api.resource.Api>}.
        @param implicit_port: Used when the settings name none.
        """
        self._settings, self._token, self._engine, self._ready = settings, token, engine, ready
        self._reactor, self._implicit_port = reactor, implicit_port
        self._factory = LateFactory()
        self._listening: IListeningPort | None = None

    @property
    def port(self) -> int | None:
        """The port that is listened on; C{None} when it was taken and nobody asked for it."""
        return None if self._listening is None else port_of(self._listening)

    def startService(self) -> None:
        """Open the port.  A port that the file names must be free; the implicit one may be another engine's."""
        super().startService()
        settings = self._settings
        port = self._implicit_port if settings.port is None else settings.port
        try:
            self._listening = listen(self._reactor, "api", settings.host, port, self._factory, settings.tls)
        except CannotListen as error:
            if settings.port is not None:
                raise
            self.log.warn("{error}; going on without it (engine.api.port names another one)", error=str(error))
        else:
            self._reactor.callWhenRunning(self._load)
            self.log.info("api: listening on {host}:{port}", host=settings.host, port=self.port)

    def _load(self) -> None:
        from iii.modules.api.metrics import registry
        from iii.modules.api.resource import Api, QuietSite

        api = Api(self._ready, registry(self._engine), self._token)
        self._factory.actual = QuietSite(api.app.resource())

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        listening, self._listening = self._listening, None
        return None if listening is None else listening.stopListening()


class LateFactory(ServerFactory[Any]):
    """
    Stands for a factory that is made when the reactor runs; before that nobody's connection is accepted.

    @ivar actual: That factory.
    """

    actual: ServerFactory[Any]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self.actual.buildProtocol(addr)
