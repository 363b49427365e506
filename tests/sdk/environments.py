"""
The published SDKs under test, each installed into a folder of its own under C{.cache/sdk}.

C{python -m tests.sdk.environments} makes what is missing; it may run several times, also at once.  A folder counts as
made when its file C{made}, written last, holds the digest of all that decides about its content.
"""

from __future__ import annotations

import itertools
import sys
import time

from tests.sdk.crates import rust_sdk
from tests.sdk.npm import node_sdk
from tests.sdk.pypi import python_sdk
from tests.sdk.sdk import CACHE, MakingFailed, Sdk
from tests.sdk.stream_clients import STREAM_CLIENTS

# Every one of the newest meets every other one, and itself.
NEWEST = (python_sdk("0.25.0"), python_sdk("0.22.1"), node_sdk("0.22.1"))
# Each of these meets the two partners, in both directions: all pairs would take too long.
OLDER = (
    *(python_sdk("0.19.0"), python_sdk("0.11.6"), python_sdk("0.8.3"), python_sdk("0.2.1")),
    *(node_sdk("0.11.6"), node_sdk("0.3.0")),
)
# So does each of these: what Rust adds is how strictly it reads what the engine sends.
RUST = (rust_sdk("0.25.0"), rust_sdk("0.22.1"))
PARTNERS = (NEWEST[0], NEWEST[2])

SDKS: tuple[Sdk, ...] = (*NEWEST, *OLDER, *RUST)
PAIRS: tuple[tuple[Sdk, Sdk], ...] = (
    *itertools.product(NEWEST, repeat=2),
    *itertools.product((*OLDER, *RUST), PARTNERS),
    *itertools.product(PARTNERS, (*OLDER, *RUST)),
)


def main() -> int:
    """Make every environment that can be made here.  Return the exit status."""
    CACHE.mkdir(parents=True, exist_ok=True)
    failures = 0
    for sdk in (*SDKS, STREAM_CLIENTS):
        if sdk.missing:
            print(f"{sdk.name}: {sdk.missing}; its tests are skipped", flush=True)
        elif not sdk.made:
            print(f"{sdk.name}: installing ...", flush=True)
            started = time.monotonic()
            try:
                sdk.make()
            except MakingFailed as error:
                print(f"{sdk.name}: {error}", file=sys.stderr, flush=True)
                failures += 1
            else:
                print(f"{sdk.name}: installed in {time.monotonic() - started:.0f} s", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
