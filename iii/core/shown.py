"""Texts of strangers in logs and errors: on one line, without control characters, not endless."""

from __future__ import annotations

ACCESS_KEY = "iii_access"
"""Marks an event of Twisted's log that is about one request."""


def shown(text: str, limit: int = 200) -> str:
    """Return a text as it may stand in a log; what a terminal could obey, or an empty text, is shown as a literal."""
    if len(text) > limit:
        text = f"{text[:limit]}…"
    return text if text and text.isprintable() else repr(text)


def shown_lines(text: str, lines: int = 50) -> str:
    """Return a text of several lines, such as a stack trace, indented so that none looks like a line of the log."""
    split = text.splitlines()
    kept = [f"    {line if line.isprintable() else repr(line)}"[:500] for line in split[:lines]]
    return "\n".join(kept if len(split) <= lines else [*kept, f"    … ({len(split) - lines} more lines)"])
