"""C{engine::baggage::*}: what baggage a call came with (spec/engine-functions.md, 8; W3C Baggage)."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from iii.core.functions import Caller, NoInput
from iii.core.tracing import FUNCTION_MEMBER


class BaggageKey(msgspec.Struct):
    """Which entry."""

    key: str


class BaggageValue(msgspec.Struct):
    """Its value, if the call came with it."""

    value: str | None


class BaggageEntry(msgspec.Struct):
    """An entry."""

    key: str
    value: str


class BaggageNotSet(msgspec.Struct):
    """Why nothing has changed."""

    success: bool = True
    note: str = "baggage travels with a call: to set it, send it with the call"


class AllBaggage(msgspec.Struct):
    """All entries."""

    baggage: dict[str, str]


def entries(baggage: str | None) -> dict[str, str]:
    """
    Read a baggage header: members without their properties, percent-decoded.  What is no member is left out, and so is
    the one that the engine adds to every call.
    """
    members = (member.partition(";")[0].partition("=") for member in (baggage or "").split(","))
    read = {key.strip(): unquote(value.strip()) for key, equals, value in members if equals}
    return {key: value for key, value in read.items() if key not in ("", FUNCTION_MEMBER)}


def get(question: BaggageKey, caller: Caller) -> BaggageValue:
    """C{engine::baggage::get}."""
    return BaggageValue(entries(caller.baggage).get(question.key))


def set_(entry: BaggageEntry, caller: Caller) -> BaggageNotSet:
    """C{engine::baggage::set}, without effect."""
    return BaggageNotSet()


def get_all(_: NoInput, caller: Caller) -> AllBaggage:
    """C{engine::baggage::get_all}."""
    return AllBaggage(entries(caller.baggage))
