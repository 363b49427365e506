"""
The modules that reach outside of the engine (spec/exec-bridge-configuration.md, 1 and 2; spec/http.md, B1;
spec/config.md, 7).
"""

from __future__ import annotations

from msgspec import Struct

from iii.config.parts import Milliseconds, Text


class Security(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Which URLs functions may have.

    @ivar url_allowlist: Patterns on the host of a URL; default C{*}, and an empty list means the same.
    @ivar block_private_ips: Refuse hosts with private or local addresses; default true.
    @ivar require_https: Refuse C{http:} URLs; default true.
    """

    url_allowlist: tuple[Text, ...] = ("*",)
    block_private_ips: bool = True
    require_https: bool = True


class HttpFunctionsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-http-functions}: functions that the engine calls over HTTP.

    @ivar security: Which URLs they may have.
    """

    security: Security = Security()


class ExecSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-exec}: shell lines that are run when the engine starts.

    @ivar exec: The lines, run one after the other; the last one stays.  Required.
    @ivar watch: Patterns of files; when one changes, all is run again.  Default none.
    """

    exec: tuple[str, ...]
    watch: tuple[Text, ...] = ()


class Exposed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A function of this engine that the other one may call.

    @ivar local_function: Its id here.  Required.
    @ivar remote_function: Its id there; default the same.
    """

    local_function: Text
    remote_function: Text | None = None


class Forwarded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A function of the other engine that can be called here.

    @ivar local_function: Its id here.  Required.
    @ivar remote_function: Its id there.  Required.
    @ivar timeout_ms: How long a call may take; default 30000.
    """

    local_function: Text
    remote_function: Text
    timeout_ms: Milliseconds = 30_000


class BridgeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-bridge}: a link to another engine.

    @ivar url: The other engine; default the environment variable C{III_URL}, else C{ws://127.0.0.1:49134}.
    @ivar expose: Functions offered there; default none.
    @ivar forward: Functions taken from there; default none.
    @ivar service_id: Accepted and without effect, as C{service_name}: they are in old examples.
    @ivar service_name: See C{service_id}.
    """

    url: Text = "ws://127.0.0.1:49134"
    expose: tuple[Exposed, ...] = ()
    forward: tuple[Forwarded, ...] = ()
    service_id: Text | None = None
    service_name: Text | None = None


class TelemetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-telemetry}: accepted and without effect.  This engine sends no usage data, to nobody.

    @ivar enabled: Without effect.
    @ivar api_key: Without effect.
    @ivar sdk_api_key: Without effect.
    @ivar posthog_api_key: Without effect.
    @ivar posthog_host: Without effect.
    @ivar heartbeat_interval_secs: Without effect.
    """

    enabled: bool = True
    api_key: str | None = None
    sdk_api_key: str | None = None
    posthog_api_key: str | None = None
    posthog_host: str | None = None
    heartbeat_interval_secs: int | None = None
