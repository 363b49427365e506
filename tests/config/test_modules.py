"""Tests for L{iii.config.modules} and for the blocks: what every Struct of the configuration must satisfy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, inspect
from twisted.trial.unittest import SynchronousTestCase

from iii.config.modules import MODULES, NAMES, doubled, kind, unique
from iii.config.reader import Reader
from iii.config.settings import EngineSettings, Entry, Root


class NameTests(SynchronousTestCase):
    def test_aliases(self) -> None:
        """The names of programs that replace built-in modules elsewhere are names of these modules."""
        aliases = {name: module.name for name, module in NAMES.items() if name != module.name}
        self.assertEqual(aliases, {name: f"iii-{name}" for name in ("http", "state", "pubsub", "cron", "queue")})

    def test_default_set(self) -> None:
        """What runs without a file, and what runs whatever a file lists."""
        self.assertEqual(
            {module.name for module in MODULES.values() if not module.without_file},
            {"iii-telemetry", "iii-http-functions", "iii-exec", "iii-bridge"},
        )
        self.assertEqual(
            {module.name for module in MODULES.values() if module.always},
            {"iii-worker-manager", "iii-engine-functions", "configuration", "iii-observability", "iii-queue"},
        )

    def test_kind(self) -> None:
        """What follows a C{#} does not belong to the kind."""
        self.assertEqual([kind(name) for name in ("a", "a#1", "a#b#c", "#")], ["a", "a", "a", ""])

    def test_unique(self) -> None:
        """Later entries of one name get numbers, which do not collide with names that are written so."""
        self.assertEqual(unique(["a", "b", "a", "a"]), ["a", "b", "a#1", "a#2"])
        self.assertEqual(unique(["a", "a", "a#1", "a#1"]), ["a", "a#2", "a#1", "a#1#1"])

    def test_doubled(self) -> None:
        """A module under both of its names is found, with suffixes or not."""
        self.assertEqual(doubled(["iii-http", "iii-http", "cron"]), [])
        names = ["http#2", "iii-cron", "iii-http", "cron"]
        self.assertEqual([module.name for module in doubled(names)], ["iii-http", "iii-cron"])


def structs(info: inspect.Type) -> Iterator[inspect.StructType]:
    """Find the Structs in a type."""
    if isinstance(info, inspect.StructType):
        yield info
        for field in info.fields:
            yield from structs(field.type)
    elif isinstance(info, inspect.UnionType):
        for member in info.types:
            yield from structs(member)
    elif isinstance(info, inspect.VarTupleType):
        yield from structs(info.item_type)
    elif isinstance(info, inspect.DictType):
        yield from structs(info.value_type)


class StructTests(SynchronousTestCase):
    def setUp(self) -> None:
        roots: list[type[Struct]] = [Root, Entry, EngineSettings, *(module.settings for module in MODULES.values())]
        self.structs = {found.cls: found for root in roots for found in structs(inspect.type_info(root))}

    def test_documented(self) -> None:
        """Every key is documented, and nothing else is."""
        for cls, info in self.structs.items():
            documented = re.findall(r"@ivar (\w+):", "".join(base.__doc__ or "" for base in cls.__mro__[:-2]))
            self.assertEqual(sorted(documented), sorted(field.encode_name for field in info.fields), cls)

    def test_readable(self) -> None:
        """Every key is of a kind that the reader knows; of custom types, that is only the path."""
        for cls, info in self.structs.items():
            for field in info.fields:
                for member in field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,):
                    if not isinstance(member, inspect.NoneType):
                        self.assertIn(type(member), Reader._readers, f"{cls}.{field.name}")
                    if isinstance(member, inspect.CustomType):
                        self.assertIs(member.cls, Path)

    def test_frozen(self) -> None:
        """Settings do not change."""
        for cls in self.structs:
            self.assertTrue(cls.__struct_config__.frozen, cls)
