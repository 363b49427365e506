"""Certificates for tests of TLS."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


def self_signed(directory: str) -> tuple[str, str]:
    """Write a certificate for localhost, and its key, into a new directory; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _write(directory, [_certificate("localhost", key, "localhost", key, False)], key)


def chained(directory: str) -> tuple[str, str, bytes]:
    """
    Write a certificate for localhost, the one that signed it, and the key, into a new directory; return both paths, and
    in PEM the root that signed the second one, which a client would have.
    """
    key, between, root = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    certificates = [
        _certificate("localhost", key, "intermediate", between, False),
        _certificate("intermediate", between, "root", root, True),
    ]
    anchor = _certificate("root", root, "root", root, True)
    return *_write(directory, certificates, key), anchor.public_bytes(Encoding.PEM)


def encrypt(key: str) -> None:
    """Protect the key in a file by a password."""
    _write_key(Path(key), ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"password"))


def _certificate(subject: str, key: Key, issuer: str, issuer_key: Key, signs: bool) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signs, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _write(directory: str, certificates: list[x509.Certificate], key: Key) -> tuple[str, str]:
    folder = Path(directory)
    folder.mkdir(parents=True)
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
    _write_key(paths[1], key, NoEncryption())
    return str(paths[0]), str(paths[1])


def _write_key(path: Path, key: Key, encryption: KeySerializationEncryption) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
