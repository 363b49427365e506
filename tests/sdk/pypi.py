"""The SDK C{iii-sdk} of PyPI."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.sdk.sdk import CACHE, HERE, MIB, Ability, Sdk

CONSTRAINTS = HERE / "constraints.txt"

# What came with which minor version at the latest, oldest first.
ABILITIES = {
    2: {Ability.TRIGGER_TYPES, Ability.LOGGER, Ability.CUSTOM_STREAMS},
    8: {
        *(Ability.CHANNELS, Ability.HTTP_HELPER, Ability.BROKEN_CHANNELS),
        *(Ability.FUNCTION_METADATA, Ability.WORKER_PID),
    },
    9: {Ability.STACK_TRACES},
    11: {
        *(Ability.CODED_ERRORS, Ability.FUNCTION_FORMATS, Ability.TRIGGER_METADATA, Ability.NO_STREAM_UPDATE),
        Ability.ENQUEUE,
    },
    19: {Ability.UNBINDING_HEARD, Ability.REFUSAL_HEARD},
    22: {Ability.CALL_METADATA, Ability.REATTACH, Ability.WORKER_DESCRIPTION},
    25: {Ability.FRAGMENTS},
}
LAST_WITH = {Ability.LISTING_METHODS: 10, Ability.SERVICES: 12}


def python_sdk(version: str) -> Sdk:
    """Return this SDK in a virtual environment of the Python that runs this."""
    minor = int(version.split(".")[1])
    since = {ability for first, abilities in ABILITIES.items() if first <= minor for ability in abilities}
    until = {ability for ability, last in LAST_WITH.items() if minor <= last}

    extra = "otel" if minor < 11 else ""  # what their loggers write with; later versions always have it

    def steps(directory: Path) -> list[list[str]]:
        python = str(directory / "bin" / "python")
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        return [
            [sys.executable, "-m", "venv", str(directory)],
            [python, "-m", "pip", "install", *quiet, "-c", str(CONSTRAINTS), f"iii-sdk[{extra}]=={version}"],
        ]

    return Sdk(
        name=f"python-{version}",
        version=version,
        runtime="python",
        max_message_bytes=64 * MIB if minor >= 25 else MIB,
        needs=(),
        abilities=frozenset(since | until),
        recipe=(version, extra, CONSTRAINTS.read_text(), sys.version, sys.base_prefix, str(CACHE)),
        steps=steps,
        worker=lambda directory: [str(directory / "bin" / "python"), str(HERE / "workers" / "worker.py")],
    )
