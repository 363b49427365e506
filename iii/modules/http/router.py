"""
Which route a path leads to (spec/http.md, A3.1 and A3.2).

The routes are a trie of path segments.  A segment is a literal, a parameter (C{:name} or C{{name}}, exactly one segment
that is not empty) or, as the last one, a catch-all (C{{*name}}, the rest of the path, at least one character).  At each
segment a literal is tried before a parameter before a catch-all, and what leads nowhere is taken back; so the cost of a
look-up depends on the length of the path, not on the number of routes.  Paths are compared as they are on the wire,
still percent-encoded.  The path alone decides where a request goes; then its method has a route there, or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs
from msgspec import Raw

from iii.core.errors import TriggerRefused
from iii.wire.messages import ABSENT, DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from iii.modules.http.checks import Check

MAX_PATH = 8192
"""Characters of a route's path."""


@attrs.frozen(eq=False)
class Pattern:
    """
    The path of a route.

    @ivar segments: The literals; C{None} where a parameter is.
    @ivar names: What the values of the parameters, and of the catch-all in the end, are called.
    @ivar catches_all: What follows the segments, if it is not empty, belongs to the last name.
    """

    segments: tuple[str | None, ...]
    names: tuple[str, ...]
    catches_all: bool


def parse(path: str) -> Pattern:
    """
    Read the path of a route.  A leading C{/} may be missing.

    @raise TriggerRefused: It has no meaning; the reason names the segment.
    """
    if len(path) > MAX_PATH:
        raise TriggerRefused(f"api_path is longer than {MAX_PATH} characters")
    texts = path.removeprefix("/").split("/")
    segments: list[str | None] = []
    names: list[str] = []
    for position, text in enumerate(texts):
        if text.startswith("*"):
            raise TriggerRefused(f"api_path '{path}': '{text}' starts with '*'; a catch-all is written {{*name}}")
        braced = text.startswith("{") and text.endswith("}")
        name = text[1:-1] if braced else text[1:] if text.startswith(":") else None
        if name is None:
            if "{" in text or "}" in text:
                raise TriggerRefused(f"api_path '{path}': in '{text}' braces do not enclose the whole segment")
            segments.append(text)
            continue
        catches_all = braced and name.startswith("*")
        if catches_all and position < len(texts) - 1:
            raise TriggerRefused(f"api_path '{path}': the catch-all '{text}' is not the last segment")
        names.append(name.removeprefix("*") if catches_all else name)
        if not names[-1]:
            raise TriggerRefused(f"api_path '{path}': the parameter '{text}' has no name")
        if catches_all:
            return Pattern(tuple(segments), _shared(tuple(names)), True)
        segments.append(None)
    return Pattern(tuple(segments), _shared(tuple(names)), False)


@lru_cache(1000)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same tuple for equal ones: what many routes share stays in the processor's cache."""
    return names


@attrs.frozen(eq=False)
class Route:
    """
    One method and path, and the function that serves them.

    @ivar path: As it was registered.
    @ivar responses: How many it has given, by status.
    @ivar names: What the values of its parameters are called.
    @ivar label: How logs and metrics name it.
    @ivar fixed_members: The members of every request object that depend on the route alone, as JSON.
    @ivar checks: What is asked before the function, in order.
    @ivar timeout: Seconds until the head of a response must be ready; the listener's default without one.
    @ivar max_body: Bytes of a request's body; the engine's limit without one.
    """

    method: str
    path: str
    pattern: Pattern
    function_id: str
    namespace: str = DEFAULT_NAMESPACE
    metadata: Raw = ABSENT
    fixed_members: bytes = b""
    checks: Sequence[Check] = ()
    timeout: float | None = None
    max_body: int | None = None
    responses: defaultdict[int, int] = attrs.field(factory=lambda: defaultdict(int))
    names: tuple[str, ...] = attrs.field(init=False)
    label: str = attrs.field(kw_only=True)

    @names.default
    def _names(self) -> tuple[str, ...]:
        return self.pattern.names

    @label.default
    def _label(self) -> str:
        return f"{self.method} {self.path}"

    def __str__(self) -> str:
        return self.label

    def replaces(self, other: Route) -> bool:
        """Whether a route of the same method and shape is this one, registered again, perhaps with a leading C{/}."""
        return _spelling(self.path) == _spelling(other.path)


def nowhere(responses: defaultdict[int, int]) -> Route:
    """Return what stands for the route of requests that reach none: only its name and its count are used."""
    return Route("", "", Pattern((), (), False), "", responses=responses, label="")


def _spelling(path: str) -> str:
    return path.removeprefix("/") if len(path) > 1 else path


