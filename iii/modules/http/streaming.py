"""The response that a handler writes to its channel C{response} (spec/http.md, A8)."""

from __future__ import annotations

from typing import Any

import msgspec

from iii.modules.http.heads import Heads, can_be_sent, ends_with_head
from iii.modules.http.request import Request
from iii.modules.http.response import Answer, read_fields


class _Control(msgspec.Struct, gc=False):
    type: Any = None
    status_code: Any = None
    headers: Any = None


_decode_control = msgspec.json.Decoder(_Control).decode


class StreamedResponse:
    """
    One response, from the first message of the channel on.

    @ivar status: Of the response, as far as is known.
    @ivar begun: Its head has been made.
    @ivar complete: Nothing of it is left to be sent.
    @ivar closes: It lasts until the connection ends.
    """

    __slots__ = ("_chunked", "_headers", "_left", "begun", "closes", "complete", "status")

    def __init__(self) -> None:
        self.status = 200
        self._headers: dict[str, str] = {}
        self._chunked = False
        self._left: int | None = None  # bytes of a body whose length was given
        self.begun = self.complete = self.closes = False

    def control(self, text: bytes) -> None:
        """Take a text message: status or headers.  What is neither, or comes after the head, is ignored."""
        if self.begun:
            return
        try:
            message = _decode_control(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if message.type == "set_status" and type(message.status_code) is int and 100 <= message.status_code <= 599:
            self.status = message.status_code
        elif message.type == "set_headers" and isinstance(message.headers, dict):
            self._headers.update({name: value for name, value in message.headers.items() if isinstance(value, str)})

    def begin(self, heads: Heads, request: Request, keep_alive: bool) -> bytes:
        """Return the head, and decide how the body ends."""
        fields = read_fields(self._headers.items(), heads.overridden(request))
        self.begun = True
        if not can_be_sent(self.status) or self.status == 101:
            self.complete = self.closes = True
            return heads.complete(Answer(self.status, fields, b""), request, False)
        if ends_with_head(self.status, request.method) or fields.length == 0:
            self.complete = True
        elif fields.length is not None:
            self._left = fields.length
        elif request.headers.http10:
            self.closes = True
        else:
            self._chunked = True
        return heads.streamed(self.status, fields, request, keep_alive and not self.closes)

    def body(self, data: bytes) -> bytes:
        """Return what is sent for a piece of the body; what exceeds a given length is cut off."""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            self.complete = self._left == 0
        return data

    def end(self) -> bytes | None:
        """
        The handler has written everything: return what ends the body.

        @return: C{None} when the length that was given is not reached: only the end of the connection tells that.
        """
        if self._left:
            return None
        self.complete = True
        return b"0\r\n\r\n" if self._chunked else b""

    def without_body(self, heads: Heads, request: Request) -> Answer:
        """The handler has closed the channel without any piece of a body: return the answer."""
        return Answer(self.status, read_fields(self._headers.items(), heads.overridden(request)), b"")
