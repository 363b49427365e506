"""L{iii.storage.redis} and L{iii.storage.redis_subscriber} against a real server."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from iii.storage.errors import CannotOpenStore, StorageError, StoreBusy
from iii.storage.redis import OutcomeUnknown, RedisLink, RedisRefused, RedisUnreachable, Script
from iii.storage.redis_subscriber import RedisSubscriber
from tests.certificates import chained
from tests.integration.engine import HOST, free_ports
from tests.integration.process import eventually
from tests.integration.redis import RedisServer

PASSWORD = "s3cret@:/"
QUOTED = "s3cret%40%3A%2F"
ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


class RedisCase(TestCase):
    timeout = 60
    options: tuple[str, ...] = ()

    async def setUp(self) -> None:
        self.server = await RedisServer.for_test(self, reactor, *self.options)

    def link(self, url: str | None = None, **options: Any) -> RedisLink:
        """Return a link, which has started and ends with the test."""
        link = RedisLink(url or self.server.url, reactor, **options)
        link.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(link.stop()))
        return link

    async def fails(self, kind: type[StorageError], answer: Any) -> str:
        """Return the text of the error that something ends with."""
        try:
            result = await answer
        except kind as error:
            return str(error)
        raise AssertionError(f"no {kind.__name__}, but {result!r}")

    async def works(self, link: RedisLink) -> None:
        async def pings() -> bool:
            return await link.execute("PING") == b"PONG"

        await eventually(reactor, "the link works", pings, ignoring=(StorageError,))


class LinkTests(RedisCase):
    async def test_commands(self) -> None:
        """Commands asked for before there is a connection wait for it; all are carried out in order."""
        link = self.link()
        answers = await gatherResults([link.execute("APPEND", "k", str(digit)) for digit in range(10)])
        self.assertEqual(answers, list(range(1, 11)))
        self.assertEqual(await link.execute("GET", "k"), b"0123456789")
        self.assertIsNone(await link.execute("GET", "other"))

    async def test_refused(self) -> None:
        """What Redis says no to fails with its text, and what follows works."""
        link = self.link()
        await link.execute("SET", "k", "v")
        text = await self.fails(RedisRefused, link.execute("HGET", "k", "f"))
        self.assertEqual(text, '"WRONGTYPE": Operation against a key holding the wrong kind of value')
        self.assertEqual(await link.execute("GET", "k"), b"v")

    async def test_large(self) -> None:
        """Values of megabytes and answers of many parts come whole."""
        link = self.link()
        value = os.urandom(5_000_000)
        await link.execute("SET", "k", value)
        self.assertEqual(await link.execute("GET", "k"), value)
        await link.execute("RPUSH", "list", *range(20_000))
        reply = await link.execute("LRANGE", "list", 0, -1)
        self.assertEqual(reply, [str(number).encode() for number in range(20_000)])

    async def test_script(self) -> None:
        """A script is sent once for a connection, and again when the server has forgotten it."""
        link = self.link()
        await self.works(link)
        self.assertEqual(await link.eval(ADD, ["n"], [2]), 2)
        self.assertEqual(await link.eval(ADD, ["n"], [3]), 5)
        statistics = await link.execute("INFO", "commandstats")
        assert isinstance(statistics, bytes)
        self.assertIn(b"cmdstat_evalsha:calls=1,", statistics)
        await self.server.execute("SCRIPT", "FLUSH")
        self.assertEqual(await link.eval(ADD, ["n"], [1]), 6)
        await self.server.execute("SET", "n", "x")
        self.assertIn("not an integer", await self.fails(RedisRefused, link.eval(ADD, ["n"], [1])))

    async def test_restarted(self) -> None:
        """While the server is away commands fail at once, saying why; when it is back they work, by itself."""
        link = self.link()
        await link.execute("SET", "k", "v")
        self.assertIsNone(link.failing)
        await self.server.kill()
        text = await self.fails(StorageError, link.execute("GET", "k"))
        self.assertIn(f"no connection to Redis at {self.server.url}: Connection was refused", text)
        self.assertIn("Connection was refused", link.failing or "")
        started = time.monotonic()
        for _ in range(100):
            await self.fails(StorageError, link.execute("GET", "k"))
        self.assertLess(time.monotonic() - started, 4)  # not 100 times anything
        await self.server.start()
        await self.works(link)
        self.assertIsNone(link.failing)
        self.assertEqual(await link.execute("GET", "k"), b"v")
        self.assertEqual(await link.eval(ADD, ["n"], [2]), 2)

    async def test_never_twice(self) -> None:
        """A command whose connection broke fails, and is not sent again."""
        link = self.link()
        await link.execute("SET", "n", 0)
        self.server.pause()
        answers = [link.execute("INCR", "n") for _ in range(3)]
        await deferLater(reactor, 0.1)  # they are on their way
        await self.server.kill()
        for answer in answers:
            text = await self.fails(OutcomeUnknown, answer)
            self.assertIn("broke: whether the command was carried out is not known", text)
        await self.server.start()
        await self.works(link)
        self.assertEqual(await link.execute("GET", "n"), b"0")

    async def test_no_answer(self) -> None:
        """When the server hangs, commands fail at the deadline; when it goes on they work again."""
        link = self.link(timeout=0.5)
        await link.execute("SET", "k", "v")
        self.server.pause()
        text = await self.fails(OutcomeUnknown, link.execute("GET", "k"))
        self.assertIn(f"no answer from Redis at {self.server.url} within 0.5 s: whether", text)
        await self.fails(StorageError, link.execute("GET", "k"))
        self.server.resume()
        await self.works(link)
        self.assertEqual(await link.execute("GET", "k"), b"v")

    async def test_backlog(self) -> None:
        """Above the limit of what waits for answers, commands are refused; with answers there is room again."""
        link = self.link(backlog_bytes=10_000)
        first = link.execute("SET", "k", bytes(9_000))
        text = await self.fails(StoreBusy, link.execute("SET", "k", bytes(2_000)))
        self.assertIn("10000 bytes", text)
        await first
        await link.execute("SET", "k", bytes(2_000))
        self.assertEqual(await link.execute("STRLEN", "k"), 2000)

    async def test_stop(self) -> None:
        """Stopping waits for the answers that are due, and takes no more commands."""
        link = RedisLink(self.server.url, reactor)
        link.start()
        answers = [link.execute("INCR", "n") for _ in range(100)]
        stopped = Deferred.fromCoroutine(link.stop())
        text = await self.fails(StorageError, link.execute("GET", "n"))
        self.assertIn("the engine is stopping", text)
        await stopped
        self.assertEqual([self.successResultOf(answer) for answer in answers], list(range(1, 101)))

    async def test_stop_unconnected(self) -> None:
        """A link that is trying to connect stops."""
        await self.server.kill()
        link = RedisLink(self.server.url, reactor)
        link.start()
        await self.fails(StorageError, link.execute("PING"))
        await link.stop()

    async def test_database(self) -> None:
        """The URL's database is used, also after a reconnect."""
        link = self.link(f"{self.server.url}/3")
        await link.execute("SET", "k", "v")
        await self.server.execute("CLIENT", "KILL", "TYPE", "normal")
        await self.works(link)
        self.assertEqual(await link.execute("GET", "k"), b"v")
        self.assertIsNone(await self.server.execute("GET", "k"))


