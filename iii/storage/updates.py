"""
The operations of C{state::update} and C{stream::update} (spec/state.md, 4): pure, from one JSON text to the next.

Only what an operation touches is read: an object becomes a dict from its keys to the JSON texts of their values, which
are read further when a path leads there, and are else written back as they came.  So numbers of any size and precision,
and anything else that Python or a double cannot hold, stay what they are, and a large document costs no more than
finding the ends of its fields.  A text is appended to by bytes: an array loses its bracket and gets it back at the end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import count
from typing import Annotated, Any, ClassVar

import attrs
import msgspec
from msgspec import Meta, Raw, Struct

from iii.storage.errors import StorageError
from iii.wire.messages import nested_deeper

MOST_SEGMENTS = 32
MOST_SEGMENT_BYTES = 256
MOST_MERGED_KEYS = 1024
DEEPEST_MERGED = 16
DEEPEST = 120
"""Levels that a result may have: it still fits into the messages that carry it, which have at most 127."""
SINKS = frozenset({"__proto__", "constructor", "prototype"})
LEAST, MOST = -(2**63), 2**64 - 1
"""The range of integers (spec/state.md, 3.1)."""
MAX_OPERATIONS = 10_000
"""Of one update: they are applied in one go, and nothing else happens meanwhile."""
DOC_URL = "https://iii.dev/docs/workers/iii-state#error-codes"

NULL = Raw(b"null")
Path = str | list[str] | None
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Set(Struct, frozen=True, tag_field="type", tag="set"):
    """
    Put a value into a field, or in place of the whole.

    @ivar path: One key, literally; the empty one is the root.  So in the others.
    """

    name: ClassVar[str] = "set"
    path: str
    value: Raw = msgspec.field(default_factory=lambda: NULL)  # a Raw as the default would have no schema


class Merge(Struct, frozen=True, tag_field="type", tag="merge"):
    """
    Put the fields of an object into the one at the path.

    @ivar path: One key, or the keys that lead there; without any, the root.
    """

    name: ClassVar[str] = "merge"
    value: Raw
    path: Path = None


class Increment(Struct, frozen=True, tag_field="type", tag="increment"):
    """Add to a number."""

    name: ClassVar[str] = "increment"
    path: str
    by: Integer


class Decrement(Struct, frozen=True, tag_field="type", tag="decrement"):
    """Subtract from a number."""

    name: ClassVar[str] = "decrement"
    path: str
    by: Integer


class Append(Struct, frozen=True, tag_field="type", tag="append"):
    """
    Add an element to an array, or a text to a text.

    @ivar path: As that of L{Merge}.
    """

    name: ClassVar[str] = "append"
    value: Raw
    path: Path = None


class Remove(Struct, frozen=True, tag_field="type", tag="remove"):
    """Remove a field; the root becomes null."""

    name: ClassVar[str] = "remove"
    path: str


Operation = Set | Merge | Increment | Decrement | Append | Remove


class OperationError(Struct, frozen=True):
    """Why an operation was left out."""

    op_index: int
    code: str
    message: str
    doc_url: str = DOC_URL


class Updated(Struct, frozen=True):
    """
    What an update has come to.

    @ivar old: The value before; C{None} when there was none.
    """

    old: bytes | None
    new: bytes
    errors: Sequence[OperationError] = ()


def apply(old: bytes | None, operations: Sequence[Operation]) -> Updated:
    """
    Apply operations to a value, one after the other; one that fails is left out, and told of (spec/state.md, 4.2).

    @param old: A JSON text; C{None} is absence.
    @raise StorageError: The old value is no JSON, or the new one would be nested too deep to be sent.  Nothing applies.
    """
    document = _Document(old)
    errors = []
    for index, operation in enumerate(operations):
        try:
            _METHODS[type(operation)](document, operation)
        except _LeftOut as error:
            errors.append(OperationError(index, f"{operation.name}.{error.code}", error.message))
        else:
            document.absent = False
    return Updated(old, document.text(), errors)


@attrs.define(str=False)
class _LeftOut(Exception):
    """An operation cannot be applied."""

    code: str
    message: str


class _Growing:
    """An array or a text that is appended to, without its last byte."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: str, text: bytes) -> None:
        self.kind, self.text = kind, bytearray(text[:-1])

    def closed(self) -> Raw:
        return Raw(bytes(self.text) + (b"]" if self.kind == "array" else b'"'))


