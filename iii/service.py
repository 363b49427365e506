"""From a configuration to one tree of services.  Start reading here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.application.service import IService, Service

from iii.config.blocks.listeners import EngineFunctionsSettings, HttpSettings, WorkerManagerSettings
from iii.config.blocks.observability import ObservabilitySettings
from iii.config.blocks.queue import BuiltinAdapter, QueueSettings
from iii.config.blocks.stores import (
    CronKvAdapter,
    CronSettings,
    KvAdapter,
    PubSubRedisAdapter,
    PubSubSettings,
    RedisAdapter,
    StateSettings,
    StreamKvAdapter,
    StreamSettings,
)
from iii.config.blocks.stores import Store as StoreSettings
from iii.config.errors import ConfigError
from iii.config.load import load
from iii.config.settings import EngineSettings, Settings
from iii.core.engine import Engine, Module
from iii.interfaces import ILocalValues, IValues
from iii.lifecycle import Accepts, EngineServices
from iii.modules.api.service import ApiService
from iii.modules.cron.redis import RedisCronStore
from iii.modules.cron.service import CronService
from iii.modules.cron.store import KvCronStore, MemoryRows, OneShots, SqliteRows
from iii.modules.engine_functions.service import EngineFunctions
from iii.modules.http.service import HttpModule
from iii.modules.observability.service import Observability
from iii.modules.pubsub.delivery import Deliveries
from iii.modules.pubsub.exchange import LocalExchange
from iii.modules.pubsub.redis import RedisExchange
from iii.modules.pubsub.service import PubSubModule
from iii.modules.queue.jobs import IStore
from iii.modules.queue.service import QueueModule
from iii.modules.state.service import StateModule
from iii.modules.stream.backend import IStreamBackend
from iii.modules.stream.events import Stamps
from iii.modules.stream.local import LocalBackend
from iii.modules.stream.redis import RedisBackend
from iii.modules.stream.service import StreamModule
from iii.modules.workers.listener import WorkerFactory, WorkerListener
from iii.options import Options
from iii.storage.file import StoreFile
from iii.storage.memory import MemoryValues
from iii.storage.redis import RedisLink
from iii.storage.redis_connection import IReactor as RedisReactor
from iii.storage.redis_service import RedisService
from iii.storage.redis_subscriber import RedisSubscriber
from iii.storage.redis_url import InvalidRedisUrl
from iii.storage.redis_values import RedisValues
from iii.storage.schema import CRON_JOB, CRON_ONE_SHOT, STATE, STREAM, Table
from iii.storage.sqlite import Store
from iii.storage.sqlite_values import SqliteValues
from iii.storage.volatile import VolatileStore
from iii.wire.listen import IReactor
from iii.wire.outbox import Flusher

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """
    Build the engine from its configuration.  Nothing is opened: C{twistd} forks after this.

    @raise SystemExit: The file is wrong; the text names the key.
    """
    config = options["config"]
    try:
        settings = load(None if config is None else Path(config), os.environ)
        return build(settings, _reactor(), foreground=options.foreground)
    except ConfigError as error:
        raise SystemExit(f"iii: {error}") from error


def _reactor() -> IReactor:
    """Return the global reactor, which is named here and nowhere else; to import it installs it."""
    from twisted.internet import reactor

    return cast(IReactor, reactor)


@attrs.frozen
class Parts:
    """
    What the modules are made of.

    @ivar verbose: The log tells about single requests.
    """

    engine: Engine
    settings: EngineSettings
    flusher: Flusher
    reactor: IReactor
    verbose: bool
    stores: dict[Path, Store] = attrs.field(factory=dict)
    links: list[RedisService] = attrs.field(factory=list)

    def redis(self, url: str, key: str) -> RedisLink:
        """
        Return a link to Redis for one module.

        @param key: Where the URL stands in the configuration, for the L{ConfigError} if it is none.
        """
        try:
            backlog_bytes = self.settings.limits.store_backlog_bytes
            link = RedisLink(url, cast(RedisReactor, self.reactor), backlog_bytes=backlog_bytes)
        except InvalidRedisUrl as error:
            raise ConfigError(f"{key}: {error}") from error
        self.links.append(RedisService(link))
        return link

    def store(self, directory: Path | None) -> Store:
        """Return the store in a directory, of which there is one; by default that of the engine."""
        path = directory or self.settings.data_directory
        if path not in self.stores:
            limits = self.settings.limits
            self.stores[path] = Store(
                StoreFile(path),
                self.reactor,
                self.reactor.callFromThread,
                max_bytes=limits.store_bytes,
                backlog_bytes=limits.store_backlog_bytes,
                on_failed_commit=self._commit_failed,
            )
        return self.stores[path]

    def _commit_failed(self) -> None:
        self.engine.counters.store_failed_commits += 1


def build(settings: Settings, reactor: IReactor, *, foreground: bool) -> EngineServices:
    """
    Make the tree of services.  They start in the order in which they stand there and stop in reverse: the stores start
    before the modules that use them, what work comes in through starts last, and the API, which tells how the engine
    fares, stops last.

    @param foreground: See L{EngineServices}.
    """
    own = settings.engine
    engine = Engine(
        reactor,
        own.limits,
        ownership=own.ownership,
        call_timeout=own.call_timeout_ms / 1000,
        namespace_grace=settings.registration_namespace_grace_ms / 1000,
    )
    verbose = any(
        isinstance(entry.settings, ObservabilitySettings) and entry.settings.plain_level in ("debug", "trace")
        for entry in settings.modules
    )
    parts = Parts(engine, own, Flusher(reactor, engine.peer_dropped), reactor, verbose)
    tree = EngineServices(engine, reactor, own.drain_timeout_ms / 1000, notes(settings), foreground=foreground)
    if own.api.enabled:
        ApiService(own.api, own.token, engine, lambda: readiness(tree, engine), reactor).setServiceParent(tree)
    entries = sorted(settings.modules, key=lambda entry: LAST.index(entry.module) if entry.module in LAST else -1)
    services = [BUILDERS[entry.module](parts, entry.settings) for entry in entries]
    for store in (*parts.stores.values(), *parts.links):
        store.setServiceParent(tree)
    for entry, service in zip(entries, services, strict=True):
        engine.add_module(
            Module(entry.name, entry.module, service.description, service.internal),
            service.functions,
            service.trigger_types,
        )
        service.setName(entry.name)
        service.setServiceParent(tree)
    return tree


def store_files(settings: Settings) -> list[Path]:
    """Return the files of the stores that a configuration has, the engine's own first."""
    tree = build(settings, _reactor(), foreground=True)
    files = [child.path for child in tree if isinstance(child, Store)]
    own = settings.engine.data_directory
    return sorted(files, key=lambda file: file.parent != own)


