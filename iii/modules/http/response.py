"""
From what a function returned to the parts of a response (spec/http.md, A7 and A11).

What a function says about the framing of the message, such as C{content-length}, is never sent as it is, and no header
of it can end the head early: the connection alone decides where a response ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from os import urandom
from typing import Any

import msgspec
from msgspec import Raw
from twisted.logger import Logger

from iii.core.errors import (
    CallTimedOut,
    EngineStopping,
    FunctionNotFound,
    PayloadTooLarge,
    TooManyChannels,
    WorkerOverloaded,
)
from iii.core.invocations import EngineErrorBody
from iii.core.shown import shown, shown_lines
from iii.modules.http.router import Endpoint, Route
from iii.wire.messages import NULL, ErrorBody, encode

log = Logger()

OURS = frozenset(
    [
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-connection",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
"""Headers that are the connection's to set, not the function's."""

_TRY_AGAIN = frozenset({WorkerOverloaded.code, EngineStopping.code, TooManyChannels.code})
_RETRY_AFTER = b"retry-after: 1\r\n"
_is_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_value = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch
_is_length = re.compile(r"[0-9]{1,18}").fullmatch


class Fields(msgspec.Struct, frozen=True, gc=False):
    """
    The headers of a function.

    @ivar lines: Those that are sent, as lines.
    @ivar has_type: There is a C{content-type} among them.
    @ivar length: The C{content-length} that the function gave; sent only where there is no body to measure.
    """

    lines: bytes = b""
    has_type: bool = False
    length: int | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A complete response but for what the connection adds."""

    status: int
    fields: Fields
    body: bytes


class _Result(msgspec.Struct, gc=False):
    status_code: Any = None
    headers: Any = None
    body: Raw = Raw(b"{}")


_decode_result = msgspec.json.Decoder(_Result).decode
_decode_text = msgspec.json.Decoder(str).decode
_JSON_TYPE = b"content-type: application/json\r\n"
_JSON_FIELDS = Fields(_JSON_TYPE, True)


def read_result(result: Raw, overridden: frozenset[str]) -> Answer:
    """
    Read what a function returned.

    @param overridden: Names of headers that give way to those of the listener.
    """
    try:
        returned = _decode_result(result)
    except msgspec.DecodeError:  # no object: the contract does not take a plain value for a body
        returned = _Result()
    status = 200 if returned.status_code is None else _status(returned.status_code)
    if not returned.headers:
        return Answer(status, _JSON_FIELDS, bytes(returned.body))
    fields = read_fields(_pairs(returned.headers), overridden)
    if not fields.has_type:
        fields = Fields(_JSON_TYPE + fields.lines, True, fields.length)
        return Answer(status, fields, bytes(returned.body))
    if returned.body == NULL:
        return Answer(status, fields, b"")
    body = bytes(returned.body)
    return Answer(status, fields, _decode_text(body).encode() if body.startswith(b'"') else body)


class _MiddlewareResponse(msgspec.Struct, gc=False):
    status_code: Any = None
    headers: Any = None
    body: Raw = msgspec.field(default_factory=lambda: NULL)


_decode_response = msgspec.json.Decoder(_MiddlewareResponse).decode


def read_response_of_middleware(response: Raw, overridden: frozenset[str]) -> Answer:
    """
    Read what middleware answers in the handler's place (A9).  The body is always JSON; headers count only when all of
    their values are texts, and of equal names the last one does.

    @param overridden: As for L{read_result}.
    """
    try:
        given = _decode_response(response)
    except msgspec.DecodeError:
        given = _MiddlewareResponse()
    status = 200 if given.status_code is None else _status(given.status_code)
    headers = given.headers if isinstance(given.headers, dict) else {}
    if not all(isinstance(value, str) for value in headers.values()):
        headers = {}
    fields = read_fields({name.lower(): value for name, value in headers.items()}.items(), overridden)
    if not fields.has_type:
        fields = Fields(_JSON_TYPE + fields.lines, True, fields.length)
    return Answer(status, fields, bytes(given.body or NULL))


