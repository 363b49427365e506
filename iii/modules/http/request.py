"""
A request and the object that its handler gets (spec/http.md, A5 and A6).

The object is put together as bytes: what depends on the route alone is encoded once, and a JSON body passes through as
it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote_plus

import msgspec
from msgspec import Raw

from iii.modules.http.router import Route
from iii.wire.messages import encode, nested_deeper

MAX_BODY_DEPTH = 127
"""Nesting levels of a JSON body; a deeper one counts as invalid."""

_decode_raw = msgspec.json.Decoder(Raw).decode


class Request:
    """
    The head of a request.

    @ivar path: As on the wire, still percent-encoded.
    @ivar query: Likewise, without the C{?}.
    @ivar headers: By lower-case name; of a repeated one the last value.
    @ivar http10: The version is 1.0, else 1.1.
    @ivar keep_alive: The client is ready to send another request on this connection.
    @ivar chunked: The body has no known length.
    @ivar length: Of the body, unless it is chunked.
    @ivar expects_continue: The client waits for C{100 Continue} before it sends the body.
    """

    __slots__ = ("chunked", "expects_continue", "headers", "http10", "keep_alive", "length", "method", "path", "query")

    def __init__(self, method: str, target: str, headers: dict[str, str]) -> None:
        if "#" in target:
            target = target.partition("#")[0]
        self.method, self.headers = method, headers
        self.path, _, self.query = target.partition("?")
        self.http10 = self.chunked = self.expects_continue = False
        self.keep_alive = True
        self.length = 0

    @property
    def has_body(self) -> bool:
        """Bytes of a body follow the head."""
        return self.length > 0 or self.chunked

    @property
    def is_json(self) -> bool:
        """The body is to be read as JSON (A6; the type is compared as the reference does, by case)."""
        return "application/json" in self.headers.get("content-type", "")


class _Lowered(dict[bytes, str]):
    """Names of headers as they came, in lower case; the usual ones are converted once."""

    LIMIT = 1000

    def __missing__(self, name: bytes) -> str:
        lowered = name.decode("ascii").lower()
        if len(self) < self.LIMIT:
            self[name] = lowered
        return lowered


_lowered = _Lowered()


def headers_of(fields: list[tuple[bytes, bytes]], head: bytes) -> dict[str, str]:
    """
    Return the headers by lower-case name.  The last one of a name wins; a value that is not ASCII becomes C{""}.

    @param head: The head in which they stood; it tells at once whether any value needs a closer look.
    """
    lowered = _lowered
    if head.isascii() and b" \r\n" not in head and b"\t\r\n" not in head:
        return {lowered[name]: value.decode("ascii") for name, value in fields}
    return {lowered[name]: value.strip().decode() if value.isascii() else "" for name, value in fields}


def parse_query(query: str) -> dict[str, str]:
    """Decode a query as a form; the last value of a name wins."""
    parameters = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            parameters[unquote_plus(name)] = unquote_plus(value)
    return parameters


def json_or_null(body: bytes) -> bytes:
    """Return a body as it is if it is JSON that a worker can be expected to read, else C{null}."""
    try:
        _decode_raw(body)
        if not body.isascii():
            body.decode()  # msgspec does not look into what it only skips
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b"null"
    return b"null" if nested_deeper(body, MAX_BODY_DEPTH) else body


def fixed_members(method: str, path: str) -> bytes:
    """The members of a request object that depend on the route alone, with a comma behind each."""
    route = encode(path), encode(method)
    return b'"path":%b,"method":%b,"trigger":{"type":"http","path":%b,"method":%b},' % (*route, *route)


def request_object(
    route: Route,
    values: Sequence[str],
    request: Request,
    body: bytes,
    channels: tuple[str, str],
    key: str,
) -> Raw:
    """
    Return what the handler is called with.

    @param values: Of the route's parameters.
    @param body: JSON.
    @param channels: Ids of the channels C{request_body} and C{response}.
    @param key: Of both.
    """
    refs = (
        f',"request_body":{{"channel_id":"{channels[0]}","access_key":"{key}","direction":"read"}}'
        f',"response":{{"channel_id":"{channels[1]}","access_key":"{key}","direction":"write"}}}}'
    )
    return Raw(
        b"".join(
            (
                b'{"query_params":',
                encode(parse_query(request.query)) if request.query else b"{}",
                b',"path_params":',
                encode(dict(zip(route.pattern.names, values, strict=True))) if values else b"{}",
                b',"headers":',
                encode(request.headers),
                b",",
                route.fixed_members,
                b'"body":',
                body,
                refs.encode(),
            )
        )
    )
