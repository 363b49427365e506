"""What of a caller's trace context goes to the callee (spec/worker-protocol.md, 7.4)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from iii.core.ids import random_hex

if TYPE_CHECKING:
    from iii.wire.messages import InvokeFunction

_traceparent = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
MAX_TRACEPARENT = 512
MAX_BAGGAGE = 8192
"""Characters; more is not kept, nor passed on (W3C Baggage, 3.3.2)."""
FUNCTION_MEMBER = "iii.function.id"


def passed_on(traceparent: str | None, baggage: str | None, function_id: str) -> tuple[str | None, str | None]:
    """
    Return the C{traceparent} and C{baggage} for the callee: the caller's own, and its baggage with the called function
    in it.  Without a valid one of either, nothing is passed on.
    """
    if baggage is not None and len(baggage) > MAX_BAGGAGE:
        baggage = None
    if traceparent is not None and not _traceparent(traceparent):
        traceparent = None
    if traceparent is None and "=" not in (baggage or ""):
        return None, None
    return traceparent, with_function(baggage, function_id)


def continued(traceparent: str | None) -> str:
    """
    Return the C{traceparent} for what the engine calls because of a call: a new span in the caller's trace, or in a new
    trace when the caller had none.
    """
    if traceparent is not None and _traceparent(traceparent):
        _, trace, _, flags = traceparent.split("-")
        return f"00-{trace}-{random_hex(16)}-{flags}"
    return f"00-{random_hex(32)}-{random_hex(16)}-01"


def with_function(baggage: str | None, function_id: str) -> str:
    """Return a baggage list (W3C Baggage, 3.2) whose entry C{iii.function.id} names a function."""
    if not baggage:
        return f"{FUNCTION_MEMBER}={_quoted(function_id)}"
    entries = [entry.strip() for entry in baggage.split(",")]
    kept = [entry for entry in entries if "=" in entry and entry.split("=", 1)[0].strip() != FUNCTION_MEMBER]
    return ",".join([*kept, f"{FUNCTION_MEMBER}={_quoted(function_id)}"])


@lru_cache(1000)
def _quoted(function_id: str) -> str:
    return quote(function_id, safe="!#$&()*+-./:<=>?@[]^_`{|}~" + chr(39))


def limit(message: InvokeFunction) -> None:
    """Take from a call what no trace context has so much of: it is kept until the call is answered."""
    if message.traceparent is not None and len(message.traceparent) > MAX_TRACEPARENT:
        message.traceparent = None
    if message.baggage is not None and len(message.baggage) > MAX_BAGGAGE:
        message.baggage = None
