"""
Make the table of C{docs/sdk-versions.md} from a run of the tests.

C{python -m tests.sdk.table} runs all tests of C{tests.sdk}, each of which belongs to one row, and writes what it found.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.scripts import trial
from twisted.trial.reporter import TestResult
from twisted.trial.runner import TestSuite
from twisted.trial.unittest import TestCase

from tests.sdk.contract import Contract, NeedingTest
from tests.sdk.environments import SDKS
from tests.sdk.sdk import Ability, Sdk

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sdk-versions.md"
BEGIN, END = "<!-- made by python -m tests.sdk.table -->\n", "<!-- end -->\n"

WORKS, FAILS, ABSENT = "works", "**fails**", "–"

# The tests of each row, by contract.
ROWS: dict[str, dict[str, tuple[str, ...]]] = {
    "Calls with every kind of JSON value": {"Calls": ("values",)},
    "Calls without a payload, handlers without a result": {"Calls": ("no_values",)},
    "Errors: code and message": {"Calls": ("error", "no_such_function")},
    "Errors: stack trace": {"Calls": ("stack_trace",)},
    "Time-outs of calls": {"Calls": ("timeout",)},
    "Calls without an answer (void)": {"Calls": ("void", "void_error")},
    "Metadata of calls": {"Calls": ("metadata", "void_metadata")},
    "Messages up to what the SDK takes; larger ones are refused": {
        "Calls": ("large_result",),
        "Payload": ("large_payload", "too_large_payload"),
    },
    "Messages of more than 16 MiB, in fragments": {"Fragments": ("fragments",)},
    "Channels": {"Channels": ("push", "push_much", "pull", "pull_much", "no_bytes")},
    "Functions that come and go": {"Registration": ("unregister_function",)},
    "Several processes of one worker": {"Registration": ("replicas",)},
    "Workers that leave, or die": {"Registration": ("leaves",), "Killed": ("killed_in_a_call",)},
    "Services, which mean nothing any more": {"Registration": ("services",)},
    "HTTP: routes, JSON bodies, errors": {
        "PlainHandlers": ("get", "post_json", "unreadable_json", "error", "unregistered_route"),
    },
    "HTTP: streamed requests and responses": {
        "HttpHelper": ("answer_written", "no_body", "large_body", "pieces", "no_content", "value"),
    },
    "HTTP: clients that leave before the response": {"HttpHelper": ("client_leaves_early",)},
    "HTTP: clients that leave in the middle of it": {"HttpHelper": ("client_leaves_midway",)},
    "Trigger types of workers": {
        "TriggerTypes": ("fires", "bound_before_provided"),
        "ProviderLoss": ("provider_returns",),
    },
    "Metadata of bindings": {"TriggerTypes": ("metadata",), "Listings": ("registered_trigger_metadata",)},
    "Metadata of bindings, in the provider's calls": {"TriggerTypes": ("metadata_to_function",)},
    "Providers hear of the end of a binding": {"TriggerTypes": ("unbound",), "ProviderLoss": ("binder_goes",)},
    "Workers hear why a binding was refused": {"TriggerTypes": ("refused",)},
    "Listings: functions": {"Listings": ("functions_list", "functions_info", "functions_info_of_none")},
    "Listings: metadata of functions": {"Listings": ("function_metadata",)},
    "Listings: schemas of functions": {"Listings": ("function_formats",)},
    "Listings: workers, with their process": {"Listings": ("workers_list", "worker_pid")},
    "Listings: details of a worker by name": {"Listings": ("workers_info",)},
    "Listings: descriptions of workers": {"Listings": ("worker_description",)},
    "Listings: trigger types and bindings": {"Listings": ("triggers", "registered_triggers")},
    "Listings: news of functions": {"Listings": ("functions_available",)},
    "Listings: the SDK's own methods": {"Listings": ("list_functions", "list_workers", "on_functions_available")},
    "Logs: the SDK's logger": {"Logs": ("logger",)},
    "Logs: functions and triggers": {"Logs": ("function", "trigger")},
    "Streams: functions, updates": {
        "Streams": ("set", "get_missing", "delete", "list", "list_groups", "list_all", "update", "update_paths"),
    },
    "Streams: triggers": {"Streams": ("trigger", "trigger_for_item", "send")},
    "Streams that a worker keeps": {"Streams": ("custom", "custom_events")},
    "Streams that a worker keeps: updates": {"Streams": ("custom_update",)},
    "Return after the engine or the connection was lost": {
        "LostEngine": ("crash", "stop"),
        "LostConnection": ("cut",),
    },
    "Return to the old identity and to calls under way (reattach)": {
        "LostConnection": ("cut_during_call", "half_open"),
    },
}


@attrs.frozen
class Shown:
    """
    What one test case shows.

    @ivar test: Its contract and method: C{("Calls", "values")}.
    @ivar needs: What an SDK must be able to in any of its roles.
    @ivar passed: C{None} if it was not run to its end.
    """

    test: tuple[str, str]
    sdks: tuple[Sdk, ...]
    needs: frozenset[Ability]
    passed: bool | None


class NotShown(Exception):
    """The run has left out an SDK, of which the table says nothing then."""


def shown(case: TestCase, passed: bool | None = True) -> Shown:
    """Return what a case of a contract shows."""
    contract: type[Contract] = type(case).contract  # type: ignore[attr-defined]
    method: str = case._testMethodName
    test = getattr(contract, method)
    needs = contract.common_needs.all | (test.needs.all if isinstance(test, NeedingTest) else frozenset())
    name = (contract.__name__.removesuffix("Contract"), method.removeprefix("test_"))
    return Shown(name, type(case).sdks, needs, passed)  # type: ignore[attr-defined]


def table(results: Iterable[Shown], sdks: Iterable[Sdk] = SDKS, rows: Mapping[str, Any] = ROWS) -> str:
    """
    Write the table in Markdown.

    @raise NotShown: A test of an SDK that can do what its row needs is missing, or was skipped.
    """
    sdks, results = tuple(sdks), list(results)
    lines = [_line("", *(sdk.name.replace("-", " ") for sdk in sdks)), _line(*["---"] * (len(sdks) + 1))]
    for row, contracts in rows.items():
        names = {(contract, method) for contract, methods in contracts.items() for method in methods}
        of_row = [result for result in results if result.test in names]
        lines.append(_line(row, *(_cell(row, sdk, of_row) for sdk in sdks)))
    return "\n".join(lines) + "\n"


def _cell(row: str, sdk: Sdk, results: list[Shown]) -> str:
    if not all(sdk.can(*result.needs) for result in results):
        return ABSENT
    outcomes = [result.passed for result in results if sdk in result.sdks]
    if not outcomes or None in outcomes:
        raise NotShown(f"{row}: not all tests of {sdk.name} were run")
    return WORKS if all(outcomes) else FAILS


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def cases() -> tuple[TestSuite, list[TestCase]]:
    """Return all tests of this package as Trial loads them, and those among them that come from contracts."""
    options = trial.Options()
    options.parseOptions(["tests.sdk"])
    suite = trial._getSuite(options)
    return suite, [case for case in _cases_in(suite) if hasattr(case, "contract") and case.contract.in_table]


def _cases_in(suite: Any) -> Iterator[TestCase]:
    for test in suite:
        if isinstance(test, TestCase):
            yield test
        elif not hasattr(test, "runTest"):
            yield from _cases_in(test)


def run() -> list[Shown]:
    """Run all tests and return what they show."""
    options = trial.Options()
    options.parseOptions(["tests.sdk"])
    reporters: list[TestResult] = []
    reporter = options["reporter"]

    def remembered(*args: object, **keywords: object) -> TestResult:
        reporters.append(reporter(*args, **keywords))
        return reporters[-1]

    options["reporter"] = remembered
    suite, of_contracts = cases()
    trial._makeRunner(options).run(suite)
    (result,) = reporters
    bad = {id(test) for test, *_ in (*result.failures, *result.errors)}
    skipped = {id(test) for test, *_ in result.skips}
    return [shown(case, None if id(case) in skipped - bad else id(case) not in bad) for case in of_contracts]


def written(page: str) -> str:
    """Return the table that a page has."""
    return page.split(BEGIN)[1].split(END)[0]


def main() -> int:
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    made = table(run())
    PAGE.write_text(before + BEGIN + made + END + after)
    print(f"{PAGE}: {made.count(FAILS)} fail")
    return 1 if FAILS in made else 0


if __name__ == "__main__":
    sys.exit(main())
