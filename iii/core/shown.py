"""Texts of strangers in logs and errors: on one line, without control characters, not endless."""

from __future__ import annotations


def shown(text: str, limit: int = 200) -> str:
    """Return a text as it may stand in a log; what a terminal could obey, or an empty text, is shown as a literal."""
    if len(text) > limit:
        text = f"{text[:limit]}…"
    return text if text and text.isprintable() else repr(text)
