"""What a configuration file comes to (DESIGN.md, 11; spec/config.md, 4)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from iii.config.parts import Delay, Milliseconds, Port, Text, Tls
from iii.core.limits import Limits

DEFAULT_API_PORT = 9464

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@A-Z]+")


class ApiSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The engine's own REST API, metrics and health checks (the key C{engine.api}).

    @ivar enabled: Default true.
    @ivar host: Address to listen on; default C{engine.host}.
    @ivar port: A port that is given must be free.  Default none, which is 9464 if that is free; when it is not, as for
        a second engine on a machine, the start goes on without the API and says so.
    @ivar tls: Speak TLS; default C{engine.tls}.
    """

    enabled: bool = True
    host: Text = "127.0.0.1"
    port: Port | None = None
    tls: Tls | None = None


class EngineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The settings of this engine that the reference does not have (the key C{engine}).

    @ivar data_directory: Where data is kept; default C{data/<name of the file>}, so that engines with different files
        which are started in one directory do not meet.  Without a file C{data/default}.
    @ivar host: Address of the listeners whose block names none; default the environment variable C{III_HOST}, else
        C{127.0.0.1}.
    @ivar token: What clients must send as C{Authorization: Bearer …}; default the environment variable C{III_TOKEN},
        else none is asked for.
    @ivar origins: Web pages that may connect to the listeners, as C{https://app.example.com}; C{*} is all.  Pages from
        loopback addresses always may.  Default none.
    @ivar api: The REST API, metrics and health checks.
    @ivar ownership: What happens when a second worker registers a function: C{shared}, the default, gives each call to
        the one with the fewest unanswered; C{exclusive} refuses the second.
    @ivar call_timeout_ms: How long a call may take whose caller sets no limit; default 3600000, an hour.
    @ivar drain_timeout_ms: How long calls in progress may take when the engine stops; default 25000.
    @ivar ping_interval_ms: How often workers are asked for a sign of life; default 20000.
    @ivar tls: Speak TLS on every listener whose block has no C{tls} of its own; default none.
    @ivar limits: What the engine accepts at most.
    """

    data_directory: Path
    host: Text = "127.0.0.1"
    token: Text | None = None
    origins: tuple[str, ...] = ()
    api: ApiSettings = ApiSettings()
    ownership: Literal["shared", "exclusive"] = "shared"
    call_timeout_ms: Milliseconds = 3_600_000
    drain_timeout_ms: Milliseconds = 25_000
    ping_interval_ms: Milliseconds = 20_000
    tls: Tls | None = None
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        for index, origin in enumerate(self.origins):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"origins[{index}] must be like https://app.example.com: lower case, no path")


class Root(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The top level of a file (spec/config.md, 4 and 12).

    @ivar workers: The modules to run, and their settings.
    @ivar modules: Old name of C{workers}; both may be given, and C{workers} come first.
    @ivar port: Old dialect: the port of the first C{iii-worker-manager} that names none; 0 is 49134.
    @ivar registration_namespace_grace_ms: How long a new connection may stay without a namespace before it gets
        C{default}; the environment variable C{III_NAMESPACE_GRACE_MS} wins.  Default 5000.
    @ivar engine: Settings that only this engine has.
    """

    workers: tuple[Any, ...] = ()
    modules: tuple[Any, ...] = ()
    port: Port = 0
    registration_namespace_grace_ms: Delay = 5000
    engine: Any = None


class Entry(Struct, frozen=True, kw_only=True):
    """
    One entry of the list C{workers}.

    @ivar name: Name of a module; what follows a C{#} tells several entries of one module apart.  Required.
    @ivar config: The module's settings.
    @ivar image: Not for built-in modules.
    @ivar type: Without effect; the reference's command line writes it.
    """

    name: Text
    config: Any = None
    image: Any = None
    type: Any = None


class ModuleEntry(Struct, frozen=True, kw_only=True):
    """
    A module to run.

    @ivar name: The entry's name, unique: of several entries with one name the later ones end in C{#1}, C{#2}.
    @ivar module: What it is, C{iii-http}, also where the file says C{http}.
    @ivar settings: Its block; of the type that L{iii.config.modules.MODULES} says.
    """

    name: str
    module: str
    settings: Struct


class Settings(Struct, frozen=True, kw_only=True):
    """
    A whole configuration, checked.  Two that are equal configure the same.

    @ivar path: The file, absolute; C{None} when there is none.
    @ivar modules: What to run, in the order of the file.
    @ivar unavailable: What the file asks for and this version does not have yet.
    @ivar warnings: What was accepted and has no effect: lines for the log.
    """

    path: Path | None
    engine: EngineSettings
    registration_namespace_grace_ms: int
    modules: tuple[ModuleEntry, ...]
    unavailable: tuple[ModuleEntry, ...]
    warnings: tuple[str, ...]
