"""Who may open a WebSocket on the worker port, and to what (spec/worker-protocol.md, 1; DESIGN.md, 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs

import attrs

from iii.core.access import authorized
from iii.wire.server import Refused

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


def check_token(headers: Mapping[str, str], token: str | None) -> None:
    """
    With a token configured, want it (SDKs send C{III_TOKEN}).

    @param headers: By lower-case name; a character for each byte (ISO 8859-1).
    @raise Refused: 401.
    """
    if not authorized(headers.get("authorization", "").encode("latin-1"), token):
        raise Refused(401, "this engine wants a token: set III_TOKEN")
