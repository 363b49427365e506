"""
The heads of responses: status line, framing, CORS and date.

Where a response ends is decided here alone (RFC 9112, 6): by its length, in chunks, or with the connection.  Different
from the reference on purpose: 204 and 304 carry no C{content-length} of a body that is not there, and the 504 of a
time-out carries the CORS headers, so that a browser shows it.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from iii.modules.http.cors import CorsPolicy
from iii.modules.http.request import Request
from iii.modules.http.response import Answer, Fields

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"
_KEEP_ALIVE = b"connection: keep-alive\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_NOTHING = b"content-length: 0\r\n"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = [f"HTTP/1.1 {status:03} {_PHRASES.get(status, '')}\r\n".encode() for status in range(1000)]


def ends_with_head(status: int, method: str) -> bool:
    """Whether a response has no body whatever its headers say (RFC 9112, 6.3)."""
    return status == 204 or status == 304 or method == "HEAD"


def can_be_sent(status: int) -> bool:
    """Whether a function can choose this status: of the informational ones only 101, which ends the connection (A7)."""
    return status >= 200 or status == 101


class Heads:
    """What the responses of a listener have in common."""

    def __init__(self, cors: CorsPolicy) -> None:
        self._cors = cors
        self._end = b"\r\n"

    def set_date(self, seconds: float) -> None:
        """Send this time as the header C{date} from now on."""
        self._end = f"date: {formatdate(seconds, usegmt=True)}\r\n\r\n".encode()

    def complete(self, answer: Answer, request: Request, keep_alive: bool) -> bytes:
        """Return a whole response."""
        status, lines, body = answer.status, answer.fields.lines, answer.body
        if status < 200 or status == 204 or status == 304 or request.method == "HEAD":
            return self._without_body(answer, request, keep_alive)
        common = self._cors.of_all
        if common is None or not keep_alive or request.headers.http10 or request.method == "OPTIONS":
            common = self._common(request, keep_alive)
        return b"%b%bcontent-length: %d\r\n%b%b%b" % (
            _STATUS_LINES[status],
            lines,
            len(body),
            common,
            self._end,
            body,
        )

    def _without_body(self, answer: Answer, request: Request, keep_alive: bool) -> bytes:
        status, fields = answer.status, answer.fields
        if not can_be_sent(status):
            return self.refusal(500)
        if status == 101:
            return _STATUS_LINES[status] + fields.lines + self._end
        length = fields.length if status != 204 else None
        if length is None and request.method == "HEAD" and status not in (204, 304):
            length = len(answer.body)
        framing = b"" if length is None else b"content-length: %d\r\n" % length
        return b"".join((_STATUS_LINES[status], fields.lines, framing, self._common(request, keep_alive), self._end))

    def streamed(self, status: int, fields: Fields, request: Request, keep_alive: bool) -> bytes:
        """
        Return the head of a response whose body follows piece by piece: of the length that the function gave, else in
        chunks; to a client of HTTP/1.0 until the connection ends.
        """
        if fields.length is not None and status != 204:
            framing = b"content-length: %d\r\n" % fields.length
        elif request.headers.http10 or ends_with_head(status, request.method):
            framing = b""
        else:
            framing = _CHUNKED
        return b"".join((_STATUS_LINES[status], fields.lines, framing, self._common(request, keep_alive), self._end))

    def refusal(self, status: int) -> bytes:
        """Return the response to what is no request, or cannot be answered: empty, and the connection ends."""
        return b"".join((_STATUS_LINES[status], _NOTHING, _CLOSE, self._end))

    def overridden(self, request: Request) -> frozenset[str]:
        """The names of headers that are the listener's on the response to a request."""
        return self._cors.overridden(request.headers.values.get("origin"))

    def _common(self, request: Request, keep_alive: bool) -> bytes:
        headers = request.headers
        cors = self._cors.preflight_lines if request.method == "OPTIONS" else self._cors.lines
        lines = cors(headers.values.get("origin"))
        if keep_alive and not headers.http10:
            return lines
        return lines + (_KEEP_ALIVE if keep_alive else _CLOSE)
