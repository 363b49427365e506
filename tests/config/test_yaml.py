"""Tests for L{iii.config.yaml}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.config.errors import ConfigError
from iii.config.expand import expand
from iii.config.yaml import MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES, Document, parse


def read(text: str) -> Document:
    return parse(expand(text, {"LINES": "x\ny"}, "c.yaml"), "c.yaml")


class TypeTests(SynchronousTestCase):
    def test_types(self) -> None:
        """Plain text has the types of YAML 1.2's core schema."""
        for text, value in {
            "true": True, "False": False, "TRUE": True, "null": None, "~": None,
            "0": 0, "-12": -12, "+3": 3, "0x1F": 31, "0o17": 15, "0b101": 5,
            "1.5": 1.5, "-.5": -0.5, "1.": 1.0, "1e3": 1000.0, "-.INF": float("-inf"), "1.0": 1.0,
            "!!str 1": "1", "! 1": "1", "!!int '1'": 1, "!!float 1": 1.0, "!!null ''": None,
        }.items():  # fmt: skip
            found = read(f"- {text}").value
            self.assertEqual(found, [value], text)
            self.assertIs(type(found[0]), type(value), text)  # type: ignore[index]

    def test_text(self) -> None:
        """What other versions of YAML give a type is text, and so is all that is quoted."""
        for text in ("yes", "No", "on", "OFF", "y", "tRUE", "007", "-01", "1_000", "0x", "1:30", "2024-01-01"):
            self.assertEqual(read(f"- {text}").value, [text])
        for text in ("<<", "=", "1e", ".", "+.nan"):
            self.assertEqual(read(f"- {text}").value, [text])
        self.assertEqual(read("['1', \"true\", '', \"\\u00e9\"]").value, ["1", "true", "", "é"])

    def test_large_numbers(self) -> None:
        """Whole numbers which no setting could hold are no integers, and cost no time."""
        self.assertEqual(read("- " + "9" * 30).value, [1e30])
        self.assertEqual(read("- " + "9" * 5000).value, [float("inf")])

    def test_nan(self) -> None:
        """C{.nan} is a number."""
        self.assertEqual(str(read("- .NaN").value), "[nan]")

    def test_keys(self) -> None:
        """A key is the text that is written, whatever its type."""
        self.assertEqual(read("1: a\ntrue: b\n~: c\n'': d").value, {"1": "a", "true": "b", "~": "c", "": "d"})

    def test_merge_keys(self) -> None:
        """There are no merge keys."""
        self.assertEqual(read("a: &x {b: 1}\nc: {<<: *x}").value, {"a": {"b": 1}, "c": {"<<": {"b": 1}}})

    def test_empty(self) -> None:
        """A document that is empty, but for comments, is an empty mapping; an explicit null is none."""
        for text in ("", "\n", "# a\n", "---", "--- # a\n", "{}", "%YAML 1.2\n---\n"):
            self.assertEqual(read(text).value, {}, text)
        self.assertIsNone(read("~").value)
        self.assertEqual(read("''").value, "")

    def test_lines(self) -> None:
        """Every value has its line in the file, also behind a variable with line breaks."""
        text = "a: 1\nb:\n  - c: '${LINES}'\n  -\n    d: 2\n"
        self.assertEqual(
            read(text).lines,
            {(): 1, ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 0, "c"): 3, ("b", 1): 5, ("b", 1, "d"): 5},
        )


class RefusalTests(SynchronousTestCase):
    def refused(self, text: str) -> str:
        return str(self.assertRaises(ConfigError, read, text))

    def test_twice(self) -> None:
        """A key that is given twice is refused, naming both lines."""
        self.assertEqual(self.refused("a:\n  b: 1\n  'b': 2"), "c.yaml:3: the key b is given twice, first on line 2")

    def test_documents(self) -> None:
        """A file is one document."""
        self.assertEqual(self.refused("a: 1\n---\nb: 1"), "c.yaml:2: more than one document")

    def test_keys(self) -> None:
        """Keys are text."""
        self.assertEqual(self.refused("a: 1\n? [b]\n: 1"), "c.yaml:2: a key must be text")

    def test_tags(self) -> None:
        """Only the tags of the core schema are known, and must fit."""
        for text, problem in {
            "!!python/object:os.system a": "the tag tag:yaml.org,2002:python/object:os.system is not supported",
            "!x a": "the tag !x is not supported",
            "!!set {a}": "the tag tag:yaml.org,2002:set is not supported",
            "!!map []": "the tag tag:yaml.org,2002:map is not supported",
            "!!int a": "not a value of the tag tag:yaml.org,2002:int",
            "!!bool yes": "not a value of the tag tag:yaml.org,2002:bool",
        }.items():
            self.assertEqual(self.refused(text), f"c.yaml:1: {problem}")

    def test_syntax(self) -> None:
        """What is no YAML is refused with its line."""
        for text, problem in {
            "a: 1\n b: 2": "2: not valid YAML: mapping values are not allowed here",
            "a: [1": "1: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
            "\n\t- a": "2: not valid YAML: while scanning for the next token, found character '\\t' that cannot start "
            "any token",
            "a: &x 1\nb: *y": "2: the alias *y has no anchor before it",
            "a: 1\nb: \x01": "2: the character U+0001 is not allowed",
            "a: \ud800": "1: the character U+D800 is not allowed",
            'a: "\\uD800"': "1: a text contains half of a surrogate pair",
        }.items():
            self.assertEqual(self.refused(text), f"c.yaml:{problem}")

    def test_what_the_parser_does_not_refuse_properly(self) -> None:
        """Errors of the parser that are no YAML errors are refused as well."""
        for text in ('a: "\\UFFFFFFFF"', 'a: "\\U00110000"', "%YAML 1." + "9" * 5000 + "\n---\na"):
            self.assertTrue(self.refused(text).startswith("c.yaml:1: not valid YAML: "), text[:20])

    def test_itself(self) -> None:
        """A value cannot contain itself."""
        self.assertEqual(self.refused("a: &a [*a]"), "c.yaml:1: the alias *a has no anchor before it")

    def test_aliases(self) -> None:
        """Aliases count as often as they are used."""
        text = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
        self.assertEqual(
            self.refused(text), f"c.yaml:6: more than {MAX_VALUES} values, aliases counted as often as they are used"
        )

    def test_depth(self) -> None:
        """Nesting has a limit, however deep the text is."""
        read("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)
        for depth in (MAX_DEPTH + 1, 100_000):
            self.assertEqual(
                self.refused("[" * depth + "1" + "]" * depth), f"c.yaml:1: nested more than {MAX_DEPTH} levels deep"
            )

    def test_length(self) -> None:
        """The text has a limit, which also holds for what variables add."""
        self.assertEqual(self.refused("a" * (MAX_CHARACTERS + 1)), f"c.yaml: longer than {MAX_CHARACTERS} characters")
