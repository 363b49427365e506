"""What a trigger of type C{durable:subscriber} asks for (spec/queue.md, 4.1)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import attrs
import msgspec
from msgspec import Meta, Raw

from iii.config.blocks.queue import Attempts, QueueStore, RateLimit
from iii.config.parts import Count, Delay, Milliseconds, Ratio
from iii.core.errors import TriggerRefused
from iii.modules.queue.retry import Policy
from iii.wire.messages import value_of

WITHOUT_EFFECT = {"maxPriority", "visibilityTimeout", "delaySeconds", "backoffType"}
"""Keys that published SDKs send and that never had an effect."""


class SubscriberRate(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How many messages may start in an interval; they may start in a burst."""

    jobs: Count
    per_ms: Milliseconds = 1000


class SubscriberConfig(msgspec.Struct, rename="camel"):
    """How messages are delivered to a subscriber.  From timeoutMs on, the keys are not in the reference."""

    # The bounds are those of named queues: a moment that no row can hold would keep all outcomes from being stored.
    type: Literal["standard", "concurrent", "fifo"] | None = None
    concurrency: Count | None = None
    max_retries: Attempts | None = None
    backoff_delay_ms: Delay | None = None
    timeout_ms: Milliseconds | None = None
    max_backoff_ms: Delay | None = None
    backoff_jitter: Ratio | None = None
    missing_function_timeout_ms: Milliseconds | None = None
    rate_limit: SubscriberRate | None = None
    dlq_max_jobs: Count | None = None
    dlq_retention_ms: Count | None = None
    delivery_metadata: bool | None = None


class SubscriberTrigger(msgspec.Struct):
    """A subscription to a topic.  What is wrong in queue_config has no effect, and a warning says so."""

    topic: Annotated[str, Meta(min_length=1, description="exactly this one")]
    condition_function_id: (
        Annotated[str, Meta(min_length=1, description="asked before each delivery; false skips it")] | None
    ) = None
    queue_config: SubscriberConfig | None = None


_fields = {field.encode_name: field for field in msgspec.structs.fields(SubscriberConfig)}


@attrs.frozen
class Wish:
    """
    What one trigger asks for.

    @ivar problems: What of its config is not understood, and has no effect.
    """

    topic: str
    condition: str | None
    config: SubscriberConfig
    problems: tuple[str, ...]


def wish(config: Raw) -> Wish:
    """
    Read a trigger's config.

    @raise TriggerRefused: It names no topic.
    """
    given = value_of(config) if config else None
    topic = given.get("topic") if isinstance(given, dict) else None
    if not isinstance(topic, str) or not topic:
        raise TriggerRefused("`topic` is missing: it must be a text that is not empty")
    assert isinstance(given, dict)
    condition = given.get("condition_function_id")
    if condition is not None and not (isinstance(condition, str) and condition):
        raise TriggerRefused("`condition_function_id` must be a text that is not empty")
    wanted, wrong = subscriber_config(given.get("queue_config"))
    return Wish(topic, condition, wanted, tuple(wrong))


def subscriber_config(given: object) -> tuple[SubscriberConfig, list[str]]:
    """Read a C{queue_config}, as JSON gives it.  @return: What of it counts, and what is wrong with the rest."""
    config = SubscriberConfig()
    if given is None:
        return config, []
    if not isinstance(given, dict):
        return config, ["`queue_config` is no object"]
    problems = (_set(config, key, value) for key, value in given.items())
    return config, [problem for problem in problems if problem is not None]


def _set(config: SubscriberConfig, key: str, value: Any) -> str | None:
    """Take one member, or say why not."""
    field = _fields.get(key)
    if field is None:
        return None if key in WITHOUT_EFFECT else f"`queue_config.{key}` is not known"
    if key == "rateLimit" and isinstance(value, dict) and "perMs" not in value:  # the key's name in the file
        value = {"perMs" if name == "per_ms" else name: each for name, each in value.items()}
    try:
        setattr(config, field.name, msgspec.convert(value, field.type))
    except msgspec.ValidationError as error:
        return f"`queue_config.{key}`: {error}"
    return None


def subscriber_policy(config: SubscriberConfig, concurrency: int, defaults: QueueStore) -> Policy:
    """
    Return how a subscriber's queue delivers.

    @param config: Of its latest trigger.
    @param concurrency: Of all its triggers together.
    """
    kind = config.type if config.type is not None else defaults.mode
    rate, plain = config.rate_limit, Policy()
    return Policy(
        ordered="queue" if kind == "fifo" else None,
        concurrency=concurrency,
        deliveries=max(1, defaults.max_attempts) if config.max_retries is None else config.max_retries + 1,
        backoff_ms=_or(config.backoff_delay_ms, defaults.backoff_ms),
        max_backoff_ms=_or(config.max_backoff_ms, plain.max_backoff_ms),
        backoff_jitter=plain.backoff_jitter if config.backoff_jitter is None else config.backoff_jitter,
        timeout=plain.timeout if config.timeout_ms is None else config.timeout_ms / 1000,
        missing_function_timeout_ms=_or(config.missing_function_timeout_ms, plain.missing_function_timeout_ms),
        rate_limit=None if rate is None else RateLimit(jobs=rate.jobs, per_ms=rate.per_ms),
        dlq_max_jobs=config.dlq_max_jobs,
        dlq_retention_ms=config.dlq_retention_ms,
        delivery_metadata=bool(config.delivery_metadata),
    )


def _or(given: int | None, default: int) -> int:
    return default if given is None else given
