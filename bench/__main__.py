"""C{python -m bench}: run the benchmarks, print what they find, and say by the exit status whether all was answered."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.benchmarks import BENCHMARKS, NEED_A_FRESH_ENGINE, Plan
from bench.engine import attached, started
from bench.frames import ConnectionEnded
from bench.processes import StartFailed, keep_off_the_servers_cpu
from bench.report import Machine, Section, as_json


def parse(arguments: list[str]) -> argparse.Namespace:
    what = "\n".join(f"  {name:<9} {benchmark.__doc__}" for name, benchmark in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the engine beside plain Twisted and Autobahn on the same machine, in the same run.",
        epilog=f"benchmarks:\n{what}\n\n"
        "The exit status is 1 if an answer was lost or wrong. A missed aim is only shown.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help="which to run, in this order (default: all)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="rounds of each side (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of a round (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=100_000, metavar="N", help="for answers (default: %(default)s)")
    parser.add_argument("--idle", type=int, default=2000, metavar="N", help="connections (default: %(default)s)")
    parser.add_argument("--backlog", type=int, default=1_000_000, metavar="N", help="jobs (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    parser.add_argument(
        "--attach",
        metavar="PID:PORT:HTTP_PORT",
        help=f"measure an engine that runs already (without {', '.join(NEED_A_FRESH_ENGINE)})",
    )
    options = parser.parse_args(arguments)
    possible = [name for name in BENCHMARKS if not (options.attach and name in NEED_A_FRESH_ENGINE)]
    options.benchmarks = options.benchmarks or possible
    if impossible := [name for name in options.benchmarks if name not in possible]:
        parser.error(f"cannot run {', '.join(impossible)}; choose from {', '.join(possible)}")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    plan = Plan(
        repeat=options.repeat,
        seconds=options.seconds,
        calls=options.calls,
        idle=options.idle,
        backlog=options.backlog,
    )
    machine = Machine()
    engines = attached(options.attach) if options.attach else started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is also stopped
    sections: dict[str, Section] = {}
    print(machine)
    keep_off_the_servers_cpu()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as load:
        for name in options.benchmarks:
            sections[name] = BENCHMARKS[name](plan, load, engines)
            print(sections[name], flush=True)
    if options.json:
        options.json.write_text(json.dumps(as_json(machine, plan, sections), indent=2) + "\n")
    return 1 if any(section.failures for section in sections.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (StartFailed, ConnectionEnded, TimeoutError) as error:
        sys.exit(f"bench: {error}")
