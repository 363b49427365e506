"""
The YAML of a configuration file: YAML 1.2's core types, whatever PyYAML would make of a text by the rules of YAML 1.1
(spec/config.md, 4).

C{yes}, C{on} and C{007} are text, merge keys are ordinary keys, and one file is one document.  Only PyYAML's events are
used; values are built here, because here every value has its line, a key given twice is seen, and aliases are counted
as often as they are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NoReturn

import attrs
import yaml
from yaml import events
from yaml.reader import ReaderError

from iii.config.errors import ConfigError, Keys, located, shown
from iii.config.expand import Expanded, is_unicode

MAX_CHARACTERS = 2**20
MAX_DEPTH = 50
MAX_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_TYPES: dict[str, tuple[re.Pattern[str], Callable[[str], object]]] = {
    _TAG + "null": (re.compile(r"null|Null|NULL|~|"), lambda text: None),
    _TAG + "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    _TAG + "int": (
        re.compile(r"[-+]?(0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,16}|0o[0-7]{1,21}|0b[01]{1,64})"),
        lambda text: int(text, 0),  # longer ones become floats, as in the reference
    ),
    _TAG + "float": (
        re.compile(
            r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
        ),
        lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    ),
}
"""The types of plain text, the first that fits; what fits none is text."""


@attrs.frozen
class Document:
    """
    @ivar value: The root: mappings are C{dict} with C{str} keys, lists C{list}.  A document that is empty, but for
        comments, is an empty mapping; an explicit null is C{None}.
    @ivar lines: The line in the file of every value, from 1; a member of a mapping stands where its key stands.
    """

    value: object
    lines: dict[Keys, int]


def parse(text: Expanded, source: str) -> Document:
    """
    Read one document.

    @param source: The file, for the messages.
    @raise ConfigError: The text is no YAML, or not in this dialect, or exceeds one of the bounds of this module.
    """
    if len(text.text) > MAX_CHARACTERS:
        raise ConfigError(located(source, None, f"longer than {MAX_CHARACTERS} characters"))
    return _Reader(text, source).document()


class _Reader:
    """Builds the values of one document from its events."""

    def __init__(self, text: Expanded, source: str) -> None:
        self._text, self._source = text, source
        self._events: Iterator[events.Event] = yaml.parse(text.text, Loader=yaml.SafeLoader)
        self._lines: dict[Keys, int] = {}
        self._anchors: dict[str, tuple[object, int]] = {}  # the value, and how many values are in it
        self._count = 0
        self._line = 0  # of the last event, in the text

    def document(self) -> Document:
        self._next()  # the stream's start
        if isinstance(self._next(), events.StreamEndEvent):
            return Document({}, {})
        root = self._next()
        empty = isinstance(root, events.ScalarEvent) and root.implicit[0] and not root.value
        value = {} if empty else self._value(root, ())
        self._next()  # the document's end
        if not isinstance(self._next(), events.StreamEndEvent):
            self._refuse("more than one document")
        return Document(value, self._lines)

    def _value(self, event: events.Event, keys: Keys) -> object:
        self._lines.setdefault(keys, self._text.line(self._line))
        if isinstance(event, events.AliasEvent):
            if event.anchor not in self._anchors:
                self._refuse(f"the alias *{event.anchor} has no anchor before it")
            value, size = self._anchors[event.anchor]
            self._add(size)
            return value
        if len(keys) > MAX_DEPTH:
            self._refuse(f"nested more than {MAX_DEPTH} levels deep")
        before = self._count
        self._add(1)
        if isinstance(event, events.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, events.SequenceStartEvent):
            value = self._sequence(event.tag, keys)
        else:
            assert isinstance(event, events.MappingStartEvent)
            value = self._mapping(event.tag, keys)
        if event.anchor is not None:  # only now: a value cannot contain itself
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _add(self, size: int) -> None:
        self._count += size
        if self._count > MAX_VALUES:
            self._refuse(f"more than {MAX_VALUES} values, aliases counted as often as they are used")

    def _scalar(self, event: events.ScalarEvent) -> object:
        text: str = event.value
        if not is_unicode(text):
            self._refuse("a text contains half of a surrogate pair")
        if event.tag in (_TAG + "str", "!") or event.tag is None and not event.implicit[0]:
            return text
        if event.tag is None:
            tag = next((tag for tag, (pattern, _) in _TYPES.items() if pattern.fullmatch(text)), None)
            if tag is None:
                return text
        else:
            tag = event.tag
        pattern, convert = _TYPES.get(tag) or self._refuse(f"the tag {shown(tag)} is not supported")
        if not pattern.fullmatch(text):
            self._refuse(f"not a value of the tag {tag}")
        return convert(text)

    def _sequence(self, tag: str | None, keys: Keys) -> list[object]:
        self._check_tag(tag, "seq")
        items: list[object] = []
        while not isinstance(event := self._next(), events.SequenceEndEvent):
            items.append(self._value(event, (*keys, len(items))))
        return items

    def _mapping(self, tag: str | None, keys: Keys) -> dict[str, object]:
        self._check_tag(tag, "map")
        members: dict[str, object] = {}
        while not isinstance(event := self._next(), events.MappingEndEvent):
            if not isinstance(event, events.ScalarEvent) or not is_unicode(event.value):
                self._refuse("a key must be text")
            key: str = event.value  # whatever its type would be: a queue may be called 1
            if key in members:
                self._refuse(f"the key {shown(key)} is given twice, first on line {self._lines[*keys, key]}")
            self._lines[*keys, key] = self._text.line(self._line)
            members[key] = self._value(self._next(), (*keys, key))
        return members

    def _check_tag(self, tag: str | None, expected: str) -> None:
        if tag not in (None, "!", _TAG + expected):
            self._refuse(f"the tag {shown(tag)} is not supported")

    def _next(self) -> events.Event:
        try:
            event = next(self._events)
        except ReaderError as error:
            self._line = self._text.text.count("\n", 0, error.position)
            self._refuse(f"the character U+{error.character:04X} is not allowed")
        except yaml.MarkedYAMLError as error:
            if error.problem_mark is not None:
                self._line = error.problem_mark.line
            self._refuse("not valid YAML: " + ", ".join(filter(None, (error.context, error.problem))))
        except (ValueError, OverflowError) as error:  # PyYAML lets them through: "\UFFFFFFFF"
            self._refuse(f"not valid YAML: {error}")
        if event.start_mark is not None:
            self._line = event.start_mark.line
        return event

    def _refuse(self, text: str) -> NoReturn:
        raise ConfigError(located(self._source, self._text.line(self._line), text))