class Endpoint:
    """
    A place that paths lead to: the end of a route, or its catch-all.

    @ivar routes: The route that serves each method now.
    @ivar allow: The methods as in the header C{Allow}; a C{GET} implies C{HEAD}.
    """

    __slots__ = ("_all", "allow", "routes")

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.allow = b""
        self._all: dict[str, list[Route]] = {}  # by method, the newest last

    def add(self, route: Route) -> None:
        self._all.setdefault(route.method, []).append(route)
        self._choose()

    def remove(self, route: Route) -> None:
        routes = self._all[route.method]
        routes.remove(route)
        if not routes:
            del self._all[route.method]
        self._choose()

    def _choose(self) -> None:
        self.routes = {method: routes[-1] for method, routes in self._all.items()}
        methods = [*self.routes, "HEAD"] if "GET" in self.routes and "HEAD" not in self.routes else list(self.routes)
        self.allow = ",".join(methods).encode()


_NO_LITERALS: dict[str, _Node] = {}
"""Shared by the many nodes that have none; never changed."""


class _Node:
    __slots__ = ("end", "literals", "parameter", "rest")

    def __init__(self) -> None:
        self.literals = _NO_LITERALS
        self.parameter: _Node | None = None
        self.end: Endpoint | None = None
        self.rest: Endpoint | None = None

    def child(self, segment: str | None) -> _Node | None:
        return self.parameter if segment is None else self.literals.get(segment)

    def is_empty(self) -> bool:
        return not self.literals and self.parameter is None and self.end is None and self.rest is None


class Router:
    """All routes of a listener."""

    def __init__(self) -> None:
        self._root = _Node()

    def is_empty(self) -> bool:
        """Whether there is no route."""
        return self._root.is_empty()

    def add(self, route: Route) -> None:
        """
        Let a route serve its path from now on.  One of the same method and path that is there serves again when this
        one has gone.

        @raise TriggerRefused: It differs from a route of its method in nothing but the names of parameters.
        """
        other = self._rival(route)
        if other is not None and not route.replaces(other):
            raise TriggerRefused(
                f"Route '{route}' conflicts with already-registered route '{other}': routes with identical structure "
                "but different path-parameter names are not supported"
            )
        node = self._root
        for segment in route.pattern.segments:
            child = node.child(segment)
            if child is None:
                child = _Node()
                if segment is None:
                    node.parameter = child
                elif node.literals is _NO_LITERALS:
                    node.literals = {segment: child}
                else:
                    node.literals[segment] = child
            node = child
        if route.pattern.catches_all:
            endpoint = node.rest = node.rest or Endpoint()
        else:
            endpoint = node.end = node.end or Endpoint()
        endpoint.add(route)

    def _rival(self, route: Route) -> Route | None:
        """The route of the same method, if any, that serves what a route would serve."""
        segments = route.pattern.segments
        places: list[Endpoint | None]
        if route.pattern.catches_all:
            node = self._descend(segments)
            places = [node.rest, node.parameter.end if node.parameter is not None else None] if node is not None else []
        else:
            above, end = self._descend(segments[:-1]), self._descend(segments)
            places = [end.end if end is not None else None]
            if above is not None and segments[-1] is None:
                places.append(above.rest)
        return next((place.routes[route.method] for place in places if place and route.method in place.routes), None)

    def _descend(self, segments: tuple[str | None, ...]) -> _Node | None:
        node: _Node | None = self._root
        for segment in segments:
            if node is None:
                return None
            node = node.child(segment)
        return node

    def remove(self, route: Route) -> None:
        """Take away a route that was added."""
        path: list[tuple[_Node, str | None]] = []
        node = self._root
        for segment in route.pattern.segments:
            path.append((node, segment))
            child = node.child(segment)
            assert child is not None, f"{route} was not added"
            node = child
        endpoint = node.rest if route.pattern.catches_all else node.end
        assert endpoint is not None, f"{route} was not added"
        endpoint.remove(route)
        if not endpoint.routes:
            if route.pattern.catches_all:
                node.rest = None
            else:
                node.end = None
        for parent, segment in reversed(path):
            if not node.is_empty():
                break
            if segment is None:
                parent.parameter = None
            else:
                del parent.literals[segment]
            node = parent

    def find(self, path: str) -> tuple[Endpoint | None, tuple[str, ...]]:
        """
        Return the place where a path leads and the values of its parameters, raw.

        @param path: As on the wire, without the query.
        """
        segments = path.split("/")
        node, depth, size = self._root, 1, len(segments)  # before the leading slash there is nothing
        values: tuple[str, ...] = ()
        untried: list[tuple[_Node | Endpoint, int, tuple[str, ...]]] = []
        while True:
            if depth < size:
                segment = segments[depth]
                child = node.literals.get(segment)
                if node.rest is not None and (segment or depth + 1 < size):
                    untried.append((node.rest, depth, values))
                depth += 1
                parameter = node.parameter
                if segment and parameter is not None:
                    if child is None:
                        node, values = parameter, (*values, segment)
                        continue
                    untried.append((parameter, depth, (*values, segment)))
                if child is not None:
                    node = child
                    continue
            elif node.end is not None:
                return node.end, values
            if not untried:
                return None, ()
            following, depth, values = untried.pop()
            if isinstance(following, Endpoint):
                return following, (*values, "/".join(segments[depth:]))
            node = following
