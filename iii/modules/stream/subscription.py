"""
What the clients' side of the streams asks of the rest of the module: who may join, and what a joiner sees of a stream
that a worker keeps.  Here are the contracts only; a test hands in others.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import attrs
from msgspec import Raw


@attrs.frozen
class Subscription:
    """
    What one client wants to see of a stream (spec/stream.md, 5.2 and 6.3).

    @ivar subscription_id: Chosen by the client, unique within its connection only.
    @ivar item: C{None} for the whole group; C{""} is the item of that name.
    @ivar context: JSON, what the auth function gave for the connection; C{null} without one.
    """

    subscription_id: str
    stream: str
    group: str
    item: str | None
    context: Raw


class Attendance(Protocol):
    """Told of joins and leaves, one after the other for each connection: the triggers C{stream:join} and C{:leave}."""

    async def joining(self, subscription: Subscription) -> bool:
        """
        Tell whether a client may join; C{False} is answered with C{unauthorized}, and so is an exception.  When it
        takes too long it is cancelled, and the join is refused.
        """

    async def left(self, subscription: Subscription) -> None:
        """A subscription that C{joining} has let in has ended.  Cancelled when it takes too long."""


Read = Callable[[], Coroutine[Any, Any, Raw]]
"""
An C{async} function that gets what C{sync} tells of a custom stream: JSON, C{null} for no result.  Fails when the
worker's function does.
"""

Overrides = Callable[[str, str, str | None], Read | None]
"""
Tells how to read an item or, with C{None}, a group of a stream that a worker keeps: by C{stream::get(<name>)} or
C{stream::list(<name>)}; C{None} when there is no such function, and the backend answers (spec/stream.md, 4).
"""