def readiness(tree: EngineServices, engine: Engine) -> dict[str, str]:
    """
    Tell what C{/readyz} answers, of each part why it does not work, or an empty text: whether all has started and
    nothing stops, each store commits, there is a connection to each Redis, and each listener listens.  One that has
    started does, because otherwise the start fails; when the engine stops, all close their ports at once.
    """
    found = {"engine": "" if tree.ready else "starting or stopping"}
    for child in tree:
        if isinstance(child, Store):
            name = f"store {child.path.parent.name}"
            found[name] = found.get(name) or str(child.failing or "")
        elif isinstance(child, RedisService):
            name = f"redis {child.link.url.shown}"
            found[name] = found.get(name) or child.link.failing or ""
        elif isinstance(child, Accepts):
            listens = cast(Service, child).running and not engine.stopping
            found[str(cast(Service, child).name)] = "" if listens else "takes no work"
    return found


def notes(settings: Settings) -> list[str]:
    """What the start says about the configuration."""
    running = ", ".join(entry.name for entry in settings.modules)
    lines = [
        f"no configuration file: running every module with its defaults ({running})"
        if settings.path is None
        else f"configured by {settings.path}: running {running}"
    ]
    if settings.unavailable:
        names = ", ".join(entry.name for entry in settings.unavailable)
        lines.append(f"not available in this version yet: {names}")
    return [*lines, *settings.warnings]


def _workers(parts: Parts, settings: WorkerManagerSettings) -> WorkerListener:
    factory = WorkerFactory(
        parts.engine,
        parts.reactor,
        parts.flusher,
        token=parts.settings.token,
        origins=parts.settings.origins,
        handshake_timeout=settings.handshake_timeout_ms / 1000,
        ping_interval=parts.settings.ping_interval_ms / 1000,
    )
    return WorkerListener(factory, settings.host, settings.port, settings.tls, parts.reactor)


def _http(parts: Parts, settings: HttpSettings) -> HttpModule:
    return HttpModule(settings, parts.engine, parts.flusher, parts.reactor, access_log=parts.verbose)


def _engine_functions(parts: Parts, settings: EngineFunctionsSettings) -> EngineFunctions:
    return EngineFunctions(parts.engine, parts.reactor)


def _observability(parts: Parts, settings: ObservabilitySettings) -> Observability:
    return Observability(settings, parts.engine, parts.reactor, parts.reactor.callFromThread)


