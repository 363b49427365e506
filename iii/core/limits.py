"""The bounds of everything that could grow, in one place (DESIGN.md, 1.3 and 11)."""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(gt=0, le=2**40)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What the engine accepts at most (the key C{engine.limits}).  What exceeds a limit is refused with an error that
    says so, and counted under the limit's name in C{iii_limit_hits_total}; nothing else is affected.

    @ivar message_bytes: One WebSocket message from a worker; a larger one closes its connection with 1009.
    @ivar connections: Open connections of all worker listeners together; one more is closed at once.
    @ivar pending_calls_per_connection: Calls that one worker has received and not yet answered.
    @ivar functions_per_connection: Functions that one connection may register.
    @ivar triggers_per_connection: Triggers and trigger types that one connection may register.
    @ivar registration_bytes_per_connection: Bytes of all that one connection has registered, or that waits for its
        namespace to be known: ids, descriptions, schemas, configs and metadata.
    @ivar ownerless_triggers: Triggers of C{engine::register_trigger}, which outlive the worker that asked for them.
    @ivar ownerless_trigger_bytes: Bytes of all these together.
    @ivar held_registrations: Registrations of one connection that wait for its namespace to be known.
    @ivar outbox_bytes: Bytes that wait to be sent to one peer.  Above, the peer is not read from and calls to it are
        refused.
    @ivar outbox_hard_bytes: Bytes that wait to be sent to one peer.  Above, the peer is dropped.
    @ivar channels: Channels that functions have made and that exist at one time; those that HTTP requests offer are
        counted apart, and there may be as many.
    @ivar channels_per_connection: Channels that one worker connection has made and that exist at one time.
    @ivar channel_buffer_bytes: Bytes buffered in one channel before its writer is not read from.
    @ivar ordered_backlog: Events of one source, such as one worker, that wait for a function to have dealt with the one
        before; above, events are dropped.
    @ivar reaction_backlog_bytes: Bytes of the events of one trigger type, C{state}, C{stream} or C{subscribe},
        that wait for functions to have dealt with earlier ones, or for conditions; above, events are dropped.
    @ivar cron_one_shots: Cron jobs with C{at} that have not run yet; one more is refused.
    @ivar cron_runs_per_job: Runs of one cron job that are under way (C{overlap: allow}) or wait for the one before
        (C{overlap: queue}); above, runs are skipped.
    @ivar cron_history_runs: Runs of all cron jobs together that C{engine::cron::history} knows; above, those of the job
        that has not run for longest are forgotten.
    @ivar pubsub_deliveries: Messages that one subscriber of a topic has not answered; above, it misses messages.
    @ivar telemetry_frame_bytes: One frame with traces, metrics or logs; a larger one is dropped.
    @ivar log_store_bytes: Log records that are kept; above, the oldest are dropped.
    @ivar log_deliveries: Calls that one C{log} trigger waits for; above, records are not delivered.
    @ivar store_bytes: The file of one embedded store.  Above, writes are refused until something is removed.
    @ivar store_backlog_bytes: What waits to be written to one embedded store, or to be answered by Redis to one module;
        above, writes and commands are refused.
    @ivar store_cache_bytes: Values of the state, and of the streams, that are kept in memory beside an embedded store.
    @ivar memory_store_bytes: Keys and values that one module keeps in memory (C{store_method: in_memory}).
    @ivar http_connections: Open connections of the HTTP listener; one more is closed at once.
    @ivar http_head_bytes: Request line and headers of one HTTP request; more is answered with 431.
    @ivar http_headers: Header lines of one HTTP request; more is answered with 431.
    @ivar http_body_bytes: Body of one HTTP request; a larger one is answered with 413.  A route may set
        C{max_body_bytes} of its own, also a larger one.
    @ivar http_pipelined: Requests of one HTTP connection that are answered concurrently before it is not read from.
    @ivar stream_connections: Open connections of the listener for stream clients; one more is closed at once.
    @ivar stream_message_bytes: One WebSocket message from a stream client; a larger one closes its connection with
        1009.
    @ivar stream_subscriptions_per_connection: What one stream client may have joined at one time.
    @ivar stream_subscription_bytes_per_connection: Bytes of the ids and names in these.
    @ivar stream_context_bytes: The context that an auth function gives to one stream client; with a larger one the
        client is refused.
    @ivar stream_buffer_bytes: Bytes that wait to be sent to one stream client.  With more, it is dropped when the next
        event comes.
    @ivar stream_snapshot_bytes: What one stream client that joins is told of a group, or of an item.  Of a larger one
        it gets only the events.
    """

    message_bytes: Count = 64 * 2**20
    connections: Count = 20_000
    pending_calls_per_connection: Count = 100_000
    functions_per_connection: Count = 10_000
    triggers_per_connection: Count = 10_000
    registration_bytes_per_connection: Count = 64 * 2**20
    ownerless_triggers: Count = 10_000
    ownerless_trigger_bytes: Count = 64 * 2**20
    held_registrations: Count = 20_000
    outbox_bytes: Count = 4 * 2**20
    outbox_hard_bytes: Count = 256 * 2**20
    channels: Count = 100_000
    channels_per_connection: Count = 10_000
    channel_buffer_bytes: Count = 4 * 2**20
    ordered_backlog: Count = 1000
    reaction_backlog_bytes: Count = 256 * 2**20
    cron_one_shots: Count = 10_000
    cron_runs_per_job: Count = 100
    cron_history_runs: Count = 100_000
    pubsub_deliveries: Count = 10_000
    telemetry_frame_bytes: Count = 4 * 2**20
    log_store_bytes: Count = 16 * 2**20
    log_deliveries: Count = 1024
    store_bytes: Count = 64 * 2**30
    store_backlog_bytes: Count = 64 * 2**20
    store_cache_bytes: Count = 32 * 2**20
    memory_store_bytes: Count = 2**30
    http_connections: Count = 20_000
    http_head_bytes: Count = 64 * 2**10
    http_headers: Count = 100
    http_body_bytes: Count = 16 * 2**20
    http_pipelined: Count = 32
    stream_connections: Count = 20_000
    stream_message_bytes: Count = 64 * 2**10
    stream_subscriptions_per_connection: Count = 1000
    stream_subscription_bytes_per_connection: Count = 2**20
    stream_context_bytes: Count = 64 * 2**10
    stream_buffer_bytes: Count = 4 * 2**20
    stream_snapshot_bytes: Count = 16 * 2**20
