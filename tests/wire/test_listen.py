"""Tests for L{iii.wire.listen}, on real sockets."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from typing import Any

from twisted.internet import reactor, threads
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.trial.unittest import TestCase

from iii.config.parts import Tls
from iii.wire.listen import CannotListen, IReactor, listen, port_of
from tests.certificates import chained, encrypt, self_signed

HOST = "127.0.0.1"
RUNS_ON: IReactor = reactor  # type: ignore[assignment]


class Greeter(Protocol):
    """Says one word."""

    def connectionMade(self) -> None:
        self.transport.write(b"hello")
        self.transport.loseConnection()


class ListenTestCase(TestCase):
    def listen(self, port: int = 0, tls: Tls | None = None) -> IListeningPort:
        factory: Any = Factory.forProtocol(Greeter)
        listening = listen(RUNS_ON, "workers", HOST, port, factory, tls)
        self.addCleanup(listening.stopListening)
        return listening

    def refused(self, port: int = 0, tls: Tls | None = None) -> str:
        factory: Any = ServerFactory()
        return str(self.assertRaises(CannotListen, listen, RUNS_ON, "workers", HOST, port, factory, tls))


class PlainTests(ListenTestCase):
    async def test_any_port(self) -> None:
        """Port 0 is any free one, and its number is told."""
        port = port_of(self.listen())
        self.assertGreater(port, 0)
        self.assertEqual(await threads.deferToThread(self.read, port), b"hello")

    def read(self, port: int) -> bytes:
        with socket.create_connection((HOST, port), 10) as client:
            return client.recv(100)

    def test_taken(self) -> None:
        """A taken port is told with who wanted it, where, and why not."""
        port = port_of(self.listen())
        self.assertEqual(self.refused(port), f"workers: cannot listen on 127.0.0.1:{port}: Address already in use")

    def test_not_allowed(self) -> None:
        """So is a port of the system's."""
        if os.geteuid() == 0:
            self.skipTest("root may take every port")
        self.assertEqual(self.refused(1), "workers: cannot listen on 127.0.0.1:1: Permission denied")


class TlsTests(ListenTestCase):
    def setUp(self) -> None:
        certificate, key, self.root = chained(self.mktemp())
        self.tls = Tls(certificate=Path(certificate), key=Path(key))

    def read(self, port: int, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[bytes, str | None]:
        """What a client reads that trusts the root only, and which version it speaks."""
        context = ssl.create_default_context(cadata=self.root.decode())
        context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, newest
        context.set_ciphers("ALL:@SECLEVEL=0")
        with (
            socket.create_connection((HOST, port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            return client.recv(100), client.version()

    async def test_chain(self) -> None:
        """The whole chain is sent: a client that knows the root only can verify it."""
        port = port_of(self.listen(tls=self.tls))
        self.assertEqual(await threads.deferToThread(self.read, port), (b"hello", "TLSv1.3"))

    async def test_versions(self) -> None:
        """TLS 1.2 is spoken, nothing older."""
        port = port_of(self.listen(tls=self.tls))
        spoken = await threads.deferToThread(self.read, port, ssl.TLSVersion.TLSv1_2)
        self.assertEqual(spoken, (b"hello", "TLSv1.2"))
        await self.assertFailure(threads.deferToThread(self.read, port, ssl.TLSVersion.TLSv1_1), ssl.SSLError)

    def test_missing(self) -> None:
        """A file that is not there is named."""
        for path in (self.tls.key, self.tls.certificate):
            path.unlink()
            self.assertEqual(
                self.refused(tls=self.tls),
                f"workers: cannot listen on 127.0.0.1:0: TLS: {path}: No such file or directory",
            )

    def test_no_pem(self) -> None:
        """So is one with something else in it."""
        self.tls.key.write_text("x")
        self.assertIn(f"TLS: {self.tls.key}: no private key in PEM", self.refused(tls=self.tls))
        self.tls.certificate.write_text("x")
        self.assertIn(f"TLS: {self.tls.certificate}: no certificate in PEM", self.refused(tls=self.tls))

    def test_encrypted(self) -> None:
        """Nobody is asked for the password of a key."""
        encrypt(str(self.tls.key))
        self.assertIn(f"TLS: {self.tls.key}: the key is encrypted", self.refused(tls=self.tls))

    def test_mismatch(self) -> None:
        """The key of another certificate is refused."""
        _, key = self_signed(self.mktemp())
        tls = Tls(certificate=self.tls.certificate, key=Path(key))
        self.assertIn(f"TLS: {key}: not the key of the first certificate in {tls.certificate}", self.refused(tls=tls))
