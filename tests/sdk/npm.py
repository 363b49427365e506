"""The SDK C{iii-sdk} of npm."""

from __future__ import annotations

from pathlib import Path

from tests.sdk.sdk import HERE, MIB, Ability, Sdk

# What came with which minor version at the latest, oldest first.  A function is registered with any members one gives.
ABILITIES = {
    3: {
        *(Ability.TRIGGER_TYPES, Ability.LOGGER, Ability.FUNCTION_METADATA, Ability.FUNCTION_FORMATS),
        *(Ability.CUSTOM_STREAMS, Ability.NO_STREAM_UPDATE),
    },
    9: {Ability.CHANNELS, Ability.HTTP_HELPER, Ability.STACK_TRACES, Ability.WORKER_PID, Ability.ENQUEUE},
    11: {Ability.CODED_ERRORS, Ability.TRIGGER_METADATA},
    22: {
        *(Ability.CALL_METADATA, Ability.REATTACH, Ability.WORKER_DESCRIPTION, Ability.BROKEN_CHANNELS),
        *(Ability.UNBINDING_HEARD, Ability.REFUSAL_HEARD),
    },
}
LAST_WITH = {Ability.LISTING_METHODS: 10, Ability.SERVICES: 11}


def node_sdk(version: str) -> Sdk:
    """
    Return this SDK with the dependencies that C{node/VERSION/package-lock.json} names.

    Links to the worker program lie beside C{node_modules}, because Node looks there for what a module imports.  The
    lock file is made by C{npm install --package-lock-only --omit-lockfile-registry-resolved}: it names no registry.
    """
    minor = int(version.split(".")[1])
    since = {ability for first, abilities in ABILITIES.items() if first <= minor for ability in abilities}
    until = {ability for ability, last in LAST_WITH.items() if minor <= last}
    package, lock = HERE / "node" / version / "package.json", HERE / "node" / version / "package-lock.json"
    program, interface = HERE / "workers" / "worker.mjs", HERE / "workers" / "interface.mjs"

    def steps(directory: Path) -> list[list[str]]:
        return [
            ["cp", str(package), str(lock), str(directory)],
            ["ln", "-s", str(program), str(interface), str(directory)],
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        ]

    return Sdk(
        name=f"node-{version}",
        version=version,
        runtime="node",
        max_message_bytes=100 * MIB,
        needs=("node", "npm"),
        abilities=frozenset(since | until),
        recipe=(package.read_text(), lock.read_text(), str(program), str(interface)),
        steps=steps,
        worker=lambda directory: [
            *("node", "--preserve-symlinks", "--preserve-symlinks-main", str(directory / program.name))
        ],
    )
