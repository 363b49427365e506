"""The kinds of value that several settings share, with their bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=0, le=65535)]
"""A TCP port to listen on; 0 is any free one."""

MONTH_MS = 31 * 86_400_000

Milliseconds = Annotated[int, Meta(ge=1, le=MONTH_MS)]
"""A duration, at most a month."""

Delay = Annotated[int, Meta(ge=0, le=MONTH_MS)]
"""A duration in milliseconds which may be none at all."""

Seconds = Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)]
"""A duration in whole seconds, at most ten years."""

Retention = Annotated[int, Meta(ge=0, le=10 * 366 * 86_400)]
"""How many seconds something is kept; 0 is for ever."""

Count = Annotated[int, Meta(ge=1, le=2**40)]
"""A number of things, or of bytes."""

Ratio = Annotated[float, Meta(ge=0, le=1)]

Text = Annotated[str, Meta(min_length=1)]
"""Any text but the empty one."""


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Makes a listener speak TLS.

    @ivar certificate: File with the certificate and its chain, PEM.
    @ivar key: File with the private key, PEM.
    """

    certificate: Path
    key: Path
