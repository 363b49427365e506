"""Tests for L{iii.options} and L{iii.cli}."""

from __future__ import annotations

import os
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from iii import __version__, cli
from iii.options import Options


class OptionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        before, here = Path.cwd(), Path(self.mktemp())
        here.mkdir()
        os.chdir(here)
        self.addCleanup(os.chdir, before)

    def parse(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(arguments)
        return options

    def test_file(self) -> None:
        """C{-c} and C{--config} name the file."""
        self.assertEqual(self.parse("-c", "a.yaml")["config"], "a.yaml")
        self.assertEqual(self.parse("--config=a.yaml")["config"], "a.yaml")

    def test_default_file(self) -> None:
        """Without an option C{config.yaml} is read if it is there."""
        self.assertIsNone(self.parse()["config"])
        Path("config.yaml").touch()
        self.assertEqual(self.parse()["config"], "config.yaml")

    def test_default_config(self) -> None:
        """C{--use-default-config} reads no file, also when there is one; with C{--config} it is an error."""
        Path("config.yaml").touch()
        self.assertIsNone(self.parse("--use-default-config")["config"])
        self.assertRaises(UsageError, self.parse, "--use-default-config", "-c", "a.yaml")

    def test_no_update_check(self) -> None:
        """Old scripts pass it; it changes nothing."""
        self.assertIsNone(self.parse("--no-update-check")["config"])

    def test_unknown(self) -> None:
        """Unknown options and arguments are refused."""
        self.assertRaises(UsageError, self.parse, "--nonsense")
        self.assertRaises(UsageError, self.parse, "start")

    def test_help(self) -> None:
        """The help explains every option."""
        text = str(Options())
        for option in ("--config", "--use-default-config", "--no-update-check", "--version", "--help"):
            (line,) = [line for line in text.splitlines() if option in line and line.strip().startswith("-")]
            self.assertGreater(len(line.split()), 2, line)


class CliTests(SynchronousTestCase):
    def test_help(self) -> None:
        """C{-h} and C{--help} print the help and succeed."""
        for option in ("-h", "--help"):
            self.assertIn(self.assertRaises(SystemExit, cli.main, [option]).code, (None, 0))

    def test_wrong_arguments(self) -> None:
        """Wrong arguments end the program with status 2."""
        self.assertEqual(self.assertRaises(SystemExit, cli.main, ["--nonsense"]).code, 2)

    def test_version(self) -> None:
        """C{-v} prints the bare version and succeeds."""
        for option in ("-v", "--version"):
            self.assertEqual(self.assertRaises(SystemExit, cli.main, [option]).code, 0)
        self.assertRegex(__version__, r"^\d+\.\d+\.\d+$")

    def fails(self, *arguments: str) -> tuple[object, str]:
        """Return the exit status and what is said."""
        said = StringIO()
        with redirect_stderr(said):
            error = self.assertRaises(SystemExit, cli.main, arguments)
        return error.code, said.getvalue()

    def test_backup_of_nothing(self) -> None:
        """C{backup} without a store says what it has looked for, and fails."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        config = directory / "config.yaml"
        config.write_text(f"engine: {{data_directory: {directory}/nowhere}}\nworkers: [{{name: iii-state}}]\n")
        code, said = self.fails("-c", str(config), "backup", str(directory / "copy"))
        self.assertEqual(code, 1)
        self.assertIn("nowhere/store.db does not exist", said)

    def test_backup_without_a_file(self) -> None:
        """C{backup} wants the name of a file."""
        code, said = self.fails("backup")
        self.assertEqual(code, 2)
        self.assertIn("Try: iii --help", said)
