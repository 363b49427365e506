"""The HTTP module: C{iii-http}.  It listens, and it provides the trigger type C{http} (DESIGN.md, 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from iii.config.blocks.listeners import HttpSettings
from iii.core.engine import Engine
from iii.core.functions import FunctionDeclaration
from iii.interfaces import IModule, ITriggerProvider
from iii.modules.http.checks import Middleware
from iii.modules.http.connection import HttpConnection
from iii.modules.http.router import Router
from iii.modules.http.site import Site
from iii.modules.http.triggers import HttpTriggers
from iii.wire.listen import IReactor, listen, port_of
from iii.wire.outbox import Flusher

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the clock and at what takes too long."""
POLL = 0.02


class HttpFactory(ServerFactory[HttpConnection]):
    """Makes the connections of a listener, so many at one time."""

    noisy = False

    def __init__(self, site: Site) -> None:
        self._site = site

    def buildProtocol(self, addr: IAddress | None) -> HttpConnection | None:
        site = self._site
        if len(site.connections) >= site.limits.http_connections:
            site.engine.counters.connections_refused += 1
            site.engine.counters.hit("http_connections")
            return None
        return HttpConnection(site)


@implementer(IModule)
class HttpModule(Service):
    """
    Serves the routes.

    Stopping has two steps, because workers must stay until the requests in progress are answered: L{stop_accepting},
    and later L{stopService}, which ends what is left.
    """

    log = Logger()
    name = "iii-http"
    description = "HTTP routes that call functions"
    internal = False
    functions: Sequence[FunctionDeclaration] = ()
    trigger_types: Mapping[str, ITriggerProvider]

    def __init__(
        self,
        settings: HttpSettings,
        engine: Engine,
        flusher: Flusher,
        reactor: IReactor,
        *,
        access_log: bool = False,
        stop_timeout: float = 5.0,
    ) -> None:
        """
        @param access_log: Write a line for each request.
        @param stop_timeout: Seconds in which clients can read the last answers when the module stops.
        """
        self._settings, self._reactor, self._stop_timeout = settings, reactor, stop_timeout
        router = Router()
        self.trigger_types = {"http": HttpTriggers(router, engine.counters.responses_of)}
        self._site = Site(
            engine,
            router,
            flusher,
            timeout=settings.default_timeout / 1000,
            concurrency=settings.concurrency_request_limit,
            cors=settings.cors,
            access_log=access_log,
            middleware=[
                Middleware(entry.function_id, True)
                for entry in sorted(settings.middleware, key=lambda entry: entry.priority)
            ],
        )
        self._listening: IListeningPort | None = None
        self._checks = LoopingCall(self._check)
        self._checks.clock = reactor

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listening is not None
        return port_of(self._listening)

    def startService(self) -> None:
        """Open the port.  L{iii.wire.listen.CannotListen} ends the start."""
        super().startService()
        settings = self._settings
        self._listening = listen(
            self._reactor, "http", settings.host, settings.port, HttpFactory(self._site), settings.tls
        )
        self._checks.start(CHECK_INTERVAL)
        self.log.info("http: listening on {host}:{port}", host=settings.host, port=self.port)

    def stop_accepting(self) -> Deferred[None] | None:
        """Close the port.  Connections end with the answers to what is in progress; other requests get 503."""
        self._site.closing = True
        for connection in list(self._site.connections):
            connection.retire()
        listening, self._listening = self._listening, None
        return listening.stopListening() if listening is not None else None

    def busy(self) -> bool:
        """A request is being answered; a streamed answer may outlive its call."""
        return any(connection.busy for connection in self._site.connections)

    def stopService(self) -> Deferred[None]:
        """End all connections; fires when they are gone."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await maybeDeferred(self.stop_accepting)
        for connection in list(self._site.connections):
            connection.close()
        deadline = self._reactor.seconds() + self._stop_timeout
        while self._site.connections and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, POLL)
        for connection in list(self._site.connections):
            connection.abort()
        if self._checks.running:
            self._checks.stop()

    def _check(self) -> None:
        self._site.tick()
        for connection in list(self._site.connections):
            try:
                connection.check(self._site.now)
            except Exception:  # a defect met with one connection; the others, and the loop, go on
                self.log.failure("checking a connection failed")
                connection.abort()
