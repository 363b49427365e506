"""The variables of a configuration file: C{${NAME}} and C{${NAME:default}} (spec/config.md, 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import attrs

from iii import __version__
from iii.config.errors import ConfigError, located, shown

VERSION = "__III_ENGINE_VERSION__"

_BREAK = re.compile(r"\r\n?|[\n\x85\u2028\u2029]")  # as the YAML reader counts lines
_TOKEN = re.compile(
    r"""
      (?P<variable> \$\{ (?P<name> [^}:]+ ) (?: : (?P<default> [^}]* ) )? \} )
    | (?P<escape>   \\ ["\\] )
    | (?P<quote>    ["'] )
    | (?P<comment>  (?<! [^ \t\r\n] ) \# )
    """
    + f"| (?P<break> {_BREAK.pattern} )",
    re.VERBOSE,
)
_OPENING = re.compile(
    r"""
    (?: \A | [\r\n\x85\u2028\u2029\[{,:]
      | (?: [-?}] | (?<! [^ \t] ) [!&] [^ \t]* ) [ \t]  # an item, a key, the end of a variable, a tag, an anchor
    ) [ \t]* \Z
    """,
    re.VERBOSE,
)
_OPENING_SIZE = 200  # how far to look back


@attrs.frozen
class Expanded:
    """A text whose variables have been replaced, and which still knows the lines of the file."""

    text: str
    _lines: Sequence[int]

    def line(self, index: int) -> int:
        """Return the line of the file, from 1, from which a line of the text, from 0, was made."""
        return self._lines[min(index, len(self._lines) - 1)]


def expand(text: str, environ: Mapping[str, str], source: str) -> Expanded:
    """
    Replace the variables of a file's text, in one pass and before it is read as YAML: C{port: ${PORT:3111}} is a
    number, and a variable may hold a whole fragment of YAML.  What a value contains is not expanded again.

    A variable in a comment is left as it is, unset or not.  A user who comments a line out, or explains a variable in
    a comment, means nothing by it; and a value with a line break must not get out of its comment.  Since this happens
    before YAML, a comment is: from a C{#} which starts a line or follows a blank, and which stands in no quotes opened
    on its line, to the end of the line.  A quote opens where a text can begin, and not in C{Bob's}.  In a block text
    such lines are left to whoever reads the text.

    A value that is not UTF-8 counts as unset.

    @param source: The file, for the messages.
    @raise ConfigError: Variables are unset and have no default.  All are named, each with its line.
    """
    pieces: list[tuple[str, str]] = []  # (what the file says, what it becomes)
    unset: list[str] = []
    quote, line, done, position, closed = "", 1, 0, 0, -1
    end = text.rfind("}") + 1  # no variable after it; so a lone "${" never searches to the end in vain
    while token := _TOKEN.search(text, position, end):
        position = token.end()
        match token.lastgroup:
            case "comment" if not quote:
                line_break = _BREAK.search(text, position, end)
                position = line_break.start() if line_break else end
            case "escape" if quote != '"':
                position -= 1  # the backslash is a character like others
            case "quote" if quote == token[0]:
                quote, closed = "", position
            case "quote" if not quote and (token.start() == closed or _opens(text, token.start())):
                quote = token[0]  # also in 'it''s', where it is closed and opened again
            case "break":
                quote, line = "", line + 1
            case "variable":
                value = _value(token["name"], token["default"], environ)
                if value is None:
                    unset.append(located(source, line, _unset(shown(token["name"]))))
                else:
                    literal = text[done : token.start()]
                    pieces += (literal, literal), (token[0], value)
                    done = position
                line += len(_BREAK.findall(token[0]))
    if unset:
        raise ConfigError(*unset)
    pieces.append((text[done:], text[done:]))
    return Expanded("".join(new for _, new in pieces), _lines(pieces))


def _opens(text: str, position: int) -> bool:
    return _OPENING.search(text[max(0, position - _OPENING_SIZE) : position]) is not None


def _value(name: str, default: str | None, environ: Mapping[str, str]) -> str | None:
    value = environ.get(name)
    if value is None or not is_unicode(value):  # os.environ keeps other bytes as surrogates
        return __version__ if default == VERSION else default
    return value


def is_unicode(text: str) -> bool:
    """Tell whether a text has a form in UTF-8: it contains no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unset(name: str) -> str:
    return f"environment variable {name} is not set; set it, or write ${{{name}:default}}"


def _lines(pieces: Sequence[tuple[str, str]]) -> list[int]:
    line, lines = 1, [1]
    for old, new in pieces:
        if old == new:
            for _ in _BREAK.finditer(old):
                line += 1
                lines.append(line)
        else:
            lines += [line] * len(_BREAK.findall(new))
            line += len(_BREAK.findall(old))
    return lines
