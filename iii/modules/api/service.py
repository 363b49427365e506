"""The engine's own REST API, by default on port 9464 (DESIGN.md, 6 and 11)."""

from __future__ import annotations

from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.web.server import Site

from iii.config.settings import DEFAULT_API_PORT, ApiSettings
from iii.core.engine import Engine
from iii.modules.api.metrics import registry
from iii.modules.api.resource import Api
from iii.wire.listen import CannotListen, IReactor, listen, port_of


class Readiness(Protocol):
    """Who knows whether the engine is ready."""

    ready: bool


class QuietSite(Site):
    """A site without an access log: health checks would fill it."""

    def log(self, request: object) -> None:
        """Say nothing."""


class ApiService(Service):
    """Serves health, readiness and metrics, from the first moment to the last."""

    log = Logger()

    def __init__(
        self, settings: ApiSettings, token: str | None, engine: Engine, tree: Readiness, reactor: IReactor
    ) -> None:
        self._settings, self._reactor = settings, reactor
        api = Api(lambda: {"engine": tree.ready, "accepting": not engine.stopping}, registry(engine), token)
        self._site = QuietSite(api.app.resource())
        self._site.displayTracebacks = False
        self._listening: IListeningPort | None = None

    @property
    def port(self) -> int | None:
        """The port that is listened on; C{None} when it was taken and nobody asked for it."""
        return None if self._listening is None else port_of(self._listening)

    def startService(self) -> None:
        """Open the port.  A port that the file names must be free; the implicit one may be another engine's."""
        super().startService()
        settings = self._settings
        port = DEFAULT_API_PORT if settings.port is None else settings.port
        try:
            self._listening = listen(self._reactor, "api", settings.host, port, self._site, settings.tls)
        except CannotListen as error:
            if settings.port is not None:
                raise
            self.log.warn("{error}; going on without it (engine.api.port names another one)", error=str(error))
        else:
            self.log.info("api: listening on {host}:{port}", host=settings.host, port=self.port)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        listening, self._listening = self._listening, None
        return None if listening is None else listening.stopListening()
