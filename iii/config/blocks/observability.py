"""Logs, traces and metrics (spec/observability.md, 1.3, 1.6, 4.5 and 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from iii.config.parts import Count, Ratio, Retention, Seconds, Text

Operator = Literal[
    ">", ">=", "<", "<=", "==", "!=",
    "greaterthan", "greaterthanorequal", "lessthan", "lessthanorequal", "equal", "notequal",
]  # fmt: skip


class SamplingRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How many of certain traces are kept.

    @ivar operation: Pattern on the name of the root span, with C{*} and C{?}; default any.
    @ivar service: Pattern on the name of the service; default any.
    @ivar rate: Share that is kept, 0 to 1.  Required.
    """

    rate: Ratio
    operation: Text | None = None
    service: Text | None = None


class RateLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A bound on how many traces are kept.

    @ivar max_traces_per_second: Required.
    """

    max_traces_per_second: Count


class Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Which traces are kept.

    @ivar default: Share that is kept where no rule fits, 0 to 1; default C{sampling_ratio}.
    @ivar rules: The first that fits decides.
    @ivar parent_based: A caller's decision holds; default true.
    @ivar rate_limit: Default none.
    """

    default: Ratio | None = None
    rules: tuple[SamplingRule, ...] = ()
    parent_based: bool = True
    rate_limit: RateLimit | None = None


class TraceStorage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Where traces are kept.

    @ivar enabled: On disk, not only in memory; default true.
    @ivar directory: Default: in C{engine.data_directory}.
    @ivar max_disk_bytes: At least 64 MiB; default 1 GiB.
    @ivar retention_seconds: 0 is without a limit of age; default 30 days.
    @ivar memory_max_bytes: At least 16 MiB; default 256 MiB.
    @ivar memory_low_watermark_ratio: To which share of it memory is emptied, 0.5 to 0.95; default 0.75.
    @ivar pending_max_age_seconds: When a trace whose root never ended is given up; default 3600.
    """

    enabled: bool = True
    directory: Path | None = None
    max_disk_bytes: Annotated[int, Meta(ge=64 * 2**20, le=2**50)] = 2**30
    retention_seconds: Retention = 30 * 86_400
    memory_max_bytes: Annotated[int, Meta(ge=16 * 2**20, le=2**40)] = 256 * 2**20
    memory_low_watermark_ratio: Annotated[float, Meta(ge=0.5, le=0.95)] = 0.75
    pending_max_age_seconds: Seconds = 3600


class LogAction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="log"):
    """Write a warning to the log."""


class WebhookAction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="webhook"):
    """
    Post the alert to a web server.

    @ivar url: Required.
    """

    url: Text


class FunctionAction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="function"):
    """
    Call a function with the alert.

    @ivar path: The function's id.  Required.
    """

    path: Text


class Alert(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Something to do when a metric passes a threshold.

    @ivar name: Required.
    @ivar metric: The metric's name.  Required.
    @ivar threshold: Required.
    @ivar operator: How the metric compares to the threshold when the alert fires; default C{>}.
    @ivar window_seconds: Over which time a worker's metric is taken; default 60.
    @ivar action: C{{type: log}}, C{{type: webhook, url: …}} or C{{type: function, path: …}}; default C{log}.
    @ivar enabled: Default true.
    @ivar cooldown_seconds: Time between two actions; default 60.
    """

    name: Text
    metric: Text
    threshold: float
    operator: Operator = ">"
    window_seconds: Seconds = 60
    action: LogAction | WebhookAction | FunctionAction = LogAction()
    enabled: bool = True
    cooldown_seconds: Retention = 60


class CollapsedSpans(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Spans that are shown as one.

    @ivar name: Pattern with C{*} and C{?}.  Required.
    @ivar service: Name of their service; default any.
    """

    name: Text
    service: Text | None = None


class ObservabilitySettings(Struct, frozen=True, kw_only=True):
    """
    C{iii-observability}: logs, traces and metrics.  A key has the same default whether or not others are given (the
    reference has two sets).  Unknown keys are ignored with a warning.

    @ivar enabled: Take in and keep what workers tell; default true.
    @ivar service_name: Default C{iii}.
    @ivar service_version: Default the engine's version.
    @ivar service_namespace: Default none.
    @ivar exporter: Where traces go: C{memory}, C{otlp} or C{both}; default C{memory}.
    @ivar endpoint: The collector of C{otlp}; default C{http://localhost:4317}.
    @ivar sampling_ratio: Share of the traces that is kept, 0 to 1; default 1.
    @ivar sampling: Finer rules; default none.
    @ivar memory_max_spans: Default 1000000, within C{trace_storage.memory_max_bytes}.
    @ivar trace_storage: How traces are kept.
    @ivar live_spans: Show spans before they have ended; default true.
    @ivar metrics_enabled: Default true.
    @ivar metrics_exporter: C{memory} or C{otlp}; default C{memory}.
    @ivar metrics_retention_seconds: Default 3600.
    @ivar metrics_max_count: Default 10000.
    @ivar logs_enabled: Default true.
    @ivar logs_exporter: C{memory}, C{otlp} or C{both}; default C{memory}.
    @ivar logs_max_count: Default 1000.
    @ivar logs_retention_seconds: 0 is without a limit of age; default 3600.
    @ivar logs_batch_size: Records sent to the collector at once, 1 to 10000; default 100.
    @ivar logs_flush_interval_ms: When fewer are sent, 100 to 3600000; default 5000.
    @ivar logs_sampling_ratio: Share of the log records that is kept, 0 to 1; default 1.
    @ivar logs_console_output: Write workers' log records to the engine's log too; default true.
    @ivar alerts: Default none.
    @ivar level: A level, or a list such as C{info,iii::queue=debug}; default C{info}.  In this version it decides which
        records of workers appear in the engine's log; with C{debug}, each HTTP request does, too.
    @ivar format: C{json} for one JSON object a line, anything else for lines to read; default C{default}.
    @ivar collapse_spans: Default none.
    """

    enabled: bool = True
    service_name: Text = "iii"
    service_version: Text | None = None
    service_namespace: Text | None = None
    exporter: Literal["memory", "otlp", "both"] = "memory"
    endpoint: Text = "http://localhost:4317"
    sampling_ratio: Ratio = 1.0
    sampling: Sampling | None = None
    memory_max_spans: Count = 1_000_000
    trace_storage: TraceStorage = TraceStorage()
    live_spans: bool = True
    metrics_enabled: bool = True
    metrics_exporter: Literal["memory", "otlp"] = "memory"
    metrics_retention_seconds: Seconds = 3600
    metrics_max_count: Count = 10_000
    logs_enabled: bool = True
    logs_exporter: Literal["memory", "otlp", "both"] = "memory"
    logs_max_count: Count = 1000
    logs_retention_seconds: Retention = 3600
    logs_batch_size: Annotated[int, Meta(ge=1, le=10_000)] = 100
    logs_flush_interval_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 5000
    logs_sampling_ratio: Ratio = 1.0
    logs_console_output: bool = True
    alerts: tuple[Alert, ...] = ()
    level: Text = "info"
    format: Text = "default"
    collapse_spans: tuple[CollapsedSpans, ...] = ()

    @property
    def plain_level(self) -> str:
        """The level for all that no directive is about."""
        return next((part.strip().lower() for part in self.level.split(",") if "=" not in part), "info")
