"""
What is published through Redis, for those who listen.

A connection that has subscribed can do nothing else, so this is one of its own.  What is published while it is broken
is lost; its owner is told when it is back, and looks for itself what it has missed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import txredisapi
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from iii.storage.errors import StorageError
from iii.storage.redis import TIMEOUT, refused
from iii.storage.redis_connection import IReactor, RedisConnection
from iii.storage.redis_protocol import RedisProtocol, Reply
from iii.storage.redis_url import RedisUrl

PING_INTERVAL = 10.0
"""Seconds; the answer to a ping shows that silence means that nothing is published."""

Listener = Callable[[bytes, bytes], None]
"""Called with the channel and the message."""


class _Topic(NamedTuple):
    """A channel, or a pattern of channels."""

    name: bytes
    pattern: bool

    def command(self, verb: str) -> tuple[str, bytes]:
        return ("P" if self.pattern else "") + verb, self.name


class _Protocol(RedisProtocol):
    """
    A connection on which messages come beside answers.

    @ivar announced: All that was wanted when it was made is subscribed, and the owner knows.
    """

    def __init__(self, received: Callable[[_Topic, bytes, bytes], None]) -> None:
        super().__init__()
        self.announced = False
        self._received = received

    def replyReceived(self, reply: Reply) -> None:
        match reply:
            case [b"message", channel, message]:
                self._received(_Topic(channel, False), channel, message)
            case [b"pmessage", pattern, channel, message]:
                self._received(_Topic(pattern, True), channel, message)
            case _:
                super().replyReceived(reply)


class RedisSubscriber:
    """
    Listens to channels of a Redis server.

    @ivar on_gap: Called when all is subscribed again after the connection was broken: messages may have been lost.
    """

    log = Logger()

    def __init__(
        self,
        url: str,
        reactor: IReactor,
        on_gap: Callable[[], None] = lambda: None,
        *,
        timeout: float = TIMEOUT,
        ping_interval: float = PING_INTERVAL,
    ) -> None:
        """
        @param timeout: Seconds for connecting, and for an answer.
        @raise InvalidRedisUrl: The text, which is for the user, says why.
        """
        self.on_gap = on_gap
        self._url, self._reactor, self._timeout, self._ping_interval = (
            RedisUrl.parse(url),
            reactor,
            timeout,
            ping_interval,
        )
        build = partial(_Protocol, self._received)
        self._connection = RedisConnection(self._url, reactor, build, self._up, self._down, timeout)
        self._protocol: _Protocol | None = None
        self._listeners: dict[_Topic, list[Listener]] = {}
        self._confirmed: set[_Topic] = set()
        self._waiting: dict[_Topic, list[Deferred[None]]] = {}
        self._pings = LoopingCall(self._ping)
        self._pings.clock = reactor
        self._was_up = self._stopped = False

    def start(self) -> None:
        """Connect, and stay connected.  See L{RedisLink.probe} for a check that comes before."""
        self._connection.start()

    async def stop(self) -> None:
        """Close the connection.  Nothing is received any more; who waits for a subscription gets a L{StorageError}."""
        self._stopped = True
        self._listeners.clear()
        for topic in list(self._waiting):
            self._answer(topic, StorageError("the engine is stopping"))
        if self._pings.running:
            self._pings.stop()
        await self._connection.stop()

    def subscribe(self, channel: bytes, listener: Listener) -> Deferred[None]:
        """
        Listen to a channel.  May be called before C{start}.

        @return: Fires when Redis has confirmed: what is published from then on is received.  While there is no
            connection it waits; to cancel it does not unsubscribe.  L{StorageError}: Redis does not allow it, or the
            engine stops; nothing is received.
        """
        return self._subscribe(_Topic(channel, False), listener)

    def psubscribe(self, pattern: bytes, listener: Listener) -> Deferred[None]:
        """Listen to the channels that a pattern of Redis matches."""
        return self._subscribe(_Topic(pattern, True), listener)

    def unsubscribe(self, channel: bytes, listener: Listener) -> None:
        """End what C{subscribe} has begun; the listener is not called any more."""
        self._unsubscribe(_Topic(channel, False), listener)

    def punsubscribe(self, pattern: bytes, listener: Listener) -> None:
        """End what C{psubscribe} has begun."""
        self._unsubscribe(_Topic(pattern, True), listener)

    def _subscribe(self, topic: _Topic, listener: Listener) -> Deferred[None]:
        if self._stopped:
            return fail(StorageError("the engine is stopping"))
        listeners = self._listeners.setdefault(topic, [])
        listeners.append(listener)
        if topic in self._confirmed:
            return succeed(None)
        waiting: Deferred[None] = Deferred(partial(self._give_up, topic))
        self._waiting.setdefault(topic, []).append(waiting)
        if len(listeners) == 1 and self._protocol is not None:
            self._ask(self._protocol, topic)
        return waiting

    def _give_up(self, topic: _Topic, waiting: Deferred[None]) -> None:
        """Somebody waits no longer; without a connection many may come and go."""
        others = [other for other in self._waiting.pop(topic, ()) if other is not waiting]
        if others:
            self._waiting[topic] = others

    def _unsubscribe(self, topic: _Topic, listener: Listener) -> None:
        listeners = self._listeners[topic]
        listeners.remove(listener)
        if not listeners:
            del self._listeners[topic]
            self._confirmed.discard(topic)
            self._answer(topic, None)
            if self._protocol is not None:
                # Its answer, also a refusal, is of no interest: whatever still comes has no listener.
                self._protocol.execute_command(*topic.command("UNSUBSCRIBE")).addErrback(lambda _: None)

    def _up(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        for topic in self._listeners:
            self._ask(protocol, topic)
        self._pings.start(self._ping_interval)  # the first one now: its answer comes after all confirmations

    def _down(self, reason: str) -> None:
        self._protocol = None
        self._confirmed.clear()
        if self._pings.running:
            self._pings.stop()

    def _ask(self, protocol: _Protocol, topic: _Topic) -> None:
        protocol.execute_command(*topic.command("SUBSCRIBE")).addCallbacks(
            lambda _: self._confirm(protocol, topic), lambda failure: self._refuse(topic, failure)
        )

    def _confirm(self, protocol: _Protocol, topic: _Topic) -> None:
        if protocol is self._protocol and topic in self._listeners:
            self._confirmed.add(topic)
            self._answer(topic, None)

    def _refuse(self, topic: _Topic, failure: Failure) -> None:
        if failure.check(txredisapi.ConnectionError):
            return  # asked again on the next connection
        error = refused(failure.value)
        self.log.error(
            "Redis at {url} does not let us listen to {name}: {error}",
            url=self._url.shown,
            name=topic.name,
            error=error,
        )
        self._listeners.pop(topic, None)
        self._answer(topic, error)

    def _answer(self, topic: _Topic, error: StorageError | None) -> None:
        for waiting in self._waiting.pop(topic, ()):
            if waiting.called:
                continue  # cancelled by one of those before it
            if error is None:
                waiting.callback(None)
            else:
                waiting.errback(error)

    def _ping(self) -> None:
        protocol = self._protocol
        assert protocol is not None
        ping: Deferred[Any] = protocol.ping()
        ping.addTimeout(self._timeout, self._reactor)
        ping.addCallbacks(
            lambda _: self._in_force(protocol),
            lambda _: protocol.abort(f"no answer from Redis at {self._url.shown} within {self._timeout:g} s"),
        )
        # A defect of on_gap, which nothing else depends on.
        ping.addErrback(lambda failure: self.log.failure("telling of a gap failed", failure))

    def _in_force(self, protocol: _Protocol) -> None:
        """Everything that was asked for on this connection has been answered."""
        if protocol.announced:
            return
        protocol.announced = True
        if self._was_up:
            self.on_gap()
        self._was_up = True

    def _received(self, topic: _Topic, channel: bytes, message: bytes) -> None:
        for listener in list(self._listeners.get(topic, ())):
            try:
                listener(channel, message)
            except Exception:  # a defect of this one; the others get it
                self.log.failure("listening to {name} failed", name=topic.name)
