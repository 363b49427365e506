"""What a failure leads to (spec/queue.md, 6): pure."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from iii.config.blocks.queue import RateLimit

MAX_INTERRUPTIONS = 3
"""Redeliveries after a worker disconnects that do not count as failures."""
INTERRUPTIONS = ("invocation_stopped", "channel_send_failed")
"""Codes of the engine's own errors that mean that."""


@attrs.frozen(kw_only=True)
class Policy:
    """
    How a queue delivers.

    @ivar ordered: C{None}; C{"groups"}: the jobs of one group one after the other; C{"queue"}: all of them.
    @ivar deliveries: How often a failing job is delivered in all, at least once.
    @ivar timeout: Seconds for one delivery.
    @ivar delivery_metadata: Functions are told which message and attempt it is.
    """

    ordered: str | None = None
    concurrency: int = 10
    deliveries: int = 3
    backoff_ms: int = 1000
    max_backoff_ms: int = 3_600_000
    backoff_jitter: float = 0.0
    fixed_backoff: bool = False
    timeout: float = 1800.0
    missing_function_timeout_ms: int = 86_400_000
    rate_limit: RateLimit | None = None
    dlq_max_jobs: int | None = None
    dlq_retention_ms: int | None = None
    delivery_metadata: bool = False

    def exhausted(self, attempts: int) -> bool:
        """Whether a job with so many failed deliveries is a dead letter."""
        return attempts >= self.deliveries

    def delay_ms(self, attempts: int, chance: Callable[[], float]) -> int:
        """
        The delay after so many failed deliveries.

        @param chance: Returns a number from 0 to 1.
        """
        doublings = 0 if self.fixed_backoff else min(attempts - 1, 64)
        delay = min(self.backoff_ms << doublings, max(self.max_backoff_ms, 0))
        return delay - int(delay * self.backoff_jitter * chance()) if self.backoff_jitter else delay