def _status(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        return 200
    status = value % 65536
    return status if 100 <= status <= 999 else 200


def _pairs(headers: object) -> Iterable[tuple[str, str]]:
    """Read both forms of headers: an object, or a list of lines, which may repeat a name."""
    if isinstance(headers, dict):
        return [(name, value) for name, value in headers.items() if isinstance(value, str)]
    if isinstance(headers, list):
        lines = [line.partition(":") for line in headers if isinstance(line, str) and ":" in line]
        return [(name.strip(), value.strip()) for name, _, value in lines if name.strip()]
    return ()


def read_fields(pairs: Iterable[tuple[str, str]], overridden: frozenset[str]) -> Fields:
    """Make lines of a function's headers.  An invalid one is left out with a warning: it could inject another."""
    lines: list[str] = []
    has_type, length = False, None
    for name, value in pairs:
        lowered = name.lower()
        if not _is_name(name) or not _is_value(value):
            log.warn("a function's header {name!r} is left out: its name or value is invalid", name=name)
        elif lowered in OURS:
            if lowered == "content-length" and _is_length(value):
                length = int(value)
        elif lowered not in overridden:
            has_type = has_type or lowered == "content-type"
            lines.append(f"{lowered}: {value}\r\n")
    return Fields("".join(lines).encode("utf-8", "replace"), has_type, length)


def empty_answer(status: int, lines: bytes = b"") -> Answer:
    """Return an answer without a body."""
    return Answer(status, Fields(lines), b"")


def error_answer(
    status: int, code: str, message: str, error_id: str | None = None, lines: bytes = b"", **beside: object
) -> Answer:
    """
    Return an error in its envelope (A11).

    @param beside: Members of the envelope beside C{error}.
    """
    error = {"code": code, "message": message}
    if error_id is not None:
        error["error_id"] = error_id
    return Answer(status, Fields(_JSON_TYPE + lines, True), encode({"error": error, **beside}))


NOT_FOUND = error_answer(404, "NOT_FOUND", "Not Found")
TOO_LARGE = error_answer(413, "PAYLOAD_TOO_LARGE", "Request body too large")


def without_route(method: str, endpoint: Endpoint | None) -> Answer:
    """
    Answer a request that reaches no function: C{OPTIONS}, which is the browsers', a path or a method without a route.

    @param endpoint: Where the path leads.
    """
    if method == "OPTIONS":
        if endpoint is None or list(endpoint.routes) == ["OPTIONS"]:
            return empty_answer(200)
        return empty_answer(200, b"allow: %b\r\n" % endpoint.allow)
    if endpoint is None or (method == "HEAD" and "GET" in endpoint.routes):
        return NOT_FOUND
    return error_answer(405, "METHOD_NOT_ALLOWED", "Method Not Allowed", lines=b"allow: %b\r\n" % endpoint.allow)


def timed_out(message: str) -> Answer:
    """Answer that no response was ready in time."""
    return error_answer(504, "TIMEOUT", message)


def failure(route: Route, code: str, message: str) -> Answer:
    """
    Turn the error of a call into an answer.  A function's own is passed on; a busy worker is worth another try,
    and a request may be too large for the worker's SDK.
    """
    if code == CallTimedOut.code:
        return timed_out(message)
    if code == PayloadTooLarge.code:
        return error_answer(413, code, message)
    if code in _TRY_AGAIN:
        return error_answer(503, code, message, lines=_RETRY_AFTER)
    if code == FunctionNotFound.code:
        text = f"Function {route.function_id} not found in namespace {route.namespace}"
        message = text if message.startswith(text) else message
    return logged_failure(route, code, message)


def error_response(route: Route, error: ErrorBody) -> Answer:
    """Turn the error of a call into an answer, whether the engine made it or the function."""
    if isinstance(error, EngineErrorBody):
        return failure(route, error.code, error.message)
    return logged_failure(route, error.code, error.message, error.stacktrace)


def defect(route: Route) -> Answer:
    """Log the exception that is being handled, which is our fault, and answer."""
    log.failure("answering {route} failed", route=route.label)
    return logged_failure(route, "INTERNAL_ERROR", "internal server error")


def logged_failure(route: Route, code: str, message: str, stacktrace: str | None = None) -> Answer:
    """Answer with 500 and an id that is also in the log, where the function's stack trace stands."""
    error_id = urandom(6).hex()
    log.warn(
        "{route} failed with {code}: {text} (error_id {error_id}){stacktrace}",
        route=str(route),
        code=shown(code),
        text=shown(message, 1000),
        error_id=error_id,
        stacktrace="" if not stacktrace else "\n" + shown_lines(stacktrace),
    )
    return error_answer(500, code, message, error_id)
