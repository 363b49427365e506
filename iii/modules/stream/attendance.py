"""
The trigger types C{stream:join} and C{stream:leave}: who may follow a stream, and who no longer does (spec/stream.md,
5.2).

A join waits for what all its functions say, which are called at the same time; one refusal is enough.  A function that
fails, or is not there, refuses, unless the settings say otherwise (C{auth_fail_open}): whoever registers such a trigger
wants a gate.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import attrs
import msgspec
from msgspec import Raw, Struct
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger
from zope.interface import implementer

from iii.core.complaints import Complaints
from iii.core.engine import Engine
from iii.core.errors import TriggerRefused
from iii.core.invocations import CallFailed
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.stream.subscription import Subscription
from iii.wire.messages import ABSENT

T = TypeVar("T")

FALSE = Raw(b"false")
MAX_PER_OWNER = 100
"""Triggers of one connection and type: each one multiplies every join."""


class Config(Struct):
    """What a trigger wants to hear of; without anything, of all."""

    stream_name: str | None = None
    condition_function_id: str | None = None


class Payload(Struct):
    """What its functions are called with."""

    subscription_id: str
    stream_name: str
    group_id: str
    id: str | None
    context: Raw


class Verdict(Struct):
    """What a function for joins returns."""

    unauthorized: Any = None


@attrs.frozen(eq=False)
class Attendant:
    """A live trigger."""

    trigger: Trigger
    stream: str | None
    condition: str | None

    def call(self, engine: Engine, payload: Raw) -> Deferred[Raw]:
        """Call its function."""
        trigger = self.trigger
        return engine.call(
            trigger.function_id, payload, namespace=trigger.namespace, metadata=trigger.metadata or ABSENT
        )


@implementer(ITriggerProvider)
class AttendanceTriggers:
    """The triggers of one of the two types."""

    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "stream_name": {"type": ["string", "null"], "description": "only this stream; empty or absent: all"},
            "condition_function_id": {
                "type": ["string", "null"],
                "description": "called first with the same payload; false leaves the function out",
            },
        },
    }
    request_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "subscription_id": {"type": "string"},
            "stream_name": {"type": "string"},
            "group_id": {"type": "string"},
            "id": {"type": ["string", "null"], "description": "the item; null for the whole group"},
            "context": {"description": "what the auth function gave for the client; null without one"},
        },
        "required": ["subscription_id", "stream_name", "group_id", "id", "context"],
    }

    def __init__(self, name: str, description: str, response_schema: Mapping[str, Any] | None = None) -> None:
        self.description, self.response_schema = description, response_schema
        self._name = name
        self._attendants: dict[str, Attendant] = {}

    def register(self, trigger: Trigger) -> None:
        """
        Ask or tell the trigger's function from now on.

        @raise TriggerRefused: Its config is an object with something wrong in it, or its owner has too many.
        """
        others = sum(other.trigger.owner is trigger.owner for other in self._attendants.values())
        if others >= MAX_PER_OWNER:
            raise TriggerRefused(f"a connection may have {MAX_PER_OWNER} triggers of type {self._name}")
        try:
            config = msgspec.json.decode(trigger.config)
            config = msgspec.convert(config, Config) if isinstance(config, dict) else Config()
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise TriggerRefused(f"Failed to deserialize {self._name} trigger: {error}") from error
        attendant = Attendant(trigger, config.stream_name or None, config.condition_function_id or None)
        self._attendants[trigger.id] = attendant

    def unregister(self, trigger: Trigger) -> None:
        """Call it no more."""
        del self._attendants[trigger.id]

    def of(self, stream: str) -> Iterable[Attendant]:
        """Return the triggers that want to hear of a stream."""
        return [each for each in self._attendants.values() if each.stream is None or each.stream == stream]


class Attendants:
    """
    Asks and tells the functions of workers: L{iii.modules.stream.subscription.Attendance}.

    @ivar join: Provides C{stream:join}.
    @ivar leave: Provides C{stream:leave}.
    """

    log = Logger()

    def __init__(self, engine: Engine, *, fail_open: bool) -> None:
        """@param fail_open: A function that fails, or is not there, does not keep a client from joining."""
        verdict = {
            "type": ["object", "null"],
            "properties": {"unauthorized": {"type": "boolean", "description": "true refuses the join"}},
        }
        self.join = AttendanceTriggers("stream:join", "Stream join trigger", verdict)
        self.leave = AttendanceTriggers("stream:leave", "Stream leave trigger")
        self._engine, self._fail_open = engine, fail_open
        self._complaints = Complaints(self.log, engine.clock)

    async def joining(self, subscription: Subscription) -> bool:
        """Ask all functions whether a client may join."""
        payload = _payload(subscription)
        asked = [self._allows(each, payload) for each in self.join.of(subscription.stream)]
        return all(await _together(asked))

    async def left(self, subscription: Subscription) -> None:
        """Tell all functions that a client no longer follows."""
        payload = _payload(subscription)
        await _together([self._told(each, payload) for each in self.leave.of(subscription.stream)])

    async def _allows(self, attendant: Attendant, payload: Raw) -> bool:
        try:
            if not await self._wanted(attendant, payload):
                return True
            result = await attendant.call(self._engine, payload)
        except CallFailed as failure:
            self._complain("joins", "which are allowed" if self._fail_open else "which are refused", attendant, failure)
            return self._fail_open
        return not _refuses(result)

    async def _told(self, attendant: Attendant, payload: Raw) -> None:
        try:
            if await self._wanted(attendant, payload):
                await attendant.call(self._engine, payload)
        except CallFailed as failure:
            self._complain("leaves", "of which it does not hear", attendant, failure)

    async def _wanted(self, attendant: Attendant, payload: Raw) -> bool:
        if attendant.condition is None:
            return True
        namespace = attendant.trigger.namespace
        return await self._engine.call(attendant.condition, payload, namespace=namespace) != FALSE

    def _complain(self, what: str, outcome: str, attendant: Attendant, failure: CallFailed) -> None:
        self._complaints.warn(
            "{function}, or its condition, failed on {what} of a stream, {outcome}: {code}: {text}",
            function=attendant.trigger.function_id, what=what, outcome=outcome, code=failure.error.code,
            text=failure.error.message,
        )  # fmt: skip


async def _together(asked: Iterable[Coroutine[Any, Any, T]]) -> Sequence[T]:
    """Wait for all at the same time; being cancelled cancels them."""
    waiting: list[Deferred[Any]] = [Deferred.fromCoroutine(each) for each in asked]
    try:
        return cast(Sequence[T], await gatherResults(waiting, consumeErrors=True))
    except FirstError as first:
        first.subFailure.raiseException()


def _payload(subscription: Subscription) -> Raw:
    payload = Payload(
        subscription.subscription_id, subscription.stream, subscription.group, subscription.item, subscription.context
    )
    return Raw(msgspec.json.encode(payload))


def _refuses(result: Raw) -> bool:
    """
    Whether a result is an object that says C{unauthorized}.  Anything but null and false in its place does, too;
    results that are no objects say nothing.
    """
    if not bytes(result).startswith(b"{"):
        return False
    return msgspec.json.decode(result, type=Verdict).unauthorized not in (None, False)
