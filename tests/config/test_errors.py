"""Tests for L{iii.config.errors}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.config.errors import MAX_SHOWN, ConfigError, Place, Report, located, shown, suggestion


class ErrorTests(SynchronousTestCase):
    def test_text(self) -> None:
        """The text of an error has a line for each problem, and no endless number of lines."""
        self.assertEqual(str(ConfigError("a", "b")), "a\nb")
        self.assertEqual(str(ConfigError(*["a"] * MAX_SHOWN)), "\n".join(["a"] * MAX_SHOWN))
        self.assertEqual(str(ConfigError(*["a"] * 60)).splitlines(), ["a"] * MAX_SHOWN + ["and 10 more"])

    def test_place(self) -> None:
        """A place has the name of what contains it in front, on one line."""
        place = Place().child("workers").child(0).child("a b").child("\n").child("")
        self.assertEqual(place, Place(("workers", 0, "a b", "\n", ""), "workers[0].a b.'\\n'.''"))

    def test_report(self) -> None:
        """Errors come in the order of their lines; a value without a line stands where its parent stands."""
        report = Report("c.yaml", {(): 1, ("a",): 5, ("b",): 2})
        report.check()
        report.error(Place(("a", "x", 0), "ax"), "1")
        report.error(Place(("b",), "b"), "2")
        report.error(Place(), "3")
        report.warning(Place(("b",), "b"), "4")
        error = self.assertRaises(ConfigError, report.check)
        self.assertEqual(error.problems, ("c.yaml:1: 3", "c.yaml:2: b: 2", "c.yaml:5: ax: 1"))
        self.assertEqual(report.warnings, ["c.yaml:2: b: 4"])

    def test_without_lines(self) -> None:
        """Without lines there is only the source."""
        report = Report("nowhere", {})
        report.error(Place(("a",), "a"), "1")
        self.assertEqual(str(self.assertRaises(ConfigError, report.check)), "nowhere: a: 1")
        self.assertEqual(located("c.yaml", None, "x"), "c.yaml: x")

    def test_shown(self) -> None:
        """A text is shown on one line and not endless."""
        self.assertEqual([shown(text) for text in ("a b", "", "\x1b[", "é")], ["a b", "''", "'\\x1b['", "é"])
        self.assertEqual(shown("a" * 61), "a" * 60 + "…")

    def test_suggestion(self) -> None:
        """The nearest word is suggested if one is near; all are listed."""
        self.assertEqual(suggestion("prot", ["port", "host"]), ", did you mean port? Known are host, port.")
        self.assertEqual(suggestion("x", ["port", "host"]), ". Known are host, port.")
        self.assertEqual(suggestion("x", []), ", there are none here.")
