"""Whose name stands beside a function or a trigger type, and which namespace is meant (spec/engine-functions.md)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from msgspec import UNSET, Raw, UnsetType

from iii.core.functions import BuiltinFunction, Function
from iii.core.triggers import Provider
from iii.wire.messages import DEFAULT_NAMESPACE, is_null

T = TypeVar("T")

OWNERS_OF_TYPES = {
    "durable:subscriber": "queue",
    "engine::functions-available": "engine",
    "engine::workers-available": "engine",
}
"""Types of modules that are listed under another name than the module's (spec, 9 and 10)."""


def given(value: T | None) -> T | UnsetType:
    """A member that is left out when there is no value."""
    return UNSET if value is None else value


def given_json(payload: Raw) -> Raw | UnsetType:
    """A member with any JSON that is left out when there is none."""
    return UNSET if is_null(payload) else payload


def first_segment(whole: str) -> str:
    """What stands for an owner without a name: C{orders} for C{orders::create}."""
    return whole.partition("::")[0]


def names_of_owners(function: Function) -> list[str]:
    """The names of all that serve a function, newest first."""
    if isinstance(function, BuiltinFunction):
        return [function.module]
    return [owner.name or first_segment(function.id) for owner in reversed(function.owners)]


def name_of_provider(type_id: str, provider: Provider) -> str:
    """The name under which a trigger type's provider is listed."""
    worker = provider.connection
    return (worker.name if worker else OWNERS_OF_TYPES.get(type_id, provider.module)) or first_segment(type_id)


def meant_namespace(candidates: Collection[str], named: str | None) -> str | None:
    """Of the namespaces that have what is asked for: the one that was named, else C{default}, else the only one."""
    if named is not None:
        return named if named in candidates else None
    if DEFAULT_NAMESPACE in candidates:
        return DEFAULT_NAMESPACE
    return next(iter(candidates)) if len(candidates) == 1 else None
