"""
A request and the object that its handler gets (spec/http.md, A5 and A6).

The object is put together as bytes: what depends on the route alone is encoded once, what depends on the headers for as
long as a client sends the same ones, and a JSON body passes through as it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import unquote, unquote_plus

import msgspec
from msgspec import Raw

from iii.modules.http.router import Route
from iii.wire.messages import MAX_DEPTH, encode, nested_deeper

MAX_BODY_DEPTH = MAX_DEPTH - 2
"""Nesting levels of a JSON body; a deeper one, for whose message and request object no levels are left, is invalid."""

NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})

_decode_raw = msgspec.json.Decoder(Raw).decode


class Headers:
    """
    The headers of a request and what they say about it.  Requests with the same headers share it.

    @ivar values: By lower-case name; of a repeated one the last value.
    @ivar member: The members of a request object about them: C{headers}, and C{multi_value_headers} when a name came
        more than once.
    @ivar raw: All lines as they came, the empty one at the end included.
    @ivar http10: The version, which belongs to their meaning, is 1.0, else 1.1.
    @ivar keep_alive: The client is ready to send another request on this connection.
    @ivar chunked: The body has no known length.
    @ivar length: Of the body, unless it is chunked.
    @ivar expects_continue: The client waits for C{100 Continue} before it sends the body.
    @ivar is_json: The body is to be read as JSON (A6: the type is compared by case).
    """

    __slots__ = ("chunked", "expects_continue", "http10", "is_json", "keep_alive", "length", "member", "raw", "values")

    def __init__(
        self,
        values: dict[str, str],
        raw: bytes = b"",
        *,
        repeated: Mapping[str, Sequence[str]] = NOTHING,
        http10: bool = False,
        keep_alive: bool = True,
    ) -> None:
        """
        @param repeated: All values of the names that came more than once.
        """
        self.values, self.raw, self.http10, self.keep_alive = values, raw, http10, keep_alive
        self.member = b'"headers":' + encode(values)
        if repeated:
            self.member += b',"multi_value_headers":' + encode(repeated)
        self.chunked = "transfer-encoding" in values
        self.length = int(values.get("content-length", 0))
        self.expects_continue = (
            "expect" in values and not http10 and self.has_body and values["expect"].lower() == "100-continue"
        )
        self.is_json = "application/json" in values.get("content-type", "")

    @property
    def has_body(self) -> bool:
        """Bytes of a body follow the head."""
        return self.length > 0 or self.chunked


class Request:
    """
    The head of a request.

    @ivar path: As on the wire, still percent-encoded.
    @ivar query: Likewise, without the C{?}.
    """

    __slots__ = ("headers", "method", "path", "query")

    def __init__(self, method: str, path: str, query: str, headers: Headers) -> None:
        self.method, self.path, self.query, self.headers = method, path, query, headers


class _Lowered(dict[bytes, str]):
    """Names of headers as they came, in lower case; the usual ones are converted once."""

    LIMIT, LONGEST = 1000, 64

    def __missing__(self, name: bytes) -> str:
        lowered = name.decode("ascii").lower()
        if len(self) < self.LIMIT and len(name) <= self.LONGEST:
            self[name] = lowered
        return lowered


lowered_names = _Lowered()


def tidy(values: dict[str, str]) -> None:
    """Make of header values, read as Latin-1, what a function gets."""
    for name, value in values.items():
        values[name] = tidied(value)


def tidied(value: str) -> str:
    """Return a header value trimmed, and C{""} for one that is not ASCII."""
    return value.strip() if value.isascii() else ""


def parse_query(query: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """
    Decode a query as a form.

    @return: The last value of each name, and all values of the names that came more than once.
    """
    parameters: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            name, value = unquote_plus(name), unquote_plus(value)
            if name in parameters:
                repeated.setdefault(name, [parameters[name]]).append(value)
            parameters[name] = value
    return parameters, repeated


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
    """The members of a request object that depend on the route alone, with a comma before and behind."""
    route = encode(path), encode(method)
    return b',"path":%b,"method":%b,"trigger":{"type":"http","path":%b,"method":%b},"body":' % (*route, *route)


def request_object(
    route: Route, values: Sequence[str], request: Request, body: bytes, channels: tuple[str, str], key: str
) -> Raw:
    """
    Return what the handler is called with.

    @param values: Of the route's parameters.
    @param body: JSON.
    @param channels: The ids of C{request_body} and C{response}, which have one key.
    """
    refs = (
        f',"request_body":{{"channel_id":"{channels[0]}","access_key":"{key}","direction":"read"}}'
        f',"response":{{"channel_id":"{channels[1]}","access_key":"{key}","direction":"write"}}}}'
    )
    if request.query or (values and "%" in "".join(values)):
        opening = _parameters(route, values, request)
    else:  # the same, in the way that costs least
        raw = encode(dict(zip(route.names, values))) if values else b"{}"  # noqa: B905  strict costs 0.15 µs
        opening = b'"query_params":{},"path_params":%b,"decoded_path_params":%b' % (raw, raw)
    return Raw(b"{%b,%b%b%b%b" % (opening, request.headers.member, route.fixed_members, body, refs.encode()))


def condition_object(route: Route, values: Sequence[str], request: Request, body: bytes) -> Raw:
    """Return what a condition is called with: the handler's object without the channels (A5)."""
    return Raw(
        b"{%b,%b%b%b}" % (_parameters(route, values, request), request.headers.member, route.fixed_members, body)
    )


def middleware_object(route: Route, values: Sequence[str], request: Request) -> Raw:
    """Return what middleware is called with (A9), and the route's path."""
    return Raw(
        b'{"phase":"preHandler","request":{%b,%b,"method":%b,"path":%b},"context":{}}'
        % (
            _parameters(route, values, request), request.headers.member, encode(request.method), encode(route.path),
        )
    )  # fmt: skip


def _parameters(route: Route, values: Sequence[str], request: Request) -> bytes:
    """
    Return the members about the parameters of path and query: as the contract has them, and C{decoded_path_params},
    C{multi_value_query_params} where these say something else.
    """
    raw = decoded = b"{}"
    if values:
        raw = decoded = encode(dict(zip(route.names, values)))  # noqa: B905  strict costs 0.15 µs
        if b"%" in raw:
            decoded = encode({name: unquote(value) for name, value in zip(route.names, values, strict=True)})
    if not request.query:
        return b'"query_params":{},"path_params":%b,"decoded_path_params":%b' % (raw, decoded)
    query, repeated = parse_query(request.query)
    multi = b',"multi_value_query_params":%b' % encode(repeated) if repeated else b""
    return b'"query_params":%b%b,"path_params":%b,"decoded_path_params":%b' % (encode(query), multi, raw, decoded)
