"""Which web pages may call the routes: the headers that browsers ask for (spec/http.md, A12)."""

from __future__ import annotations

from iii.config.blocks.listeners import Cors

_VARY = b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
_ANY = "*"
_ORIGIN = "access-control-allow-origin"


class CorsPolicy:
    """The header lines for one configuration, made once."""

    def __init__(self, settings: Cors | None) -> None:
        """@param settings: C{None} allows everything and, unlike an empty block, exposes all headers."""
        origins = _usable(settings.allowed_origins) if settings is not None else []
        methods = _usable(settings.allowed_methods) if settings is not None else []
        self._exposes = settings is None
        self._origins = frozenset() if not origins or _ANY in origins else frozenset(origins)
        self._any = settings is None or not settings.allowed_origins or _ANY in origins
        self._always = _VARY + (_line("access-control-expose-headers", _ANY) if self._exposes else b"")
        allowed_methods = ",".join(methods) if methods and _ANY not in methods else _ANY
        self._preflight = (
            _VARY + _line("access-control-allow-methods", allowed_methods) + _line("access-control-allow-headers", _ANY)
        )
        self._any_origin = _line(_ORIGIN, _ANY) + self._always

    def lines(self, origin: str | None) -> bytes:
        """Return the header lines of every response but the one to C{OPTIONS}."""
        return self._any_origin if self._any else self._origin_line(origin) + self._always

    def preflight_lines(self, origin: str | None) -> bytes:
        """Return the header lines of the response to C{OPTIONS}."""
        return self._origin_line(origin) + self._preflight

    def overridden(self, origin: str | None) -> frozenset[str]:
        """Return the names that L{lines} sets: a function's headers of these names give way."""
        names = {"access-control-expose-headers"} if self._exposes else set()
        if self._origin_line(origin):
            names.add(_ORIGIN)
        return frozenset(names)

    def _origin_line(self, origin: str | None) -> bytes:
        if self._any:
            return _line(_ORIGIN, _ANY)
        return _line(_ORIGIN, origin) if origin is not None and origin in self._origins else b""


def _usable(entries: tuple[str, ...]) -> list[str]:
    return [entry for entry in entries if entry.isascii() and entry.isprintable()]


def _line(name: str, value: str) -> bytes:
    return f"{name}: {value}\r\n".encode()
