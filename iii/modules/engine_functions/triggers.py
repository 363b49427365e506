"""
C{engine::triggers::*}, which are about trigger I{types}, and C{engine::registered-triggers::*}, which are about
triggers (spec/engine-functions.md, 5).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from iii.core.engine import Engine
from iii.core.errors import NotFound
from iii.core.functions import Caller
from iii.core.triggers import Provider, ProviderKey, Trigger
from iii.modules.engine_functions.functions import FunctionDetail, Functions, live_triggers
from iii.modules.engine_functions.names import first_segment, given, given_json, name_of_provider, names_of_owners
from iii.wire.messages import DEFAULT_NAMESPACE, is_null


class TypeFilter(msgspec.Struct):
    """Which trigger types to list: those that meet all conditions."""

    include_internal: Annotated[bool | None, Meta(description="also those of the engine")] = None
    prefix: Annotated[str | None, Meta(description="how the id starts")] = None
    worker: Annotated[str | None, Meta(description="name of the worker or module that provides it")] = None
    search: Annotated[str | None, Meta(description="part of the id or description, in any case")] = None


class TypeRow(msgspec.Struct):
    """A trigger type in a listing."""

    id: str
    namespace: str
    worker_name: str
    description: str


class TypeList(msgspec.Struct):
    """Trigger types, by id."""

    triggers: list[TypeRow]


class TypeListOfOldEngines(msgspec.Struct):
    """Trigger types, by id, under the name that they had before version 0.13."""

    trigger_types: list[TypeRow]


class TypeQuestion(msgspec.Struct):
    """Which trigger type to describe."""

    id: str
    namespace: Annotated[str | None, Meta(description="`default` without one")] = None


class TypeDetail(TypeRow):
    """
    All about one trigger type: the schemas of a trigger's config, of the payload that functions get, and of what they
    are to return; and how many live triggers it has.
    """

    instance_count: int
    configuration_schema: Raw | UnsetType = UNSET
    request_schema: Raw | UnsetType = UNSET
    response_schema: Raw | UnsetType = UNSET


class TriggerFilter(msgspec.Struct):
    """Which triggers to list: those that meet all conditions."""

    include_internal: Annotated[bool | None, Meta(description="also those whose function is the engine's")] = None
    include_parked: Annotated[bool | None, Meta(description="also those that do not fire now")] = None
    trigger_type: str | None = None
    function_id: str | None = None
    worker: Annotated[str | None, Meta(description="name of a worker or module that serves the function")] = None
    search: Annotated[str | None, Meta(description="part of the id, type or function id, in any case")] = None


class TriggerRow(msgspec.Struct):
    """
    A trigger in a listing.  `worker_name` is the owner of its function, `namespace` the function's,
    `trigger_namespace` that of the type's provider, and `reason` why a parked trigger does not fire.
    """

    id: str
    trigger_type: str
    function_id: str
    worker_name: str
    config: Raw
    config_summary: str
    namespace: str
    state: Literal["live", "parked"]
    trigger_namespace: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class TriggerList(msgspec.Struct):
    """Triggers of all namespaces, by id."""

    registered_triggers: list[TriggerRow]


class TriggerQuestion(msgspec.Struct):
    """Which trigger to describe."""

    id: str
    include_parked: Annotated[bool | None, Meta(description="also when it does not fire now")] = None


class TriggerDetail(TriggerRow, kw_only=True):
    """All about one trigger, its type and its function, as far as they exist."""

    metadata: Raw | UnsetType = UNSET
    trigger: TypeDetail | None
    function: FunctionDetail | None


class TriggerTypes:
    """Answers what trigger types there are."""

    def __init__(self, engine: Engine) -> None:
        self._triggers = engine.triggers

    def listing(self, wanted: TypeFilter, caller: Caller) -> TypeList:
        """C{engine::triggers::list}."""
        return TypeList(self._rows(wanted))

    def listing_of_old_engines(self, wanted: TypeFilter, caller: Caller) -> TypeListOfOldEngines:
        """C{engine::trigger-types::list}."""
        return TypeListOfOldEngines(self._rows(wanted))

    def _rows(self, wanted: TypeFilter) -> list[TypeRow]:
        needle = (wanted.search or "").casefold()
        rows = [type_row(key, provider) for key, provider in self._triggers.providers()]
        return [
            row
            for row in rows
            if (wanted.include_internal or not row.id.startswith("engine::"))
            and row.id.startswith(wanted.prefix or "")
            and (wanted.worker is None or row.worker_name == wanted.worker)
            and (needle in row.id.casefold() or needle in row.description.casefold())
        ]

    def info(self, asked: TypeQuestion, caller: Caller) -> TypeDetail:
        """
        C{engine::triggers::info}.

        @raise NotFound: Nobody provides this type in this namespace.
        """
        namespace = DEFAULT_NAMESPACE if asked.namespace is None else asked.namespace
        detail = self.detail((namespace, asked.id))
        if detail is None:
            raise NotFound(f"Trigger type '{asked.id}' is not registered in namespace '{namespace}'.")
        return detail

    def detail(self, key: ProviderKey) -> TypeDetail | None:
        """Describe a type, if it is provided; a worker's without schemas of its own has those of the module's type."""
        provider = self._triggers.provider(key)
        if provider is None:
            return None
        bindings = (trigger.binding for trigger in self._triggers.all())
        detail = TypeDetail(
            **msgspec.structs.asdict(type_row(key, provider)),
            instance_count=sum(binding is not None and binding.provider_key == key for binding in bindings),
        )
        module = self._triggers.provider((DEFAULT_NAMESPACE, key[1]))
        for schema in ("configuration_schema", "request_schema", "response_schema"):
            described = getattr(provider, schema)
            if is_null(described) and module is not None and module.module is not None:
                described = getattr(module, schema)
            setattr(detail, schema, given_json(described))
        return detail


class RegisteredTriggers:
    """Answers what triggers there are."""

    def __init__(self, engine: Engine, types: TriggerTypes, functions: Functions) -> None:
        self._engine, self._types, self._functions = engine, types, functions

    def listing(self, wanted: TriggerFilter, caller: Caller) -> TriggerList:
        """C{engine::registered-triggers::list}."""
        needle = (wanted.search or "").casefold()
        triggers = self._engine.triggers
        return TriggerList(
            [
                self.row(trigger)
                for trigger in (triggers.all() if wanted.include_parked else live_triggers(triggers))
                if (wanted.include_internal or not trigger.function_id.startswith("engine::"))
                and (wanted.trigger_type is None or trigger.trigger_type == wanted.trigger_type)
                and (wanted.function_id is None or trigger.function_id == wanted.function_id)
                and (wanted.worker is None or wanted.worker in self._names_of_targets(trigger))
                and any(needle in text.casefold() for text in (trigger.id, trigger.trigger_type, trigger.function_id))
            ]
        )

    def info(self, asked: TriggerQuestion, caller: Caller) -> TriggerDetail:
        """
        C{engine::registered-triggers::info}.

        @raise NotFound: There is no such trigger, or it is parked and only a live one was asked for.
        """
        trigger = self._engine.triggers.find(asked.id)
        if trigger is None or (trigger.binding is None and not asked.include_parked):
            raise NotFound(f"Registered trigger '{asked.id}' was not found.")
        function = self._engine.functions.find(trigger.namespace, trigger.function_id)
        return TriggerDetail(
            **msgspec.structs.asdict(self.row(trigger)),
            metadata=given_json(trigger.metadata),
            trigger=None if trigger.binding is None else self._types.detail(trigger.binding.provider_key),
            function=None if function is None else self._functions.details([function])[0],
        )

    def row(self, trigger: Trigger) -> TriggerRow:
        """Describe a trigger briefly."""
        binding = trigger.binding
        return TriggerRow(
            trigger.id,
            trigger.trigger_type,
            trigger.function_id,
            self._names_of_targets(trigger)[0],
            trigger.config,
            trigger.summary,
            trigger.namespace,
            "parked" if binding is None else "live",
            given(trigger.trigger_namespace if binding is None else binding.provider_key[0]),
            given(trigger.reason or None),
        )

    def _names_of_targets(self, trigger: Trigger) -> list[str]:
        function = self._engine.functions.find(trigger.namespace, trigger.function_id)
        return [first_segment(trigger.function_id)] if function is None else names_of_owners(function)


def type_row(key: ProviderKey, provider: Provider) -> TypeRow:
    """Describe a trigger type briefly."""
    return TypeRow(key[1], key[0], name_of_provider(key[1], provider), provider.description)
