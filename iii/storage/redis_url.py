"""Where a Redis server is: C{redis://[user:password@]host[:port][/database]}, C{rediss://} for TLS."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import attrs

PORT = 6379
SCHEMES = {"redis": False, "rediss": True}


class InvalidRedisUrl(ValueError):
    """A URL cannot be used.  The text says why, and shows no password."""


@attrs.frozen
class RedisUrl:
    """
    A server and one of its databases.

    @ivar shown: The URL as texts may show it, without user and password.
    """

    host: str
    port: int = PORT
    database: int = 0
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """
        Read a URL.  User and password are percent-encoded; a password alone is C{:password@}.

        @raise InvalidRedisUrl: It is not one, or asks for what is not supported.
        """
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidRedisUrl(f"`{without_password(text)}` is no URL") from error
        database = parts.path.removeprefix("/") or "0"
        problem = None
        if parts.scheme not in SCHEMES:
            problem = "it must begin with redis:// or rediss://"
        elif not host:
            problem = "it names no host"
        elif port == 0:
            problem = "port 0 is none to connect to"
        elif not (database.isascii() and database.isdecimal()):
            problem = f"the database after the host must be a number, not `{database}`"
        elif parts.query or parts.fragment:
            problem = "nothing may follow the database"
        if problem is not None:
            raise InvalidRedisUrl(f"`{without_password(text)}` cannot be used: {problem}")
        assert host is not None
        user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
        return cls(host, port or PORT, int(database), user or None, password or None, SCHEMES[parts.scheme])

    @property
    def shown(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        database = f"/{self.database}" if self.database else ""
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}{database}"


def without_password(text: str) -> str:
    """Return a URL, also a wrong one, without what may be a user and a password."""
    return re.sub(r"^([^/]*//)?.*@", lambda found: f"{found[1] or ''}***@", text, flags=re.DOTALL)
