"""
Who may open a WebSocket on the streams' port, and to what (spec/stream.md, 6.1 and 6.2; DESIGN.md, 9).

An auth function that is configured decides alone.  Without one, the engine's token is wanted, if there is one.
Browsers cannot send C{Authorization}, so the token may also be a subprotocol after C{Authorization}, which is what
published clients offer, or the query's C{token}.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote

import attrs
import msgspec
from msgspec import Raw

from iii.core.access import authorized
from iii.wire.messages import NULL
from iii.wire.server import Refused

PATHS = frozenset(("/", "/ws", "/ws/", "/stream", "/stream/", "/streams", "/streams/", "/ws/streams", "/ws/streams/"))
"""Where a client connects: C{/}, and what documented proxies pass on without stripping their prefix."""
TRUE = Raw(b"true")
AUTHORIZATION = "authorization"
WANTED = "this engine wants its token: in Authorization: Bearer, as the subprotocol after Authorization, or as ?token="

_group = re.compile(r"(?:/streams?|/ws)?/stream/([^/]+)/([^/]+)").fullmatch


@attrs.frozen
class Request:
    """
    The head of a handshake.

    @ivar path: As it came, without the query.
    @ivar query: As it came.
    @ivar headers: By lower-case name; of repeated ones the last.  Those with bytes that are not ASCII are left out.
    @ivar authorization: The value of that header as it came; empty without one.
    @ivar protocols: The subprotocols that are offered.
    @ivar address: C{ip:port} of the peer, IPv6 in brackets.
    """

    path: str
    query: str
    headers: dict[str, str]
    authorization: bytes
    protocols: Sequence[str]
    address: str


def headers_of(head: bytes) -> dict[str, str]:
    """Read the header lines of a request's head, which Autobahn has found to be in order."""
    headers = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon and value.isascii():
            headers[name.strip().decode("latin-1").lower()] = value.strip().decode()
    return headers


def known(path: str) -> bool:
    """Whether anything is served under a path."""
    return path in PATHS or _group(path) is not None


def joined(path: str) -> tuple[str, str] | None:
    """Return the stream and group that C{/stream/<name>/<group>} joins at once; C{None} for other paths."""
    found = _group(path)
    return (unquote(found[1]), unquote(found[2])) if found and path not in PATHS else None


def subprotocol(offered: Sequence[str], token: str | None) -> str | None:
    """
    Choose the subprotocol: browsers fail when one was offered and none is answered.  It is never the token: after
    C{Authorization} comes a secret.
    """
    for name in offered:
        if name.lower() == AUTHORIZATION:
            return name
    return next((name for name in offered if name != token), None)


def check_token(request: Request, token: str | None) -> None:
    """
    With a token configured, want it.

    @raise Refused: 401.
    """
    if token is None:
        return
    names = [name.lower() for name in request.protocols]
    offered = [request.protocols[names.index(AUTHORIZATION) + 1]] if AUTHORIZATION in names[:-1] else []
    given = [f"Bearer {secret}".encode() for secret in (*offered, *parse_qs(request.query).get("token", []))]
    if not any(authorized(value, token) for value in (request.authorization, *given)):
        raise Refused(401, WANTED)


def question(request: Request) -> Raw:
    """What an auth function is called with.  The query is split and not decoded (spec/stream.md, 6.2)."""
    query: dict[str, list[str]] = {}
    for member in request.query.split("&"):
        name, _, value = member.partition("=")
        if name:
            query.setdefault(name, []).append(value)
    asked = {"headers": request.headers, "path": request.path, "query_params": query, "addr": request.address}
    return Raw(msgspec.json.encode(asked))


class ContextTooLarge(Refused):
    """An auth function gives a client a context that is larger than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(403, f"the context has more than {limit} bytes (`engine.limits.stream_context_bytes`)")


class _Verdict(msgspec.Struct):
    context: Raw = NULL
    unauthorized: Raw = NULL


_decode_verdict = msgspec.json.Decoder(_Verdict).decode


def context_of(answer: Raw, limit: int, *, fail_open: bool) -> Raw:
    """
    Read what an auth function says: the C{context} of the object that it returns.

    @param limit: Bytes that a context may have.
    @param fail_open: Anything but an object lets the client in without a context, too.
    @raise Refused: 401, it says C{unauthorized: true} or nothing that lets the client in; 403, L{ContextTooLarge}.
    """
    try:
        verdict = _decode_verdict(answer)
    except (msgspec.DecodeError, RecursionError):  # no object, or nothing at all
        verdict = None
    if verdict is None and fail_open:
        return NULL
    if verdict is None or verdict.unauthorized == TRUE:
        raise Refused(401, "the auth function does not let this client in")
    if len(verdict.context) > limit:
        raise ContextTooLarge(limit)
    return verdict.context.copy()
