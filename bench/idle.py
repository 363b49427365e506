"""Memory of connected and named workers that do nothing."""

from __future__ import annotations

import attrs

from bench.calls import connected_worker
from bench.frames import ConnectionEnded, WebSocket
from bench.processes import allow_open_files, resident_bytes, wait_until_idle

FIRST_CONNECTIONS = 500  # before the first reading: they use up the memory that the start has left free in the heap


@attrs.frozen
class IdleMemory:
    """What one process held before and after the connections were made, and how many of them it kept open."""

    before_bytes: int
    after_bytes: int
    connections: int
    kept: int
    ended: str = ""

    @property
    def per_connection_bytes(self) -> float:
        return (self.after_bytes - self.before_bytes) / self.connections


def idle_workers(port: int, connections: int, pid: int) -> IdleMemory:
    """Connect and name so many workers, and read the memory of the engine when it has come to rest."""
    allow_open_files()
    opened: list[WebSocket] = []
    ended = ""

    def connect(count: int) -> int:
        for _ in range(count):
            opened.append(connected_worker(port, f"bench-idle-{len(opened)}"))
        wait_until_idle(pid)
        return resident_bytes(pid)

    try:
        before = after = connect(FIRST_CONNECTIONS)
        try:
            after = connect(connections)
        except (ConnectionEnded, OSError) as error:
            ended = str(error)
        kept = sum(connection.is_open() for connection in opened[FIRST_CONNECTIONS:])
        return IdleMemory(before, after, connections, kept, ended)
    finally:
        for connection in opened:
            connection.close()
