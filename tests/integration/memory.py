"""What a process holds in memory, and held at most."""

from __future__ import annotations

import re
from pathlib import Path


class Peak:
    """The largest resident memory of a process since this was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew: proc(5)
        self._before = resident_bytes(pid)

    @property
    def growth(self) -> int:
        """How many bytes more than at the beginning."""
        return _status(self._pid, "VmHWM") - self._before


def resident_bytes(pid: int) -> int:
    return _status(pid, "VmRSS")


def _status(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None, f"no {name} of process {pid}"
    return int(found[1]) * 1024
