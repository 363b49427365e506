"""
What is asked before a handler is called: middleware, and a route's condition (spec/http.md, A4, A9 and A10).

Each check is a function; what it answers lets the request go on, or is the answer to the request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
import msgspec
from msgspec import Raw
from twisted.logger import Logger

from iii.core.engine import Engine
from iii.core.invocations import Call
from iii.core.shown import shown
from iii.modules.http.request import Request, condition_object, middleware_object
from iii.modules.http.response import Answer, error_answer, read_response_of_middleware
from iii.modules.http.router import Route
from iii.wire.messages import ABSENT, DEFAULT_NAMESPACE, ErrorBody

log = Logger()


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

    def question(self, route: Route, values: Sequence[str], request: Request, body: bytes) -> Raw:
        """Return what the function is called with."""

    def verdict(self, route: Route, result: Raw, overridden: frozenset[str]) -> Answer | None:
        """Return the answer to the request, or C{None} to let it go on."""


class Asker(Protocol):
    """The request about which functions are asked."""

    @property
    def answered(self) -> bool:
        """It has its answer; nobody need be asked any more."""

    def ask(self, inquiry: Inquiry, check: Check, body: bytes) -> None:
        """Call the function of a check; L{Inquiry.answered} is to hear of its outcome."""

    def judge(self, check: Check, result: Raw, error: ErrorBody | None) -> Answer | None:
        """Return what a check has made the answer to the request, or C{None}.  Never raises."""

    def answer(self, answer: Answer) -> None:
        """Answer the request."""


class Inquiry:
    """
    Asks one function after the other whether a request may go on.

    @ivar asked: Whose answer is awaited.
    """

    asked: Check | None = None

    def __init__(self, asker: Asker, checks: Sequence[Check], body: bytes, then: Callable[[], None]) -> None:
        """
        @param body: The request's, as JSON.
        @param then: What to do when all let it go on.
        """
        self._asker, self._checks, self._body, self._then = asker, iter(checks), body, then

    def go_on(self) -> None:
        """Ask the next one."""
        self.asked = next(self._checks, None)
        if self.asked is None:
            self._then()
        else:
            self._asker.ask(self, self.asked, self._body)

    def answered(self, call: Call, result: Raw, error: ErrorBody | None) -> None:
        """The function has ended."""
        if self._asker.answered:
            return
        assert self.asked is not None
        answer = self._asker.judge(self.asked, result, error)
        if answer is None:
            self.go_on()
        else:
            self._asker.answer(answer)


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

    def question(self, route: Route, values: Sequence[str], request: Request, body: bytes) -> Raw:
        """The request without its body."""
        return middleware_object(route, values, request)

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

    def question(self, route: Route, values: Sequence[str], request: Request, body: bytes) -> Raw:
        """What the handler would get, without its channels."""
        return condition_object(route, values, request, body)

    def verdict(self, route: Route, result: Raw, overridden: frozenset[str]) -> Answer | None:
        """Only C{false} ends the request."""
        return CONDITION_NOT_MET if result == Raw(b"false") else None
