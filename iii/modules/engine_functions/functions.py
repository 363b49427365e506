"""C{engine::functions::list} and C{engine::functions::info} (spec/engine-functions.md, 4)."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from iii.core.engine import Engine
from iii.core.errors import InvalidArguments, NotFound
from iii.core.functions import BuiltinFunction, Caller, Function
from iii.core.triggers import Trigger, TriggerTable
from iii.modules.engine_functions.names import given, given_json, meant_namespace, names_of_owners

MAX_IDS = 32


class FunctionFilter(msgspec.Struct):
    """Which functions to list: those that meet all conditions."""

    include_internal: Annotated[bool | None, Meta(description="also those of the engine, and those marked so")] = None
    prefix: Annotated[str | None, Meta(description="how the id starts")] = None
    worker: Annotated[str | None, Meta(description="name of a worker or module that serves it")] = None
    workers: Annotated[list[str] | None, Meta(description="several such names, any of which will do")] = None
    search: Annotated[str | None, Meta(description="part of the id or description, in any case")] = None


class FunctionRow(msgspec.Struct):
    """A function in a listing."""

    function_id: str
    namespace: str
    worker_name: str
    description: str | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET


class FunctionList(msgspec.Struct):
    """Functions of all namespaces, by id; with a search, the best matches first."""

    functions: list[FunctionRow]


class FunctionQuestion(msgspec.Struct):
    """Which function, or which several functions, to describe."""

    function_id: str | None = None
    function_ids: Annotated[list[str] | None, Meta(description=f"instead of function_id; at most {MAX_IDS}")] = None
    namespace: Annotated[str | None, Meta(description="else `default`, else the only namespace that has the id")] = None


class BoundTrigger(msgspec.Struct):
    """A live trigger of a function."""

    id: str
    trigger_type: str
    config: Raw


class FunctionDetail(FunctionRow, kw_only=True):
    """All about one function.  The schemas are what its worker sent, or generated for those of the engine."""

    request_schema: Any = UNSET
    response_schema: Any = UNSET
    registered_triggers: list[BoundTrigger]


class NoDetail(msgspec.Struct):
    """In the place of a function that cannot be described."""

    function_id: str
    error: Literal["not_found"]


class FunctionDetails(msgspec.Struct):
    """Several functions in the order in which they were asked for."""

    functions: list[FunctionDetail | NoDetail]


def function_row(function: Function, worker_name: str | None = None) -> FunctionRow:
    """
    Describe a function briefly.

    @param worker_name: The owner to show; the newest one without it.
    """
    return FunctionRow(
        function.id,
        function.namespace,
        worker_name or names_of_owners(function)[0],
        given(function.description),
        given_json(function.metadata),
    )


def live_triggers(triggers: TriggerTable) -> list[Trigger]:
    """The triggers that fire, by id."""
    return [trigger for trigger in triggers.all() if trigger.binding is not None]


class Functions:
    """Answers what functions there are."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def listing(self, wanted: FunctionFilter, caller: Caller) -> FunctionList:
        """C{engine::functions::list}."""
        names = set(wanted.workers or ())
        if wanted.worker is not None:
            names.add(wanted.worker)
        found = [
            function
            for function in self._engine.functions
            if (wanted.include_internal or not is_internal(function))
            and function.id.startswith(wanted.prefix or "")
            and (not names or not names.isdisjoint(names_of_owners(function)))
        ]
        if wanted.search:
            found = ranked(found, wanted.search.casefold())
        return FunctionList([function_row(function) for function in found])

    def info(self, asked: FunctionQuestion, caller: Caller) -> FunctionDetail | FunctionDetails:
        """
        C{engine::functions::info}.

        @raise InvalidArguments: Not exactly one of C{function_id} and C{function_ids}; or no or too many ids.
        @raise NotFound: The single function is not there, or in several namespaces.
        """
        if asked.function_id is not None and asked.function_ids is not None:
            raise InvalidArguments("pass either `function_id` or `function_ids`, not both")
        if asked.function_id is not None:
            function = self._meant(asked.function_id, asked.namespace)
            if function is None:
                raise self._no_such(asked.function_id, asked.namespace)
            return self.details([function])[0]
        if asked.function_ids is None:
            raise InvalidArguments("missing field `function_id` (or `function_ids` for a batch)")
        ids = list(dict.fromkeys(asked.function_ids))
        if not ids:
            raise InvalidArguments("`function_ids` must be a non-empty array of function ids")
        if len(ids) > MAX_IDS:
            raise InvalidArguments(f"too many function_ids (max {MAX_IDS})")
        functions = [function for function in (self._meant(each, asked.namespace) for each in ids) if function]
        details = {detail.function_id: detail for detail in self.details(functions)}
        return FunctionDetails([details.get(each) or NoDetail(each, "not_found") for each in ids])

    def _meant(self, function_id: str, named: str | None) -> Function | None:
        table = self._engine.functions
        namespace = meant_namespace(table.namespaces_of(function_id), named)
        return None if namespace is None else table.find(namespace, function_id)

    def _no_such(self, function_id: str, named: str | None) -> NotFound:
        namespaces = self._engine.functions.namespaces_of(function_id)
        where = f"registered in namespace(s): {', '.join(namespaces)}."
        if not namespaces:
            return NotFound(f"Function '{function_id}' is not registered.")
        if named is not None:
            return NotFound(f"Function '{function_id}' is not registered in the requested namespace; it is {where}")
        return NotFound(f"Function '{function_id}' is ambiguous: it is {where} Pass `namespace` to select one.")

    def details(self, functions: list[Function]) -> list[FunctionDetail]:
        """Describe functions, in their order."""
        of_target: dict[tuple[str, str], list[BoundTrigger]] = defaultdict(list)
        for trigger in live_triggers(self._engine.triggers):
            bound = BoundTrigger(trigger.id, trigger.trigger_type, trigger.config)
            of_target[trigger.namespace, trigger.function_id].append(bound)
        return [_detail(function, of_target.get((function.namespace, function.id), [])) for function in functions]


def _detail(function: Function, triggers: list[BoundTrigger]) -> FunctionDetail:
    detail = FunctionDetail(**msgspec.structs.asdict(function_row(function)), registered_triggers=triggers)
    if isinstance(function, BuiltinFunction):
        detail.request_schema = given(function.schema("input"))
        detail.response_schema = given(function.schema("output"))
    else:
        detail.request_schema = given_json(function.latest.request_format)
        detail.response_schema = given_json(function.latest.response_format)
    return detail


def is_internal(function: Function) -> bool:
    """Whether default listings leave a function out."""
    if function.id.startswith("engine::") and not function.id.startswith("engine::queue::"):
        return True
    return function.internal


def ranked(functions: list[Function], needle: str) -> list[Function]:
    """
    Keep the functions that match a search, best matches first: those whose id starts with it or has a C{::} segment
    equal to it, then those whose id contains it, then those whose description does.

    @param needle: Case-folded.
    """
    ranks: list[list[Function]] = [[], [], []]
    for function in functions:
        identity = function.id.casefold()
        if identity.startswith(needle) or needle in identity.split("::"):
            ranks[0].append(function)
        elif needle in identity:
            ranks[1].append(function)
        elif needle in (function.description or "").casefold():
            ranks[2].append(function)
    return [function for rank in ranks for function in rank]
