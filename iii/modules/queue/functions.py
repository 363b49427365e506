"""The functions of the queues (spec/queue.md, 3.1, 4.2 and 8; docs/queue.md has those of our own)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw

from iii.core.enqueuing import ENQUEUE, EnqueueRequest, Receipt
from iii.core.errors import InvalidInput
from iii.core.functions import AnyInput, Caller, FunctionDeclaration
from iii.modules.queue.errors import (
    DiscardMessageFailed,
    DlqMessagesFailed,
    JobsFailed,
    MessageIdNotSet,
    PauseFailed,
    QueueNotSet,
    RedriveFailed,
    RedriveMessageFailed,
    TopicRequired,
)
from iii.modules.queue.inspection import DeadLetter, DlqRow, Inspection, JobView, Natural, State, Stats, TopicRow
from iii.modules.queue.named import NamedQueues
from iii.modules.queue.operations import Filter, Operations
from iii.modules.queue.pauses import Pauses
from iii.modules.queue.topics import Publish, Topics
from iii.storage.errors import StoreFailed, failing_as
from iii.wire.messages import ABSENT

T = TypeVar("T")
MAX_LIMIT = 1000
"""Messages of one listing."""


class Named(msgspec.Struct):
    """A named queue, or else a topic."""

    queue: str | None = None
    topic: Annotated[str | None, Meta(description="another name of queue")] = None

    def name(self, function_id: str, *, prefer: str = "queue") -> str:
        """
        The name that was given, perhaps an empty one.

        @raise InvalidInput: None was given, or two.
        """
        if self.queue is not None and self.topic is not None:
            raise InvalidInput(function_id, f"duplicate field `{prefer}`")
        name = self.topic if self.queue is None else self.queue
        if name is None:
            raise InvalidInput(function_id, f"missing field `{prefer}`")
        return name


class Redrive(Named):
    """Which dead letters of it; all of them without a filter."""

    filter: Filter | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None


class Message(Named, kw_only=True):
    """One of its messages."""

    message_id: str


class RedriveMessage(Message):
    """One of its dead letters, and what shall be changed in it."""

    data: Annotated[Raw, Meta(description="a new payload")] = msgspec.field(default_factory=lambda: ABSENT)
    function_id: Annotated[str | None, Meta(description="a new function, in the same namespace")] = None


class Page(Named):
    """Which part of its dead letters, newest first."""

    offset: Natural = 0
    limit: Natural = 50


class JobPage(Page):
    """Which of its jobs, oldest first."""

    state: State | None = None
    function_id: str | None = None


class Receipted(msgspec.Struct):
    """A message by its receipt."""

    message_id: str


class Subscriber(msgspec.Struct):
    """A function that subscribes to a topic."""

    topic: str
    function_id: str
    namespace: str = "default"


class Redriven(msgspec.Struct):
    """How many dead letters were redriven."""

    queue: str
    redriven: int


class RedrivenMessage(msgspec.Struct):
    """1 in `redriven` if the message was found, else 0."""

    queue: str
    message_id: str
    redriven: int


class Discarded(msgspec.Struct):
    """How many dead letters were discarded."""

    queue: str
    discarded: int


class Cancelled(msgspec.Struct):
    """1 in `cancelled` if the message waited, else 0."""

    queue: str
    message_id: str
    cancelled: int


class Paused(msgspec.Struct):
    """Whether it is paused now."""

    queue: str
    paused: bool


class Unsubscribed(msgspec.Struct):
    """
    What has become of a subscription.

    @ivar unsubscribed: It was a subscription.
    @ivar discarded: Messages that waited for it.
    """

    topic: str
    function_id: str
    unsubscribed: bool
    discarded: int


class QueueFunctions:
    """Declares the functions, and carries out those that operate on queues."""

    def __init__(
        self, named: NamedQueues, topics: Topics, inspection: Inspection, operations: Operations, pauses: Pauses
    ) -> None:
        self._named, self._topics, self._inspection = named, topics, inspection
        self._operations, self._pauses = operations, pauses

    def declare(self) -> Sequence[FunctionDeclaration]:
        """All of them."""

        def function(
            id: str, description: str, input: type[msgspec.Struct], handler: Callable[[Any, Caller], Any], output: Any
        ) -> FunctionDeclaration:
            return FunctionDeclaration(id=id, description=description, input=input, handler=handler, output=output)

        return [
            function(
                ENQUEUE, "Put a message into a named queue", EnqueueRequest, self._named.enqueue, Receipt
            ),
            function(
                "iii::durable::publish", "Publish a message to a topic, durably", Publish, self._topics.publish, None
            ),
            function("enqueue", "Old name of iii::durable::publish", Publish, self._topics.publish, None),
            function("iii::queue::redrive", "Deliver dead letters again", Redrive, self.redrive, Redriven),
            function(
                "iii::queue::redrive_message", "Deliver a dead letter again", RedriveMessage, self.redrive_message,
                RedrivenMessage,
            ),
            function(
                "iii::queue::discard_message", "Remove a dead letter", Message, self.discard_message, RedrivenMessage
            ),
            function(
                "engine::queue::list_topics", "List topics and named queues", AnyInput,
                lambda _, caller: self._inspection.list_topics(), list[TopicRow],
            ),
            function("engine::queue::topic_stats", "Tell how a topic or named queue fares", Named, self.stats, Stats),
            function(
                "engine::queue::dlq_topics", "Count dead letters", AnyInput,
                lambda _, caller: self._inspection.dlq_topics(), list[DlqRow],
            ),
            function("engine::queue::dlq_messages", "List dead letters", Page, self.dlq_messages, list[DeadLetter]),
            function("engine::queue::jobs", "List messages by state", JobPage, self.jobs, list[JobView]),
            function("engine::queue::job", "Find a message by its receipt", Receipted, self.job, JobView | None),
            function("engine::queue::cancel", "Remove a message that waits", Message, self.cancel, Cancelled),
            function("engine::queue::discard", "Remove dead letters", Redrive, self.discard, Discarded),
            function("engine::queue::pause", "Start no more messages", Named, self.pause, Paused),
            function("engine::queue::resume", "Start messages again", Named, self.resume, Paused),
            function(
                "engine::queue::unsubscribe", "End the subscription of a function that does not come back", Subscriber,
                self.unsubscribe, Unsubscribed,
            ),
        ]  # fmt: skip

    async def redrive(self, given: Redrive, caller: Caller) -> Redriven:
        """C{iii::queue::redrive}."""
        name = _queue(given, "iii::queue::redrive")
        moved = self._operations.redrive(self._inspection.queues(name), given.filter or Filter(), given.limit)
        return Redriven(name, await _or_fail(moved, lambda cause: RedriveFailed(cause, name)))

    async def redrive_message(self, given: RedriveMessage, caller: Caller) -> RedrivenMessage:
        """C{iii::queue::redrive_message}."""
        name = _message(given, "iii::queue::redrive_message")
        moved = self._operations.redrive_one(
            self._inspection.queues(name), given.message_id, bytes(given.data) or None, given.function_id
        )
        count = await _or_fail(moved, lambda cause: RedriveMessageFailed(cause, name, given.message_id))
        return RedrivenMessage(name, given.message_id, count)

    async def discard_message(self, given: Message, caller: Caller) -> RedrivenMessage:
        """C{iii::queue::discard_message}."""
        name = _message(given, "iii::queue::discard_message")
        removed = self._operations.discard_one(self._inspection.queues(name), given.message_id)
        return RedrivenMessage(name, given.message_id, await _or_fail(removed, DiscardMessageFailed))

    async def discard(self, given: Redrive, caller: Caller) -> Discarded:
        """C{engine::queue::discard}."""
        name = _queue(given, "engine::queue::discard")
        removed = self._operations.discard(self._inspection.queues(name), given.filter or Filter(), given.limit)
        return Discarded(name, await _or_fail(removed, DiscardMessageFailed))

    async def cancel(self, given: Message, caller: Caller) -> Cancelled:
        """C{engine::queue::cancel}."""
        name = _message(given, "engine::queue::cancel")
        cancelled = self._operations.cancel(self._inspection.queues(name), given.message_id)
        return Cancelled(name, given.message_id, await _or_fail(cancelled, JobsFailed))

    def stats(self, given: Named, caller: Caller) -> Stats:
        """C{engine::queue::topic_stats}."""
        return self._inspection.stats(_topic(given, "engine::queue::topic_stats"))

    async def dlq_messages(self, given: Page, caller: Caller) -> list[DeadLetter]:
        """C{engine::queue::dlq_messages}."""
        name = _topic(given, "engine::queue::dlq_messages")
        found = self._inspection.dlq_messages(name, given.offset, min(given.limit, MAX_LIMIT))
        return await _or_fail(found, DlqMessagesFailed)

    async def jobs(self, given: JobPage, caller: Caller) -> list[JobView]:
        """C{engine::queue::jobs}."""
        name = _topic(given, "engine::queue::jobs")
        limit = min(given.limit, MAX_LIMIT)
        found = self._inspection.jobs(name, given.state, given.function_id, given.offset, limit)
        return await _or_fail(found, JobsFailed)

    async def job(self, given: Receipted, caller: Caller) -> JobView | None:
        """C{engine::queue::job}."""
        return await _or_fail(self._inspection.job(given.message_id), JobsFailed)

    async def pause(self, given: Named, caller: Caller) -> Paused:
        """C{engine::queue::pause}."""
        name = _queue(given, "engine::queue::pause")
        await _or_fail(self._pauses.pause(name, self._inspection.queues(name)), PauseFailed)
        return Paused(name, True)

    async def resume(self, given: Named, caller: Caller) -> Paused:
        """C{engine::queue::resume}."""
        name = _queue(given, "engine::queue::resume")
        await _or_fail(self._pauses.resume(name, self._inspection.queues(name)), PauseFailed)
        return Paused(name, False)

    async def unsubscribe(self, given: Subscriber, caller: Caller) -> Unsubscribed:
        """C{engine::queue::unsubscribe}."""
        ended, discarded = await _or_fail(
            self._operations.unsubscribe(given.topic, given.namespace, given.function_id), JobsFailed
        )
        return Unsubscribed(given.topic, given.function_id, ended, discarded)


def _queue(given: Named, function_id: str) -> str:
    name = given.name(function_id)
    if not name:
        raise QueueNotSet
    return name


def _topic(given: Named, function_id: str) -> str:
    name = given.name(function_id, prefer="topic")
    if not name:
        raise TopicRequired
    return name


def _message(given: Message, function_id: str) -> str:
    name = _queue(given, function_id)
    if not given.message_id:
        raise MessageIdNotSet
    return name


async def _or_fail(doing: Awaitable[T], failed: Callable[[str], StoreFailed]) -> T:
    with failing_as(failed):
        return await doing
