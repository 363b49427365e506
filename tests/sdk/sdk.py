"""What an SDK under test is: where it is installed, how a worker runs on it, and what it can do."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "sdk"
MIB = 1024 * 1024


class NotMade(Exception):
    """The environment of an SDK is missing or out of date."""


class MakingFailed(Exception):
    """A command that makes an environment failed.  The text has the command and all that it wrote."""


class Ability(Enum):
    """
    What some SDKs cannot do.  A test that needs it says so, and is not there for the SDKs without.

    Whatever has no ability here, such as calls, every SDK can do.
    """

    CHANNELS = "make channels, and find their ends in a payload"
    HTTP_HELPER = "answer an HTTP request piece by piece, with the helper http()"
    CALL_METADATA = "send metadata with a call, and hand it to a handler"
    CODED_ERRORS = "raise errors that have a code, also when a call takes too long"
    STACK_TRACES = "send the stack trace of an error, and show it to a caller"
    FUNCTION_METADATA = "register a function with metadata"
    FUNCTION_FORMATS = "register a function with the schema of its request"
    BROKEN_CHANNELS = "survive that the reader goes while a handler writes to a channel"
    WORKER_PID = "tell the worker's process id, without which it is not listed"
    WORKER_DESCRIPTION = "tell a description of the worker"
    TRIGGER_TYPES = "provide a trigger type"
    TRIGGER_METADATA = "bind a function with metadata, and hand that to a provider of trigger types"
    UNBINDING_HEARD = "tell a provider of trigger types that a binding has ended"
    REFUSAL_HEARD = "log why a binding was refused"
    REATTACH = "return to a lost connection's identity and calls"
    FRAGMENTS = "send large messages in fragments"
    LISTING_METHODS = "list functions and workers, and watch functions, by methods of its own"
    LOGGER = "write log records with a logger of its own that reach the engine"
    SERVICES = "register a service"
    ENQUEUE = "put a job into a named queue, with TriggerAction.Enqueue"
    CUSTOM_STREAMS = "keep a stream, with createStream"
    NO_STREAM_UPDATE = "keep a stream without registering a function for its updates"


@attrs.frozen
class Sdk:
    """
    One SDK in one version.

    @ivar name: Its language and version; also the name of its folder.
    @ivar version: What its workers report to the engine.
    @ivar runtime: Likewise.
    @ivar max_message_bytes: The largest message that its client takes; a larger one makes it drop the connection.
    @ivar needs: The programs which must be on the path, or its tests are skipped.
    @ivar abilities: What it can do.
    @ivar recipe: All that decides about the content of the folder.
    @ivar error_prefix: What it puts before the text of an error that a handler raises.
    @ivar complaint: What it logs when it drops a message of the engine that it cannot read, if it says so.
    """

    name: str
    version: str
    runtime: str
    max_message_bytes: int
    needs: tuple[str, ...]
    abilities: frozenset[Ability]
    recipe: tuple[str, ...]
    _steps: Callable[[Path], list[list[str]]]
    _worker: Callable[[Path], list[str]]
    error_prefix: str = ""
    complaint: str | None = None
    _obstacle: Callable[[], str | None] = lambda: None

    @property
    def directory(self) -> Path:
        return CACHE / self.name

    @property
    def missing(self) -> str | None:
        """Why this SDK cannot be used here, if it cannot."""
        absent = [program for program in self.needs if shutil.which(program) is None]
        return f"not installed: {', '.join(absent)}" if absent else self._obstacle()

    @property
    def made(self) -> bool:
        try:
            return (self.directory / "made").read_text() == self._digest()
        except FileNotFoundError:
            return False

    def can(self, *abilities: Ability) -> bool:
        return self.abilities.issuperset(abilities)

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
