"""C{engine::workers::*}: who is connected, and the modules of the engine itself (spec/engine-functions.md, 6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from iii import __version__
from iii.core.connections import Connection
from iii.core.engine import Engine, Module
from iii.core.errors import InvalidInput, NotFound
from iii.core.functions import BuiltinFunction, Caller
from iii.core.workers import Announcement
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
    A worker, or a module of the engine, in a listing.  C{active_invocations} counts calls that it made and calls that it
    is to answer; C{functions} are the ids of those that it serves.
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
    """A worker; C{internal} is true of modules that always run."""

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
            raise InvalidInput(REGISTER, "missing field `_caller_worker_id`; only a connected worker can announce itself")
        success = caller.connection.announce(announcement)
        if success:
            self._announced(caller.connection)
        return Welcome(success)

    def listing(self, wanted: WorkerFilter, caller: Caller) -> WorkerList:
        """C{engine::workers::list}."""
        needle = (wanted.search or "").casefold()
        rows = [*self._module_rows(), *map(connection_row, self._engine.connections.values())]
        found = [
            row
            for row in rows
            if needle in (row.name or "").casefold()
            and wanted.runtime in (None, row.runtime)
            and wanted.status in (None, row.status)
        ]
        return WorkerList(sorted(found, key=lambda row: (row.name or row.id, row.id)))
