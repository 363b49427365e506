"""What the queues' functions answer when they fail (spec/queue.md, 3 and 8)."""

from __future__ import annotations

from typing import ClassVar

import attrs

from iii.core.errors import EngineError
from iii.storage.errors import StoreFailed


@attrs.define(str=False)
class QueueNotFound(EngineError):
    """No queue of this name is configured."""

    code: ClassVar[str] = "queue_not_found"
    text: ClassVar[str] = "Queue '{queue}' not found"
    queue: str


@attrs.define(str=False)
class GroupMissing(EngineError):
    """A message for a FIFO queue does not say to which group it belongs."""

    code: ClassVar[str] = "message_group_missing"
    text: ClassVar[str] = "FIFO queue '{queue}' requires field '{field}' in data, but it was not found"
    queue: str
    field: str


@attrs.define(str=False)
class GroupNull(EngineError):
    """Likewise, with null in its place."""

    code: ClassVar[str] = "message_group_null"
    text: ClassVar[str] = "FIFO queue '{queue}': field '{field}' must not be null"
    queue: str
    field: str


@attrs.define(str=False)
class KeepsOrder(EngineError):
    """A message for a FIFO queue was given something that would take it out of its order."""

    code: ClassVar[str] = "queue_keeps_order"
    text: ClassVar[str] = "FIFO queue '{queue}' keeps its messages in order: `{option}` cannot be given"
    queue: str
    option: str


@attrs.define(str=False)
class InvalidOption(EngineError):
    """An option of a message has a value that it cannot have."""

    code: ClassVar[str] = "invalid_option"
    text: ClassVar[str] = "`{option}`: {reason}"
    option: str
    reason: str


@attrs.define(str=False)
class QueueFull(EngineError):
    """A queue has as many messages as its settings allow."""

    code: ClassVar[str] = "queue_full"
    text: ClassVar[str] = "Queue '{queue}' has {limit} messages already (`max_jobs`)"
    queue: str
    limit: int


@attrs.define(str=False)
class TopicNotSet(EngineError):
    """Publishing without a topic."""

    code: ClassVar[str] = "topic_not_set"
    text: ClassVar[str] = "Topic is not set"


@attrs.define(str=False)
class TopicRequired(EngineError):
    """Asking about a topic or queue without its name."""

    code: ClassVar[str] = "topic_required"
    text: ClassVar[str] = "topic is required"


@attrs.define(str=False)
class QueueNotSet(EngineError):
    """Changing something in a queue without its name."""

    code: ClassVar[str] = "queue_not_set"
    text: ClassVar[str] = "Queue name is required"


@attrs.define(str=False)
class MessageIdNotSet(EngineError):
    """Changing a message without its id."""

    code: ClassVar[str] = "message_id_not_set"
    text: ClassVar[str] = "Message ID is required"


@attrs.define(str=False)
class EnqueueFailed(StoreFailed):
    """Of C{engine::queue::enqueue}."""

    code: ClassVar[str] = "enqueue_failed"
    text: ClassVar[str] = "Failed to enqueue: {cause}"


@attrs.define(str=False)
class PublishFailed(StoreFailed):
    """Of C{iii::durable::publish}."""

    code: ClassVar[str] = "publish_failed"
    text: ClassVar[str] = "Failed to publish: {cause}"


@attrs.define(str=False)
class RedriveFailed(StoreFailed):
    """Of C{iii::queue::redrive}."""

    code: ClassVar[str] = "redrive_failed"
    text: ClassVar[str] = "Failed to redrive DLQ for queue '{queue}': {cause}"
    queue: str


@attrs.define(str=False)
class RedriveMessageFailed(StoreFailed):
    """Of C{iii::queue::redrive_message}."""

    code: ClassVar[str] = "redrive_message_failed"
    text: ClassVar[str] = "Failed to redrive DLQ message '{message_id}' for queue '{queue}': {cause}"
    queue: str
    message_id: str


@attrs.define(str=False)
class DiscardMessageFailed(StoreFailed):
    """Of C{iii::queue::discard_message} and C{engine::queue::discard}."""

    code: ClassVar[str] = "discard_message_failed"
    text: ClassVar[str] = "Failed to discard DLQ message: {cause}"


@attrs.define(str=False)
class DlqMessagesFailed(StoreFailed):
    """Of C{engine::queue::dlq_messages}."""

    code: ClassVar[str] = "dlq_messages_failed"
    text: ClassVar[str] = "Failed to browse DLQ messages: {cause}"


@attrs.define(str=False)
class JobsFailed(StoreFailed):
    """Of C{engine::queue::jobs}, C{engine::queue::job} and C{engine::queue::cancel}."""

    code: ClassVar[str] = "jobs_failed"
    text: ClassVar[str] = "Failed to look for messages: {cause}"


@attrs.define(str=False)
class PauseFailed(StoreFailed):
    """Of C{engine::queue::pause} and C{engine::queue::resume}."""

    code: ClassVar[str] = "pause_failed"
    text: ClassVar[str] = "Failed to pause or resume the queue: {cause}"
