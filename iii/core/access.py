"""The engine's token: one rule for every port that asks for it."""

from __future__ import annotations

from hmac import compare_digest


def authorized(authorization: bytes | None, token: str | None) -> bool:
    """
    Tell whether a request may pass: no token is configured, or it has sent C{Authorization: Bearer <token>}.  The case
    of the scheme does not matter (RFC 9110, 11.1).

    @param authorization: The header's value as it came, C{None} without one.
    """
    if token is None:
        return True
    scheme, _, given = (authorization or b"").partition(b" ")
    return scheme.lower() == b"bearer" and compare_digest(given.strip(), token.encode())
