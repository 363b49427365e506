"""A Redis server as a service of the engine."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from iii.storage.redis import RedisLink


class RedisService(Service):
    """Holds a link from the engine's start to its stop."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    def startService(self) -> None:
        """Connect.  L{iii.storage.redis.RedisUnreachable} ends the start."""
        self.link.probe()
        super().startService()
        self.link.start()

    def stopService(self) -> Deferred[None]:
        """Wait for the answers to what is under way, then close the connection."""
        super().stopService()
        return Deferred.fromCoroutine(self.link.stop())
