"""Tests for L{iii.config.reader}: one message for each kind of mistake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from twisted.trial.unittest import SynchronousTestCase

from iii.config.errors import ConfigError, Place, Report
from iii.config.reader import Reader


class Red(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="colour", tag="red"):
    depth: int = 0


class Blue(Struct, frozen=True, kw_only=True, tag_field="colour", tag="blue"):
    depth: int = 1


class Pair(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    low: int
    high: int = 9

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


class Example(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    port: Annotated[int, Meta(ge=0, le=65535)] = 1
    number: Annotated[int, Meta(gt=0)] | None = None
    ratio: Annotated[float, Meta(ge=0, le=1)] = 0.5
    free: float = 0.0
    flag: bool = False
    name: Annotated[str, Meta(min_length=1)] | None = None
    choice: Literal["on", "off"] = "on"
    one: Literal["only"] = "only"
    path: Path | None = None
    paint: Red | Blue = Red()
    pair: Pair = Pair(low=0)
    items: tuple[str | Pair, ...] = ()
    named: dict[str, Pair] = {}
    anything: Any = None


class ReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.report = Report("c.yaml", {(): 1, ("pair",): 3})

    def read(self, data: object, strict: bool = True) -> Example | None:
        return Reader(self.report, strict).read(Example, data, Place(name="it"))

    def problems(self, data: object) -> list[str]:
        """Return what is wrong with data, without the place of the file."""
        self.assertIsNone(self.read(data))
        error = self.assertRaises(ConfigError, self.report.check)
        self.report = Report("c.yaml", {})
        return [problem.partition(": it.")[2] for problem in error.problems]

    def test_all(self) -> None:
        """Values of the right kinds make the Struct."""
        plain = {"port": 80, "number": 1, "free": -1e9, "flag": True, "name": "x", "choice": "off", "anything": [None]}
        data = {
            **plain,
            "ratio": 1,
            "path": "a/../b",
            "paint": {"colour": "blue", "depth": 3},
            "pair": {"low": 1},
            "items": ["x", {"low": 2}],
            "named": {"a": {"low": 1, "high": 1}},
        }
        expected = Example(
            **plain,  # type: ignore[arg-type]
            ratio=1.0,
            path=Path(os.path.abspath("b")),
            paint=Blue(depth=3),
            pair=Pair(low=1),
            items=("x", Pair(low=2)),
            named={"a": Pair(low=1, high=1)},
        )
        self.assertEqual(self.read(data), expected)

    def test_defaults(self) -> None:
        """What is left out, or null, has its default; so has a whole mapping that is null."""
        self.assertEqual(self.read({}), Example())
        self.assertEqual(self.read(None), Example())
        self.assertEqual(self.read({"port": None, "pair": None, "items": None, "named": {}}), Example())

    def test_integers(self) -> None:
        """Integers have bounds, and are neither booleans, nor texts, nor numbers with a fraction of zero."""
        for value, got in ((70000, "70000"), (-1, "-1"), (True, "a boolean"), (1.0, "a number")):
            self.assertEqual(self.problems({"port": value}), [f"port: expected an integer from 0 to 65535, got {got}"])
        self.assertEqual(
            self.problems({"port": "3111"}),
            ["port: expected an integer from 0 to 65535, got text: leave out the quotes"],
        )
        self.assertEqual(self.problems({"port": "x"}), ["port: expected an integer from 0 to 65535, got text"])
        self.assertEqual(self.problems({"number": 0}), ["number: expected an integer of at least 1, got 0"])

    def test_numbers(self) -> None:
        """Numbers have bounds, and are finite."""
        for value, got in ((2, "2.0"), (float("nan"), "nan"), (False, "a boolean"), ([], "a list")):
            self.assertEqual(self.problems({"ratio": value}), [f"ratio: expected a number from 0 to 1, got {got}"])
        self.assertEqual(self.problems({"free": float("inf")}), ["free: expected a number, got inf"])

    def test_booleans(self) -> None:
        """Booleans are C{true} and C{false} only."""
        self.assertEqual(self.problems({"flag": 1}), ["flag: expected true or false, got an integer"])
        self.assertEqual(
            self.problems({"flag": "Yes"}),
            ["flag: expected true or false, got text: yes, no, on and off are text"],
        )

    def test_text(self) -> None:
        """Text is no number, and not empty where that means nothing.  A value of a wrong kind is not shown."""
        self.assertEqual(self.problems({"name": 12345}), ["name: expected text, got an integer: put it in quotes"])
        self.assertEqual(self.problems({"name": {}}), ["name: expected text, got a mapping"])
        self.assertEqual(self.problems({"name": ""}), ["name: must not be empty"])

    def test_choices(self) -> None:
        """One of several words; the message has them all."""
        self.assertEqual(self.problems({"choice": "up\n"}), ["choice: expected one of off, on, got \"'up\\n'\""])
        self.assertEqual(self.problems({"choice": True}), ["choice: expected one of off, on, got a boolean"])
        self.assertEqual(self.problems({"one": "x"}), ['one: expected only, got "x"'])

    def test_paths(self) -> None:
        """A path is text that can be one."""
        self.assertEqual(self.problems({"path": 1}), ["path: expected a path, got an integer"])
        self.assertEqual(self.problems({"path": "a\0"}), ["path: is not a path"])
        self.assertEqual(self.problems({"path": ""}), ["path: is not a path"])

    def test_tagged(self) -> None:
        """Of several Structs the tag decides; the keys are those of the one that is named."""
        self.assertEqual(self.problems({"paint": {}}), ["paint.colour: is missing; it is one of blue, red"])
        self.assertEqual(self.problems({"paint": "red"}), ["paint: expected a mapping, got text"])
        self.assertEqual(
            self.problems({"paint": {"colour": "green"}}), ['paint.colour: expected one of blue, red, got "green"']
        )
        self.assertEqual(
            self.problems({"paint": {"colour": "red", "depth": "x"}}), ["paint.depth: expected an integer, got text"]
        )

    def test_unions(self) -> None:
        """Of text and mapping the kind of the value decides."""
        self.assertEqual(self.problems({"items": [1]}), ["items[0]: expected text or a mapping, got an integer"])
        self.assertEqual(self.problems({"items": ["a", {}]}), ["items[1].low: is missing"])
        self.assertEqual(self.problems({"items": "a"}), ["items: expected a list, got text"])

    def test_mappings(self) -> None:
        """A message names the key of a mapping with free keys, on one line and not endless."""
        self.assertEqual(
            self.problems({"named": {"a\n": {"low": "x"}}}), ["named.'a\\n'.low: expected an integer, got text"]
        )
        self.assertEqual(self.problems({"named": {"k" * 99: {}}}), [f"named.{'k' * 60}….low: is missing"])
        self.assertEqual(self.problems({"named": []}), ["named: expected a mapping, got a list"])

    def test_together(self) -> None:
        """What does not go together is said about the mapping that contains it."""
        self.assertEqual(self.problems({"named": {"a": {"low": 10}}}), ["named.a: low is above high"])

    def test_all_at_once(self) -> None:
        """All that is wrong is reported, also beside what contains something wrong."""
        data = {"port": -1, "pair": {"low": "x", "high": "y"}, "items": [1, "a", 2]}
        self.assertEqual(
            self.problems(data),
            [
                "port: expected an integer from 0 to 65535, got -1",
                "items[0]: expected text or a mapping, got an integer",
                "items[2]: expected text or a mapping, got an integer",
                "pair.low: expected an integer, got text",
                "pair.high: expected an integer, got text",
            ],
        )

    def test_not_a_mapping(self) -> None:
        """The whole must be a mapping."""
        self.assertIsNone(self.read([]))
        error = self.assertRaises(ConfigError, self.report.check)
        self.assertEqual(str(error), "c.yaml:1: it: expected a mapping, got a list")

    def test_unknown_key(self) -> None:
        """An unknown key is refused with the nearest known one, and all known ones."""
        self.read({"pair": {"low": 1, "hihg": 2, "xxx": 3}})
        error = self.assertRaises(ConfigError, self.report.check)
        self.assertEqual(
            error.problems,
            (
                "c.yaml:3: it.pair.hihg: unknown key, did you mean high? Known are high, low.",
                "c.yaml:3: it.pair.xxx: unknown key. Known are high, low.",
            ),
        )

    def test_unknown_key_ignored(self) -> None:
        """It is a warning where the Struct allows it, and everywhere in the old dialect."""
        self.assertEqual(self.read({"paint": {"colour": "blue", "x": 1}}), Example(paint=Blue()))
        self.assertEqual(self.read({"prot": 1}, strict=False), Example())
        self.report.check()
        self.assertEqual(self.report.warnings[0], "c.yaml:1: it.paint.x: unknown key, ignored. Known are depth.")
        self.assertTrue(
            self.report.warnings[1].startswith("c.yaml:1: it.prot: unknown key, ignored, did you mean port? Known are ")
        )
