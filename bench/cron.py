"""What jobs cost that are not due."""

from __future__ import annotations

import json
import time

import attrs

from bench.calls import PATIENCE_SECONDS, connected_worker
from bench.frames import ConnectionEnded, WebSocket, frame
from bench.processes import CpuMeter, resident_bytes, wait_until_idle

FUNCTION = "bench::job"


@attrs.frozen
class IdleJobs:
    """What an engine used in a second in which no job was due, without jobs and with them, and what it held."""

    cpu_seconds_before: float
    cpu_seconds: float
    bytes_before: int
    bytes_after: int
    registered: int


def idle_jobs(port: int, jobs: int, pid: int, seconds: float) -> IdleJobs:
    """Register jobs of a far month, each with a time of its own, and watch the engine for a while before and after."""
    connection = connected_worker(port, "bench-cron")
    try:
        connection.send(frame(json.dumps({"type": "registerfunction", "id": FUNCTION}).encode()))
        wait_until_idle(pid)
        bytes_before, before = resident_bytes(pid), _cpu(pid, seconds)
        month = (time.gmtime().tm_mon + 5) % 12 + 1
        connection.send(b"".join(_job(number, month) for number in range(jobs)))
        registered = _registered(connection)
        wait_until_idle(pid, 60.0)
        return IdleJobs(before, _cpu(pid, seconds), bytes_before, resident_bytes(pid), registered)
    finally:
        connection.close()


def _job(number: int, month: int) -> bytes:
    expression = f"{number % 60} {number // 60 % 60} {number // 3600 % 24} 1 {month} *"
    config = {"type": "registertrigger", "id": f"bench-{number}", "trigger_type": "cron", "function_id": FUNCTION}
    return frame(json.dumps({**config, "config": {"expression": expression}}).encode())


def _registered(connection: WebSocket) -> int:
    """Return how many jobs the engine has; asked after all that was registered."""
    call = "00000000-be9c-4000-8000-000000000001"
    asked = {"type": "invokefunction", "invocation_id": call, "function_id": "engine::cron::list", "data": {"limit": 1}}
    connection.send(frame(json.dumps(asked).encode()))
    while messages := connection.receive(PATIENCE_SECONDS * 6):
        for message in map(json.loads, messages):
            if message.get("invocation_id") == call:
                return int(message["result"]["total"])
    raise ConnectionEnded("the engine does not list its jobs")


def _cpu(pid: int, seconds: float) -> float:
    meter = CpuMeter((pid,))
    time.sleep(seconds)
    return meter.read()[0] / seconds
