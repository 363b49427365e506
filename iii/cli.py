"""The program C{iii}: the engine in the foreground (spec/cli-deploy.md, 1)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twisted.python.usage import UsageError
from twisted.scripts import twistd

from iii.options import Options


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the engine in the foreground.  Exit status: 0 stopped in order, 1 could not start, 2 wrong arguments.

    @param arguments: Without the program's name; those of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = Options()
    options.synopsis = "iii [options]"
    try:
        options.parseOptions(given)
    except UsageError as error:
        print(f"iii: {error}\nTry: iii --help", file=sys.stderr)
        raise SystemExit(2) from error
    sys.argv = ["iii", "--nodaemon", "--pidfile=", "iii", *given]
    twistd.run()
