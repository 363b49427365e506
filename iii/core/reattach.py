"""
Calls that survive a cut of their connection (spec/worker-protocol.md, 12.1; DESIGN.md, 4).

When a connection breaks off, the worker behind it often goes on and connects again within a second or two, and SDKs
then send the answers that they computed meanwhile, and still wait for those to their own calls.  So what was under way
waits a moment; the connection that proves with the token that it is the same worker takes it over, and without one it
ends as if the worker had gone.  Registrations do not wait: SDKs send them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

if TYPE_CHECKING:
    from iii.core.connections import Connection

PATIENCE = 5.0
"""Seconds that a worker has to come back: SDKs try after one to two seconds (spec, 15)."""
ANSWER_TIMEOUT = 30.0
"""
Seconds in which a worker that has come back must answer the calls that it had before.  Nobody knows whether it has got
them, or whether its answer was lost with the connection; without a limit such a call would hang.
"""


class BrokenOff:
    """Connections that broke off with calls under way.  At the limit the oldest is given up."""

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        self._clock, self._limit = clock, limit
        self._waiting: dict[str, tuple[Connection, IDelayedCall]] = {}
        self._closed = False

    def keep(self, connection: Connection) -> None:
        """Let a connection's calls wait for its worker to come back; then they end."""
        if self._closed:
            connection.give_up()
            return
        if len(self._waiting) >= self._limit:
            self._give_up(next(iter(self._waiting)))
        timer = self._clock.callLater(PATIENCE, self._give_up, connection.id)
        self._waiting[connection.id] = connection, timer

    def find(self, connection_id: str) -> Connection | None:
        """Return a connection whose calls wait."""
        connection, _ = self._waiting.get(connection_id, (None, None))
        return connection

    def release(self, connection: Connection) -> None:
        """Its calls are in other hands."""
        _, timer = self._waiting.pop(connection.id)
        timer.cancel()

    def __iter__(self) -> Iterator[Connection]:
        """The connections whose calls wait."""
        return iter([connection for connection, _ in self._waiting.values()])

    def unanswered(self) -> int:
        """How many calls wait for their worker to come back."""
        return sum(len(connection.pending) for connection, _ in self._waiting.values())

    def close(self) -> None:
        """Wait for nobody any more: the ports are closed, so that no worker can come back."""
        self._closed = True
        for connection_id in list(self._waiting):
            self._give_up(connection_id)

    def _give_up(self, connection_id: str) -> None:
        connection, timer = self._waiting.pop(connection_id)
        if timer.active():
            timer.cancel()
        connection.give_up()
