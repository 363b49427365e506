"""Queues (spec/queue.md, 2)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from iii.config.blocks.stores import BridgeAdapter, RedisAdapter, Store
from iii.config.parts import Count, Delay, Milliseconds, Text

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


class QueueConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One named queue.

    @ivar type: C{standard}, or C{fifo}: messages of one group one after the other; default C{standard}.
    @ivar message_group_field: Member of the payload that names its group; required for C{fifo}.
    @ivar max_retries: How often a failed message is tried again; default 3.
    @ivar concurrency: Messages in progress at one time; default 10.
    @ivar backoff_ms: Delay before the first retry; default 1000.
    @ivar poll_interval_ms: Accepted and without effect: nothing polls.
    @ivar max_priority: RabbitMQ only: 1 to 255; default none.
    @ivar priority_field: RabbitMQ only: member of the payload that holds the priority; default none.
    """

    type: Literal["standard", "fifo"] = "standard"
    message_group_field: Text | None = None
    max_retries: Attempts = 3
    concurrency: Count = 10
    backoff_ms: Delay = 1000
    poll_interval_ms: Milliseconds | None = None
    max_priority: Annotated[int, Meta(ge=1, le=255)] | None = None
    priority_field: Text | None = None

    def __post_init__(self) -> None:
        if self.type == "fifo" and self.message_group_field is None:
            raise ValueError("a queue of type fifo needs message_group_field")


class QueueSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-queue}: named queues and durable topics.  Runs also when the file does not list it.

    @ivar enabled: False for who brings another provider of queues; default true.  Not in the reference.
    @ivar adapter: C{builtin}, C{redis}, C{rabbitmq} or C{bridge}; default C{builtin}.
    @ivar queue_configs: Named queues.  One called C{default} always exists.
    """

    enabled: bool = True
    adapter: BuiltinAdapter | RedisAdapter | RabbitMQAdapter | BridgeAdapter = BuiltinAdapter()
    queue_configs: dict[str, QueueConfig] = {}

    def __post_init__(self) -> None:
        if "default" not in self.queue_configs:
            force_setattr(self, "queue_configs", {**self.queue_configs, "default": QueueConfig()})
