"""The command line of C{twistd iii}; the program C{iii} takes the same (spec/cli-deploy.md, 1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from iii import __version__

DEFAULT_FILE = "config.yaml"


class Options(UsageOptions):
    """
    Options of the engine.

    @ivar config: The configuration file, C{None} for the default set of modules.
    """

    synopsis = "[options]"
    longdesc = (
        "Runs the iii engine: workers connect on port 49134, HTTP routes are served on port 3111, clients of streams "
        "connect on port 3112, health and metrics are on port 9464. Without --config it reads config.yaml in the "
        "current directory if there is one, else it runs every module with its defaults. SIGTERM stops it in order."
    )
    optFlags = [
        ["use-default-config", None, "Run every module with its defaults; read no file."],
        ["no-update-check", None, "Accepted for old scripts; this engine never looks for updates."],
    ]
    optParameters = [["config", "c", None, f"Configuration file [default: {DEFAULT_FILE}, if it exists]."]]
    compData: Any = None

    @property
    def foreground(self) -> bool:
        """C{twistd} does not put itself into the background."""
        return self.parent is None or bool(self.parent["nodaemon"])

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(__version__)  # noqa: T201
        raise SystemExit(0)

    opt_v = opt_version
    opt_h = UsageOptions.opt_help

    def postOptions(self) -> None:
        if self["use-default-config"] and self["config"] is not None:
            raise UsageError("--use-default-config and --config exclude each other")
        if self["config"] is None and not self["use-default-config"] and Path(DEFAULT_FILE).is_file():
            self["config"] = DEFAULT_FILE