class PasswordTests(RedisCase):
    options = ("--requirepass", PASSWORD)

    async def test_password(self) -> None:
        """The URL's password logs in."""
        link = self.link(f"redis://:{QUOTED}@{HOST}:{self.server.port}")
        link.probe()
        self.assertEqual(await link.execute("PING"), b"PONG")

    async def test_wrong(self) -> None:
        """A wrong or missing password is said, and shown in no text."""
        for user, code in ((":wrongone@", "WRONGPASS"), ("", "NOAUTH")):
            link = self.link(f"redis://{user}{HOST}:{self.server.port}")
            error = self.assertRaises(RedisUnreachable, link.probe)
            for text in (str(error), await self.fails(StorageError, link.execute("PING"))):
                self.assertIn(code, text)
                self.assertNotIn("wrongone", text)


class ProbeTests(RedisCase):
    def test_there(self) -> None:
        """A server that serves is found."""
        RedisLink(self.server.url, reactor).probe()

    async def test_refused(self) -> None:
        """Where nothing listens, the start ends at once."""
        await self.server.kill()
        error = self.assertRaises(CannotOpenStore, RedisLink(self.server.url, reactor).probe)
        self.assertEqual(str(error), f"Failed to connect to Redis at {self.server.url}: Connection refused")

    def test_hangs(self) -> None:
        """A server that does not answer ends the start after 5 seconds."""
        self.server.pause()
        self.addCleanup(self.server.resume)
        started = time.monotonic()
        error = self.assertRaises(RedisUnreachable, RedisLink(self.server.url, reactor).probe)
        url = self.server.url
        self.assertEqual(str(error), f"Redis connection timed out after 5s. Please ensure Redis is running at: {url}")
        self.assertGreater(time.monotonic() - started, 4.5)

    def test_not_redis(self) -> None:
        """Another program is not taken for Redis."""
        listener = socket.create_server((HOST, 0))
        self.addCleanup(listener.close)
        url = f"redis://{HOST}:{listener.getsockname()[1]}"
        client = RedisLink(url, reactor)
        reactor.callInThread(self._answer_as_http, listener)
        error = self.assertRaises(RedisUnreachable, client.probe)
        self.assertIn("is no answer of Redis", str(error))

    def _answer_as_http(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.recv(100)

    def test_no_database(self) -> None:
        """A database that the server does not have ends the start."""
        error = self.assertRaises(RedisUnreachable, RedisLink(f"{self.server.url}/99", reactor).probe)
        self.assertIn("DB index is out of range", str(error))


class TlsTests(TestCase):
    timeout = 60

    async def setUp(self) -> None:
        certificate, key, root = chained(str(Path(self.mktemp()).resolve()))
        (self.port,) = free_ports(1)
        options = ("--tls-port", str(self.port), "--tls-cert-file", certificate, "--tls-key-file", key)
        options += ("--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")
        self.server = await RedisServer.for_test(self, reactor, *options)
        self.root = Path(self.mktemp())
        self.root.write_bytes(root)
        self.url = f"rediss://localhost:{self.port}"

    async def test_trusted(self) -> None:
        """A server whose certificate the system trusts is spoken to through TLS."""
        os.environ["SSL_CERT_FILE"] = str(self.root.resolve())
        self.addCleanup(os.environ.pop, "SSL_CERT_FILE")
        link = RedisLink(self.url, reactor)
        link.probe()
        link.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(link.stop()))
        self.assertEqual(await link.execute("PING"), b"PONG")

    async def test_not_trusted(self) -> None:
        """A certificate that nobody vouches for is refused."""
        link = RedisLink(self.url, reactor)
        error = self.assertRaises(RedisUnreachable, link.probe)
        self.assertIn("certificate verify failed", str(error))
        link.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(link.stop()))
        try:
            await link.execute("PING")
        except StorageError as refused:
            self.assertIn("certificate verify failed", str(refused))
        else:
            self.fail("connected")


