"""The SDK C{iii-sdk} of crates.io."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

from tests.sdk.sdk import HERE, MIB, Ability, Sdk

PROJECT = HERE / "rust"
OLDEST_CARGO = (1, 85)  # of the SDK itself; some distributions have an older one

# What came with which minor version at the latest.  There is no helper for streaming HTTP handlers.
ABILITIES = {
    22: {
        *(Ability.CHANNELS, Ability.CALL_METADATA, Ability.CODED_ERRORS, Ability.STACK_TRACES),
        *(Ability.FUNCTION_METADATA, Ability.FUNCTION_FORMATS, Ability.WORKER_PID, Ability.WORKER_DESCRIPTION),
        *(Ability.TRIGGER_TYPES, Ability.TRIGGER_METADATA, Ability.UNBINDING_HEARD, Ability.REFUSAL_HEARD),
        *(Ability.REATTACH, Ability.LOGGER),
    },
    25: {Ability.FRAGMENTS},
}


def rust_sdk(version: str) -> Sdk:
    """
    Return the worker program built on this SDK, with the dependencies that C{rust/VERSION/Cargo.lock} names.

    Only the program is kept.  Beside the lock file of another version, C{cargo update -p iii-sdk --precise VERSION}
    makes one for a new version.
    """
    minor = int(version.split(".")[1])
    abilities = {ability for first, abilities in ABILITIES.items() if first <= minor for ability in abilities}
    sources = (PROJECT / "Cargo.toml", PROJECT / "worker.rs", PROJECT / version / "Cargo.lock")

    def steps(directory: Path) -> list[list[str]]:
        return [
            ["cp", *map(str, sources), str(directory)],
            ["cargo", "build", "--quiet", "--locked", "--target-dir", str(directory / "target")],
            ["cp", str(directory / "target" / "debug" / "worker"), str(directory)],
            ["rm", "-r", str(directory / "target")],
        ]

    return Sdk(
        name=f"rust-{version}",
        version=version,
        runtime="rust",
        max_message_bytes=64 * MIB if minor >= 25 else 16 * MIB,
        needs=("cargo", "cc"),
        abilities=frozenset(abilities),
        recipe=tuple(source.read_text() for source in sources),
        steps=steps,
        worker=lambda directory: [str(directory / "worker")],
        error_prefix="handler error: ",
        complaint="failed to handle frame",
        obstacle=_obstacle,
    )


@functools.cache
def _obstacle() -> str | None:
    """Why the cargo that is there cannot build this SDK, if it cannot."""
    result = subprocess.run(["cargo", "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    version = re.match(r"cargo (\d+)\.(\d+)", result.stdout)
    if version is not None and tuple(map(int, version.groups())) >= OLDEST_CARGO:
        return None
    said, _, _ = result.stdout.partition("\n")
    return f"needs cargo {'.'.join(map(str, OLDEST_CARGO))} or newer; `cargo --version` said: {said}"
