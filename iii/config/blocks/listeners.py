"""The listener for workers and the one for HTTP (spec/worker-protocol.md, 14.1; spec/http.md, A2)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from iii.config.parts import Count, Milliseconds, Port, Text, Tls

_MATCH = re.compile(r"""match\((?:"[^"]*"|'[^']*')\)""")


class ExposedFunctions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Functions that a worker may call, in C{rbac.expose_functions}.  Exactly one of C{match} and C{metadata} is given.

    @ivar match: Pattern on the function's id; C{*} stands for any characters.
    @ivar metadata: The function's metadata has all these members; a value C{match("…")} is a pattern on a text.
    @ivar namespace: The function's namespace; default C{default}.
    """

    match: Text | None = None
    metadata: dict[str, Any] | None = None
    namespace: Text = "default"

    def __post_init__(self) -> None:
        if (self.match is None) == (self.metadata is None):
            raise ValueError("either match or metadata must be given")


class Rbac(Struct, frozen=True, kw_only=True):
    """
    Who may do what on a listener; without it, everybody everything.  The functions are looked up in the namespace
    C{default}.  Unknown keys are ignored with a warning.

    @ivar auth_function_id: Called with each new connection; decides whether it may stay, and what it may do.
    @ivar expose_functions: What workers may call: texts C{match("pattern")} or mappings; default nothing.
    @ivar on_function_registration_function_id: Asked before a function is registered.
    @ivar on_trigger_registration_function_id: Asked before a trigger is registered.
    @ivar on_trigger_type_registration_function_id: Asked before a trigger type is registered.
    """

    auth_function_id: Text | None = None
    expose_functions: tuple[str | ExposedFunctions, ...] = ()
    on_function_registration_function_id: Text | None = None
    on_trigger_registration_function_id: Text | None = None
    on_trigger_type_registration_function_id: Text | None = None

    def __post_init__(self) -> None:
        for index, item in enumerate(self.expose_functions):
            if isinstance(item, str) and not _MATCH.fullmatch(item):
                raise ValueError(f'expose_functions[{index}] must be of the form match("pattern")')


class WorkerManagerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-worker-manager}: a listener for workers.  Several entries are several listeners; without one there is one with
    these defaults.

    @ivar host: Address to listen on; default C{engine.host} (the reference: 0.0.0.0).
    @ivar port: Default 49134; 0 is any free port.
    @ivar handshake_timeout_ms: How long a new connection may take for the upgrade to WebSocket; default 10000.
    @ivar middleware_function_id: Called instead of every function that a worker calls.
    @ivar rbac: Access control; default none, everybody may do everything.
    @ivar tls: Speak TLS; default C{engine.tls}.
    """

    host: Text = "127.0.0.1"
    port: Port = 49134
    handshake_timeout_ms: Milliseconds = 10_000
    middleware_function_id: Text | None = None
    rbac: Rbac | None = None
    tls: Tls | None = None


class EngineFunctionsSettings(Struct, frozen=True, kw_only=True):
    """C{iii-engine-functions}: the functions C{engine::*}.  It has no keys; what is given is ignored with a warning."""


class Cors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Which web pages may call the routes.

    @ivar allowed_origins: Origins such as C{https://app.example.com}; empty, or with C{*} in it, any.  Default empty.
    @ivar allowed_methods: HTTP methods; empty is any.  Default empty.
    """

    allowed_origins: tuple[Text, ...] = ()
    allowed_methods: tuple[Text, ...] = ()


class Middleware(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A function that is called before the handler of every route.

    @ivar function_id: Required.
    @ivar phase: C{preHandler}, the only one.
    @ivar priority: Lower ones are called first, equal ones in the order of the file; default 0.
    """

    function_id: Text
    phase: Literal["preHandler"] = "preHandler"
    priority: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 0


class HttpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-http}: the server of the HTTP routes.  How large requests may be is in C{engine.limits}.

    @ivar host: Address to listen on; default C{engine.host} (the reference: 0.0.0.0).
    @ivar port: Default 3111; 0 is any free port.
    @ivar default_timeout: Milliseconds until the head of a response must be ready, else 504; default 30000.
    @ivar concurrency_request_limit: Requests in progress at one time, others wait; default 1024.
    @ivar cors: Which web pages may call; default none, which allows all.
    @ivar middleware: Functions called before every handler; default none.
    @ivar tls: Speak TLS; default C{engine.tls}.
    """

    host: Text = "127.0.0.1"
    port: Port = 3111
    default_timeout: Milliseconds = 30_000
    concurrency_request_limit: Count = 1024
    cors: Cors | None = None
    middleware: tuple[Middleware, ...] = ()
    tls: Tls | None = None
