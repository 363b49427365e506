"""Queues (spec/queue.md, 2)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from iii.config.blocks.stores import BridgeAdapter, RedisAdapter, Store
from iii.config.parts import Count, Delay, Milliseconds, Ratio, Text

Attempts = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class QueueStore(Store, frozen=True, kw_only=True):
    """
    The embedded store of the queues, and the defaults of topic subscribers that state none.

    @ivar max_attempts: How often a message is tried; default 3.
    @ivar backoff_ms: Delay before the first retry; default 1000.
    @ivar concurrency: Messages in progress at one time; default 10.
    @ivar mode: C{concurrent}, or C{fifo}: one after the other; default C{concurrent}.
    @ivar poll_interval_ms: Accepted and without effect: nothing polls.
    @ivar channel_size: Accepted and without effect.
    """

    max_attempts: Attempts = 3
    backoff_ms: Delay = 1000
    concurrency: Count = 10
    mode: Literal["concurrent", "fifo"] = "concurrent"
    poll_interval_ms: Milliseconds | None = None
    channel_size: Count | None = None


class BuiltinAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="builtin"):
    """
    Keep the queues in this engine.

    @ivar config: The embedded store.
    """

    config: QueueStore = QueueStore()


class RabbitMQ(Struct, frozen=True, kw_only=True):
    """
    A RabbitMQ server.

    @ivar amqp_url: Default C{amqp://localhost:5672}.
    @ivar max_attempts: How often a message of a topic is tried; default 3.
    @ivar prefetch_count: Messages of a topic in progress at one time; default 10.
    @ivar queue_mode: C{standard} or C{fifo}; default C{standard}.
    @ivar priority_field: Member of the payload that holds a message's priority; default none.
    """

    amqp_url: Text = "amqp://localhost:5672"
    max_attempts: Attempts = 3
    prefetch_count: Annotated[int, Meta(ge=1, le=65535)] = 10
    queue_mode: Literal["standard", "fifo"] = "standard"
    priority_field: Text | None = None


class RabbitMQAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="rabbitmq"):
    """
    Share the queues through RabbitMQ.

    @ivar config: The server.
    """

    config: RabbitMQ = RabbitMQ()


class RateLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How many jobs of a queue are started in a time.

    @ivar jobs: Jobs that may start per interval; they may start in a burst.
    @ivar per_ms: Length of the interval in milliseconds; default 1000.
    """

    jobs: Count
    per_ms: Milliseconds = 1000


class QueueConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One named queue.  From C{timeout_ms} on, the keys are not in the reference.

    @ivar type: C{standard}, or C{fifo}: messages of one group one after the other; default C{standard}.
    @ivar message_group_field: Member of the payload that names its group; required for C{fifo}.
    @ivar max_retries: How often a failing message is delivered in all, at least once; default 3.
    @ivar concurrency: Messages in progress at one time; default 10.  Of C{fifo}: so many groups.
    @ivar backoff_ms: Delay before the first retry; it doubles with each; default 1000.
    @ivar poll_interval_ms: Accepted and without effect: nothing polls.
    @ivar max_priority: 1 to 255: priorities above it count as it; default none, which is 255.
    @ivar priority_field: Member of the payload that holds the priority, where the enqueue action gives none.
    @ivar timeout_ms: Time that a function has for one delivery, then it counts as failed; default 1800000.
    @ivar max_backoff_ms: The longest delay before a retry; default 3600000.
    @ivar backoff_jitter: A part of each delay, 0 to 1, that chance decides about; default 0.
    @ivar backoff_type: C{exponential}, or C{fixed}: each delay is C{backoff_ms}; default C{exponential}.
    @ivar missing_function_timeout_ms: How long a message waits for its function to be registered before it is a dead
        letter; default 86400000, a day.
    @ivar rate_limit: How many messages are started in a time; default none.
    @ivar delay_ms: Delay before each message, where the enqueue action gives none; default 0.
    @ivar deduplication_window_ms: How long a deduplication key counts; default 300000.
    @ivar max_jobs: Messages that wait or are in progress; above, none is taken; default none.
    @ivar dlq_max_jobs: Dead letters that are kept; above, the oldest are discarded; default none.
    @ivar dlq_retention_ms: How long dead letters are kept; default none, for ever.
    @ivar delivery_metadata: Tell functions the message's id and the attempt, as the metadata of their call; default
        false, since the Node SDK gives that to every handler as a second argument.
    """

    type: Literal["standard", "fifo"] = "standard"
    message_group_field: Text | None = None
    max_retries: Attempts = 3
    concurrency: Count = 10
    backoff_ms: Delay = 1000
    poll_interval_ms: Milliseconds | None = None
    max_priority: Annotated[int, Meta(ge=1, le=255)] | None = None
    priority_field: Text | None = None
    timeout_ms: Milliseconds = 1_800_000
    max_backoff_ms: Delay = 3_600_000
    backoff_jitter: Ratio = 0
    backoff_type: Literal["exponential", "fixed"] = "exponential"
    missing_function_timeout_ms: Milliseconds = 86_400_000
    rate_limit: RateLimit | None = None
    delay_ms: Delay = 0
    deduplication_window_ms: Milliseconds = 300_000
    max_jobs: Count | None = None
    dlq_max_jobs: Count | None = None
    dlq_retention_ms: Count | None = None
    delivery_metadata: bool = False

    def __post_init__(self) -> None:
        if self.type == "fifo" and self.message_group_field is None:
            raise ValueError("a queue of type fifo needs message_group_field")
        if self.type == "fifo" and self.delay_ms:
            raise ValueError("a queue of type fifo has no delay_ms: its messages keep their order")


class QueueSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-queue}: named queues and durable topics.  Runs also when the file does not list it.

    @ivar enabled: Set it to false if you run another queue provider; default true.  Not in the reference.
    @ivar adapter: C{builtin}, C{redis}, C{rabbitmq} or C{bridge}; default C{builtin}.
    @ivar queue_configs: Named queues.  One called C{default} always exists.
    @ivar absent_subscriber_ms: How long a topic keeps messages for a function that is not there, counted from the
        engine's start at the earliest; default 604800000, a week.  Not in the reference, which keeps none.
    @ivar absent_subscriber_max_jobs: How many it keeps for one such function; above, new ones are left out; default
        1000000.  Not in the reference.
    """

    enabled: bool = True
    adapter: BuiltinAdapter | RedisAdapter | RabbitMQAdapter | BridgeAdapter = BuiltinAdapter()
    queue_configs: dict[str, QueueConfig] = {}
    absent_subscriber_ms: Milliseconds = 604_800_000
    absent_subscriber_max_jobs: Count = 1_000_000

    def __post_init__(self) -> None:
        if "default" not in self.queue_configs:
            force_setattr(self, "queue_configs", {**self.queue_configs, "default": QueueConfig()})
