"""
From the values of a document to the Structs that describe the settings.

The Structs say everything: keys, types, bounds, defaults, whether unknown keys are refused.  C{msgspec.convert} would
do the same work, but it ends at the first error and does not know the file; people correct a file in one go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Final, TypeVar, cast

from msgspec import Struct, inspect

from iii.config.errors import Place, Report, shown, suggestion

S = TypeVar("S", bound=Struct)

_INVALID: Final = object()  # takes the place of a value about which an error was reported

_QUOTED = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?|true|false")

_KINDS: Mapping[type, str] = {
    NoneType: "nothing",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}
_TAKES: Mapping[type[inspect.Type], type] = {
    inspect.StrType: str,
    inspect.StructType: dict,
    inspect.VarTupleType: list,
}
"""By what kind of data the members of a union are told apart."""


class Reader:
    """
    Reads values and reports all that is wrong with them.

    Null counts as absent: who comments out all that a key contained means its default.  Relative paths are made
    absolute here, because the working directory is another one later.
    """

    def __init__(self, report: Report, strict: bool) -> None:
        """
        @param strict: Refuse unknown keys where a Struct forbids them.  If not, they are warnings everywhere, as in
            files of the old dialect (spec/config.md, 13).
        """
        self._report, self._strict = report, strict

    def read(self, kind: type[S], data: object, place: Place) -> S | None:
        """Return the Struct that the data describe, or C{None} when an error was reported about them."""
        info = inspect.type_info(kind)
        value = self._value(info, data, place)
        return value if isinstance(value, kind) else None

    def _value(self, info: inspect.Type, data: object, place: Place) -> object:
        return self._readers[type(info)](self, info, data, place)

    def _struct(self, info: inspect.StructType, data: object, place: Place) -> object:
        data = {} if data is None else data
        if not isinstance(data, dict):
            return self._unexpected("a mapping", data, place)
        fields = {field.encode_name: field for field in info.fields}
        values: dict[str, object] = {}
        for key, value in data.items():
            if key in fields:
                if value is not None:
                    values[fields[key].name] = self._value(fields[key].type, value, place.child(key))
            elif key != info.tag_field:
                self._unknown(info, place.child(key), suggestion(key, fields))
        for key, field in fields.items():
            if field.required and field.name not in values:
                self._report.error(place.child(key), "is missing")
                values[field.name] = _INVALID
        if any(value is _INVALID for value in values.values()):
            return _INVALID
        try:
            return info.cls(**values)
        except ValueError as error:  # a Struct's __post_init__ says what does not go together
            self._report.error(place, str(error))
            return _INVALID

    def _unknown(self, info: inspect.StructType, place: Place, hint: str) -> None:
        if self._strict and info.forbid_unknown_fields:
            self._report.error(place, f"unknown key{hint}")
        else:
            self._report.warning(place, f"unknown key, ignored{hint}")

    def _union(self, info: inspect.UnionType, data: object, place: Place) -> object:
        """One of several types: by the data's kind, of several Structs the one whose tag is named."""
        members = [member for member in info.types if not isinstance(member, inspect.NoneType)]
        structs = {member.tag: member for member in members if isinstance(member, inspect.StructType)}
        if len(structs) > 1:
            return self._tagged(structs, data, place)
        for member in members:
            if len(members) == 1 or isinstance(data, _TAKES[type(member)]):
                return self._value(member, data, place)
        return self._unexpected(" or ".join(_KINDS[_TAKES[type(member)]] for member in members), data, place)

    def _tagged(self, structs: Mapping[Any, inspect.StructType], data: object, place: Place) -> object:
        key = next(iter(structs.values())).tag_field
        if not isinstance(data, dict) or key is None:
            return self._unexpected("a mapping", data, place)
        if data.get(key) is None:
            self._report.error(place.child(key), f"is missing; it is one of {', '.join(sorted(structs))}")
            return _INVALID
        tag = self._choice(sorted(structs), data[key], place.child(key))
        return _INVALID if tag is _INVALID else self._value(structs[tag], data, place)

    def _literal(self, info: inspect.LiteralType, data: object, place: Place) -> object:
        return self._choice(info.values, data, place)

    def _choice(self, values: Sequence[Any], data: object, place: Place) -> object:
        if data in values:
            return data
        got = f'"{shown(data)}"' if isinstance(data, str) else _KINDS[type(data)]
        expected = values[0] if len(values) == 1 else f"one of {', '.join(values)}"
        self._report.error(place, f"expected {expected}, got {got}")
        return _INVALID

    def _list(self, info: inspect.VarTupleType, data: object, place: Place) -> object:
        if not isinstance(data, list):
            return self._unexpected("a list", data, place)
        items = [self._value(info.item_type, item, place.child(index)) for index, item in enumerate(data)]
        return _INVALID if any(item is _INVALID for item in items) else tuple(items)

    def _map(self, info: inspect.DictType, data: object, place: Place) -> object:
        if not isinstance(data, dict):
            return self._unexpected("a mapping", data, place)
        members = {key: self._value(info.value_type, value, place.child(key)) for key, value in data.items()}
        return _INVALID if any(value is _INVALID for value in members.values()) else members

    def _integer(self, info: inspect.IntType, data: object, place: Place) -> object:
        low, high = info.ge if info.gt is None else info.gt + 1, info.le
        expected = "an integer" + _bounds(low, high)
        if type(data) is not int:  # and so no boolean
            return self._unexpected(expected, data, place)
        return self._bounded(data, low, high, expected, place)

    def _float(self, info: inspect.FloatType, data: object, place: Place) -> object:
        expected = "a number" + _bounds(info.ge, info.le)
        if type(data) not in (int, float):
            return self._unexpected(expected, data, place)
        return self._bounded(float(cast(float, data)), info.ge, info.le, expected, place)

    def _bounded(self, number: float, low: float | None, high: float | None, expected: str, place: Place) -> object:
        if isfinite(number) and (low is None or low <= number) and (high is None or number <= high):
            return number
        self._report.error(place, f"expected {expected}, got {number}")
        return _INVALID

    def _boolean(self, info: inspect.BoolType, data: object, place: Place) -> object:
        return data if isinstance(data, bool) else self._unexpected("true or false", data, place)

    def _text(self, info: inspect.StrType, data: object, place: Place) -> object:
        if not isinstance(data, str):
            return self._unexpected("text", data, place)
        if len(data) < (info.min_length or 0):
            self._report.error(place, "must not be empty")
            return _INVALID
        return data

    def _path(self, info: inspect.CustomType, data: object, place: Place) -> object:
        if not isinstance(data, str):
            return self._unexpected("a path", data, place)
        if not data or "\0" in data:
            self._report.error(place, "is not a path")
            return _INVALID
        return Path(os.path.abspath(data))

    def _any(self, info: inspect.AnyType, data: object, place: Place) -> object:
        return data

    def _unexpected(self, expected: str, data: object, place: Place) -> object:
        """Complain about a value of the wrong kind, without showing it: it may be a secret in the wrong place."""
        if isinstance(data, str):
            word = data.lower()
            hint = ": yes, no, on and off are text" if word in ("yes", "no", "on", "off") else ""
            hint = hint or (": leave out the quotes" if _QUOTED.fullmatch(word) else "")
        else:
            hint = ": put it in quotes" if expected == "text" and isinstance(data, int | float) else ""
        self._report.error(place, f"expected {expected}, got {_KINDS[type(data)]}{hint}")
        return _INVALID

    _readers: ClassVar[Mapping[type[inspect.Type], Callable[[Reader, Any, object, Place], object]]] = {
        inspect.AnyType: _any,
        inspect.BoolType: _boolean,
        inspect.CustomType: _path,  # the only one in use; a test sees to that
        inspect.DictType: _map,
        inspect.FloatType: _float,
        inspect.IntType: _integer,
        inspect.LiteralType: _literal,
        inspect.StrType: _text,
        inspect.StructType: _struct,
        inspect.UnionType: _union,
        inspect.VarTupleType: _list,
    }


def _bounds(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    return f" of at least {low}" if high is None else f" from {low} to {high}"
