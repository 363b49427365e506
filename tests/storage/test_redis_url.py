"""Tests for L{iii.storage.redis_url}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.storage.redis_url import InvalidRedisUrl, RedisUrl, without_password

SECRET = "s3cret"


class RedisUrlTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Each part is read; what is missing has Redis' default."""
        for text, url in {
            "redis://localhost": RedisUrl("localhost"),
            "redis://localhost/": RedisUrl("localhost"),
            "redis://h:1234/5": RedisUrl("h", 1234, 5),
            "redis://u:p@h": RedisUrl("h", user="u", password="p"),
            "redis://:p@h": RedisUrl("h", password="p"),
            "redis://u%40:p%2F%3a@h": RedisUrl("h", user="u@", password="p/:"),
            "redis://[::1]:7": RedisUrl("::1", 7),
            "rediss://h": RedisUrl("h", tls=True),
        }.items():
            self.assertEqual(RedisUrl.parse(text), url)

    def test_shown(self) -> None:
        """A URL is shown without user and password, also by its repr."""
        for text, shown in {
            "redis://localhost": "redis://localhost:6379",
            f"redis://u:{SECRET}@h:1/2": "redis://h:1/2",
            f"rediss://:{SECRET}@[::1]": "rediss://[::1]:6379",
        }.items():
            url = RedisUrl.parse(text)
            self.assertEqual(url.shown, shown)
            self.assertNotIn(SECRET, repr(url))

    def test_refused(self) -> None:
        """What is no URL of a Redis server is refused, saying why."""
        for text, why in {
            "localhost:6379": "it must begin with redis:// or rediss://",
            "http://h": "it must begin with redis:// or rediss://",
            "redis+unix:///x": "it must begin with redis:// or rediss://",
            "redis://": "it names no host",
            "redis://:6379": "it names no host",
            "redis://h:0": "port 0",
            "redis://h:70000": "is no URL",
            "redis://h:x": "is no URL",
            "redis://[::1": "is no URL",
            "redis://h/x": "must be a number, not `x`",
            "redis://h/1/2": "must be a number, not `1/2`",
            "redis://h/-1": "must be a number",
            "redis://h/٣": "must be a number",
            "redis://h?protocol=resp3": "nothing may follow",
            "rediss://h#insecure": "nothing may follow",
        }.items():
            error = self.assertRaises(InvalidRedisUrl, RedisUrl.parse, text)
            self.assertIn(why, str(error))
            self.assertIn(f"`{text}`", str(error))

    def test_no_password_in_errors(self) -> None:
        """The error of a wrong URL has nothing of what may be a password."""
        for text in (
            f"redis://u:{SECRET}@h:x",
            f"redis://u:{SECRET}@",
            f"http://u:{SECRET}@h",
            f"u:{SECRET}@h",
            f"redis://u:a@{SECRET}@h/x",
            f"redis://u:{SECRET}/@h/x",
            f"redis:///u:{SECRET}@h",
            f"redis://u:{SECRET}\n@h:x",
            f"redis:u:{SECRET}@h",
        ):
            error = self.assertRaises(InvalidRedisUrl, RedisUrl.parse, text)
            self.assertNotIn(SECRET, str(error))

    def test_without_password(self) -> None:
        """What stands before the last @ goes."""
        self.assertEqual(without_password("redis://a:b@c@h/1"), "redis://***@h/1")
        self.assertEqual(without_password("a@h"), "***@h")
        self.assertEqual(without_password("redis://h/1"), "redis://h/1")
