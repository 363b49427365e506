"""The trigger type C{http}: a binding is a route (spec/http.md, A3 and A15)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from sys import intern
from typing import Any

import msgspec
from msgspec import Raw
from zope.interface import implementer

from iii.core.errors import TriggerRefused
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.modules.http.checks import Check, Condition, Middleware
from iii.modules.http.request import fixed_members
from iii.modules.http.router import Route, Router, parse
from iii.wire.messages import ABSENT

Schema = Mapping[str, Any]

MAX_MIDDLEWARE = 100
LARGEST = 2**40

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")

CONFIGURATION_SCHEMA: Schema = {
    "title": "HttpTriggerConfig",
    "type": "object",
    "properties": {
        "api_path": {"type": "string", "description": "Path such as users/:id"},
        "http_method": {"enum": [*METHODS, None], "default": "GET", "description": "HTTP method"},
        "condition_function_id": {"type": ["string", "null"], "description": "Function that decides"},
        "middleware_function_ids": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Functions called before the handler",
        },
        "timeout_ms": {
            "type": ["integer", "null"],
            "minimum": 1,
            "description": "Until the head of a response must be ready; default: default_timeout of the listener",
        },
        "max_body_bytes": {
            "type": ["integer", "null"],
            "minimum": 1,
            "description": "Of a request's body; default: the engine's limit http_body_bytes",
        },
    },
    "required": ["api_path"],
}
REQUEST_SCHEMA: Schema = {
    "title": "HttpCallRequest",
    "type": "object",
    "properties": {
        "query_params": {"type": "object", "additionalProperties": {"type": "string"}},
        "path_params": {"type": "object", "additionalProperties": {"type": "string"}},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "path": {"type": "string"},
        "method": {"type": "string"},
        "body": {},
    },
    "required": ["query_params", "path_params", "headers", "path", "method", "body"],
}
RESPONSE_SCHEMA: Schema = {
    "title": "HttpCallResponse",
    "type": "object",
    "properties": {
        "status_code": {"type": "integer", "minimum": 100, "maximum": 999, "default": 200},
        "headers": {
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "string"}},
                {"type": "array", "items": {"type": "string"}},
            ]
        },
        "body": {},
    },
}


def read_route(trigger: Trigger, responses_of: Callable[[str], defaultdict[int, int]]) -> Route:
    """
    Make a route of a binding.

    @param responses_of: Returns how many responses the route with a label has given, by status.
    @raise TriggerRefused: Its config does not say one, or asks for what is not available.
    """
    config = _members(trigger.config)
    path = config.get("api_path")
    if not isinstance(path, str):
        raise TriggerRefused("api_path is required for http triggers")
    method = config.get("http_method")
    method = method.upper() if isinstance(method, str) else "GET"
    if method not in METHODS:
        raise TriggerRefused(f"http_method '{method}' is not one of {', '.join(METHODS)}")
    timeout_ms = _positive(config, "timeout_ms")
    return Route(
        method,
        path,
        parse(path),
        intern(trigger.function_id),  # many routes of one function: what they share stays in the processor's cache
        intern(trigger.namespace),
        trigger.metadata or ABSENT,
        fixed_members(method, path),
        _checks(config),
        None if timeout_ms is None else timeout_ms / 1000,
        _positive(config, "max_body_bytes"),
        responses_of(f"{method} {path}"),
    )


def _checks(config: Mapping[str, Any]) -> Sequence[Check]:
    condition, middleware = config.get("condition_function_id"), config.get("middleware_function_ids")
    conditions = [] if condition is None else [Condition(condition)]
    if not isinstance(condition, str | None):
        raise TriggerRefused("`condition_function_id` is to be a text")
    middleware = [] if middleware is None else middleware
    if not isinstance(middleware, list) or not all(isinstance(member, str) for member in middleware):
        raise TriggerRefused("`middleware_function_ids` is to be a list of texts")
    if len(middleware) > MAX_MIDDLEWARE:
        raise TriggerRefused(f"middleware_function_ids names {len(middleware)} functions; {MAX_MIDDLEWARE} are allowed")
    return (*conditions, *map(Middleware, middleware))


def _positive(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is not None and not (type(value) is int and 0 < value <= LARGEST):
        raise TriggerRefused(f"`{key}` is to be an integer from 1 to {LARGEST}")
    return value


def _members(config: Raw) -> dict[str, Any]:
    try:
        members = msgspec.json.decode(config)
    except msgspec.DecodeError:
        return {}
    return members if isinstance(members, dict) else {}


@implementer(ITriggerProvider)
class HttpTriggers:
    """Keeps the routes of a listener in step with the bindings."""

    description = "HTTP API trigger"
    configuration_schema: Schema = CONFIGURATION_SCHEMA
    request_schema: Schema = REQUEST_SCHEMA
    response_schema: Schema = RESPONSE_SCHEMA

    def __init__(self, router: Router, responses_of: Callable[[str], defaultdict[int, int]]) -> None:
        """@param responses_of: As for L{read_route}."""
        self._router, self._responses_of = router, responses_of
        self._routes: dict[str, Route] = {}

    def register(self, trigger: Trigger) -> None:
        """Add its route.  L{TriggerRefused} when the config is wrong or the route is in conflict with another one."""
        route = read_route(trigger, self._responses_of)
        old = self._routes.get(trigger.id)
        if old is not None:
            self._router.remove(old)
        try:
            self._router.add(route)
        except TriggerRefused:
            if old is not None:
                self._router.add(old)
            raise
        self._routes[trigger.id] = route

    def unregister(self, trigger: Trigger) -> None:
        """Remove its route; one that it had replaced serves again."""
        route = self._routes.pop(trigger.id, None)
        if route is not None:
            self._router.remove(route)
