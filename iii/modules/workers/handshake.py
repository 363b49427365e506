"""
Who may open a WebSocket on the worker port, and to what (spec/worker-protocol.md, 1; DESIGN.md, 9).

Browsers send C{Origin}: pages of other sites must not reach an engine on the visitor's machine, so only loopback and
listed origins are let in, also on loopback.  Programs send none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

import attrs

from iii.core.access import authorized

_channel = re.compile(r"(?:/ws)?/ws/channels/([^/]+)").fullmatch
_WORKER_PATHS = {"/", "/ws", "/ws/"}
_TELEMETRY_PATHS = {"/otel", "/ws/otel"}


@attrs.frozen
class WorkerPath:
    """A worker's connection."""


@attrs.frozen
class TelemetryPath:
    """A connection that only carries telemetry."""


@attrs.frozen
class ChannelPath:
    """One end of a channel."""

    channel_id: str
    key: str
    direction: str


Path = WorkerPath | TelemetryPath | ChannelPath


@attrs.define
class Refused(Exception):
    """A request is answered with an HTTP status and a text instead of an upgrade."""

    status: int
    text: str


def known(path: str) -> bool:
    """Whether anything is served under a path."""
    return path in _WORKER_PATHS or path in _TELEMETRY_PATHS or _channel(path) is not None


def destination(path: str, query: str) -> Path:
    """
    Tell what a path leads to.

    @raise Refused: 404 for a path that leads nowhere, 400 for a channel's without a key and a direction.
    """
    if path in _WORKER_PATHS:
        return WorkerPath()
    if path in _TELEMETRY_PATHS:
        return TelemetryPath()
    channel = _channel(path)
    if channel is None:
        raise Refused(404, "Not Found")
    values = parse_qs(query)
    key, direction = values.get("key", [""])[-1], values.get("dir", [""])[-1]
    if not key or direction not in ("read", "write"):
        raise Refused(400, "a channel wants the query key=<access key>&dir=read|write")
    return ChannelPath(channel[1], key, direction)


def check_origin(headers: Mapping[str, str], allowed: Collection[str]) -> None:
    """
    Let a browser in only from loopback or a listed origin (C{*} lists all).

    @param headers: By lower-case name.
    @raise Refused: 403.
    """
    origin = headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed or _is_loopback(origin):
        return
    raise Refused(403, f"origin {origin} is not allowed; list it under engine.origins")


def check_token(headers: Mapping[str, str], token: str | None) -> None:
    """
    With a token configured, want it (SDKs send C{III_TOKEN}).

    @param headers: By lower-case name; a character for each byte (ISO 8859-1).
    @raise Refused: 401.
    """
    if not authorized(headers.get("authorization", "").encode("latin-1"), token):
        raise Refused(401, "this engine wants a token: set III_TOKEN")


def _is_loopback(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:  # no URL, or a name
        return False
