"""What the requests of one listener share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from iii.config.blocks.listeners import Cors
from iii.core.engine import Engine
from iii.modules.http.cors import CorsPolicy
from iii.modules.http.gate import Gate
from iii.modules.http.heads import Heads
from iii.modules.http.router import Router, nowhere
from iii.wire.outbox import Flusher

if TYPE_CHECKING:
    from iii.modules.http.checks import Check
    from iii.modules.http.connection import HttpConnection


class Site:
    """
    The routes, and what answering takes.

    @ivar timeout: Seconds until the head of a response must be ready.
    @ivar middleware: What is asked before every handler, in order.
    @ivar body_limit: Bytes of a body, where a route says nothing else; likewise C{json_limit} of JSON.
    @ivar no_route: Stands for the route of requests that reach none.
    @ivar access_log: Each request is a line in the log.
    @ivar now: The time of the last L{tick}, in seconds: what a deadline of many seconds needs, without asking the clock
        for each request.
    @ivar closing: Every connection ends as soon as it has answered.
    @ivar connections: All that are open.
    """

    def __init__(
        self,
        engine: Engine,
        router: Router,
        flusher: Flusher,
        *,
        timeout: float,
        concurrency: int,
        cors: Cors | None,
        middleware: Sequence[Check] = (),
        access_log: bool = False,
    ) -> None:
        self.engine, self.router, self.flusher = engine, router, flusher
        self.limits = engine.limits
        self.body_limit = self.limits.http_body_bytes
        self.json_limit = min(self.body_limit, self.limits.message_bytes)  # it goes into one message
        self.no_route = nowhere(engine.counters.responses_of(""))
        self.timeout, self.middleware, self.access_log = timeout, middleware, access_log
        self.heads = Heads(CorsPolicy(cors))
        self.gate = Gate(concurrency)
        self.connections: dict[HttpConnection, None] = {}
        self.closing = False
        self.now = 0.0
        self.tick()

    def tick(self) -> None:
        """Look at the clock; to be called about once a second."""
        self.now = self.engine.clock.seconds()
        self.heads.set_date(self.now)
