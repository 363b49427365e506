"""
The modules that keep or pass on data through an adapter: state, streams, pub/sub, cron, the configuration store
(spec/state.md, 2; spec/stream.md, 2; spec/pubsub.md, 5; spec/cron.md, 5; spec/exec-bridge-configuration.md, 3).

An adapter is a mapping C{{name, config}}.  Unknown keys in an adapter's C{config} are ignored with a warning, as the
reference's adapters take what they know; what is known must have the right type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from iii.config.parts import Count, Delay, Milliseconds, Port, Retention, Text, Tls


class Store(Struct, frozen=True, kw_only=True):
    """
    The embedded store.

    @ivar store_method: C{file_based}, the default: what is acknowledged is on disk; or C{in_memory}, the reference's
        default: gone when the engine stops.
    @ivar file_path: Directory of a store of its own; default the store in C{engine.data_directory}.
    @ivar save_interval_ms: Accepted and without effect: nothing waits for an interval.
    """

    store_method: Literal["file_based", "in_memory"] = "file_based"
    file_path: Path | None = None
    save_interval_ms: Delay | None = None


class Redis(Struct, frozen=True, kw_only=True):
    """
    A Redis server.

    @ivar redis_url: Default C{redis://localhost:6379}.
    """

    redis_url: Text = "redis://localhost:6379"


class Bridge(Struct, frozen=True, kw_only=True):
    """
    Another engine.

    @ivar bridge_url: Its listener for workers; default C{ws://localhost:49134}.
    """

    bridge_url: Text = "ws://localhost:49134"


class KvAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="kv"):
    """
    Keep the data in this engine.

    @ivar config: The embedded store.
    """

    config: Store = Store()


class RedisAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="redis"):
    """
    Share the data through Redis.

    @ivar config: The server.
    """

    config: Redis = Redis()


class BridgeAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="bridge"):
    """
    Leave the data to another engine.

    @ivar config: The other engine.
    """

    config: Bridge = Bridge()


class StateSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-state}: values under scope and key.

    @ivar adapter: C{kv}, C{redis} or C{bridge}; default C{kv}.
    @ivar triggers_enabled: Fire triggers of type C{state}; default true.
    @ivar max_value_bytes: Limit for C{state::set}; default none.
    @ivar save_interval_ms: Accepted and without effect: nothing waits for an interval.
    """

    adapter: KvAdapter | RedisAdapter | BridgeAdapter = KvAdapter()
    triggers_enabled: bool = True
    max_value_bytes: Count | None = None
    save_interval_ms: Delay | None = None


class StreamStore(Store, frozen=True, kw_only=True):
    """
    The embedded store of the streams.

    @ivar channel_size: Accepted and without effect: C{engine.limits.stream_buffer_bytes} bounds what waits for one
        client.
    """

    channel_size: Annotated[int, Meta(ge=1, le=1_048_576)] = 256


class StreamKvAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="kv"):
    """
    Keep the streams in this engine.

    @ivar config: The embedded store.
    """

    config: StreamStore = StreamStore()


class StreamSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-stream}: streams, and the WebSocket listener for their clients.

    @ivar host: Address to listen on; default C{engine.host} (the reference: 0.0.0.0).
    @ivar port: Default 3112; 0 is any free port.
    @ivar auth_function: Function that decides about each new client; default none: everybody may connect who has
        C{engine.token}, if there is one.
    @ivar auth_fail_open: Let a client in, without a context, when the auth function fails or decides nothing, and let
        it join when a join handler fails, as the reference does; default false.  Not in the reference.
    @ivar handler_timeout_ms: How long the auth function, and the handlers of one join or leave, may take before the
        client is refused; default 10000.  Not in the reference.
    @ivar adapter: C{kv}, C{redis} or C{bridge}; default C{kv}.
    @ivar max_value_bytes: Of an item that C{stream::set} or C{stream::update} stores; default no limit.  Not in the
        reference.
    @ivar tls: Speak TLS; default C{engine.tls}.
    """

    host: Text = "127.0.0.1"
    port: Port = 3112
    auth_function: Text | None = None
    auth_fail_open: bool = False
    handler_timeout_ms: Milliseconds = 10_000
    adapter: StreamKvAdapter | RedisAdapter | BridgeAdapter = StreamKvAdapter()
    max_value_bytes: Count | None = None
    tls: Tls | None = None


class Nothing(Struct, frozen=True, kw_only=True):
    """An adapter's settings where there is nothing to set."""


class LocalAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="local"):
    """
    Publish to subscribers of this engine only.

    @ivar config: It has no keys.
    """

    config: Nothing = Nothing()


class PubSubRedis(Redis, frozen=True, kw_only=True):
    """
    A Redis server.

    @ivar channel_prefix: Before the topics, so that several systems can use one server; default none.  Not in the
        reference.
    """

    channel_prefix: str = ""


class PubSubRedisAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="redis"):
    """
    Publish to the subscribers of all engines that use this Redis.

    @ivar config: The server.
    """

    config: PubSubRedis = PubSubRedis()


class PubSubSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-pubsub}: fire-and-forget topics.

    @ivar adapter: C{local} or C{redis}; default C{local}.
    """

    adapter: LocalAdapter | PubSubRedisAdapter = LocalAdapter()


class CronStore(Store, frozen=True, kw_only=True):
    """
    The embedded store of what cron knows of its jobs.

    @ivar lock_ttl_ms: When the lock of a job is free again whose run renews it no more, in milliseconds; default 30000.
    @ivar lock_index: The name under which the jobs are kept there; default C{cron_locks}.
    """

    lock_ttl_ms: Milliseconds = 30_000
    lock_index: Text = "cron_locks"


class CronKvAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="kv"):
    """
    Run the jobs on this engine, whatever others do.

    @ivar config: The embedded store.
    """

    config: CronStore = CronStore()


class CronRedis(Redis, frozen=True, kw_only=True):
    """
    A Redis server.

    @ivar lock_ttl_ms: When the lock of a job is free again whose run renews it no more, in milliseconds; default 30000.
        Not in the reference.
    """

    lock_ttl_ms: Milliseconds = 30_000


class CronRedisAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="redis"):
    """
    Run each time of a job on one of the engines that use this Redis.

    @ivar config: The server.
    """

    config: CronRedis = CronRedis()


class CronSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{iii-cron}: functions called at given times.

    @ivar adapter: C{kv} or C{redis}, which keeps several engines from running a job twice; default C{kv}.
    """

    adapter: CronKvAdapter | CronRedisAdapter = CronKvAdapter()


class Directory(Struct, frozen=True, kw_only=True):
    """
    Files in a directory.

    @ivar directory: Default: in C{engine.data_directory} (the reference: C{./config}, shared by accident).
    """

    directory: Path | None = None


class FsAdapter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="fs"):
    """
    Keep the entries in files.

    @ivar config: Where.
    """

    config: Directory = Directory()


class ConfigurationSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    C{configuration}: settings of workers that can be changed at run time.

    @ivar adapter: C{fs} or C{bridge}; default C{fs}.
    @ivar ttl_seconds: Entries that nobody has used for so long are removed; 0, the default, is never.
    """

    adapter: FsAdapter | BridgeAdapter = FsAdapter()
    ttl_seconds: Retention = 0
