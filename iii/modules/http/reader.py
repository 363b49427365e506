"""
Bytes in, requests out: HTTP/1.1 (RFC 9112), strictly, so that the body of a request can never become another request.

C{httptools} (llhttp) parses.  It gets the head of a request in one piece, and of a body never more than belongs to it:
one of known length is cut at its end, and a chunked one after each CRLF CRLF, with one of which it ends.  So we know at
any time where the following bytes belong, and can stop between two requests.  llhttp itself refuses C{Content-Length}
with C{Transfer-Encoding}, lengths given twice, folded lines, bare LF and malformed chunks.  What it would let pass, or
misread, is dealt with here (TRAPS.md).
"""

from __future__ import annotations

import re
from typing import Protocol

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from iii.core.limits import Limits
from iii.modules.http.request import Request, headers_of

_END = b"\r\n\r\n"
_ONCE = (b"host", b"content-length", b"transfer-encoding")
_bare_lf = re.compile(rb"(?<!\r)\n").search
_is_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_upgrade_lines = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
_absolute_form = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/]*)(/.*)?").fullmatch


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

    def begin(self, request: Request) -> None:
        """The head of a request has come."""

    def body(self, data: bytes) -> None:
        """A part of its body has come."""

    def end(self) -> None:
        """The request is complete."""


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
        self._stopped = self._busy = self._refused = False
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
        elif not self._stopped:
            self._consume(data)

    def resume(self) -> None:
        """Go on where C{held} has stopped it; like L{feed}.  Within a call of the receiver it goes on by itself."""
        if self._rest and not self._busy:
            rest, self._rest = self._rest, b""
            self._consume(rest)

    def stop(self) -> None:
        """Parse nothing any more: the connection ends."""
        self._stopped = True
        self._rest = b""
        self._partial.clear()

    def close(self) -> None:
        """The connection is gone.  Reader and parser know each other, which this ends."""
        self.stop()
        del self._parser

    def _consume(self, data: bytes) -> None:
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
                    position = self._take_head(data, position)
        except RequestRefused:
            self._refused = True
            self.stop()
            raise
        finally:
            self._busy = False

    # The head.

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
        if head:
            self._start(self._parse(head))
        return position

    def _check_partial(self, known: int) -> None:
        """Refuse at once what can become no head, instead of waiting for its end."""
        partial = self._partial
        self._check_size(partial)
        if _bare_lf(partial, known):
            raise RequestRefused(400)

    def _check_size(self, head: bytes | bytearray) -> None:
        if len(head) > self._limits.http_head_bytes:
            line = head.find(b"\r\n")
            raise RequestRefused(431 if 0 <= line <= self._limits.http_head_bytes else 414)

    def _parse(self, head: bytes) -> Request:
        """Read a complete head."""
        self._check_size(head)
        if head.count(b"\r\n") - 2 > self._limits.http_headers:
            raise RequestRefused(431)
        line_end = head.find(b"\r\n")
        version = head[line_end - 9 : line_end]
        if (
            (version != b" HTTP/1.1" and version != b" HTTP/1.0")
            or head[0] in b"\r\n"
            or head.count(b" ", 0, line_end) != 2
        ):
            raise RequestRefused(
                400
            )  # llhttp takes HTTP/0.9 and 2.0, RTSP, ICE, a bare CR or LF in front, and two spaces
        self._fields: list[tuple[bytes, bytes]] = []
        self._complete = False
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            return self._parse_without_upgrade(head)
        except HttpParserInvalidMethodError:
            return self._parse_unknown_method(head)
        except HttpParserError as error:
            raise RequestRefused(400) from error
        request = Request(self._parser.get_method().decode(), self._target, headers_of(self._fields, head))
        request.http10, request.keep_alive = version == b" HTTP/1.0", self._keep_alive
        self._check(request)
        return request

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

    def _check(self, request: Request) -> None:
        """Refuse what is ambiguous, and set an absolute form right (RFC 9112, 3.2 and 6.1)."""
        headers = request.headers
        if len(headers) != len(self._fields):
            names = [name.lower() for name, _ in self._fields]
            if any(names.count(name) > 1 for name in _ONCE):
                raise RequestRefused(400)
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if request.http10 or coding.lower() != "chunked":
                raise RequestRefused(400)
            request.chunked = True
        elif "content-length" in headers:
            request.length = int(headers["content-length"])
        if "expect" in headers and not self._complete and not request.http10:
            request.expects_continue = headers["expect"].lower() == "100-continue"
        if not request.path.startswith("/") and request.path != "*":
            absolute = _absolute_form(request.path)
            if absolute is None:
                raise RequestRefused(400)
            headers["host"], request.path = absolute[1], absolute[2] or "/"

    def _start(self, request: Request) -> None:
        self.started += 1
        self._chunked, self.in_body = request.chunked, not self._complete
        if request.chunked:
            self._tail, self._left = b"", self._limits.http_head_bytes
        else:
            self._left = request.length
        self._receiver.begin(request)
        if self._complete:
            self._finish(request.keep_alive)

    def _finish(self, keep_alive: bool) -> None:
        self.in_body = False
        if not keep_alive:
            self.stop()
        self._receiver.end()

    # The body.

    def _take_body(self, data: bytes, position: int) -> int:
        """Take what of these bytes belongs to the body, and return where what follows begins."""
        end = self._end_of_chunks(data, position) if self._chunked else min(position + self._left, len(data))
        size = end - position
        self._pieces: list[bytes] = []
        try:
            self._parser.feed_data(memoryview(data)[position:end])
        except HttpParserError as error:
            raise RequestRefused(400) from error
        if not self._chunked:
            self._left -= size
        elif self._pieces:
            self._left = self._limits.http_head_bytes
        else:  # chunk extensions or trailers
            self._left -= size
            if self._left < 0:
                raise RequestRefused(431)
        if self._pieces:
            self._receiver.body(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
        if self._complete and not self._stopped:
            self._finish(self._keep_alive)
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
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self._complete = True
