"""
A second, slow reading of the tables of spec/state.md, 4.2 and 4.3, on Python's values, to compare the first one with.
"""

from __future__ import annotations

import copy
import math
from typing import Any

SINKS = ("__proto__", "constructor", "prototype")
ABSENT = object()


def evaluate(old: Any, operations: list[dict[str, Any]]) -> tuple[Any, list[tuple[int, str, str]]]:
    """
    Return the new value, and index, code and message of each operation that failed.

    @param old: L{ABSENT}, or a value.
    """
    root = {} if old is ABSENT else copy.deepcopy(old)
    absent, errors = old is ABSENT, []
    for index, operation in enumerate(operations):
        error = validate(operation)
        if error is None:
            root, error = STEPS[operation["type"]](root, absent, copy.deepcopy(operation))
        if error is None:
            absent = False
        else:
            errors.append((index, f"{operation['type']}.{error[0]}", error[1]))
    return root, errors


def kind(value: Any) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return "boolean"
    return {int: "number", float: "number", str: "string", list: "array", dict: "object"}[type(value)]


def segments(operation: dict[str, Any]) -> list[str]:
    path = operation.get("path")
    if path is None or path == "" or path == []:
        return []
    return [path] if isinstance(path, str) else path


def nesting(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(nesting, value), default=0)
    return 0


def validate(operation: dict[str, Any]) -> tuple[str, str] | None:
    path = segments(operation)
    if len(path) > 32:
        return "path.too_deep", f"Path depth {len(path)} exceeds maximum of 32"
    for segment in path:
        if segment == "":
            return "path.empty_segment", "Path contains an empty segment"
        if (size := len(segment.encode())) > 256:
            return "path.segment_too_long", f"Path segment of {size} bytes exceeds maximum of 256"
        if segment in SINKS:
            return "path.proto_polluted", f"Path segment '{segment}' is not allowed (prototype pollution)."
    if operation["type"] == "merge":
        value = operation["value"]
        if not isinstance(value, dict):
            return "value.not_an_object", "Merge value must be a JSON object"
        if len(value) > 1024:
            return "value.too_many_keys", f"Merge value has {len(value)} top-level keys, exceeds maximum of 1024"
        for key in value:
            if key in SINKS:
                return "value.proto_polluted", f'Merge value top-level key "{key}" is a prototype-pollution sink'
        if (depth := nesting(value)) > 16:
            return "value.too_deep", f"Merge value JSON nesting depth {depth} exceeds maximum of 16"
    return None


Step = tuple[Any, tuple[str, str] | None]


def not_object(operation: dict[str, Any], root: Any) -> tuple[str, str]:
    name, path = operation["type"], operation["path"]
    return "target_not_object", f"Cannot {name} at path '{path}': target is {kind(root)}, expected object."


def do_set(root: Any, absent: bool, operation: dict[str, Any]) -> Step:
    value = operation.get("value")
    if operation["path"] == "":
        return value, None
    if not isinstance(root, dict):
        return root, not_object(operation, root)
    root[operation["path"]] = value
    return root, None


def do_merge(root: Any, absent: bool, operation: dict[str, Any]) -> Step:
    path = segments(operation)
    if not path:
        return ({**root, **operation["value"]} if isinstance(root, dict) else root), None
    if not isinstance(root, dict):
        root = {}
    at = root
    for segment in path:
        if not isinstance(at.get(segment), dict):
            at[segment] = {}
        at = at[segment]
    at.update(operation["value"])
    return root, None


def do_count(root: Any, absent: bool, operation: dict[str, Any]) -> Step:
    by = operation["by"] if operation["type"] == "increment" else -operation["by"]
    path = operation["path"]
    if path != "" and not isinstance(root, dict):
        return root, not_object(operation, root)
    missing = absent if path == "" else path not in root
    old = 0 if missing else root if path == "" else root[path]
    new = old + by if kind(old) == "number" else None
    if missing:
        new = by
    elif isinstance(new, int) and not -(2**63) <= new < 2**64 or isinstance(new, float) and math.isinf(new):
        new = None
    if new is None:
        return root, ("not_number", f"Expected number at path '{path or 'root'}', got {kind(old)}.")
    if path == "":
        return new, None
    root[path] = new
    return root, None


def joined(old: Any, value: Any, leaf: str) -> Step:
    if isinstance(old, list):
        return [*old, value], None
    if isinstance(old, str):
        if isinstance(value, str):
            return old + value, None
        return old, ("type_mismatch", f"Expected string append value at path '{leaf}', got {kind(value)}.")
    text = f"Cannot append at path '{leaf}': target is {kind(old)}, expected array, string, null, or missing field."
    return old, ("type_mismatch", text)


def do_append(root: Any, absent: bool, operation: dict[str, Any]) -> Step:
    path, value = segments(operation), operation["value"]
    alone = value if isinstance(value, str) else [value]
    if not path:
        return (alone, None) if absent or root is None else joined(root, value, "root")
    if not isinstance(root, dict):
        text = f"Cannot append at path '[{', '.join(path)}]': target is {kind(root)}, expected object."
        return root, ("target_not_object", text)
    at = root
    for segment in path[:-1]:
        if not isinstance(at.get(segment), dict):
            at[segment] = {}
        at = at[segment]
    leaf = path[-1]
    if at.get(leaf) is None:
        at[leaf] = alone if len(path) == 1 else [value]
        return root, None
    at[leaf], error = joined(at[leaf], value, leaf)
    return root, error


def do_remove(root: Any, absent: bool, operation: dict[str, Any]) -> Step:
    if operation["path"] == "":
        return None, None
    if not isinstance(root, dict):
        return root, not_object(operation, root)
    root.pop(operation["path"], None)
    return root, None


STEPS = {
    "set": do_set,
    "merge": do_merge,
    "increment": do_count,
    "decrement": do_count,
    "append": do_append,
    "remove": do_remove,
}