Node = Raw | _Growing | dict[str, Any]
"""A value: as it came, being appended to, or an object that was read, whose values are nodes."""

_KINDS = {
    ord("{"): "object",
    ord("["): "array",
    ord('"'): "string",
    ord("n"): "null",
    ord("t"): "boolean",
    ord("f"): "boolean",
}
_EMPTY_ARRAY = re.compile(rb"\[[ \t\n\r]*\]")
_read = msgspec.json.Decoder(dict[str, Raw]).decode
_write = msgspec.json.Encoder(enc_hook=_Growing.closed).encode


class _Document:
    """
    The value that operations work on.

    @ivar absent: There was none, and no operation has made one yet.
    """

    __slots__ = ("absent", "root")

    def __init__(self, old: bytes | None) -> None:
        self.absent = old is None
        self.root: Node = {} if old is None else Raw(old)

    def text(self) -> bytes:
        return bytes(self.root) if isinstance(self.root, Raw) else _write(self.root)

    def fields(self) -> dict[str, Any] | None:
        """Return the root's fields, to change them; C{None}: it is no object."""
        root = self.root
        if isinstance(root, dict):
            return root
        if isinstance(root, _Growing) or _kind(root) != "object":
            return None
        try:
            fields: dict[str, Any] = _read(root)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StorageError(f"failed to decode existing JSON: {error}") from error
        self.root = fields
        return fields

    def parent(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the fields of the object that keys lead to; what is no object on the way becomes one."""
        fields = self.fields()
        if fields is None:
            self.root = fields = {}
        for key in keys:
            node = fields.get(key)
            if isinstance(node, dict):
                fields = node
            else:
                inner: dict[str, Any] = {} if node is None or _kind(node) != "object" else _read(node)
                fields[key] = inner
                fields = inner
        return fields

    def target(self, operation: Set | Increment | Decrement | Remove) -> dict[str, Any]:
        """Return the root's fields for an operation on one of them."""
        fields = self.fields()
        if fields is None:
            raise _LeftOut(
                "target_not_object",
                f"Cannot {operation.name} at path '{operation.path}': target is {_kind(self.root)}, expected object.",
            )
        return fields


def _set(document: _Document, operation: Set) -> None:
    path = _checked_key(operation.path)
    if path:
        fields = document.target(operation)
        _check_depth(operation.value, 1)
        fields[path] = operation.value
    else:
        _check_depth(operation.value, 0)
        document.root = operation.value


def _merge(document: _Document, operation: Merge) -> None:
    keys = _checked(operation.path)
    if _kind(operation.value) != "object":
        raise _LeftOut("value.not_an_object", "Merge value must be a JSON object")
    merged = _read(operation.value)
    if len(merged) > MOST_MERGED_KEYS:
        raise _LeftOut(
            "value.too_many_keys",
            f"Merge value has {len(merged)} top-level keys, exceeds maximum of {MOST_MERGED_KEYS}",
        )
    for key in merged:
        if key in SINKS:
            raise _LeftOut("value.proto_polluted", f'Merge value top-level key "{key}" is a prototype-pollution sink')
    value = bytes(operation.value)
    if nested_deeper(value, DEEPEST_MERGED):
        depth = next(levels for levels in count(DEEPEST_MERGED + 1) if not nested_deeper(value, levels))
        raise _LeftOut("value.too_deep", f"Merge value JSON nesting depth {depth} exceeds maximum of {DEEPEST_MERGED}")
    if keys:
        document.parent(keys).update(merged)
    else:
        fields = document.fields()
        if fields is not None:
            fields.update(merged)


def _increment(document: _Document, operation: Increment) -> None:
    _add(document, operation, operation.by)


def _decrement(document: _Document, operation: Decrement) -> None:
    _add(document, operation, -operation.by)


def _add(document: _Document, operation: Increment | Decrement, amount: int) -> None:
    path = _checked_key(operation.path)
    if path:
        fields = document.target(operation)
        number = fields.get(path)
    else:
        number = None if document.absent else document.root
    if number is None:
        total = b"%d" % amount
    else:
        found = _sum(number, amount)
        if found is None:
            raise _LeftOut("not_number", f"Expected number at path '{path or 'root'}', got {_kind(number)}.")
        total = found
    if path:
        fields[path] = Raw(total)
    else:
        document.root = Raw(total)


def _append(document: _Document, operation: Append) -> None:
    keys = _checked(operation.path)
    _check_depth(operation.value, len(keys) + 1)
    if not keys:
        current = None if document.absent else document.root
        document.root = _appended(current, operation.value, "root", bare=True)
        return
    if document.fields() is None:
        raise _LeftOut(
            "target_not_object",
            f"Cannot append at path '[{', '.join(keys)}]': target is {_kind(document.root)}, expected object.",
        )
    *steps, leaf = keys
    fields = document.parent(steps)
    fields[leaf] = _appended(fields.get(leaf), operation.value, leaf, bare=not steps)


def _appended(current: Node | None, value: Raw, leaf: str, *, bare: bool) -> Node:
    """
    Return what a value becomes with another at its end.

    @param bare: A text alone becomes itself, not an array.
    """
    kind, added = "null" if current is None else _kind(current), _kind(value)
    if kind == "null":
        return value if bare and added == "string" else Raw(b"[" + value + b"]")
    if kind == "string" and added != "string":
        raise _LeftOut("type_mismatch", f"Expected string append value at path '{leaf}', got {added}.")
    if kind not in ("string", "array"):
        raise _LeftOut(
            "type_mismatch",
            f"Cannot append at path '{leaf}': target is {kind}, expected array, string, null, or missing field.",
        )
    if not isinstance(current, _Growing):
        text = bytes(current)  # type: ignore[arg-type]
        if _EMPTY_ARRAY.fullmatch(text):
            return Raw(b"[" + value + b"]")
        current = _Growing(kind, text)
    current.text += b"," + value if kind == "array" else bytes(value)[1:-1]
    return current


def _remove(document: _Document, operation: Remove) -> None:
    path = _checked_key(operation.path)
    if path:
        document.target(operation).pop(path, None)
    else:
        document.root = NULL


_METHODS: dict[type, Callable[[_Document, Any], None]] = {
    Set: _set,
    Merge: _merge,
    Increment: _increment,
    Decrement: _decrement,
    Append: _append,
    Remove: _remove,
}


def _checked_key(path: str) -> str:
    if path:
        _check_segment(path)
    return path


def _checked(path: Path) -> Sequence[str]:
    """Return the keys of a path, none for the root."""
    if not path:
        return ()
    keys = [path] if isinstance(path, str) else path
    if len(keys) > MOST_SEGMENTS:
        raise _LeftOut("path.too_deep", f"Path depth {len(keys)} exceeds maximum of {MOST_SEGMENTS}")
    for key in keys:
        _check_segment(key)
    return keys


def _check_segment(key: str) -> None:
    if not key:
        raise _LeftOut("path.empty_segment", "Path contains an empty segment")
    if len(key) * 4 > MOST_SEGMENT_BYTES:
        size = len(key.encode())
        if size > MOST_SEGMENT_BYTES:
            raise _LeftOut(
                "path.segment_too_long", f"Path segment of {size} bytes exceeds maximum of {MOST_SEGMENT_BYTES}"
            )
    if key in SINKS:
        raise _LeftOut("path.proto_polluted", f"Path segment '{key}' is not allowed (prototype pollution).")


def _kind(node: Node) -> str:
    if isinstance(node, dict):
        return "object"
    if isinstance(node, _Growing):
        return node.kind
    return _KINDS.get(memoryview(node)[0], "number")


def _sum(number: Node, amount: int) -> bytes | None:
    """Return the text of a sum; C{None}: it is no number, or beyond the range of its kind."""
    if _kind(number) != "number":
        return None
    text = bytes(number)  # type: ignore[arg-type]
    try:
        total = int(text)
    except ValueError:
        return _float_sum(text, amount)
    if total == 0 and text == b"-0":
        return _float_sum(text, amount)
    total += amount
    return b"%d" % total if LEAST <= total <= MOST else None


def _float_sum(text: bytes, amount: int) -> bytes | None:
    total = float(text) + amount
    return msgspec.json.encode(total) if math.isfinite(total) else None


def _check_depth(value: Raw, above: int) -> None:
    """Refuse a value that is nested too deep to lie so many levels below the root."""
    if nested_deeper(bytes(value), DEEPEST - above):
        raise StorageError(f"the result would be nested deeper than {DEEPEST} levels")
