"""Opening a port, plain or with TLS, so that a failure ends the start with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import attrs
from OpenSSL.SSL import Error as SslError
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorCore,
    IReactorFromThreads,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.protocol import ServerFactory
from twisted.internet.ssl import DefaultOpenSSLContextFactory

BACKLOG = 1024


class IReactor(IReactorCore, IReactorFromThreads, IReactorSSL, IReactorTCP, IReactorTime):
    """What the services of the engine use of a reactor."""


class Tls(Protocol):
    """Where a listener's certificate is."""

    @property
    def certificate(self) -> Path:
        """PEM, with its chain."""

    @property
    def key(self) -> Path:
        """PEM."""


@attrs.define(str=False)
class CannotListen(Exception):
    """A port, or what TLS needs for it, cannot be opened."""

    what: str
    host: str
    port: int
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: cannot listen on {self.host}:{self.port}: {self.reason}"


def listen(
    reactor: IReactor, what: str, host: str, port: int, factory: ServerFactory[Any], tls: Tls | None
) -> IListeningPort:
    """
    Listen on a port.

    @param what: Who listens, for the error.
    @param port: 0 takes any free one.
    @raise CannotListen: The port is taken or not allowed, or the certificate cannot be read.
    """
    factory.noisy = False  # whoever listens says so
    try:
        if tls is None:
            return reactor.listenTCP(port, factory, backlog=BACKLOG, interface=host)
        context = DefaultOpenSSLContextFactory(str(tls.key), str(tls.certificate))
        return reactor.listenSSL(port, factory, context, backlog=BACKLOG, interface=host)
    except CannotListenError as error:
        reason = getattr(error.socketError, "strerror", None) or str(error.socketError)
        raise CannotListen(what, host, port, reason) from error
    except (SslError, OSError) as error:
        raise CannotListen(what, host, port, f"TLS: {error}") from error


def port_of(listening: IListeningPort) -> int:
    """The number of an open port."""
    number: int = listening.getHost().port  # type: ignore[attr-defined]  # IAddress says too little
    return number
