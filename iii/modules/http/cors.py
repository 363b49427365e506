"""Which web pages may call the routes: the headers that browsers ask for (spec/http.md, A12)."""

from __future__ import annotations

from iii.config.blocks.listeners import Cors

_VARY = b"vary: origin, access-control-request-method, access-control-request-headers\r\n"
_ANY = "*"
_ORIGIN = "access-control-allow-origin"
_EXPOSED = "access-control-expose-headers"


class CorsPolicy:
    """
    The header lines for one configuration, made once.

    @ivar of_all: What L{lines} returns for every origin; C{None} when it depends on the origin.
    """

    def __init__(self, settings: Cors | None) -> None:
        """@param settings: C{None} allows everything and, unlike an empty block, exposes all headers."""
        origins = _usable(settings.allowed_origins) if settings is not None else []
        methods = _usable(settings.allowed_methods) if settings is not None else []
        self._any_origin = settings is None or not settings.allowed_origins or _ANY in origins
        self._origins = {origin: _line(_ORIGIN, origin) for origin in origins}
        exposed = [_EXPOSED] if settings is None else []
        self._always = _VARY + b"".join(_line(name, _ANY) for name in exposed)
        allowed_methods = ",".join(methods) if methods and _ANY not in methods else _ANY
        self._preflight = (
            _VARY + _line("access-control-allow-methods", allowed_methods) + _line("access-control-allow-headers", _ANY)
        )
        self.of_all = _line(_ORIGIN, _ANY) + self._always if self._any_origin else None
        self._names = frozenset(exposed)
        self._names_with_origin = frozenset([_ORIGIN, *exposed])

    def lines(self, origin: str | None) -> bytes:
        """Return the header lines of every response but the one to C{OPTIONS}."""
        return self.of_all or self._origin_line(origin) + self._always

    def preflight_lines(self, origin: str | None) -> bytes:
        """Return the header lines of the response to C{OPTIONS}."""
        return self._origin_line(origin) + self._preflight

    def overridden(self, origin: str | None) -> frozenset[str]:
        """Return the names that L{lines} sets: a function's headers of these names give way."""
        return self._names_with_origin if self._any_origin or origin in self._origins else self._names

    def _origin_line(self, origin: str | None) -> bytes:
        return _line(_ORIGIN, _ANY) if self._any_origin else self._origins.get(origin or "", b"")


def _usable(entries: tuple[str, ...]) -> list[str]:
    return [entry for entry in entries if entry.isascii() and entry.isprintable()]


def _line(name: str, value: str) -> bytes:
    return f"{name}: {value}\r\n".encode()
