"""The engine's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from iii import __version__
from iii.core.engine import Engine

HELP = {
    "calls": "Calls that were routed.",
    "calls_refused": "Calls refused because the callee reads too slowly or has too many calls unanswered.",
    "calls_timed_out": "Calls that were not answered before their deadline.",
    "answers_lost": "Answers that a worker did not get because its connection had broken off.",
    "late_answers": "Answers to calls that nobody waited for any more.",
    "malformed_frames": "Frames from workers that are no messages of the protocol.",
    "payloads_too_large": "Calls and answers larger than their receiver can take.",
    "registrations_refused": "Registrations beyond a connection's limit.",
    "connections": "Worker connections that were opened.",
    "connections_refused": "Sockets closed at once because too many were open.",
    "peers_dropped": "Peers cut off because too much waited to be sent to them.",
    "telemetry_frames": "Telemetry frames that came from workers.",
    "telemetry_bytes": "Bytes of these frames.",
    "pubsub_messages": "Messages that were published on topics.",
    "pubsub_deliveries": "Calls of subscribers with these messages.",
    "pubsub_dropped": "Messages that a subscriber did not get because too many waited for its answer.",
    "pubsub_failed": "Messages on which a subscriber or its condition failed.",
    "pubsub_gaps": "Times that messages may have been missed, because the connection to Redis was broken.",
    "stream_connections": "Connections of stream clients that were opened.",
    "stream_connections_ended": "Those of them that have ended.",
    "stream_connections_refused": "Stream clients that were not let in: too many, or not allowed.",
    "stream_subscriptions": "Joins of stream clients that took effect.",
    "stream_subscriptions_ended": "Those of them that have ended.",
    "stream_events": "Events of streams that were told to the clients of this engine, if there were any.",
    "stream_deliveries": "Events times the clients that got them.",
    "stream_clients_dropped": "Stream clients cut off because too many events waited to be sent to them.",
    "stream_gaps": "Times that events of streams may have been missed, because the connection to Redis was broken.",
    "cron_runs": "Runs of cron jobs that have called their function.",
    "cron_runs_failed": "Runs of cron jobs that have failed.",
    "cron_runs_skipped": "Runs of cron jobs that were left out, because of a condition, a pause or another run.",
    "cron_missed": "Times that cron jobs found that they had missed runs.",
    "store_failed_commits": "Commits of the engine's stores that have failed.",
    "http_responses": "Responses by route and status; without a route, of requests that reached none.",
    "limit_hits": "What was refused because of a limit of the configuration, by the limit's name.",
}

_FAMILIES = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}


class EngineCollector(Collector):
    """Reads the engine when it is asked: counting costs the hot path nothing but an integer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yield every figure once."""
        engine = self._engine
        gauges = {
            "worker_connections": ("Worker connections that are open.", len(engine.connections)),
            "functions": ("Functions that can be called, built-in ones included.", len(engine.functions)),
            "triggers": ("Triggers, live and parked.", len(engine.triggers)),
            "channels": ("Channels that may still be joined.", len(engine.channels)),
            "calls_unanswered": ("Calls that workers have not answered yet.", engine.unanswered()),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"iii_{name}", text, value=value)
        counters = attrs.asdict(engine.counters)
        hits = CounterMetricFamily("iii_limit_hits", HELP["limit_hits"], labels=["limit"])
        for limit, value in counters.pop("limit_hits").items():
            hits.add_metric([limit], value)
        yield hits
        responses = CounterMetricFamily("iii_http_responses", HELP["http_responses"], labels=["route", "status"])
        for route, by_status in counters.pop("http_responses").items():
            for status, value in by_status.items():
                responses.add_metric([route, str(status)], value)
        yield responses
        for name, value in counters.items():
            yield CounterMetricFamily(f"iii_{name}", HELP[name], value=value)
        for read in engine.figures:
            for figure in read():
                family = _FAMILIES[figure.kind](f"iii_{figure.name}", figure.text, labels=figure.labels)
                for labels, reading in figure.values.items():
                    family.add_metric(labels, reading)
                yield family
        info = GaugeMetricFamily("iii_build_info", "The version that runs.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info

    def describe(self) -> Iterable[Metric]:
        """Nothing: reading is cheap, so the registry may collect."""
        return ()


def registry(engine: Engine) -> CollectorRegistry:
    """Make the registry of C{/metrics}: the engine, and its process."""
    result = CollectorRegistry()
    result.register(EngineCollector(engine))
    ProcessCollector(registry=result)
    return result
