"""
One request and its answer (spec/http.md, A4 to A8, A11).

The answer comes from the router, from the function's result, or piece by piece over the channel C{response}, whichever
decides first; then the exchange is I{answered}, and what the others still say is ignored.  It is I{complete} when all
bytes of the answer have been given to the connection, which sends the answers in the order of the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING

from msgspec import Raw
from zope.interface import implementer

from iii.core.channels import Channel
from iii.core.errors import CallTimedOut, EngineStopping, ResponseBrokenOff, TooManyChannels, WorkerOverloaded
from iii.core.invocations import Call, Completion, EngineErrorBody, error_body
from iii.core.tracing import passed_on
from iii.interfaces import IChannelSocket
from iii.modules.http.access_log import log_access
from iii.modules.http.checks import Check, Inquiry, Subject
from iii.modules.http.heads import CONTINUE, can_be_sent
from iii.modules.http.request import Request, json_or_null, request_object
from iii.modules.http.response import (
    TOO_LARGE,
    Answer,
    defect,
    empty_answer,
    error_response,
    failure,
    read_result,
    timed_out,
    without_route,
)
from iii.modules.http.site import Site
from iii.modules.http.streaming import StreamedResponse
from iii.modules.http.upload import Upload
from iii.wire.messages import ABSENT, ErrorBody, is_null

if TYPE_CHECKING:
    from iii.modules.http.connection import HttpConnection

PATIENCE = 1.0
"""
Seconds that a function which has ended has to open its response, and that what it wrote has to arrive: these come over
another socket than its result.
"""
NOTHING = empty_answer(204)


@implementer(IChannelSocket)
class Exchange:
    """
    One request.  It is the reading end of the channel C{response}.

    @ivar body_limit: Bytes that its body may have.
    @ivar answered: It is decided what the answer is.
    @ivar complete: All of the answer has been given to the connection.
    @ivar keep_alive: The connection goes on after the answer.
    @ivar deadline: When L{overdue} is to be called, on the site's clock.
    @ivar held: What the connection keeps of the answer until those before it are complete.
    """

    # What is not set yet is shared by all: setting it for each request would take as long as routing it.
    answered = complete = False
    deadline = inf
    held: list[bytes] | None = None
    body_limit = 0
    _values: tuple[str, ...]
    _expects_continue = _in_gate = _waiting = False
    _waits_since = 0.0
    _admission: Callable[[], None] | None = None  # what to do when the gate lets it in
    _inquiry: Inquiry | None = None  # who decides whether it goes on
    _early = False  # all that is read of the body is kept until that is decided
    _data = ABSENT  # for the function, until it is called
    _pieces: list[bytes] | None = None  # of a JSON body, until it is complete
    _body: bytes | None = None  # once it is complete, for whoever comes to read it
    _channels: tuple[str, str] | None = None  # while they can be joined
    _upload: Upload | None = None  # of a body that is passed on as it comes
    _replies: Channel | None = None
    _stream: StreamedResponse | None = None
    _call: Call | None = None
    _due: float | None = None  # the deadline of a function that has returned nothing, and may yet write
    _status = 0  # of the answer
    _since = 0.0  # when it came, if that is to be logged

    def __init__(self, site: Site, connection: HttpConnection, request: Request) -> None:
        self._site, self._connection, self.request = site, connection, request
        self.keep_alive = request.headers.keep_alive
        self._route = site.no_route
        if site.access_log:
            self._since = site.engine.clock.seconds()

    # The request.

    def begin(self, body: bytes | None) -> None:
        """
        Find out what is asked for.

        @param body: C{None} while it is still to come.
        """
        site, request = self._site, self.request
        headers = request.headers
        endpoint, values = site.router.find(request.path)
        route = endpoint.routes.get(request.method) if endpoint is not None else None
        if route is not None:
            self._route = route
        limit = site.json_limit if headers.is_json else site.body_limit
        if route is not None and route.max_body is not None:
            limit = min(route.max_body, site.limits.message_bytes) if headers.is_json else route.max_body
        if headers.length > limit:
            self.refuse(413)
            return
        if body is None:
            self.body_limit, self._expects_continue = limit, headers.expects_continue
        if route is None or request.method == "OPTIONS":
            self.answer(without_route(request.method, endpoint))
            return
        self._values, self._body = values, body
        if site.engine.stopping:
            self.answer(failure(route, EngineStopping.code, str(EngineStopping())))
            return
        self.deadline = site.engine.clock.seconds() + (route.timeout or site.timeout)
        if not site.middleware:
            if body is not None:
                self._offer(json_or_null(body) if body and headers.is_json else b"null")
            else:
                self._read()
            return
        if body is None:
            self._early, self._pieces = True, []
            self._connection.throttle()
        self._inquire(site.middleware, b"null", self._let_in)

    def _let_in(self) -> None:
        """All that is asked before every handler lets it go on, at once: only while its body comes others go first."""
        if self._body is None and self.request.headers.is_json:
            self._leave_gate()
        self._early = False
        self._read()
        self._connection.throttle()

    def _read(self) -> None:
        """Go on when the body is complete, or is one that is passed on as it comes."""
        body, is_json = self._body, self.request.headers.is_json
        if body is not None:
            self._offer(json_or_null(body) if body and is_json else b"null")
            return
        if self._expects_continue:
            self._expects_continue = False
            self._connection.send(self, CONTINUE)
        if is_json:
            self._pieces = self._pieces or []
        else:
            pieces, self._pieces = self._pieces or (), None
            self._offer(b"null")
            for piece in pieces:
                self.receive(piece)

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
            if not self._early:
                self._offer(json_or_null(self._body) if self._body else b"null")

    @property
    def stalled(self) -> bool:
        """The body is not taken: no more of it should be read."""
        return self._early or (self._upload is not None and self._upload.stalled)

    # The calls.

    def _enter(self, then: Callable[[], None]) -> None:
        """
        Go through the gate, at once or later, unless it is through already.

        @param then: What to do when it is let in.
        """
        gate = self._site.gate
        if self._in_gate or gate.enter():
            self._in_gate = True
            then()
        elif gate.wait(self):
            self._in_gate = self._waiting = True
            self._waits_since, self._admission = self._site.engine.clock.seconds(), then
        else:
            self._turn_away()

    def admitted(self) -> None:
        """The gate lets it in; the time for which it waited does not count."""
        then, self._admission, self._waiting = self._admission, None, False
        self.deadline += self._site.engine.clock.seconds() - self._waits_since
        assert then is not None
        then()

    def _inquire(self, checks: Sequence[Check], body: bytes, then: Callable[[], None]) -> None:
        """Ask whether the request may go on, when it is its turn, and do C{then} if all let it."""
        subject = Subject(self._route, self._values, self.request, body)
        self._inquiry = Inquiry(self, self._site, subject, checks, then)
        self._enter(self._inquiry.go_on)

    def _offer(self, body: bytes) -> None:
        """
        Make the object for the function, and call it when it is the request's turn.

        @param body: JSON.
        """
        channels, route = self._site.engine.channels, self._route
        try:
            ids = self._channels = channels.promise(self._open_upload, self._open_replies)
        except TooManyChannels as error:
            self._site.engine.counters.hit("channels")
            self.answer(failure(route, error.code, str(error)))
            return
        if self._body is None:
            channels.redeem(ids[0])  # what comes of it must be put somewhere
        self._data = request_object(route, self._values, self.request, body, ids, channels.key(ids[0]))
        # L{_enter} in short: nearly every request comes here.
        if not route.checks and not self._in_gate and self._site.gate.enter():
            self._in_gate = True
            self._handle()
        else:
            self._inquire(route.checks, body, self._handle)

    def _handle(self) -> None:
        """Call the function."""
        data, self._data = self._data, ABSENT
        route = self._route
        self.invoke(route.function_id, data, route.metadata, self._called, route.namespace)

    def invoke(self, function_id: str, data: Raw, metadata: Raw, complete: Completion, namespace: str) -> None:
        """Call a function for this request."""
        headers = self.request.headers.values
        traceparent, baggage = headers.get("traceparent"), headers.get("baggage")
        if traceparent or baggage:
            traceparent, baggage = passed_on(traceparent, baggage, function_id)
        self._call = self._site.engine.invoke(
            function_id,
            data,
            complete,
            namespace=namespace,
            metadata=metadata,
            timeout=self._route.timeout or self._site.timeout,
            traceparent=traceparent,
            baggage=baggage,
        )

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

    def _called(self, call: Call, result: Raw, error: ErrorBody | None) -> None:
        """The function has ended.  If it returned nothing, the answer comes over the channel."""
        self._call = None
        if self.answered:
            if error is not None and not self.complete:
                self._failed_while_writing(error)
            return
        try:
            if error is not None:
                self.answer(error_response(self._route, error))
            elif not is_null(result):
                self.answer(read_result(result, self._site.heads.overridden(self.request)))
            elif self._replies is None:
                self._due = self.deadline
                self.deadline = min(self._due, self._site.engine.clock.seconds() + PATIENCE)
            elif self._replies.broken:
                self.answer(self._broken_off())
        except Exception:  # it must not reach the worker's connection, which has called
            self.answer(defect(self._route))

    def _failed_while_writing(self, error: ErrorBody) -> None:
        """
        The function has failed and may have left its writer open: give what it wrote before time to arrive, and cut the
        connection then.  That a call takes long is no failure of a stream.
        """
        if not (isinstance(error, EngineErrorBody) and error.code == CallTimedOut.code):
            error_response(self._route, error)  # for the log
            self.deadline = self._site.engine.clock.seconds() + PATIENCE

    def _broken_off(self) -> Answer:
        return error_response(self._route, error_body(ResponseBrokenOff()))

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
            call, self._call = self._call, None
            self._settle()
            self._call = call  # should it fail, the stream ends
            self._decided(stream.status if can_be_sent(stream.status) else 500)
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
        if replies.broken:
            if stream is not None and stream.begun:
                self._connection.abort()  # only that tells the client that something is missing
            elif self._call is None:
                self.answer(self._broken_off())
            return  # else the function, or the loss of its worker, will tell more
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
        self._decided(answer.status if can_be_sent(answer.status) else 500)
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
            self._decided(status)
            self._connection.send(self, self._site.heads.refusal(status))
            self._finish()

    def overdue(self) -> None:
        """The deadline has passed."""
        if self._stream is not None and self._stream.begun:
            self._connection.abort()
        elif self._due is not None:
            if self._replies is None or self._replies.writer is None:
                self.answer(NOTHING)
            else:
                self.deadline, self._due = self._due, None
        elif self._waiting:
            self._turn_away()
        elif self._inquiry is not None and self._inquiry.asked is not None:
            self.answer(self._inquiry.asked.timed_out)
        else:
            self.answer(timed_out(f"no response within {self._timeout:g} s"))

    def _turn_away(self) -> None:
        self.answer(failure(self._route, WorkerOverloaded.code, "too many requests are in progress"))

    def gone(self) -> None:
        """The client has gone."""
        if not self.answered:
            self._settle()
        self._forget_call()
        if not self.complete and self._site.access_log:
            self._log_access("the client has gone")
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
        if self._call is not None:
            self._forget_call()
        channels, self._channels = self._channels, None
        if channels is not None:
            self._site.engine.channels.withdraw(channels)
            if self._upload is not None:
                self._upload.drop()
        if self._in_gate:
            self._leave_gate()
        if self._early:  # the rest of the body is dropped as it comes; the next request is behind it
            self._early = False
            self._connection.throttle()

    def _forget_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _leave_gate(self) -> None:
        self._in_gate = False
        self._site.gate.leave(self)

    def _decided(self, status: int) -> None:
        self._route.responses[status] += 1
        if self._site.access_log:
            self._status = status

    @property
    def _timeout(self) -> float:
        """Seconds until the head of the response must be ready."""
        return self._route.timeout or self._site.timeout

    def _log_access(self, ending: str = "") -> None:
        seconds = self._site.engine.clock.seconds() - self._since
        log_access(self._connection.peer, self.request, self._route, self._status, seconds, ending)

    def _finish(self) -> None:
        self.complete = True
        if self._site.access_log:
            self._log_access()
        self.deadline = inf
        if self._call is not None:
            self._forget_call()
        self._replies = None  # the channel may know us for longer; a circle would wait for the garbage collector
        self._connection.finished(self)
