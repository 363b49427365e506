"""
A connection to Redis that is made again whenever it ends.

Twisted's C{ClientService} does for a connection that is good as soon as it stands.  This one is only after the log-in,
may end during that, and the reason why there is none is wanted for the errors.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import txredisapi
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.logger import Logger

from iii.storage.redis_protocol import RedisProtocol, greet
from iii.storage.redis_url import RedisUrl

FIRST_DELAY, MOST_DELAY, FACTOR = 0.05, 5.0, 2.0
"""Seconds before the connection is made again; after each failure longer."""

P = TypeVar("P", bound=RedisProtocol)


class IReactor(IReactorPluggableNameResolver, IReactorTCP, IReactorTime):
    """What connecting takes of a reactor."""


class RedisConnection(Generic[P]):
    """Holds a connection until it is stopped, and tells when there is one."""

    log = Logger()

    def __init__(
        self,
        url: RedisUrl,
        reactor: IReactor,
        build: Callable[[], P],
        up: Callable[[P], None],
        down: Callable[[str], None],
        timeout: float,
    ) -> None:
        """
        @param up: Called with a connection that is ready.
        @param down: Called with the reason when it has ended, and when an attempt to make one has failed.
        @param timeout: Seconds that an attempt may take.
        """
        self._url, self._reactor, self._build, self._up, self._down = url, reactor, build, up, down
        self._timeout = timeout
        self._endpoint = _endpoint(url, reactor, timeout)
        self._running: Deferred[None] | None = None
        self._stopping = False
        self._current: Deferred[Any] | None = None  # an attempt, or the pause before the next one
        self._protocol: P | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """Close the connection, and make no more."""
        self._stopping = True
        if self._current is not None:
            self._current.cancel()
        elif self._protocol is not None:
            self._protocol.abort("closed")
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            reason = await self._attempt()
            if reason is None:
                assert self._protocol is not None
                if failures:
                    self.log.info("connected to Redis at {url} again", url=self._url.shown)
                failures = 0
                self._up(self._protocol)
                reason = await self._protocol.lost
                self._protocol = None
            if self._stopping:
                return
            self._down(reason)
            if not failures:
                self.log.warn("no connection to Redis at {url}: {reason}", url=self._url.shown, reason=reason)
            failures += 1
            await self._unless_stopped(deferLater(self._reactor, _delay(failures)))

    async def _attempt(self) -> str | None:
        """Connect and log in.  Return why there is no connection; C{None}: there is one."""
        try:
            await self._unless_stopped(Deferred.fromCoroutine(self._connect()).addTimeout(self._timeout, self._reactor))
        except TimeoutError:
            reason = f"no answer within {self._timeout:g} s"
        except (ConnectError, DNSLookupError, txredisapi.RedisError) as error:
            reason = str(error)
        else:
            if not self._stopping:
                return None
            reason = "closed"
        if self._protocol is not None:
            self._protocol.abort(reason)
            reason = await self._protocol.lost  # it may have ended by itself, and knows why
            self._protocol = None
        return reason

    async def _connect(self) -> None:
        factory = Factory.forProtocol(self._build)
        factory.noisy = False  # while there is no server it would say so with each attempt
        protocol: Any = await self._endpoint.connect(factory)
        self._protocol = protocol
        await greet(protocol, self._url)

    async def _unless_stopped(self, waited: Deferred[Any]) -> None:
        """Wait for something that L{stop} ends."""
        self._current = waited
        try:
            await waited
        except (CancelledError, ConnectingCancelledError):
            pass  # only stop() does that
        finally:
            self._current = None


def _endpoint(url: RedisUrl, reactor: IReactor, timeout: float) -> IStreamClientEndpoint:
    endpoint = HostnameEndpoint(reactor, url.host, url.port, timeout)
    return wrapClientTLS(optionsForClientTLS(url.host), endpoint) if url.tls else endpoint


def _delay(failures: int) -> float:
    return min(FIRST_DELAY * FACTOR ** min(failures - 1, 30), MOST_DELAY) * random.uniform(0.75, 1.25)
