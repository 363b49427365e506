"""
Bytes in, requests out: HTTP/1.1 (RFC 9112), strictly, so that the body of a request can never become another request.

C{httptools} (llhttp) parses.  It gets the head of a request in one piece, and of a body never more than belongs to it:
one of known length is cut at its end, and a chunked one after each CRLF CRLF, with one of which it ends.  So we know at
any time where the following bytes belong, and can stop between two requests.  llhttp itself refuses C{Content-Length}
with C{Transfer-Encoding}, lengths given twice, folded lines, bare LF and malformed chunks.  What it would let pass, or
misread, is dealt with here (TRAPS.md).

Many clients send the same header lines again and again.  Those of the last request, byte for byte, are not parsed
again; measured, such a request takes 0.8 µs instead of 5.7 (L{RequestReader._recall}).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from iii.core.limits import Limits
from iii.modules.http.request import NOTHING, Headers, Request, lowered_names, tidied, tidy

RECALLED_BYTES = 2048
"""Longer header lines are not kept: an idle connection is to be small."""

_END = b"\r\n\r\n"
_ONCE = ("host", "content-length", "transfer-encoding")
_bare_lf = re.compile(rb"(?<!\r)\n").search
_is_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_METHODS = {method.encode(): method for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")}
_usual_line = re.compile(
    rb"(%b) (/[!-\"$->@-~]*)(?:\?([!-\"$-~]*))? HTTP/1\.1\r\n" % b"|".join(_METHODS)  # in the path neither # nor ?
).match
_says_close = re.compile(rb"^connection:[^\r\n]*\bclose\b", re.IGNORECASE | re.MULTILINE).search
_upgrade_lines = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
_absolute_form = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?]*)(.*)").fullmatch


class RequestRefused(Exception):
    """
    What came is no request that we serve; the connection ends with this answer.

    @ivar status: Of the answer.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Receiver(Protocol):
    """Takes the requests of a connection."""

    def begin(self, request: Request, body: bytes | None) -> None:
        """
        A request has come.

        @param body: All of it; C{None} when it will be delivered by L{body} and L{end}.
        """

    def body(self, data: bytes) -> None:
        """A part of the body has come.  May raise L{RequestRefused}."""

    def end(self) -> None:
        """The body is complete."""


