"""Tests for L{iii.config.expand}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii import __version__
from iii.config.errors import ConfigError
from iii.config.expand import expand

ENVIRON = {"A": "value", "EMPTY": "", "LINES": "x\ny\nz", "BYTES": "\udcff", "SELF": "${A}"}


class ExpandTests(SynchronousTestCase):
    def expanded(self, text: str) -> str:
        return expand(text, ENVIRON, "c.yaml").text

    def refused(self, text: str) -> str:
        return str(self.assertRaises(ConfigError, expand, text, ENVIRON, "c.yaml"))

    def test_set(self) -> None:
        """A variable that is set has its value, also an empty one, whatever its default."""
        self.assertEqual(self.expanded("${A} ${A:d} [${EMPTY}] [${EMPTY:d}]"), "value value [] []")

    def test_default(self) -> None:
        """The default may be empty, contain colons, and knows no operators."""
        text = "[${X:}] ${X:redis://h:1/0} ${X:-x}"
        self.assertEqual(self.expanded(text), "[] redis://h:1/0 -x")

    def test_version(self) -> None:
        """One default stands for the engine's version."""
        self.assertEqual(self.expanded("${X:__III_ENGINE_VERSION__}"), __version__)

    def test_one_pass(self) -> None:
        """What a value contains is not expanded, and there is no nesting."""
        self.assertEqual(self.expanded("${SELF} ${X:${A:c}}"), "${A} ${A:c}")

    def test_left_alone(self) -> None:
        """What only resembles a variable is text."""
        for text in ("$A", "${}", "${:x}", "}${A", "$$", "{A}"):
            self.assertEqual(self.expanded(text), text)

    def test_escapes_do_not_protect(self) -> None:
        """There is no way to escape a variable, in quotes or not."""
        self.assertEqual(self.expanded("\\${A} \"\\${A}\" '${A}'"), "\\value \"\\value\" 'value'")

    def test_lone_start(self) -> None:
        """A C{${} without end takes the text up to the next brace, over lines."""
        self.assertEqual(self.expanded("${X\nY: 1}!"), " 1!")

    def test_not_utf8(self) -> None:
        """A value that is not UTF-8 counts as unset."""
        self.assertEqual(self.expanded("${BYTES:d}"), "d")

    def test_unset(self) -> None:
        """All variables that are unset and have no default are named, with their lines."""
        self.assertEqual(
            self.refused("a: ${X}\n${A}\r\nb: ${LINES}\n\nc: [${Y}, '${X}']\n"),
            "c.yaml:1: environment variable X is not set; set it, or write ${X:default}\n"
            "c.yaml:5: environment variable Y is not set; set it, or write ${Y:default}\n"
            "c.yaml:5: environment variable X is not set; set it, or write ${X:default}",
        )

    def test_unset_line(self) -> None:
        """The line is that of the file, after comments and variables which span lines."""
        self.assertEqual(self.refused("# a\n${LINES}${A\n:\n} # ${X}\n ${X}").partition(": ")[0], "c.yaml:5")

    def test_unset_strange_name(self) -> None:
        """A name that is none is shown on one line."""
        self.assertEqual(
            self.refused("${ a\nb}"),
            "c.yaml:1: environment variable ' a\\nb' is not set; set it, or write ${' a\\nb':default}",
        )

    def test_comments(self) -> None:
        """Variables in comments are left as they are, set or not."""
        for text in ("# ${X} ${A}", "  # ${X}", "a: 1 # ${X}", "a: 'b' \t# ${X}", 'a: "b \\" c" # ${X}'):
            self.assertEqual(self.expanded(text), text)
        for text in ("#${\na: }", "it's\n# ${X}"):
            self.assertEqual(self.expanded(text), text)

    def test_after_comment(self) -> None:
        """A comment ends with its line."""
        self.assertEqual(self.expanded("# ${X}\n${A} # ${X\r${A}\n#\n${A}"), "# ${X}\nvalue # ${X\rvalue\n#\nvalue")

    def test_no_comments(self) -> None:
        """A C{#} within a word, within quotes, or within a variable starts no comment."""
        self.assertEqual(self.expanded("${X: # d} ${A}"), " # d value")
        for text in ("a#${A}", "[\"x # ${A}\", 'y # ${A}']", '{"x":"# ${A}"}', '"\\" # ${A}"'):
            self.assertEqual(self.expanded(text), text.replace("${A}", "value"))
        for text in (
            '- "# ${A}"',
            "- - '# ${A}'",
            '? "# ${A}"',
            'a: !!str "# ${A}"',
            "a: &x '# ${A}'",
            "a: 'it''s # ${A}'",
        ):
            self.assertEqual(self.expanded(text), text.replace("${A}", "value"))

    def test_apostrophe(self) -> None:
        """A quote within a text that has begun without one opens nothing, nor does a backslash in other quotes."""
        for text in (
            "type: Bob's # ${X}",
            "a: rock 'n roll # ${X}",
            'a: 5" # ${X}',
            "a: it''s # ${X}",
            "a: 'C:\\' # ${X}",
        ):
            self.assertEqual(self.expanded(text), text)
        self.assertEqual(self.expanded("a: ${A}'s # ${X}"), "a: value's # ${X}")

    def test_lines(self) -> None:
        """The lines of the file are known, although values and variables have line breaks."""
        expanded = expand("1\n${LINES} 2\n${X\n:d} 4\n5", ENVIRON, "c.yaml")
        self.assertEqual(expanded.text, "1\nx\ny\nz 2\nd 4\n5")
        self.assertEqual([expanded.line(index) for index in range(7)], [1, 2, 2, 2, 3, 5, 5])

    @settings(deadline=None)
    @given(st.text(st.sampled_from("ab$${}:#'\"\\ \n")))
    def test_any_text(self, text: str) -> None:
        """Without a brace that ends a variable nothing changes; otherwise a text is expanded or refused."""
        if "}" not in text:
            self.assertEqual(self.expanded(text), text)
        try:
            expand(text, ENVIRON, "c.yaml")
        except ConfigError as error:
            self.assertTrue(error.problems)

    @settings(deadline=None)
    @given(st.text(), st.text(st.characters(exclude_characters="}:", exclude_categories=["Cs"]), min_size=1))
    def test_value(self, value: str, name: str) -> None:
        """A value stands in the text as it is."""
        self.assertEqual(expand("<${%s}>" % name, {name: value}, "c.yaml").text, f"<{value}>")  # noqa: UP031

    @settings(deadline=None)
    @given(st.text(st.sampled_from("abc: \n#'\"-[]")), st.integers(0, 3))
    def test_positions(self, text: str, count: int) -> None:
        """Without variables each line is its own."""
        expanded = expand(text, {}, "c.yaml")
        lines = text.count("\n") + 1
        self.assertEqual([expanded.line(index) for index in range(lines)], list(range(1, lines + 1)))
