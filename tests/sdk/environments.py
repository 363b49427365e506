"""
The published SDKs under test, each installed into a folder of its own under C{.cache/sdk}.

C{python -m tests.sdk.environments} makes what is missing; it may run several times, also at once.  A folder counts as
made when its file C{made}, written last, holds the digest of all that decides about its content.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "sdk"
NODE = HERE / "node"
CONSTRAINTS = HERE / "constraints.txt"
MIB = 1024 * 1024

# One line per version of the Python SDK, with the largest message that its client takes.
PYTHON_VERSIONS = {
    "0.25.0": 64 * MIB,
    "0.22.1": MIB,
}


class NotMade(Exception):
    """The environment of an SDK is missing or out of date."""


class MakingFailed(Exception):
    """A command that makes an environment failed.  The text has the command and all that it wrote."""


@attrs.frozen
class Sdk:
    """
    One SDK in one version.

    @ivar name: Its language and version; also the name of its folder.
    @ivar version: What its workers report to the engine.
    @ivar runtime: Likewise.
    @ivar max_message_bytes: The largest message that its client takes; a larger one makes it drop the connection.
    @ivar needs: The programs which must be on the path, or its tests are skipped.
    @ivar recipe: All that decides about the content of the folder.
    """

    name: str
    version: str
    runtime: str
    max_message_bytes: int
    needs: tuple[str, ...]
    recipe: tuple[str, ...]
    _steps: Callable[[Path], list[list[str]]]
    _worker: Callable[[Path], list[str]]

    @property
    def directory(self) -> Path:
        return CACHE / self.name

    @property
    def missing(self) -> str | None:
        """Why this SDK cannot be used here, if it cannot."""
        absent = [program for program in self.needs if shutil.which(program) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    @property
    def made(self) -> bool:
        try:
            return (self.directory / "made").read_text() == self._digest()
        except FileNotFoundError:
            return False

    def worker(self) -> list[str]:
        """Return the command that runs the worker program on this SDK, without its arguments."""
        if not self.made:
            raise NotMade(f"{self.name} is not installed in {CACHE}: run `python -m tests.sdk.environments` first")
        return self._worker(self.directory)

    def make(self) -> None:
        """Install this SDK into its folder, unless that is done.  What another attempt left behind is removed."""
        with _locked(CACHE / f"{self.name}.lock"):
            if self.made:
                return
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory.mkdir()
            for step in self._steps(self.directory):
                _run(step, self.directory)
            (self.directory / "made").write_text(self._digest())

    def _digest(self) -> str:
        return hashlib.sha256("\0".join(self.recipe).encode()).hexdigest()


def python_sdk(version: str, max_message_bytes: int) -> Sdk:
    """Return the SDK C{iii-sdk} of PyPI, in a virtual environment of the Python that runs this."""

    def steps(directory: Path) -> list[list[str]]:
        python = str(directory / "bin" / "python")
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        return [
            [sys.executable, "-m", "venv", str(directory)],
            [python, "-m", "pip", "install", *quiet, "-c", str(CONSTRAINTS), f"iii-sdk=={version}"],
        ]

    return Sdk(
        name=f"python-{version}",
        version=version,
        runtime="python",
        max_message_bytes=max_message_bytes,
        needs=(),
        recipe=(version, CONSTRAINTS.read_text(), sys.version, sys.base_prefix, str(CACHE)),
        steps=steps,
        worker=lambda directory: [str(directory / "bin" / "python"), str(HERE / "workers" / "worker.py")],
    )


def node_sdk() -> Sdk:
    """
    Return the SDK C{iii-sdk} of npm, in the version that C{node/package-lock.json} names.

    A link to the worker program lies beside C{node_modules}, because Node looks there for what a module imports.  The
    lock file is made by C{npm install --package-lock-only --omit-lockfile-registry-resolved}: it names no registry.
    """
    package, lock, program = NODE / "package.json", NODE / "package-lock.json", HERE / "workers" / "worker.mjs"
    version = json.loads(lock.read_text())["packages"]["node_modules/iii-sdk"]["version"]

    def steps(directory: Path) -> list[list[str]]:
        return [
            ["cp", str(package), str(lock), str(directory)],
            ["ln", "-s", str(program), str(directory)],
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        ]

    return Sdk(
        name=f"node-{version}",
        version=version,
        runtime="node",
        max_message_bytes=100 * MIB,
        needs=("node", "npm"),
        recipe=(package.read_text(), lock.read_text(), str(program)),
        steps=steps,
        worker=lambda directory: ["node", "--preserve-symlinks-main", str(directory / program.name)],
    )


SDKS = (*(python_sdk(version, limit) for version, limit in PYTHON_VERSIONS.items()), node_sdk())


def main() -> int:
    """Make every environment that can be made here.  Return the exit status."""
    CACHE.mkdir(parents=True, exist_ok=True)
    failures = 0
    for sdk in SDKS:
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


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back by the kernel when this process ends, however it does
        yield


def _run(command: list[str], directory: Path) -> None:
    result = subprocess.run(
        command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode != 0:
        raise MakingFailed(f"`{' '.join(command)}` ended with status {result.returncode}:\n{result.stdout}")


if __name__ == "__main__":
    sys.exit(main())