class RequestReader:
    """
    The incoming side of one connection.

    @ivar held: Between two requests nothing more is parsed; what comes is kept.  Whoever clears it calls L{resume}.
    @ivar in_body: The head of a request has been delivered, and not yet all of its body.
    @ivar started: How many requests have been delivered; that many heads were complete.
    """

    def __init__(self, limits: Limits, receiver: Receiver) -> None:
        self._limits, self._receiver = limits, receiver
        self._parser = HttpRequestParser(self)
        self.held = self.in_body = False
        self.started = 0
        self._stopped = self._busy = self._refused = self._complete = False
        self._headers: Headers | None = None  # of the last request, if they can be recalled
        self._partial = bytearray()  # the beginning of a head
        self._rest = b""  # what came while held
        self._left = 0  # bytes of the body; of a chunked one, what may come without any of it
        self._chunked = False
        self._tail = b""  # the last bytes of a chunked body that were parsed

    @property
    def in_head(self) -> bool:
        """A request has begun and its head is not complete."""
        return bool(self._partial)

    @property
    def unfinished(self) -> bool:
        """The client has probably sent, or is sending, more than was read."""
        return self.in_body or self._refused or bool(self._partial) or bool(self._rest)

    def feed(self, data: bytes) -> None:
        """
        Take what was read from the socket.

        @raise RequestRefused: The connection is to be closed.  Nothing is parsed any more.
        """
        if self._rest:
            self._rest += data
            return
        position, size = 0, len(data)
        self._busy = True
        try:
            while position < size and not self._stopped:
                if self.in_body:
                    position = self._take_body(data, position)
                elif self.held:
                    self._rest = data[position:]
                    return
                else:
                    position = self._recall(data, position) or self._take_head(data, position)
        except RequestRefused:
            self._refused = True
            self.stop()
            raise
        finally:
            self._busy = False

    def resume(self) -> None:
        """Go on where C{held} has stopped it; like L{feed}.  Within a call of the receiver it goes on by itself."""
        if self._rest and not self._busy:
            rest, self._rest = self._rest, b""
            self.feed(rest)

    def stop(self) -> None:
        """Parse nothing any more: the connection ends."""
        self._stopped = True
        self._rest = b""
        self._partial.clear()

    def close(self) -> None:
        """The connection is gone.  Reader and parser know each other, which this ends."""
        self.stop()
        del self._parser

    # The head.

    def _recall(self, data: bytes, position: int) -> int:
        """
        Take a request that has come whole, with the header lines of the one before.

        @return: Where what follows begins; 0, if it is no such request.
        """
        headers = self._headers
        if headers is None or self._partial:
            return 0
        line = _usual_line(data, position)
        if line is None:
            return 0
        lines = line.end()
        start = lines + len(headers.raw)
        end = start + headers.length
        too_large = start - position > self._limits.http_head_bytes
        if end > len(data) or too_large or not data.startswith(headers.raw, lines):
            return 0
        method, path, query = line.groups(b"")
        self.started += 1
        self._receiver.begin(Request(_METHODS[method], path.decode(), query.decode(), headers), data[start:end])
        return end

    def _take_head(self, data: bytes, position: int) -> int:
        """Take a head, or the beginning of one, and return where what follows begins."""
        if self._partial:
            known = len(self._partial)
            self._partial += data
            end = self._partial.find(_END, max(0, known - 3)) + 4
            if end < 4:
                self._check_partial(known)
                return len(data)
            head = bytes(self._partial[:end])
            position = end - known
            self._partial.clear()
            while head.startswith(b"\r\n"):
                head = head[2:]
        else:
            while data.startswith(b"\r\n", position):  # an empty line before a request is ignored (RFC 9112, 2.2)
                position += 2
            end = data.find(_END, position) + 4
            if end < 4:
                self._partial += data[position:]
                self._check_partial(0)
                return len(data)
            head = data[position:end]
            position = end
        if not head:
            return position
        request = self._parse(head)
        headers = request.headers
        usual = headers.keep_alive and not (headers.chunked or headers.http10 or headers.expects_continue)
        self._headers = headers if usual and 0 < len(headers.raw) <= RECALLED_BYTES else None
        return self._start(request, data, position)

    def _check_partial(self, known: int) -> None:
        """Refuse at once what can become no head, instead of waiting for its end."""
        self._check_size(self._partial)
        if _bare_lf(self._partial, known):
            raise RequestRefused(400)

    def _check_size(self, head: bytes | bytearray) -> None:
        if len(head) > self._limits.http_head_bytes:
            line = head.find(b"\r\n")
            raise RequestRefused(431 if 0 <= line <= self._limits.http_head_bytes else 414)

    def _parse(self, head: bytes) -> Request:
        """Read a complete head."""
        self._check_size(head)
        lines = head.count(b"\r\n") - 2
        if lines > self._limits.http_headers:
            raise RequestRefused(431)
        line_end = head.find(b"\r\n")
        version = head[line_end - 9 : line_end]
        if version not in (b" HTTP/1.1", b" HTTP/1.0") or head[0] in b"\r\n" or head.count(b" ", 0, line_end) != 2:
            raise RequestRefused(400)  # llhttp takes HTTP/0.9 and 2.0, RTSP, ICE, CR or LF in front, and two spaces
        self._values: dict[str, str] = {}
        self._complete = False
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            return self._parse_without_upgrade(head)
        except HttpParserInvalidMethodError:
            return self._parse_unknown_method(head)
        except HttpParserError as error:
            raise RequestRefused(400) from error
        values, self._values = self._values, {}  # trailers will go there
        target, raw = self._target, head[line_end + 2 :]
        repeated = NOTHING if len(values) == lines else _repeated(raw)
        if not head.isascii() or b" \r\n" in head or b"\t\r\n" in head:
            tidy(values)
        http10 = version == b" HTTP/1.0"
        if "transfer-encoding" in values and (http10 or values["transfer-encoding"].lower() != "chunked"):
            raise RequestRefused(400)
        if not target.startswith("/") and target != "*":
            absolute = _absolute_form(target)
            if absolute is None:
                raise RequestRefused(400)
            values["host"], target = absolute.groups()  # RFC 9112, 3.2.2
            if not target.startswith("/"):
                target = "/" + target
            raw = b""  # not what came
        if http10 and _says_close(raw):  # llhttp goes by keep-alive if both are there
            self._keep_alive = False
        headers = Headers(values, raw, repeated=repeated, http10=http10, keep_alive=self._keep_alive)
        path, _, query = target.partition("#")[0].partition("?")
        return Request(self._parser.get_method().decode(), path, query, headers)

    def _parse_without_upgrade(self, head: bytes) -> Request:
        """
        Read a request that asks to speak another protocol, as if it did not.  llhttp takes all that follows such a head
        for the other protocol, also the body that Java's HTTP client sends while it asks for C{h2c}.
        """
        if head.startswith(b"CONNECT "):
            raise RequestRefused(400)
        self._parser = HttpRequestParser(self)
        return self._parse(_upgrade_lines.sub(b"", head))

    def _parse_unknown_method(self, head: bytes) -> Request:
        """Read a request with a method that llhttp does not know, as if it were a C{POST}."""
        method, _, rest = head.partition(b" ")
        if not _is_token(method):
            raise RequestRefused(400)
        self._parser = HttpRequestParser(self)
        request = self._parse(b"POST " + rest)
        request.method = method.decode()
        return request

    def _start(self, request: Request, data: bytes, position: int) -> int:
        """Deliver a request, with its body if that has come, and return where what follows begins."""
        headers = request.headers
        self.started += 1
        body: bytes | None = None
        if self._complete:
            body = b""
        elif not headers.chunked and position + headers.length <= len(data):
            body = data[position : position + headers.length]
            self._pieces: list[bytes] = []
            self._parser.feed_data(body)
            position += headers.length
        self.in_body = body is None
        if not headers.keep_alive and body is not None:
            self.stop()
        self._chunked, self._tail = headers.chunked, b""
        self._left = self._limits.http_head_bytes if headers.chunked else headers.length
        self._receiver.begin(request, body)
        return position

    # The body.

    def _take_body(self, data: bytes, position: int) -> int:
        """Take what of these bytes belongs to the body, and return where what follows begins."""
        end = self._end_of_chunks(data, position) if self._chunked else min(position + self._left, len(data))
        self._pieces = []
        try:
            self._parser.feed_data(memoryview(data)[position:end])
        except HttpParserError as error:
            raise RequestRefused(400) from error
        if self._chunked and self._pieces:
            self._left = self._limits.http_head_bytes
        else:
            self._left -= end - position
            if self._left < 0:  # chunk extensions, or trailers
                raise RequestRefused(431)
        if self._pieces:
            self._receiver.body(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
        if self._complete:
            self.in_body = False
            if not self._keep_alive:
                self.stop()
            self._receiver.end()
        return end

    def _end_of_chunks(self, data: bytes, position: int) -> int:
        """Where the next CRLF CRLF ends, which may have begun in what was parsed before; else where the data ends."""
        around = self._tail + data[position : position + 3]
        end = around.find(_END) + 4
        if end >= 4:
            end += position - len(self._tail)
        else:
            end = data.find(_END, position) + 4
            if end < 4:
                end = len(data)
        self._tail = (self._tail + data[max(position, end - 3) : end])[-3:]
        return end

    # Called by the parser.

    def on_url(self, url: bytes) -> None:
        self._target = url.decode("ascii")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._values[lowered_names[name]] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self._complete = True


def _repeated(lines: bytes) -> Mapping[str, Sequence[str]]:
    """
    Return all values of the names that came more than once.

    @raise RequestRefused: The lines say twice where the body ends or whom the request is for.
    """
    values: dict[str, list[str]] = {}
    for line in lines.removesuffix(_END).split(b"\r\n"):
        name, _, value = line.partition(b":")
        values.setdefault(lowered_names[name], []).append(tidied(value.decode("latin-1").strip()))
    repeated = {name: given for name, given in values.items() if len(given) > 1}
    if any(name in repeated for name in _ONCE):
        raise RequestRefused(400)
    return repeated
