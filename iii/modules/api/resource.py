"""What the engine's own port answers: health, readiness, metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from klein import Klein
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from twisted.web.iweb import IRequest
from twisted.web.pages import notFound
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from iii.core.access import authorized

UNAUTHORIZED = {"error": {"code": "UNAUTHORIZED", "message": "send Authorization: Bearer <the engine's token>"}}


class BodilessRequest(Request):
    """A request to this port, where nothing takes a body: twisted.web would store one of any size."""

    def gotLength(self, length: int | None) -> None:
        if length != 0:  # None: chunked
            transport: Any = self.channel.transport
            transport.abortConnection()
        super().gotLength(0)


class QuietSite(Site):
    """A site without an access log: health checks would fill it."""

    requestFactory = BodilessRequest

    def getResourceFor(self, request: Request) -> IResource:
        """Answer 404 where Klein would fail: for bytes in path or host that are no text."""
        path: Any = request.postpath
        hosts: Any = request.requestHeaders.getRawHeaders(b"host", [])
        try:
            b"/".join([*path, *hosts]).decode()
        except UnicodeDecodeError:
            return notFound()
        found: IResource = super().getResourceFor(request)
        return found

    def log(self, request: object) -> None:
        """Say nothing."""


class Api:
    """The REST API (DESIGN.md, 6)."""

    app = Klein()

    def __init__(self, ready: Callable[[], dict[str, str]], metrics: CollectorRegistry, token: str | None) -> None:
        """
        @param ready: Tells for each part of the engine why it does not work; an empty text: it does.
        @param token: What C{/metrics} wants as a bearer token; health checks never want one.
        """
        self._ready, self._registry, self._token = ready, metrics, token

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: IRequest) -> bytes:
        """The process runs and its event loop turns."""
        return _answer(request, 200, {"status": "ok"})

    @app.route("/readyz", methods=["GET"])
    def readyz(self, request: IRequest) -> bytes:
        """All parts work: 200; one does not, or the engine is stopping: 503, with what is wrong."""
        found = self._ready()
        parts = {name: not problem for name, problem in found.items()}
        problems = {name: problem for name, problem in found.items() if problem}
        if problems:
            return _answer(request, 503, {"status": "not ready", "parts": parts, "problems": problems})
        return _answer(request, 200, {"status": "ready", "parts": parts})

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: IRequest) -> bytes:
        """
        Prometheus' text format.  It is made here and not by C{prometheus_client.twisted}, which reads the engine's
        tables in another thread.
        """
        if not authorized(request.getHeader(b"authorization"), self._token):
            request.setHeader("www-authenticate", "Bearer")
            return _answer(request, 401, UNAUTHORIZED)
        request.setHeader("content-type", CONTENT_TYPE_LATEST)
        return generate_latest(self._registry)


def _answer(request: IRequest, status: int, value: object) -> bytes:
    request.setResponseCode(status)
    request.setHeader("content-type", "application/json")
    return json.dumps(value).encode() + b"\n"
