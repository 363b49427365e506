"""
One request and its answer (spec/http.md, A4 to A8, A11).

The answer comes from the router, from the function's result, or piece by piece over the channel C{response}, whichever
decides first; then the exchange is I{answered}, and what the others still say is ignored.  It is I{complete} when all
bytes of the answer have been given to the connection, which sends the answers in the order of the requests.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from msgspec import Raw
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.channels import Channel
from iii.core.errors import EngineStopping, TooManyChannels, WorkerOverloaded
from iii.core.invocations import Call, EngineErrorBody
from iii.interfaces import IChannelSocket
from iii.modules.http.heads import CONTINUE
from iii.modules.http.request import Request, json_or_null, request_object
from iii.modules.http.response import (
    TIMED_OUT,
    TOO_LARGE,
    Answer,
    empty_answer,
    failure,
    logged_failure,
    read_result,
    without_route,
)
from iii.modules.http.router import Route
from iii.modules.http.site import Site
from iii.modules.http.streaming import StreamedResponse
from iii.modules.http.upload import Upload
from iii.wire.messages import ABSENT, ErrorBody, is_null

if TYPE_CHECKING:
    from iii.modules.http.connection import HttpConnection


@implementer(IChannelSocket)
class Exchange:
    """
    One request.  It is the reading end of the channel C{response}.

    @ivar answered: It is decided what the answer is.
    @ivar complete: All of the answer has been given to the connection.
    @ivar keep_alive: The connection goes on after the answer.
    @ivar deadline: When L{overdue} is to be called, on the site's clock.
    @ivar held: What the connection keeps of the answer until those before it are complete.
    """

    log = Logger()

    __slots__ = (
        "_body",
        "_call",
        "_channels",
        "_connection",
        "_data",
        "_expects_continue",
        "_in_gate",
        "_pieces",
        "_replies",
        "_route",
        "_site",
        "_stream",
        "_upload",
        "_values",
        "_waiting",
        "answered",
        "complete",
        "deadline",
        "held",
        "keep_alive",
        "request",
    )

    _route: Route
    _values: tuple[str, ...]

    def __init__(self, site: Site, connection: HttpConnection, request: Request) -> None:
        self._site, self._connection, self.request = site, connection, request
        self.keep_alive = request.headers.keep_alive
        self.answered = self.complete = self._in_gate = self._waiting = self._expects_continue = False
        self.deadline = inf
        self.held: list[bytes] | None = None
        self._data = ABSENT  # for the function, until it is called
        self._pieces: list[bytes] | None = None  # of a JSON body, until it is complete
        self._body: bytes | None = None  # once it is complete, for whoever comes to read it
        self._channels: tuple[str, str] | None = None  # while they can be joined
        self._upload: Upload | None = None  # of a body that is passed on as it comes
        self._replies: Channel | None = None
        self._stream: StreamedResponse | None = None
        self._call: Call | None = None

    # The request.

    def begin(self, body: bytes | None) -> None:
        """
        Find out what is asked for.

        @param body: C{None} while it is still to come.
        """
        site, request = self._site, self.request
        headers = request.headers
        self._expects_continue = headers.expects_continue and body is None
        if headers.length > site.limits.http_body_bytes:
            self.refuse(413)
            return
        endpoint, values = site.router.find(request.path)
        route = endpoint.routes.get(request.method) if endpoint is not None else None
        if route is None or request.method == "OPTIONS":
            self.answer(without_route(request.method, endpoint))
            return
        self._route, self._values = route, values
        if site.engine.stopping:
            self.answer(failure(route, EngineStopping.code, str(EngineStopping())))
            return
        self.deadline = site.engine.clock.seconds() + site.timeout
        if body is not None:
            self._body = body
            self._enter(json_or_null(body) if body and headers.is_json else b"null")
            return
        if self._expects_continue:
            self._expects_continue = False
            self._connection.send(self, CONTINUE)
        if headers.is_json:
            self._pieces = []
        else:
            self._enter(b"null")

    def receive(self, data: bytes) -> None:
        """A part of the body has come."""
        if self._upload is not None:
            self._upload.write(data)
        elif self._pieces is not None and not self.answered:
            self._pieces.append(data)

    def end(self) -> None:
        """The body is complete."""
        if self._upload is not None:
            self._upload.end()
        elif self._pieces is not None and not self.answered:
            self._body, self._pieces = b"".join(self._pieces), None
            self._enter(json_or_null(self._body) if self._body else b"null")

    @property
    def stalled(self) -> bool:
        """The body is not taken: no more of it should be read."""
        return self._upload is not None and self._upload.stalled

    # The call.

    def _enter(self, body: bytes) -> None:
        """
        Go through the gate, at once or later.

        @param body: JSON.
        """
        channels = self._site.engine.channels
        try:
            ids = self._channels = channels.promise(self._open_upload, self._open_replies)
        except TooManyChannels as error:
            self._site.engine.counters.hit("channels")
            self.answer(failure(self._route, error.code, str(error)))
            return
        if self._body is None:
            channels.redeem(ids[0])  # what comes of it must be put somewhere
        self._data = request_object(self._route, self._values, self.request, body, ids, channels.key(ids[0]))
        self._in_gate = True
        if self._site.gate.enter(self):
            self._waiting = bool(self._data)
        else:
            self._in_gate = False
            self._turn_away()

    def _open_upload(self, channel: Channel) -> None:
        upload = Upload(channel, self._connection.throttle)
        if self._body is None:
            self._upload = upload
        else:
            upload.write(self._body)
            upload.end()

    def _open_replies(self, channel: Channel) -> None:
        self._replies = channel
        channel.attach_reader(self)

    def admitted(self) -> None:
        """The gate lets it in: call the function."""
        site, route, headers = self._site, self._route, self.request.headers.values
        data, self._data = self._data, ABSENT
        if self._waiting:
            self._waiting = False
            self.deadline = site.engine.clock.seconds() + site.timeout
        self._call = site.engine.invoke(
            route.function_id,
            data,
            self._called,
            namespace=route.namespace,
            metadata=route.metadata,
            timeout=site.timeout,
            traceparent=headers.get("traceparent"),
            baggage=headers.get("baggage"),
        )

    def _called(self, call: Call, result: Raw, error: ErrorBody | None) -> None:
        """The function has ended.  If it returned nothing, the answer comes over the channel."""
        self._call = None
        if self.answered:
            return
        try:
            if error is not None:
                ours = isinstance(error, EngineErrorBody)
                self.answer((failure if ours else logged_failure)(self._route, error.code, error.message))
            elif not is_null(result):
                self.answer(read_result(result, self._site.heads.overridden(self.request)))
        except Exception:  # a defect; it must not reach the worker's connection, which has called
            self.log.failure("answering {route} failed", route=str(self._route))
            self.answer(logged_failure(self._route, "INTERNAL_ERROR", "internal server error"))

    # What the channel of the response asks for.

    @property
    def full(self) -> bool:
        """The client does not read, or other answers come first."""
        return (
            self._stream is not None and self._stream.begun and not self.complete and not self._connection.takes(self)
        )

    def send(self, payload: bytes, is_binary: bool) -> None:
        """A message of the response has come; the first piece of a body decides."""
        if self.complete:
            return
        stream = self._stream = self._stream or StreamedResponse()
        if not is_binary:
            stream.control(payload)
            return
        if not stream.begun:
            self._settle()
            head = stream.begin(self._site.heads, self.request, self._keeps_alive())
            self.keep_alive = self.keep_alive and not stream.closes
            self._connection.send(self, head)
        if not stream.complete:
            self._connection.send(self, stream.body(payload))
        if stream.complete:
            self._finish()

    def finish(self) -> None:
        """The channel has ended."""
        replies, stream = self._replies, self._stream
        if self.complete or replies is None or replies.writer is None:
            return  # nobody came to write and the channel has expired; the function may still return something
        if stream is None:
            self.answer(empty_answer(200))
        elif not stream.begun:
            self.answer(stream.without_body(self._site.heads, self.request))
        else:
            ending = stream.end()
            if ending is None:
                self._connection.abort()
            else:
                self._connection.send(self, ending)
                self._finish()

    def pause(self) -> None:
        """Of writers only."""

    def resume(self) -> None:
        """Of writers only."""

    def drained(self) -> None:
        """The client reads again, or it is this answer's turn."""
        if self._replies is not None:
            self._replies.reader_ready()

    # The answer.

    def answer(self, answer: Answer) -> None:
        """Answer, unless it has been."""
        if self.answered:
            return
        self._settle()
        if self._replies is not None:
            self._replies.drop()
        if answer.status < 200 or self._expects_continue:
            self.keep_alive = False  # in the second case nobody knows whether the body will come
        self._connection.send_whole(self, self._site.heads.complete(answer, self.request, self._keeps_alive()))
        self._finish()

    def refuse(self, status: int) -> None:
        """Answer, unless that has been done, that the request is not taken; the connection ends with it."""
        self.keep_alive = False
        if status == 413:
            self._site.engine.counters.hit("http_body_bytes")
            self.answer(TOO_LARGE)
        elif not self.answered:
            self._settle()
            if self._replies is not None:
                self._replies.drop()
            self._connection.send(self, self._site.heads.refusal(status))
            self._finish()

    def overdue(self) -> None:
        """The deadline has passed."""
        if self._waiting:
            self._turn_away()
        else:
            self.answer(TIMED_OUT)

    def _turn_away(self) -> None:
        self.answer(failure(self._route, WorkerOverloaded.code, "too many requests are in progress"))

    def gone(self) -> None:
        """The client has gone."""
        if not self.answered:
            self._settle()
        if self._upload is not None:
            self._upload.end()
        if self._replies is not None:
            self._replies.drop()
            self._replies = None
        self.complete = True

    def _keeps_alive(self) -> bool:
        if self._site.closing and self._connection.is_last(self):
            self.keep_alive = False
        return self.keep_alive

    def _settle(self) -> None:
        """It is decided: nobody can join the channels any more, and what the function will return does not matter."""
        self.answered = True
        self.deadline = inf
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        channels, self._channels = self._channels, None
        if channels is not None:
            self._site.engine.channels.withdraw(channels)
            if self._upload is not None:
                self._upload.drop()
        if self._in_gate:
            self._in_gate = False
            self._site.gate.leave(self)

    def _finish(self) -> None:
        self.complete = True
        self._replies = None  # the channel may know us for longer; a circle would wait for the garbage collector
        self._connection.finished(self)
