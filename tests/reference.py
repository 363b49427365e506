"""
C{python -m tests.reference} writes C{docs/configuration.md}: the keys of a configuration file, from the docstrings of
the Structs that read it.  A test fails when the page is not what this makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, inspect

from iii.config.modules import MODULES
from iii.config.parts import Tls
from iii.config.settings import EngineSettings, Entry, Root

PAGE = Path(__file__).parents[1] / "docs/configuration.md"

HEAD = """\
# Configuration

<!-- Made by `python -m tests.reference` from the docstrings in iii/config/ and iii/core/limits.py. -->

A YAML file, in the types of YAML 1.2: `yes` and `on` are text. `${NAME}` is the value of an environment variable,
`${NAME:default}` has a default; both are replaced before the file is read as YAML, but not in comments. A key with
nothing after it counts as left out. Relative paths are relative to the directory in which the engine is started.
[etc/iii/config.yaml](../etc/iii/config.yaml) is a file with all keys.
"""


def reference() -> str:
    """Return the page."""
    sections = [HEAD, *_section("The file", Root), *_section("An entry of `workers`", Entry)]
    sections += [*_section("`engine`", EngineSettings), *_section("`tls`, of `engine` or of a listener", Tls)]
    for module in MODULES.values():
        if module.available:
            alias = f", or `{module.alias}`" if module.alias else ""
            sections += _section(f"`{module.name}`{alias}", module.settings, module.missing_keys + module.idle_keys)
    missing = ", ".join(f"`{module.name}`" for module in MODULES.values() if not module.available)
    sections.append(
        f"## Other modules\n\nTheir blocks are read and checked; the modules are not available yet: {missing}. "
        "`iii-telemetry` will never do anything.\n"
    )
    return "\n".join(sections)


def _section(title: str, kind: type[Struct], missing: tuple[str, ...] = (), level: int = 2) -> Iterator[str]:
    """Describe a Struct, then those that its keys lead to."""
    text, descriptions = _described(kind)
    yield f"{'#' * level} {title}\n\n{_markdown(text)}\n"
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    rows = [
        f"| `{field.encode_name}` | {_default(field, descriptions[field.name])} | "
        f"{'**Not available yet.** ' if field.encode_name in missing else ''}{_markdown(descriptions[field.name])} |"
        for field in info.fields
    ]
    if rows:
        yield "\n".join(("| Key | Default | |", "|---|---|---|", *rows)) + "\n"
    for field in info.fields:
        for inner in _structs(field.type):
            if inner is not Tls and field.encode_name not in missing:
                yield from _section(f"`{field.encode_name}` of {title.split(',')[0]}", inner, level=3)


def _described(kind: type[Struct]) -> tuple[str, dict[str, str]]:
    """Return what a Struct's docstring says of it and of its keys, those that it has from another one included."""
    text, *described = re.split(r"\n *@ivar (\w+): ", "\n" + (kind.__doc__ or ""))
    descriptions = dict(zip(described[::2], described[1::2], strict=True))
    parent = kind.__base__
    if parent is not None and issubclass(parent, Struct) and parent is not Struct:
        descriptions = {**_described(parent)[1], **descriptions}
    return text, descriptions


def _structs(info: inspect.Type) -> Iterator[type[Struct]]:
    if isinstance(info, inspect.StructType):
        yield info.cls
    elif isinstance(info, inspect.UnionType):
        for member in info.types:
            yield from _structs(member)
    elif isinstance(info, inspect.VarTupleType):
        yield from _structs(info.item_type)
    elif isinstance(info, inspect.DictType):
        yield from _structs(info.value_type)


def _default(field: inspect.Field, description: str) -> str:
    """A number or a word, when the description does not say it."""
    told = "default" in description.lower()
    return f"`{field.default}`" if isinstance(field.default, int | str) and not told else ""


def _markdown(text: str) -> str:
    return re.sub(r"\b[CL]\{([^}]*)\}", r"`\1`", " ".join(text.split()))


if __name__ == "__main__":
    PAGE.write_text(reference())
