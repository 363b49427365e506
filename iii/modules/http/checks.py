"""
What is asked before a handler is called: middleware, and a route's condition (spec/http.md, A4, A9 and A10).

Each check is a function; what it answers lets the request go on, or is the answer to the request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import msgspec
from msgspec import Raw
from twisted.logger import Logger

from iii.core.engine import Engine
from iii.core.errors import CallTimedOut
from iii.core.invocations import Call, Completion, EngineErrorBody
from iii.core.shown import shown
from iii.modules.http.request import Request, condition_object, middleware_object
from iii.modules.http.response import Answer, defect, error_answer, error_response, read_response_of_middleware
from iii.modules.http.router import Route
from iii.wire.messages import ABSENT, DEFAULT_NAMESPACE, ErrorBody

if TYPE_CHECKING:
    from iii.modules.http.site import Site

log = Logger()


@attrs.frozen
class Subject:
    """
    A request about which functions are asked.

    @ivar values: Of the route's parameters.
    @ivar body: As JSON.
    """

    route: Route
    values: Sequence[str]
    request: Request
    body: bytes


class Check(Protocol):
    """One function that is asked."""

    @property
    def function_id(self) -> str:
        """The function."""

    @property
    def timed_out(self) -> Answer:
        """The answer to the request when the function gives none in time."""

    def namespace(self, route: Route, engine: Engine) -> str:
        """Return where the function is."""

    def question(self, subject: Subject) -> Raw:
        """Return what the function is called with."""

    def verdict(self, route: Route, result: Raw, overridden: frozenset[str]) -> Answer | None:
        """Return the answer to the request, or C{None} to let it go on."""


class Asker(Protocol):
    """Who wants to know whether a request may go on."""

    @property
    def answered(self) -> bool:
        """The request has its answer; nobody need be asked any more."""

    def invoke(self, function_id: str, data: Raw, metadata: Raw, complete: Completion, namespace: str) -> None:
        """Call a function."""

    def answer(self, answer: Answer) -> None:
        """Answer the request."""


class Inquiry:
    """
    Asks one function after the other whether a request may go on.

    @ivar asked: Whose answer is awaited.
    """

    asked: Check | None = None

    def __init__(
        self, asker: Asker, site: Site, subject: Subject, checks: Sequence[Check], then: Callable[[], None]
    ) -> None:
        """@param then: What to do when all let it go on."""
        self._asker, self._site, self._subject, self._checks, self._then = asker, site, subject, iter(checks), then

    def go_on(self) -> None:
        """Ask the next one."""
        check = self.asked = next(self._checks, None)
        if check is None:
            self._then()
            return
        namespace = check.namespace(self._subject.route, self._site.engine)
        self._asker.invoke(check.function_id, check.question(self._subject), ABSENT, self._answered, namespace)

    def _answered(self, call: Call, result: Raw, error: ErrorBody | None) -> None:
        if self._asker.answered:
            return
        answer = self._judge(result, error)
        if answer is None:
            self.go_on()
        else:
            self._asker.answer(answer)

    def _judge(self, result: Raw, error: ErrorBody | None) -> Answer | None:
        """Return what the check has made the answer to the request, or C{None}."""
        check, route = self.asked, self._subject.route
        assert check is not None
        try:
            if error is None:
                return check.verdict(route, result, self._site.heads.overridden(self._subject.request))
            if isinstance(error, EngineErrorBody) and error.code == CallTimedOut.code:
                return check.timed_out
            return error_response(route, error)
        except Exception:  # it must not reach the worker's connection, which has called
            return defect(route)


class _Said(msgspec.Struct, gc=False):
    action: Any = None
    response: Raw = msgspec.field(default_factory=lambda: ABSENT)


_decode_said = msgspec.json.Decoder(_Said).decode


@attrs.frozen
class Middleware:
    """
    A function that may answer in the handler's place.

    @ivar of_all_routes: It stands in the configuration, not in a route; then it may live in the default namespace.
    """

    function_id: str
    of_all_routes: bool = False
    timed_out = error_answer(504, "MIDDLEWARE_TIMEOUT", "Middleware timeout")

    def namespace(self, route: Route, engine: Engine) -> str:
        """The route's."""
        if self.of_all_routes and engine.functions.find(route.namespace, self.function_id) is None:
            return DEFAULT_NAMESPACE
        return route.namespace

    def question(self, subject: Subject) -> Raw:
        """The request without its body."""
        return middleware_object(subject.route, subject.values, subject.request)

    def verdict(self, route: Route, result: Raw, overridden: frozenset[str]) -> Answer | None:
        """Only C{respond} ends the request; what is neither that nor C{continue} is said in the log."""
        try:
            said = _decode_said(result)
        except msgspec.DecodeError:  # no object, or nothing
            said = _Said()
        if said.action == "respond":
            return read_response_of_middleware(said.response, overridden)
        if said.action != "continue":
            log.warn(
                "middleware {function} of {route} answered neither `continue` nor `respond`: the request goes on",
                function=shown(self.function_id),
                route=shown(str(route)),
            )
        return None


CONDITION_NOT_MET = error_answer(422, "CONDITION_NOT_MET", "Request condition not met", skipped=True)


@attrs.frozen
class Condition:
    """A function that decides whether the handler is called."""

    function_id: str
    timed_out = error_answer(504, "TIMEOUT", "the route's condition did not answer in time")

    def namespace(self, route: Route, engine: Engine) -> str:
        """The route's."""
        return route.namespace

    def question(self, subject: Subject) -> Raw:
        """What the handler would get, without its channels."""
        return condition_object(subject.route, subject.values, subject.request, subject.body)

    def verdict(self, route: Route, result: Raw, overridden: frozenset[str]) -> Answer | None:
        """Only C{false} ends the request."""
        return CONDITION_NOT_MET if result == Raw(b"false") else None
