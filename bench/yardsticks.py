"""
What the engine is measured against, each in a process of its own: C{python -m bench.yardsticks echo|web PORT}.

Both are what one writes first with the same libraries: a plain Autobahn server that sends every message back, and a
bare twisted.web resource that parses a JSON body and answers JSON.  They do less than the engine: no worker, one hop.
"""

from __future__ import annotations

import json
import sys

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.protocol import ServerFactory
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from bench.frames import HOST


class Echo(WebSocketServerProtocol):
    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


class Order(Resource):
    isLeaf = True

    def render_POST(self, request: Request) -> bytes:
        order = json.loads(request.content.read())
        answer = {"call": order["call"], "accepted": True, "items": [{"sku": "A-17", "price": 1250}], "total": 2500}
        request.setHeader(b"content-type", b"application/json")
        return json.dumps(answer).encode()


class QuietSite(Site):
    def log(self, request: http.Request) -> None:
        """Write no access log, as the engine's routes write none."""


def echo_server() -> ServerFactory:
    factory = WebSocketServerFactory()
    factory.protocol = Echo
    return factory


def web_server() -> ServerFactory:
    return QuietSite(Order())


YARDSTICKS = {"echo": echo_server, "web": web_server}


def main(name: str, port: int) -> None:
    from twisted.internet import reactor

    reactor.listenTCP(port, YARDSTICKS[name](), backlog=1024, interface=HOST)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
