"""What is wrong with a configuration, and where in the file it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from operator import itemgetter

import attrs

MAX_SHOWN = 50

Keys = tuple[str | int, ...]
"""The way from the root of a document to one value: keys of mappings and indexes of lists."""


class ConfigError(Exception):
    """
    The configuration cannot be used.  The text is meant for whoever wrote the file: one line for each problem, each
    with file, line, key, what is wrong, and what is allowed.  It never contains a value that could be a secret.

    @ivar problems: The lines; the text has the first of them, and the number of the others.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        lines = list(self.problems[:MAX_SHOWN])
        if len(self.problems) > MAX_SHOWN:
            lines.append(f"and {len(self.problems) - MAX_SHOWN} more")
        return "\n".join(lines)


@attrs.frozen
class Place:
    """
    One value of a document, for messages about it.

    @ivar keys: The way to it, by which its line is found.
    @ivar name: What it is called in a message: C{engine.api.port}, C{iii-http: config.port}; empty for the root.
    """

    keys: Keys = ()
    name: str = ""

    def child(self, key: str | int) -> Place:
        """Return the place of a member of this mapping or list."""
        if isinstance(key, int):
            return Place((*self.keys, key), f"{self.name}[{key}]")
        return Place((*self.keys, key), f"{self.name}.{shown(key)}" if self.name else shown(key))


class Report:
    """
    Collects everything that is wrong with one document, so that its author sees it all at once.

    @ivar warnings: What was accepted and has no effect, in the form of the problems of a L{ConfigError}.
    """

    def __init__(self, source: str, lines: Mapping[Keys, int]) -> None:
        """
        @param source: The file, as its user named it.
        @param lines: Where values stand, from 1.  One that is missing stands where its parent stands.
        """
        self.warnings: list[str] = []
        self._source, self._lines = source, lines
        self._errors: list[tuple[int, str]] = []

    def error(self, place: Place, text: str) -> None:
        """Note what makes the document unusable; L{check} will raise it."""
        self._errors.append(self._located(place, text))

    def warning(self, place: Place, text: str) -> None:
        """Note what is accepted, and has no effect."""
        self.warnings.append(self._located(place, text)[1])

    def check(self) -> None:
        """Raise a L{ConfigError} with all errors noted until now in the order of their lines, if there are any."""
        if self._errors:
            raise ConfigError(*(text for _, text in sorted(self._errors, key=itemgetter(0))))

    def _located(self, place: Place, text: str) -> tuple[int, str]:
        keys = place.keys
        while keys and keys not in self._lines:
            keys = keys[:-1]
        line = self._lines.get(keys)
        return line or 0, located(self._source, line, f"{place.name}: {text}" if place.name else text)


def located(source: str, line: int | None, text: str) -> str:
    """Return a problem with its file and line in front, in the form that editors and terminals understand."""
    return f"{source}: {text}" if line is None else f"{source}:{line}: {text}"


def shown(text: str, limit: int = 60) -> str:
    """Return a text as it may stand in a message: on one line, without control characters, not endless."""
    if len(text) > limit:
        text = f"{text[:limit]}…"
    return text if text and text.isprintable() else repr(text)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return what to append to a complaint about an unknown word: the nearest known one, and all known ones."""
    names = sorted(known)
    if not names:
        return ", there are none here."
    near = difflib.get_close_matches(word[:100], names, n=1)  # bounded: its cost grows with the square of the length
    return (f", did you mean {near[0]}?" if near else ".") + f" Known are {', '.join(names)}."
