"""The program C{iii}: the engine in the foreground, and what one does to it (spec/cli-deploy.md, 1)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError
from twisted.scripts import twistd

from iii.config.errors import ConfigError
from iii.config.load import load
from iii.options import Options
from iii.service import store_files
from iii.storage.backup import back_up
from iii.storage.errors import StorageError


class BackupOptions(UsageOptions):
    """Options of C{iii backup}."""

    synopsis = "FILE"
    longdesc = (
        "Copies what the engine has stored to the new file FILE, while the engine runs or not. The configuration says "
        "which store that is: `iii -c config.yaml backup FILE`. The store of a module with a `file_path` of its own is "
        "copied to FILE with the name of that directory appended. To restore, stop the engine and put the copy in the "
        "place of store.db, without the files store.db-wal and store.db-shm beside it."
    )

    def parseArgs(self, file: str) -> None:  # type: ignore[override]  # usage passes the arguments as they are
        self["file"] = file


class ProgramOptions(Options):
    """Options of the program C{iii}."""

    synopsis = "iii [options] [command]"
    subCommands = [["backup", None, BackupOptions, "Copy what is stored to a file."]]


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the engine in the foreground, or a command.  Exit status: 0 stopped in order, 1 could not start or failed, 2
    wrong arguments.

    @param arguments: Without the program's name; those of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = ProgramOptions()
    try:
        options.parseOptions(given)
    except UsageError as error:
        print(f"iii: {error}\nTry: iii --help", file=sys.stderr)
        raise SystemExit(2) from error
    if options.subCommand == "backup":
        backup(options)
        return
    sys.argv = ["iii", "--nodaemon", "--pidfile=", "iii", *given]
    twistd.run()


def backup(options: Any) -> None:
    """Copy the stores of a configuration, saying what is done."""
    config = options["config"]
    target = Path(options.subOptions["file"]).absolute()
    try:
        files = store_files(load(None if config is None else Path(config), os.environ))
        if not files:
            raise StorageError("this configuration has no store: no module keeps anything in a file")
        for number, file in enumerate(files):
            copy = target if number == 0 else target.with_name(f"{target.name}.{file.parent.name}")
            size = back_up(file, copy, _progress if sys.stderr.isatty() else lambda remaining, total: None)
            print(f"{file} -> {copy} ({size:,} bytes)")
    except (ConfigError, StorageError) as error:
        print(f"iii: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def _progress(remaining: int, total: int) -> None:
    if total:
        print(f"\r{100 * (total - remaining) // total} %", end="" if remaining else "\n", file=sys.stderr, flush=True)
