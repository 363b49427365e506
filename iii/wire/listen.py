"""Opening a port, plain or with TLS, so that a failure ends the start with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, cast

import attrs
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509, PKey
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
from twisted.internet.ssl import CertificateOptions, TLSVersion

BACKLOG = 1024


class IReactor(IReactorCore, IReactorFromThreads, IReactorSSL, IReactorTCP, IReactorTime):
    """What the services of the engine use of a reactor."""


class Tls(Protocol):
    """Where a listener's certificate is."""

    @property
    def certificate(self) -> Path:
        """PEM: the listener's own, then those between it and a root that clients know."""

    @property
    def key(self) -> Path:
        """PEM, not encrypted."""


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
    @raise CannotListen: The port is taken or not allowed, or the certificate cannot be read or does not fit the key.
    """
    factory.noisy = False  # whoever listens says so
    try:
        if tls is None:
            return reactor.listenTCP(port, factory, backlog=BACKLOG, interface=host)
        return reactor.listenSSL(port, factory, _context(tls), backlog=BACKLOG, interface=host)
    except CannotListenError as error:
        reason = getattr(error.socketError, "strerror", None) or str(error.socketError)
        raise CannotListen(what, host, port, reason) from error
    except OSError as error:
        raise CannotListen(what, host, port, f"TLS: {error.filename}: {error.strerror}") from error
    except _Unusable as error:
        raise CannotListen(what, host, port, f"TLS: {error}") from error


class _Unusable(Exception):
    """The certificate or its key cannot be used; the text names the file."""


def _context(tls: Tls) -> CertificateOptions:
    """
    Make what a listener needs for TLS 1.2 and newer: certificate, chain and key.

    Twisted's C{DefaultOpenSSLContextFactory} would send the first certificate of the file only, and OpenSSL would ask
    the terminal for the password of a key that has one.
    """
    try:
        certificates = load_pem_x509_certificates(tls.certificate.read_bytes())
    except ValueError as error:
        raise _Unusable(f"{tls.certificate}: no certificate in PEM") from error
    try:
        key = load_pem_private_key(tls.key.read_bytes(), password=None)
    except TypeError as error:
        raise _Unusable(f"{tls.key}: the key is encrypted; the engine needs it without a password") from error
    except ValueError as error:
        raise _Unusable(f"{tls.key}: no private key in PEM") from error
    if certificates[0].public_key() != key.public_key():
        raise _Unusable(f"{tls.key}: not the key of the first certificate in {tls.certificate}")
    certificate, *chain = map(X509.from_cryptography, certificates)
    try:
        options = CertificateOptions(
            privateKey=PKey.from_cryptography_key(cast(Any, key)),
            certificate=certificate,
            extraCertChain=chain,
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )
        options.getContext()  # made now and kept, so that what OpenSSL refuses ends the start
    except (SslError, TypeError) as error:  # too short a key, or of a kind that it does not know
        raise _Unusable(f"{tls.certificate}: {error}") from error
    return options


def port_of(listening: IListeningPort) -> int:
    """The number of an open port."""
    number: int = listening.getHost().port  # type: ignore[attr-defined]  # IAddress says too little
    return number
