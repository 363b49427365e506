"""The modules by name, and the rules about their names (spec/config.md, 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count

import attrs
from msgspec import Struct

from iii.config.blocks.listeners import EngineFunctionsSettings, HttpSettings, WorkerManagerSettings
from iii.config.blocks.observability import ObservabilitySettings
from iii.config.blocks.outside import BridgeSettings, ExecSettings, HttpFunctionsSettings, TelemetrySettings
from iii.config.blocks.queue import QueueSettings
from iii.config.blocks.stores import (
    ConfigurationSettings,
    CronSettings,
    PubSubSettings,
    StateSettings,
    StreamSettings,
)


@attrs.frozen(kw_only=True)
class Module:
    """
    A module that a configuration can name.

    @ivar settings: Describes its block.
    @ivar alias: Another name of it, that of a separate program which replaces it in the reference.
    @ivar always: It runs also when a file does not list it.
    @ivar without_file: It runs when there is no file.
    @ivar once: A file cannot have two of it: they would have the same functions.
    @ivar available: This version has it.  One that it does not have is read, checked and reported.
    @ivar missing_adapters: Names of adapters that this version does not have; one that is given is refused.
    @ivar missing_keys: Keys of its block that this version does not have.  They are checked like others, and one that
        is given is refused: ignoring it could open what it closes.
    @ivar idle_keys: Likewise, but ignoring them harms nothing: a warning names those that are given.
    """

    name: str
    settings: type[Struct]
    alias: str | None = None
    always: bool = False
    without_file: bool = True
    once: bool = False
    available: bool = False
    missing_adapters: tuple[str, ...] = ()
    missing_keys: tuple[str, ...] = ()
    idle_keys: tuple[str, ...] = ()


LOG_KEYS = (
    "enabled", "service_name", "logs_enabled", "logs_max_count", "logs_retention_seconds", "logs_sampling_ratio",
    "logs_console_output", "level",
)  # fmt: skip
"""Of C{iii-observability}, of which this version has the logs."""
WORKER_MANAGER = "iii-worker-manager"
BRIDGE = "iii-bridge"

MODULES: Mapping[str, Module] = {
    module.name: module
    for module in (
        Module(
            name=WORKER_MANAGER,
            settings=WorkerManagerSettings,
            always=True,
            available=True,
            missing_keys=("rbac", "middleware_function_id"),
        ),
        Module(name="iii-engine-functions", settings=EngineFunctionsSettings, always=True, once=True, available=True),
        Module(name="configuration", settings=ConfigurationSettings, always=True),
        Module(
            name="iii-observability",
            settings=ObservabilitySettings,
            always=True,
            once=True,
            available=True,
            idle_keys=tuple(key for key in ObservabilitySettings.__struct_fields__ if key not in LOG_KEYS),
        ),
        Module(name="iii-telemetry", settings=TelemetrySettings, without_file=False),
        Module(name="iii-http", settings=HttpSettings, alias="http", available=True),
        Module(name="iii-stream", settings=StreamSettings, once=True, available=True, missing_adapters=("bridge",)),
        Module(
            name="iii-state",
            settings=StateSettings,
            alias="state",
            once=True,
            available=True,
            missing_adapters=("bridge",),
        ),
        Module(name="iii-pubsub", settings=PubSubSettings, alias="pubsub", once=True, available=True),
        Module(name="iii-cron", settings=CronSettings, alias="cron", once=True, available=True),
        Module(
            name="iii-queue",
            settings=QueueSettings,
            alias="queue",
            always=True,
            once=True,
            available=True,
            missing_adapters=("redis", "rabbitmq", "bridge"),
        ),
        Module(name="iii-http-functions", settings=HttpFunctionsSettings, without_file=False),
        Module(name="iii-exec", settings=ExecSettings, without_file=False),
        Module(name=BRIDGE, settings=BridgeSettings, without_file=False),
    )
}

NAMES: Mapping[str, Module] = {**MODULES, **{module.alias: module for module in MODULES.values() if module.alias}}
"""Every name that an entry may have."""


def kind(name: str) -> str:
    """Return an entry's name without what tells it from others of its kind: C{iii-http} of C{iii-http#2}."""
    return name.partition("#")[0]


def unique(names: Sequence[str]) -> list[str]:
    """Return the names with C{#1}, C{#2} appended to those that were there before."""
    taken = set(names)
    result: list[str] = []
    for name in names:
        if name in result:
            name = next(free for number in count(1) if (free := f"{name}#{number}") not in taken)
            taken.add(name)
        result.append(name)
    return result


def doubled(names: Iterable[str]) -> list[Module]:
    """Return the modules that are there under both of their names."""
    present = {kind(name) for name in names}
    return [module for module in MODULES.values() if module.alias in present and module.name in present]
