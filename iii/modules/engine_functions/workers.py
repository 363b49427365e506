"""C{engine::workers::*}: who is connected, and the modules of the engine itself (spec/engine-functions.md, 6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from iii import __version__
from iii.core.announcement import Announcement
from iii.core.connections import Connection
from iii.core.engine import Engine, Module
from iii.core.errors import InvalidInput, NotFound
from iii.core.functions import Caller, Function
from iii.core.triggers import Provider
from iii.modules.engine_functions.functions import FunctionRow, function_row, live_triggers
from iii.modules.engine_functions.names import given, meant_namespace
from iii.modules.engine_functions.triggers import RegisteredTriggers, TriggerRow, TypeRow, type_row
from iii.wire.messages import DEFAULT_NAMESPACE

REGISTER = "engine::workers::register"


class WorkerFilter(msgspec.Struct):
    """Which workers to list: those that meet all conditions."""

    search: Annotated[str | None, Meta(description="part of the name, in any case")] = None
    runtime: str | None = None
    status: str | None = None


class WorkerRow(msgspec.Struct):
    """
    A worker, or a module of the engine, in a listing.  `active_invocations` counts the calls that it made and waits
    for, and the calls that it is to answer; `functions` are the ids of those that it serves.
    """

    id: str
    name: str | None
    namespace: str
    description: str | None
    runtime: str
    version: str | None
    os: str | None
    status: str
    isolation: str | None
    ip_address: str | None
    function_count: int
    functions: list[str]
    connected_at_ms: int
    active_invocations: int


class WorkerList(msgspec.Struct):
    """All modules, and the workers that told their process id, by name."""

    workers: list[WorkerRow]


class WorkerQuestion(msgspec.Struct):
    """Which worker to describe."""

    name: str
    namespace: Annotated[str | None, Meta(description="else `default`, else the only namespace with that name")] = None


class WorkerDetail(WorkerRow, kw_only=True):
    """A worker; `internal` is true of modules that always run."""

    pid: int | UnsetType = UNSET
    internal: bool


class WorkerInfo(msgspec.Struct):
    """A worker with what it serves and provides, and the live triggers of its functions."""

    worker: WorkerDetail
    functions: list[FunctionRow]
    trigger_types: list[TypeRow]
    registered_triggers: list[TriggerRow]


class Welcome(msgspec.Struct):
    """Whether the worker may stay; if not, its connection is being closed."""

    success: bool


class Workers:
    """Answers who is connected, and takes in what workers say about themselves."""

    def __init__(self, engine: Engine, triggers: RegisteredTriggers, announced: Callable[[Connection], None]) -> None:
        """
        @param announced: Told of each worker that has said who it is, also when it says so again.
        """
        self._engine, self._triggers, self._announced = engine, triggers, announced
        self._started = engine.clock.seconds()

    def register(self, announcement: Announcement, caller: Caller) -> Welcome:
        """
        C{engine::workers::register}.

        @raise BlankWorkerNamespace: It named a namespace and left it blank.
        """
        if caller.connection is None:
            raise InvalidInput(
                REGISTER, "missing field `_caller_worker_id`; only a connected worker can announce itself"
            )
        success = caller.connection.announce(announcement)
        if success:
            self._announced(caller.connection)
        return Welcome(success)

    def listing(self, wanted: WorkerFilter, caller: Caller) -> WorkerList:
        """C{engine::workers::list}."""
        needle = (wanted.search or "").casefold()
        of_modules = self._functions_of_modules()
        rows = [self._module_row(module, of_modules[module.name]) for module in self._engine.modules]
        for connection in self._engine.connections.values():
            said = connection.announcement
            if said is not None and said.pid is not None:
                rows.append(connection_row(connection, said))
        found = [
            row
            for row in rows
            if needle in (row.name or "").casefold()
            and wanted.runtime in (None, row.runtime)
            and wanted.status in (None, row.status)
        ]
        return WorkerList(sorted(found, key=lambda row: (row.name or row.id, row.id)))

    def info(self, asked: WorkerQuestion, caller: Caller) -> WorkerInfo:
        """
        C{engine::workers::info}.

        @raise NotFound: Nobody has this name, or workers of several namespaces have.
        """
        worker = self._meant(asked)
        return self._module(worker) if isinstance(worker, Module) else self._worker(worker)

    def _module(self, module: Module) -> WorkerInfo:
        functions = self._functions_of_modules()[module.name]
        row = msgspec.structs.asdict(self._module_row(module, functions))
        return self._info(
            WorkerDetail(**row, internal=module.internal), functions, lambda provider: provider.module == module.name
        )

    def _worker(self, connection: Connection) -> WorkerInfo:
        said = connection.announcement
        assert said is not None  # it has a name
        row = connection_row(connection, said)
        served = [self._engine.functions.find(row.namespace, each) for each in row.functions]
        return self._info(
            WorkerDetail(**msgspec.structs.asdict(row), pid=given(said.pid), internal=False),
            [function for function in served if function is not None],
            lambda provider: provider.connection is connection,
        )

    def _info(
        self, worker: WorkerDetail, functions: list[Function], provides: Callable[[Provider], bool]
    ) -> WorkerInfo:
        targets = {(function.namespace, function.id) for function in functions}
        triggers = self._engine.triggers
        return WorkerInfo(
            worker,
            [function_row(function, worker.name) for function in functions],
            [type_row(key, provider) for key, provider in triggers.providers() if provides(provider)],
            [
                self._triggers.row(each)
                for each in live_triggers(triggers)
                if (each.namespace, each.function_id) in targets
            ],
        )

    def _meant(self, asked: WorkerQuestion) -> Module | Connection:
        """Find the one with a name: modules before workers, and of workers with one name the newest."""
        found: dict[str, Module | Connection] = {}
        for module in self._engine.modules:
            if module.name == asked.name:
                found.setdefault(DEFAULT_NAMESPACE, module)
        for connection in reversed(self._engine.connections.values()):
            if connection.name == asked.name and connection.namespace is not None:
                found.setdefault(connection.namespace, connection)
        namespace = meant_namespace(found, asked.namespace)
        if namespace is not None:
            return found[namespace]
        where = f"connected in namespace(s): {', '.join(sorted(found))}."
        if not found:
            raise NotFound(f"Worker '{asked.name}' is not connected.")
        if asked.namespace is not None:
            raise NotFound(f"Worker '{asked.name}' is not connected in the requested namespace; it is {where}")
        raise NotFound(f"Worker '{asked.name}' is ambiguous: it is {where} Pass `namespace` to disambiguate.")

    def _functions_of_modules(self) -> defaultdict[str, list[Function]]:
        """What each module serves, by id."""
        of_modules = defaultdict(list)
        for function in self._engine.functions:
            of_modules[function.module or ""].append(function)
        return of_modules

    def _module_row(self, module: Module, functions: list[Function]) -> WorkerRow:
        return WorkerRow(
            id=module.id,
            name=module.name,
            namespace=DEFAULT_NAMESPACE,
            description=module.description,
            runtime="engine",
            version=__version__,
            os=None,
            status="available",
            isolation="in-process",
            ip_address=None,
            function_count=len(functions),
            functions=[function.id for function in functions],
            connected_at_ms=int(self._started * 1000),
            active_invocations=0,
        )


def connection_row(connection: Connection, said: Announcement) -> WorkerRow:
    """Describe a worker briefly."""
    assert connection.namespace is not None  # it is known with the announcement
    return WorkerRow(
        id=connection.id,
        name=said.name,
        namespace=connection.namespace,
        description=said.description,
        runtime=said.runtime or "unknown",
        version=said.version,
        os=said.os,
        status="connected",
        isolation=said.isolation,
        ip_address=connection.edge.address,
        function_count=len(connection.registrations.functions),
        functions=sorted(connection.registrations.functions),
        connected_at_ms=int(connection.connected_at * 1000),
        active_invocations=len(connection.made) + len(connection.pending),
    )
