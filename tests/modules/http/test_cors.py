"""Tests for the CORS headers and C{OPTIONS} (spec/http.md, A12)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.config.blocks.listeners import Cors
from tests.modules.http.fakes import Response, Server

VARY = "origin, access-control-request-method, access-control-request-headers"
SHOP, OTHER = "https://shop.example", "https://other.example"


def of_cors(response: Response) -> dict[str, str | None]:
    """Return the CORS headers of a response, by what follows C{access-control-}."""
    names = [name for name, _ in response.headers if name.startswith("access-control-")]
    return {name.removeprefix("access-control-"): response[name] for name in names}


class CorsTestCase(SynchronousTestCase):
    def ask(
        self, cors: Cors | None, method: str, path: str = "/a", origin: str | None = SHOP, returned: object = None
    ) -> Response:
        """Send a request to a server with a route C{GET a}."""
        server = Server(cors=cors)
        server.route("GET", "a")
        client = server.connect()
        client.request(method, path, **({} if origin is None else {"origin": origin}))
        if server.engine.calls:
            server.call.returns(returned or {})
        return client.response(method)


class ResponsesTests(CorsTestCase):
    def test_null(self) -> None:
        """Without a block all is allowed and exposed, with or without an origin."""
        for origin in (SHOP, None):
            response = self.ask(None, "GET", origin=origin)
            self.assertEqual(of_cors(response), {"allow-origin": "*", "expose-headers": "*"})
            self.assertEqual(response["vary"], VARY)

    def test_any(self) -> None:
        """With a block that allows any origin nothing is exposed."""
        for cors in (Cors(), Cors(allowed_origins=("*",)), Cors(allowed_origins=(SHOP, "*"))):
            self.assertEqual(of_cors(self.ask(cors, "GET", origin=OTHER)), {"allow-origin": "*"})

    def test_list(self) -> None:
        """An origin in the list is named; another one, or none, is served without the header."""
        cors = Cors(allowed_origins=(SHOP, "localhost", "bad\nentry"))
        for origin, expected in ((SHOP, {"allow-origin": SHOP}), (OTHER, {}), (None, {}), (SHOP + "/", {})):
            response = self.ask(cors, "GET", origin=origin)
            self.assertEqual((response.status, of_cors(response), response["vary"]), (200, expected, VARY))

    def test_unusable_list(self) -> None:
        """A list of which no entry can be used allows nobody."""
        self.assertEqual(of_cors(self.ask(Cors(allowed_origins=("bad\nentry",)), "GET")), {})

    def test_errors(self) -> None:
        """Errors have the headers, too."""
        for method, path, status in (("GET", "/none", 404), ("PUT", "/a", 405)):
            response = self.ask(None, method, path)
            self.assertEqual((response.status, response["access-control-allow-origin"]), (status, "*"))

    def test_overwritten(self) -> None:
        """Equal headers of the function give way; those that the listener does not set pass."""
        headers = {"Access-Control-Allow-Origin": OTHER, "access-control-expose-headers": "x", "vary": "accept"}
        response = self.ask(None, "GET", returned={"headers": headers})
        self.assertEqual(of_cors(response), {"allow-origin": "*", "expose-headers": "*"})
        self.assertEqual(response.all("vary"), ["accept", VARY])
        response = self.ask(Cors(allowed_origins=(SHOP,)), "GET", origin=None, returned={"headers": headers})
        self.assertEqual(of_cors(response), {"allow-origin": OTHER, "expose-headers": "x"})


class OptionsTests(CorsTestCase):
    def test_everywhere(self) -> None:
        """C{OPTIONS} is answered with an empty 200 on any path, with or without an origin."""
        for path, allow in (("/a", "GET,HEAD"), ("/none", None), ("*", None)):
            for origin in (SHOP, None):
                response = self.ask(None, "OPTIONS", path, origin)
                self.assertEqual((response.status, response.body, response["allow"]), (200, b"", allow))
                self.assertEqual(of_cors(response), {"allow-origin": "*", "allow-methods": "*", "allow-headers": "*"})
                self.assertEqual(response["vary"], VARY)

    def test_route(self) -> None:
        """A route for C{OPTIONS} is never called; alone on its path it gives no C{Allow}."""
        server = Server()
        server.route("OPTIONS", "a")
        server.route("OPTIONS", "b")
        server.route("POST", "b")
        client = server.connect()
        client.request("OPTIONS", "/a")
        client.request("OPTIONS", "/b")
        first, second = client.responses("OPTIONS", "OPTIONS")
        self.assertEqual((first["allow"], second["allow"], server.engine.calls), (None, "OPTIONS,POST", []))

    def test_methods(self) -> None:
        """Allowed methods are listed, or all."""
        for methods, expected in (((), "*"), (("GET", "POST"), "GET,POST"), (("*",), "*")):
            response = self.ask(Cors(allowed_methods=methods), "OPTIONS")
            self.assertEqual(response["access-control-allow-methods"], expected)

    def test_list(self) -> None:
        """An origin that is not listed gets all but its own name."""
        cors = Cors(allowed_origins=(SHOP,))
        self.assertEqual(of_cors(self.ask(cors, "OPTIONS"))["allow-origin"], SHOP)
        other = of_cors(self.ask(cors, "OPTIONS", origin=OTHER))
        self.assertEqual(other, {"allow-methods": "*", "allow-headers": "*"})

    def test_body(self) -> None:
        """A body that comes with it is skipped."""
        server = Server()
        client = server.connect()
        client.request("OPTIONS", "/", b"abc")
        client.request("GET", "/")
        self.assertEqual([each.status for each in client.responses("OPTIONS", "GET")], [200, 404])
