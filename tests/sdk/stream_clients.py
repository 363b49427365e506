"""
The published npm clients of streams: a Node program on C{@motiadev/stream-client-node}, and a page on
C{@motiadev/stream-client-react}, which brings C{-browser} with it.
"""

from __future__ import annotations

from pathlib import Path

from tests.sdk.sdk import HERE, Sdk

PROJECT = HERE / "node" / "stream-clients"
PROGRAMS = (HERE / "workers" / "stream_client.mjs", HERE / "workers" / "stream_page.mjs")
BUNDLE = "page.js"


def _steps(directory: Path) -> list[list[str]]:
    package = (PROJECT / "package.json", PROJECT / "package-lock.json")
    bundle = ["node_modules/.bin/esbuild", PROGRAMS[1].name, "--bundle", "--minify", f"--outfile={BUNDLE}"]
    return [
        ["cp", *map(str, (*package, *PROGRAMS)), str(directory)],
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        [*bundle, "--log-level=error", '--define:process.env.NODE_ENV="production"'],
    ]


STREAM_CLIENTS = Sdk(
    name="stream-clients",
    version="0.17.6-beta.187",
    runtime="node",
    max_message_bytes=100 * 2**20,
    needs=("node", "npm"),
    abilities=frozenset(),
    recipe=tuple(path.read_text() for path in (PROJECT / "package.json", PROJECT / "package-lock.json", *PROGRAMS)),
    steps=_steps,
    worker=lambda directory: ["node", str(directory / PROGRAMS[0].name)],
)


def page() -> bytes:
    """The page with all that it needs.  C{STREAM_CLIENTS} must have been made."""
    script = (STREAM_CLIENTS.directory / BUNDLE).read_text()
    return f'<!doctype html><meta charset="utf-8"><div id="root"></div><script>{script}</script>'.encode()
