"""
Files of older versions, entry by entry turned into the current dialect (spec/config.md, 12 and 13).

Versions 0.2 to 0.10 named modules and adapters by C{class}.  Classes are known by their last part, because files and
documentation disagree on what stands before it, and no two with one last part have different successors.
"""

from __future__ import annotations

from collections.abc import Mapping

from iii.config.errors import Place, Report, suggestion

_MODULES = {
    "RestApiModule": "iii-http",
    "StreamModule": "iii-stream",
    "StateModule": "iii-state",
    "QueueModule": "iii-queue",
    "EventModule": "iii-queue",
    "PubSubModule": "iii-pubsub",
    "CronModule": "iii-cron",
    "OtelModule": "iii-observability",
    "LoggingModule": "iii-observability",
    "TracingModule": "iii-observability",
    "HttpFunctionsModule": "iii-http-functions",
    "ExecModule": "iii-exec",
    "BridgeClientModule": "iii-bridge",
    "TelemetryModule": "iii-telemetry",
    "WorkerModule": "iii-worker-manager",
}
_REMOVED = {"KvServer", "DevToolsModule", "ManagementModule", "AdminApiModule", "HeartbeatModule"}
_ADAPTERS = {
    "KvStore": "kv",
    "RedisAdapter": "redis",
    "Bridge": "bridge",
    "LocalAdapter": "local",
    "BuiltinQueueAdapter": "builtin",
    "RabbitMQAdapter": "rabbitmq",
    "KvCronAdapter": "kv",
    "RedisCronAdapter": "redis",
}
_OLD_KEYS = {"iii-observability": {"log_level": "level"}}
"""Keys of blocks that are still accepted under their old names, in both dialects."""


def is_legacy(root: Mapping[str, object]) -> bool:
    """Tell whether a document is in the old dialect, whose rules tolerate unknown keys."""
    lists = [value for value in (root.get("workers"), root.get("modules")) if isinstance(value, list)]
    return "port" in root or any(isinstance(entry, dict) and "class" in entry for entries in lists for entry in entries)


def modernise(entry: object, place: Place, report: Report) -> object:
    """
    Return an entry in the current dialect; what is no entry at all is returned as it is.

    @return: C{None} for an entry to leave out: its class is unknown or no longer exists, which is reported.
    """
    if not isinstance(entry, dict):
        return entry
    entry = dict(entry)
    if "class" in entry:
        name = _successor(entry.pop("class"), place.child("class"), report)
        if name is None:
            return None
        if entry.setdefault("name", name) != name:
            report.error(place.child("class"), f"this is the old name of {name}, but name says otherwise")
    if isinstance(entry.get("config"), dict):
        renamed = _OLD_KEYS.get(str(entry.get("name")), {})
        entry["config"] = _modern_block(entry["config"], renamed, place.child("config"), report)
    return entry


def _successor(class_: object, place: Place, report: Report) -> str | None:
    last = _last_part(class_)
    if last in _REMOVED:
        report.warning(place, f"{last} does not exist any more; the entry is ignored")
    elif last not in _MODULES:
        report.error(place, "unknown module class" + suggestion(last, _MODULES))
    return _MODULES.get(last)


def _modern_block(
    block: dict[str, object], renamed: Mapping[str, str], place: Place, report: Report
) -> dict[str, object]:
    for old, new in renamed.items():
        if old in block and new in block:
            report.error(place.child(old), f"this is the old name of {new}, which is given as well")
    block = {renamed.get(key, key): value for key, value in block.items()}
    adapter = block.get("adapter")
    if isinstance(adapter, dict) and "class" in adapter:
        adapter = dict(adapter)
        class_ = adapter.pop("class")
        adapter.setdefault("name", _ADAPTERS.get(_last_part(class_), class_))
        block["adapter"] = adapter
    return block


def _last_part(class_: object) -> str:
    return str(class_).rpartition("::")[2]