class SubscriberTests(RedisCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.heard: list[tuple[str, bytes, bytes]] = []
        self.gaps = 0

    def subscriber(self, **options: Any) -> RedisSubscriber:
        """Return a subscriber, which has started and ends with the test."""
        subscriber = RedisSubscriber(self.server.url, reactor, self._gap, **options)
        subscriber.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(subscriber.stop()))
        return subscriber

    def _gap(self) -> None:
        self.gaps += 1

    def listener(self, name: str) -> Any:
        return lambda channel, message: self.heard.append((name, channel, message))

    async def publish(self, channel: bytes, message: bytes, receivers: int = 1) -> None:
        self.assertEqual(await self.server.execute("PUBLISH", channel, message), receivers)

    async def hears(self, number: int) -> None:
        async def heard() -> bool:
            return len(self.heard) >= number

        await eventually(reactor, f"{number} messages", heard)

    async def had_gaps(self, number: int) -> None:
        async def had() -> bool:
            return self.gaps >= number

        await eventually(reactor, f"{number} gaps", had)

    async def test_channels(self) -> None:
        """Every listener of a channel gets what is published there, in order, any bytes; no other does."""
        subscriber = self.subscriber()
        await gatherResults([subscriber.subscribe(b"a\0", self.listener(name)) for name in "12"])
        await subscriber.subscribe(b"b", self.listener("b"))
        await self.publish(b"a\0", b"\xff\r\n")
        await self.publish(b"b", b"y")
        await self.hears(3)
        self.assertEqual(self.heard, [("1", b"a\0", b"\xff\r\n"), ("2", b"a\0", b"\xff\r\n"), ("b", b"b", b"y")])

    async def test_patterns(self) -> None:
        """A pattern's listener gets what is published on each channel that it matches."""
        subscriber = self.subscriber()
        await subscriber.psubscribe(b"a*", self.listener("p"))
        await subscriber.subscribe(b"ab", self.listener("c"))
        await self.publish(b"ab", b"1", receivers=2)
        await self.publish(b"ac", b"2")
        await self.hears(3)
        self.assertEqual(sorted(self.heard), [("c", b"ab", b"1"), ("p", b"ab", b"1"), ("p", b"ac", b"2")])

    async def test_unsubscribe(self) -> None:
        """A listener that has ended hears nothing more; with the last one the channel ends."""
        subscriber = self.subscriber()
        first, second = self.listener("1"), self.listener("2")
        await subscriber.subscribe(b"a", first)
        await subscriber.subscribe(b"a", second)
        subscriber.unsubscribe(b"a", first)
        await self.publish(b"a", b"x")
        await self.hears(1)
        subscriber.unsubscribe(b"a", second)
        await subscriber.subscribe(b"b", first)
        await self.publish(b"a", b"y", receivers=0)
        self.assertEqual(self.heard, [("2", b"a", b"x")])

    async def test_failing_listener(self) -> None:
        """A listener that raises keeps nobody from hearing."""
        subscriber = self.subscriber()
        await subscriber.subscribe(b"a", lambda channel, message: 1 // 0)
        await subscriber.subscribe(b"a", self.listener("2"))
        await self.publish(b"a", b"x")
        await self.hears(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_restarted(self) -> None:
        """After the server was killed all is subscribed again, and then the owner is told; not at the start."""
        subscriber = self.subscriber()
        await subscriber.subscribe(b"a", self.listener("a"))
        await subscriber.psubscribe(b"p*", self.listener("p"))
        await self.server.kill()
        waiting = subscriber.subscribe(b"new", self.listener("new"))
        self.assertNoResult(waiting)
        self.assertEqual(self.gaps, 0)
        await self.server.start()
        await self.had_gaps(1)
        for channel in (b"a", b"pp", b"new"):
            await self.publish(channel, b"x")
        await self.hears(3)
        self.successResultOf(waiting)
        self.assertEqual(self.gaps, 1)

    async def test_hangs(self) -> None:
        """A server that says nothing at all is found out by a ping, and its connection made again."""
        subscriber = self.subscriber(timeout=0.3, ping_interval=0.1)
        await subscriber.subscribe(b"a", self.listener("a"))
        self.server.pause()
        await deferLater(reactor, 0.6)
        self.server.resume()
        await self.had_gaps(1)
        await self.publish(b"a", b"x")
        await self.hears(1)

    async def test_quiet(self) -> None:
        """While there is no server the log says so once, not with each attempt; one can stop during an attempt."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        await self.server.kill()
        self.subscriber()
        await deferLater(reactor, 0.5)
        told = [formatEvent(event) for event in events]
        self.assertEqual(len([text for text in told if "no connection to Redis" in text]), 1)
        self.assertEqual([text for text in told if "Starting factory" in text], [])

    async def test_not_allowed(self) -> None:
        """A channel that Redis does not allow is refused, and others work on."""
        await self.server.execute("ACL", "SETUSER", "default", "resetchannels", "&ok*")
        subscriber = self.subscriber()
        text = await self.fails(StorageError, subscriber.subscribe(b"secret", self.listener("s")))
        self.assertIn("NOPERM", text)
        await subscriber.subscribe(b"ok", self.listener("ok"))
        await self.publish(b"ok", b"x")
        await self.hears(1)
        self.assertEqual(self.heard, [("ok", b"ok", b"x")])

    async def test_stop(self) -> None:
        """Who waits for a subscription when the engine stops is told."""
        await self.server.kill()
        subscriber = RedisSubscriber(self.server.url, reactor)
        subscriber.start()
        waiting = subscriber.subscribe(b"a", self.listener("a"))
        await subscriber.stop()
        self.failureResultOf(waiting, StorageError)
        self.failureResultOf(subscriber.subscribe(b"a", self.listener("a")), StorageError)
