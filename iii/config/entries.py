"""The entries of a file: which modules run, in which order, and under which names (spec/config.md, 4 to 6)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from iii.config.errors import Place, Report, shown, suggestion
from iii.config.legacy import modernise
from iii.config.modules import MODULES, NAMES, Module, doubled, kind, unique
from iii.config.reader import Reader
from iii.config.settings import Entry, Root


@attrs.frozen
class Listed:
    """
    A module that is to run.

    @ivar name: Unique among those of one file.
    @ivar block: Its settings as the file has them, not checked yet.
    @ivar place: Where they stand.
    """

    name: str
    module: Module
    block: object
    place: Place


def listed(root: Root, reader: Reader, report: Report) -> list[Listed]:
    """Return what the lists of a file name, in its order, then the modules that run without being listed."""
    found = list(_found(root, reader, report))
    names = [entry.name for entry, _ in found]
    for module in doubled(names):
        _, place = next((entry, place) for entry, place in found if kind(entry.name) == module.name)
        report.error(
            place,
            f"Duplicate worker configurations: '{module.name}' is the deprecated name for '{module.alias}', "
            f"but both are present. Remove '{module.name}' from your configuration.",
        )
    modules = [NAMES[kind(name)] for name in names]
    for index, (module, (_, place)) in enumerate(zip(modules, found, strict=True)):
        if module.once and module in modules[:index]:
            report.error(place.child("name"), f"{module.name} can run only once, and is listed before")
    missing = [module for module in MODULES.values() if module.always and module not in modules]
    return [
        Listed(name, module, entry.config, Place((*place.keys, "config"), f"{name}: config"))
        for name, module, (entry, place) in zip(unique(names), modules, found, strict=True)
    ] + [Listed(module.name, module, None, Place(name=f"{module.name}: config")) for module in missing]


def _found(root: Root, reader: Reader, report: Report) -> Iterator[tuple[Entry, Place]]:
    for key, items in (("workers", root.workers), ("modules", root.modules)):
        for index, item in enumerate(items):
            place = Place((key, index), f"{key}[{index}]")
            modern = modernise({} if item is None else item, place, report)
            entry = None if modern is None else reader.read(Entry, modern, place)
            if entry is not None and _is_built_in(entry, place, report):
                yield entry, place


def _is_built_in(entry: Entry, place: Place, report: Report) -> bool:
    if kind(entry.name) not in NAMES:
        report.error(
            place.child("name"),
            f'"{shown(entry.name)}" is not a part of this engine{suggestion(kind(entry.name), NAMES)} '
            "Programs of your own are not listed: they connect to the worker port.",
        )
        return False
    if entry.image is not None:
        report.error(
            place.child("image"), f"Worker '{entry.name}' is a built-in worker and cannot have an 'image' field"
        )
    return True
