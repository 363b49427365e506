"""What a trigger of type C{durable:subscriber} asks for (spec/queue.md, 4.1)."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import msgspec
from msgspec import Raw

from iii.config.blocks.queue import Attempts, QueueStore, RateLimit
from iii.config.parts import Count, Delay, Milliseconds, Ratio
from iii.core.errors import TriggerRefused
from iii.modules.queue.retry import Policy
from iii.wire.messages import value_of

WITHOUT_EFFECT = {"maxPriority", "visibilityTimeout", "delaySeconds", "backoffType"}
"""Keys that published SDKs send and that never had an effect."""


class QueueConfig(msgspec.Struct, rename="camel"):
    """
    C{queue_config}.  From C{timeout_ms} on, the keys are not in the reference.  The bounds are those of named queues: a
    moment that no row can hold would keep the outcomes of all queues from being stored.
    """

    type: Literal["standard", "concurrent", "fifo"] | None = None
    concurrency: Count | None = None
    max_retries: Attempts | None = None
    backoff_delay_ms: Delay | None = None
    timeout_ms: Milliseconds | None = None
    max_backoff_ms: Delay | None = None
    backoff_jitter: Ratio | None = None
    missing_function_timeout_ms: Milliseconds | None = None
    rate_limit: RateLimit | None = None
    dlq_max_jobs: Count | None = None
    dlq_retention_ms: Count | None = None
    delivery_metadata: bool | None = None


_names = {msgspec.structs.fields(QueueConfig)[i].encode_name: name
          for i, name in enumerate(QueueConfig.__struct_fields__)}  # fmt: skip
_types = {field.encode_name: field.type for field in msgspec.structs.fields(QueueConfig)}


@attrs.frozen
class Wish:
    """
    What one trigger asks for.

    @ivar problems: What of its config is not understood, and has no effect.
    """

    topic: str
    condition: str | None
    config: QueueConfig
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
    condition, problems = given.get("condition_function_id"), []
    if condition is not None and not (isinstance(condition, str) and condition):
        raise TriggerRefused("`condition_function_id` must be a text that is not empty")
    wanted, given_config = QueueConfig(), given.get("queue_config")
    if given_config is not None and not isinstance(given_config, dict):
        problems.append("`queue_config` is no object")
    for key, value in given_config.items() if isinstance(given_config, dict) else ():
        problem = _set(wanted, key, value)
        if problem is not None:
            problems.append(problem)
    return Wish(topic, condition, wanted, tuple(problems))


def _set(wanted: QueueConfig, key: str, value: Any) -> str | None:
    """Take one member, or say why not."""
    if key not in _names:
        return None if key in WITHOUT_EFFECT else f"`queue_config.{key}` is not known"
    if value is None:
        return None
    try:
        converted = msgspec.convert(value, _types[key])
    except msgspec.ValidationError as error:
        return f"`queue_config.{key}`: {error}"
    setattr(wanted, _names[key], converted)
    return None


def policy(config: QueueConfig, concurrency: int, defaults: QueueStore) -> Policy:
    """
    Return how a subscriber's queue delivers.

    @param config: Of its latest trigger.
    @param concurrency: Of all its triggers together.
    """
    kind = config.type if config.type is not None else defaults.mode
    plain = Policy()
    return Policy(
        ordered="queue" if kind == "fifo" else None,
        concurrency=concurrency,
        deliveries=max(1, defaults.max_attempts) if config.max_retries is None else config.max_retries + 1,
        backoff_ms=_or(config.backoff_delay_ms, defaults.backoff_ms),
        max_backoff_ms=_or(config.max_backoff_ms, plain.max_backoff_ms),
        backoff_jitter=plain.backoff_jitter if config.backoff_jitter is None else config.backoff_jitter,
        timeout=plain.timeout if config.timeout_ms is None else config.timeout_ms / 1000,
        missing_function_timeout_ms=_or(config.missing_function_timeout_ms, plain.missing_function_timeout_ms),
        rate_limit=config.rate_limit,
        dlq_max_jobs=config.dlq_max_jobs,
        dlq_retention_ms=config.dlq_retention_ms,
        delivery_metadata=bool(config.delivery_metadata),
    )


def _or(given: int | None, default: int) -> int:
    return default if given is None else given