def _state(parts: Parts, settings: StateSettings) -> StateModule:
    adapter = settings.adapter
    values: IValues
    if isinstance(adapter, RedisAdapter):
        link = parts.redis(adapter.config.redis_url, "iii-state: config.adapter.config.redis_url")
        values = RedisValues(link, "state:", parts.settings.limits.message_bytes)
    else:
        assert isinstance(adapter, KvAdapter), "the configuration refuses what this version does not have"
        values = _values(parts, adapter.config, STATE)
    return StateModule(settings, values, parts.engine)


def _stream(parts: Parts, settings: StreamSettings) -> StreamModule:
    stamps = Stamps(parts.reactor)
    return StreamModule(
        settings,
        _stream_backend(parts, settings, stamps),
        stamps,
        parts.engine,
        parts.reactor,
        token=parts.settings.token,
        origins=parts.settings.origins,
        ping_interval=parts.settings.ping_interval_ms / 1000,
    )


def _stream_backend(parts: Parts, settings: StreamSettings, stamps: Stamps) -> IStreamBackend:
    adapter, limits = settings.adapter, parts.settings.limits
    if isinstance(adapter, StreamKvAdapter):
        return LocalBackend(_values(parts, adapter.config, STREAM), stamps)
    assert isinstance(adapter, RedisAdapter), "the configuration refuses what this version does not have"
    link = parts.redis(adapter.config.redis_url, "iii-stream: config.adapter.config.redis_url")
    subscriber = RedisSubscriber(adapter.config.redis_url, cast(RedisReactor, parts.reactor))
    return RedisBackend(parts.engine, link, subscriber, stamps, limits.message_bytes)


def _values(parts: Parts, store: StoreSettings, table: Table) -> ILocalValues:
    """Return the values of a module that are kept in this engine."""
    limits = parts.settings.limits
    if store.store_method == "in_memory":
        return MemoryValues(limits.memory_store_bytes, limits.message_bytes)
    return SqliteValues(parts.store(store.file_path), table, limits.message_bytes, limits.store_cache_bytes)


def _cron(parts: Parts, settings: CronSettings) -> CronService:
    adapter, clock = settings.adapter, parts.reactor
    ttl_ms = adapter.config.lock_ttl_ms
    if not isinstance(adapter, CronKvAdapter):
        link = parts.redis(adapter.config.redis_url, "iii-cron: config.adapter.config.redis_url")
        one_shots = OneShots(SqliteRows(parts.store(None), CRON_ONE_SHOT, "redis"))
        return CronService(parts.engine, RedisCronStore(link, clock, ttl_ms), one_shots, clock, ttl_ms / 1000)
    if adapter.config.store_method == "in_memory":
        store, one_shots = KvCronStore(MemoryRows(), clock, ttl_ms), OneShots(MemoryRows())
    else:
        file, index = parts.store(adapter.config.file_path), adapter.config.lock_index
        store = KvCronStore(SqliteRows(file, CRON_JOB, index), clock, ttl_ms)
        one_shots = OneShots(SqliteRows(file, CRON_ONE_SHOT, index))
    return CronService(parts.engine, store, one_shots, clock, ttl_ms / 1000)


def _pubsub(parts: Parts, settings: PubSubSettings) -> PubSubModule:
    adapter, deliveries = settings.adapter, Deliveries(parts.engine)
    if not isinstance(adapter, PubSubRedisAdapter):
        return PubSubModule(parts.engine, LocalExchange(deliveries))
    config = adapter.config
    link = parts.redis(config.redis_url, "iii-pubsub: config.adapter.config.redis_url")
    subscriber = RedisSubscriber(config.redis_url, cast(RedisReactor, parts.reactor))
    return PubSubModule(parts.engine, RedisExchange(parts.engine, deliveries, link, subscriber, config.channel_prefix))


def _queue(parts: Parts, settings: QueueSettings) -> QueueModule:
    adapter = settings.adapter
    assert isinstance(adapter, BuiltinAdapter), "the configuration refuses what this version does not have"
    store: IStore
    if adapter.config.store_method == "in_memory":
        store = VolatileStore(parts.settings.limits.memory_store_bytes)
    else:
        store = parts.store(adapter.config.file_path)
    return QueueModule(settings, store, parts.engine, parts.reactor)


BUILDERS: Mapping[str, Callable[[Parts, Any], Any]] = {
    "iii-engine-functions": _engine_functions,
    "iii-observability": _observability,
    "iii-worker-manager": _workers,
    "iii-http": _http,
    "iii-state": _state,
    "iii-stream": _stream,
    "iii-cron": _cron,
    "iii-pubsub": _pubsub,
    "iii-queue": _queue,
}
LAST = ("iii-worker-manager", "iii-stream", "iii-http")
"""What workers and the world connect to starts after everything else, in this order."""
