"""Tests for L{iii.modules.http.router}."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.core.errors import TriggerRefused
from iii.modules.http.router import MAX_PATH, Endpoint, Route, Router, parse


def route(line: str, function_id: str = "f") -> Route:
    """Make a route of a line such as C{GET users/:id}."""
    method, _, path = line.partition(" ")
    return Route(method, path, parse(path), function_id)


class RouterTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.router = Router()

    def add(self, *lines: str) -> list[Route]:
        routes = [route(line) for line in lines]
        for each in routes:
            self.router.add(each)
        return routes

    def find(self, path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
        """Return the registered path that a path leads to, and the parameters."""
        endpoint, values = self.router.find(path)
        found = endpoint and endpoint.routes.get(method)
        return (found.path, dict(zip(found.pattern.names, values, strict=True))) if found else None


class MatchingTests(RouterTestCase):
    """spec/http.md, A3.1."""

    def test_leading_slash(self) -> None:
        """A leading slash is optional in the registered path."""
        self.add("GET users", "GET /groups")
        self.assertEqual(self.find("/users"), ("users", {}))
        self.assertEqual(self.find("/groups"), ("/groups", {}))

    def test_root(self) -> None:
        """The empty path and a single slash are the root."""
        for path in ("", "/"):
            self.router = Router()
            self.add(f"GET {path}")
            self.assertEqual(self.find("/"), (path, {}))
            self.assertIsNone(self.find("//"))

    def test_parameters(self) -> None:
        """C{:name} and C{{name}} match one segment, whose raw value they take."""
        self.add("GET users/:id/posts/{post}")
        self.assertEqual(self.find("/users/4%2F2/posts/a"), ("users/:id/posts/{post}", {"id": "4%2F2", "post": "a"}))

    def test_parameter_is_rest_of_segment(self) -> None:
        """The name of a parameter is all that follows the colon."""
        self.add("GET files/:id.json")
        self.assertEqual(self.find("/files/7"), ("files/:id.json", {"id.json": "7"}))

    def test_parameter_needs_a_value(self) -> None:
        """A parameter matches no empty segment, and no two."""
        self.add("GET users/:id")
        self.assertIsNone(self.find("/users/"))
        self.assertIsNone(self.find("/users"))
        self.assertIsNone(self.find("/users/1/2"))

    def test_no_normalisation(self) -> None:
        """Slashes count, and each spelling is a path of its own."""
        self.add("GET /users", "GET /users/", "GET //users")
        for path in ("/users", "/users/", "//users"):
            self.assertEqual(self.find(path), (path, {}))
        self.assertIsNone(self.find("/users//"))

    def test_case(self) -> None:
        """Literals are case-sensitive."""
        self.add("GET Users")
        self.assertIsNone(self.find("/users"))

    def test_percent_encoding(self) -> None:
        """A literal matches exactly its own spelling."""
        self.add("GET pct/%41")
        self.assertEqual(self.find("/pct/%41"), ("pct/%41", {}))
        self.assertIsNone(self.find("/pct/A"))

    def test_catch_all(self) -> None:
        """C{{*name}} takes the rest of the path, slashes included, if it is not empty."""
        self.add("GET files/{*rest}")
        self.assertEqual(self.find("/files/a/b//c"), ("files/{*rest}", {"rest": "a/b//c"}))
        self.assertEqual(self.find("/files//"), ("files/{*rest}", {"rest": "/"}))
        self.assertIsNone(self.find("/files/"))
        self.assertIsNone(self.find("/files"))

    def test_catch_all_at_the_root(self) -> None:
        """A catch-all may be the whole path."""
        self.add("GET {*rest}")
        self.assertEqual(self.find("/a/b"), ("{*rest}", {"rest": "a/b"}))
        self.assertIsNone(self.find("/"))

    def test_precedence(self) -> None:
        """A literal goes before a parameter before a catch-all, whatever the order of registration."""
        lines = ("GET a/b", "GET a/:x/c", "GET a/{*rest}")
        for order in itertools.permutations(lines):
            self.router = Router()
            self.add(*order)
            self.assertEqual(self.find("/a/b"), ("a/b", {}))
            self.assertEqual(self.find("/a/z/c"), ("a/:x/c", {"x": "z"}))
            self.assertEqual(self.find("/a/z/d"), ("a/{*rest}", {"rest": "z/d"}))

    def test_backtracking(self) -> None:
        """A literal that leads nowhere does not hide a parameter."""
        self.add("GET a/b/c", "GET a/:x/d", "GET :y/b/e", "GET {*rest}")
        self.assertEqual(self.find("/a/b/d"), ("a/:x/d", {"x": "b"}))
        self.assertEqual(self.find("/a/b/e"), (":y/b/e", {"y": "a"}))
        self.assertEqual(self.find("/a/b/f"), ("{*rest}", {"rest": "a/b/f"}))

    def test_star(self) -> None:
        """The target of C{OPTIONS *} leads nowhere."""
        self.add("GET /", "GET :x")
        self.assertIsNone(self.find("*"))

    def test_long_paths(self) -> None:
        """Neither the depth of a route nor the length of a path has a recursion to exhaust."""
        deep = "/x" * (MAX_PATH // 2)
        self.add(f"GET {deep}")
        self.assertEqual(self.find(deep), (deep, {}))
        self.assertIsNone(self.find("/x" * 30_000))


class MethodsTests(RouterTestCase):
    def test_path_before_method(self) -> None:
        """The path alone decides; a less specific path is not asked for the method."""
        self.add("GET users/me", "POST users/:id")
        self.assertIsNone(self.find("/users/me", "POST"))
        self.assertEqual(self.find("/users/1", "POST"), ("users/:id", {"id": "1"}))

    def test_own_names(self) -> None:
        """Under different methods one path may have different names, at the end and further up."""
        self.add("GET a/:x", "POST a/:y", "GET b/:x/c", "POST b/:y/d")
        self.assertEqual(self.find("/a/1", "GET"), ("a/:x", {"x": "1"}))
        self.assertEqual(self.find("/a/1", "POST"), ("a/:y", {"y": "1"}))
        self.assertEqual(self.find("/b/1/d", "POST"), ("b/:y/d", {"y": "1"}))

    def test_catch_all_beside_parameter(self) -> None:
        """They go together under different methods, and at different depths."""
        self.add("POST a/{*rest}", "GET a/:x", "GET c/{*rest}", "GET c/:x/y")
        self.assertEqual(self.find("/a/1", "GET"), ("a/:x", {"x": "1"}))
        self.assertEqual(self.find("/a/1/2", "POST"), ("a/{*rest}", {"rest": "1/2"}))
        self.assertEqual(self.find("/c/1/y"), ("c/:x/y", {"x": "1"}))
        self.assertEqual(self.find("/c/1"), ("c/{*rest}", {"rest": "1"}))

    def test_allow(self) -> None:
        """C{Allow} names the methods of the path; GET implies HEAD."""
        self.add("GET a", "POST a", "POST b", "GET c", "HEAD c")
        allowed = {path: self.endpoint(path).allow for path in ("/a", "/b", "/c")}
        self.assertEqual(allowed, {"/a": b"GET,POST,HEAD", "/b": b"POST", "/c": b"GET,HEAD"})

    def endpoint(self, path: str) -> Endpoint:
        endpoint, _ = self.router.find(path)
        assert endpoint is not None
        return endpoint


class RefusedPathsTests(SynchronousTestCase):
    def refused(self, path: str) -> str:
        return str(self.assertRaises(TriggerRefused, parse, path))

    def test_star(self) -> None:
        """A segment that starts with a star is refused, with a hint."""
        self.assertEqual(self.refused("a/*b"), "api_path 'a/*b': '*b' starts with '*'; a catch-all is written {*name}")

    def test_no_name(self) -> None:
        """A parameter and a catch-all have a name."""
        for path in ("/:", "a/{}", "a/{*}"):
            self.assertIn("has no name", self.refused(path))

    def test_catch_all_in_the_middle(self) -> None:
        """A catch-all is the last segment."""
        self.assertIn("not the last segment", self.refused("a/{*rest}/b"))

    def test_braces(self) -> None:
        """Braces enclose a whole segment."""
        for path in ("a{b}", "{a}b", "a}", "{a"):
            self.assertIn("braces do not enclose the whole segment", self.refused(path))

    def test_too_long(self) -> None:
        """A path that no request could have is refused."""
        self.assertIn("longer than", self.refused("a" * (MAX_PATH + 1)))


class ConflictsTests(RouterTestCase):
    """spec/http.md, A3.2."""

    def refused(self, first: str, second: str) -> str:
        self.router = Router()
        (kept,) = self.add(first)
        error = self.assertRaises(TriggerRefused, self.router.add, route(second))
        endpoint, _ = self.router.find(f"/{kept.path}".replace("//", "/"))
        assert endpoint is not None
        self.assertIs(endpoint.routes[kept.method], kept)
        return str(error)

    def test_message(self) -> None:
        """The message has the wording that SDK tests look for, with the paths as they were registered."""
        self.assertEqual(
            self.refused("GET a/:x", "GET a/:y"),
            "Route 'GET a/:y' conflicts with already-registered route 'GET a/:x': routes with identical structure but "
            "different path-parameter names are not supported",
        )

    def test_conflicts(self) -> None:
        """What would serve the same requests under other names is refused; the older one goes on."""
        pairs = [
            ("", "/"),
            ("a/:x", "a/{x}"),
            ("a/:x", "a/{*x}"),
            (":x", "{*x}"),
            ("{*x}", "{*y}"),
            ("a/:x/b", "a/:y/b"),
        ]
        for one, other in pairs:
            self.refused(f"GET {one}", f"GET {other}")
            self.refused(f"GET {other}", f"GET {one}")

    def test_no_conflict(self) -> None:
        """Names may differ where the paths part, and under another method."""
        self.add("GET a/:x/b", "GET a/:y/c", "POST a/:z/b", "GET a/{*rest}", "POST a/:x")


class TakeOverTests(RouterTestCase):
    def test_newer_wins(self) -> None:
        """The same method and path registered again replaces the route, with or without leading slash."""
        old, new = route("GET users/:id", "old"), route("GET /users/:id", "new")
        self.router.add(old)
        self.router.add(new)
        self.assertIs(self.serving("/users/1"), new)

    def test_older_comes_back(self) -> None:
        """When the newer route goes, the one that it replaced serves again."""
        old, new = route("GET a", "old"), route("GET a", "new")
        self.router.add(old)
        self.router.add(new)
        self.router.remove(new)
        self.assertIs(self.serving("/a"), old)

    def test_stale_removal(self) -> None:
        """Removing the older route leaves the newer one alone."""
        old, new = route("GET a", "old"), route("GET a", "new")
        self.router.add(old)
        self.router.add(new)
        self.router.remove(old)
        self.assertIs(self.serving("/a"), new)

    def test_nothing_left(self) -> None:
        """When all routes have gone, the router is as empty as at first."""
        routes = self.add("GET a/:x/b", "POST a/:x", "GET a/{*rest}", "GET ", "GET {*all}")
        for each in routes:
            self.router.remove(each)
        self.assertTrue(self.router.is_empty())

    def serving(self, path: str) -> Route:
        endpoint, _ = self.router.find(path)
        assert endpoint is not None
        return endpoint.routes["GET"]


def rank(pattern_segments: list[str], segments: list[str]) -> tuple[tuple[int, ...], list[str]] | None:
    """Match a path against one route the naive way; return how specific each step is, and the values."""
    steps, values = [], []
    for position, want in enumerate(pattern_segments):
        if want.startswith("{*"):
            rest = "/".join(segments[position:])
            return ((*steps, 2), [*values, rest]) if rest else None
        if position == len(segments):
            return None
        if want.startswith(":"):
            if not segments[position]:
                return None
            steps.append(1)
            values.append(segments[position])
        elif want == segments[position]:
            steps.append(0)
        else:
            return None
    return (tuple(steps), values) if len(segments) == len(pattern_segments) else None


segment = st.sampled_from(["a", "b", "", ":p"])
paths = st.tuples(st.lists(segment, min_size=1, max_size=4), st.booleans()).map(
    lambda drawn: "/" + "/".join([*drawn[0], "{*rest}"] if drawn[1] else drawn[0])
)


class PropertyTests(SynchronousTestCase):
    @given(
        st.lists(paths, max_size=12), st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=5), st.data()
    )
    def test_like_a_naive_matcher(self, registered: list[str], segments: list[str], data: st.DataObject) -> None:
        """Of all routes that match, the one is found that is most specific from left to right."""
        router, live = Router(), []
        for path in registered:
            candidate = route(f"GET {path}")
            try:
                router.add(candidate)
            except TriggerRefused:
                continue
            live.append(candidate)
        for gone in data.draw(st.lists(st.sampled_from(live), unique=True) if live else st.just([])):
            router.remove(gone)
            live.remove(gone)
        ranked = []
        for each in live:
            found = rank(each.path[1:].split("/"), segments)
            if found is not None:
                ranked.append((found[0], each.path, found[1]))
        endpoint, values = router.find("/" + "/".join(segments))
        if not ranked:
            self.assertIsNone(endpoint)
            return
        _, path, expected = min(ranked)
        assert endpoint is not None
        self.assertEqual((endpoint.routes["GET"].path, list(values)), (path, expected))
