"""How many jobs of a queue may start in a time (docs/queue.md): a token bucket.  Pure."""

from __future__ import annotations

from iii.config.blocks.queue import RateLimit


class Rate:
    """
    Tokens, each for one start.  It begins full, so that as many jobs as come in one interval may start in a burst.

    @ivar limit: So many jobs in so long an interval.
    """

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._tokens, self._filled_ms = float(limit.jobs), 0

    def take(self, now_ms: int) -> bool:
        """Take a token for a start.  @return: C{False}: there is none."""
        limit = self.limit
        passed = max(0, now_ms - self._filled_ms)
        self._filled_ms = now_ms
        self._tokens = min(float(limit.jobs), self._tokens + passed * limit.jobs / limit.per_ms)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """A job has not started after all."""
        self._tokens += 1

    def next_ms(self, now_ms: int) -> int:
        """When there is a token again, as far as is known since the latest L{take}."""
        if self._tokens >= 1:
            return now_ms
        return now_ms + int((1 - self._tokens) * self.limit.per_ms / self.limit.jobs) + 1
