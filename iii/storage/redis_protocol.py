"""
The protocol of Redis (RESP2) as the engine speaks it, on txredisapi's.

What is taken from there: commands are written at once, answers belong to the oldest command, and what waits when the
connection ends fails.  What is not:

 - Its reader takes one turn of the reactor for each text of an answer, and copies what follows each time: a listing of
   10,000 values held everybody up.  L{ReplyReader} reads what is there at once.
 - It makes numbers and texts out of bytes that look like them.  Here bytes stay bytes.
 - Its pool waits without an end while there is no connection; L{iii.storage.redis} connects instead.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import txredisapi
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from iii.storage.redis_url import RedisUrl

Reply: TypeAlias = bytes | int | list[Any] | Exception | None
"""An answer; an error is a C{txredisapi.ResponseError}."""

LINE_BYTES = 65536
"""No line of an answer is longer; texts are no lines."""


class ReplyReader:
    """Makes answers of the bytes that come, in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._text: int | None = None  # the length of the text that comes now
        self._lists: list[tuple[int, list[Any]]] = []  # those that are not complete, the outermost first

    def feed(self, data: bytes) -> list[Reply]:
        """
        Return the answers that are now complete.

        @raise txredisapi.InvalidResponse: This is not Redis.
        """
        buffer = self._buffer
        buffer += data
        replies: list[Reply] = []
        position = 0
        while True:
            reply: Reply
            if self._text is not None:
                end = position + self._text
                if len(buffer) < end + 2:
                    break
                reply, self._text = bytes(memoryview(buffer)[position:end]), None
                position = end + 2
            else:
                end = buffer.find(b"\r\n", position, position + LINE_BYTES)
                if end < 0:
                    if len(buffer) - position >= LINE_BYTES:
                        raise txredisapi.InvalidResponse(f"a line of more than {LINE_BYTES} bytes")
                    break
                line = bytes(memoryview(buffer)[position:end])
                position = end + 2
                if self._begins(line):
                    continue
                reply = _simple(line)
            while self._lists:
                length, items = self._lists[-1]
                items.append(reply)
                if len(items) < length:
                    break
                reply = self._lists.pop()[1]
            else:
                replies.append(reply)
        del buffer[:position]
        return replies

    def _begins(self, line: bytes) -> bool:
        """Whether a text, or the parts of a list, come after this line."""
        if line[:1] not in (b"$", b"*"):
            return False
        length = _number(line)
        if line[:1] == b"$" and length >= 0:
            self._text = length
            return True
        if line[:1] == b"*" and length > 0:
            self._lists.append((length, []))
            return True
        return False


def _simple(line: bytes) -> Reply:
    """The answer that is one line."""
    kind = line[:1]
    if kind == b"+":
        return line[1:]
    if kind == b":":
        return _number(line)
    if kind == b"-":
        refusal: Exception = txredisapi.ResponseError(line[1:].decode(errors="replace"))
        return refusal
    if kind == b"$":
        return None
    if kind == b"*":
        return [] if line == b"*0" else None
    raise txredisapi.InvalidResponse(f"{line[:40]!r} is no answer of Redis")


def _number(line: bytes) -> int:
    try:
        return int(line[1:])
    except ValueError as error:
        raise txredisapi.InvalidResponse(f"{line[:40]!r} has no number") from error


class RedisProtocol(txredisapi.BaseRedisProtocol):  # type: ignore[misc]  # it has no types
    """
    One connection.  C{execute_command} sends a command and returns a Deferred of its answer.

    @ivar lost: Fires when the connection has ended, with the reason as text.
    @ivar broken: Why we have given it up; C{None} as long as we have not.
    @ivar script_hashes: The scripts that the server has got on this connection.
    """

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.lost: Deferred[str] = Deferred()
        self._reader = ReplyReader()
        self.broken: str | None = None

    def connectionMade(self) -> None:
        """Nothing yet: L{greet} comes first."""

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        try:
            replies = self._reader.feed(data)
        except txredisapi.InvalidResponse as error:
            self.abort(str(error))
            return
        for reply in replies:
            self.replyReceived(reply)

    def replyReceived(self, reply: Reply) -> None:
        if self.replyQueue.waiting:
            super().replyReceived(reply)
        else:
            self.abort("an answer came that nothing had asked for")

    def abort(self, reason: str) -> None:
        """End the connection at once, for a reason of ours."""
        self.broken = self.broken or reason
        self.transport.abortConnection()

    def connectionLost(self, why: Failure) -> None:
        self.lost.callback(self.broken or why.getErrorMessage())  # first: nobody may send on this any more
        super().connectionLost(why)


async def greet(protocol: RedisProtocol, url: RedisUrl) -> None:
    """
    Log in, choose the database, and see that the server serves.

    @raise txredisapi.RedisError: It does not.
    """
    if url.password is not None:
        await protocol.auth(url.password, url.user)
    if url.database:
        await protocol.select(url.database)
    await protocol.ping()
