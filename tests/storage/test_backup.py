"""Copies of a store that is in use."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from iii.storage.backup import back_up
from iii.storage.errors import StorageError
from iii.storage.file import FILE, StoreFile
from iii.storage.schema import STATE
from tests.storage.case import StoreCase


class BackupTests(StoreCase):
    def setUp(self) -> None:
        super().setUp()
        self.target = Path(self.mktemp()).resolve()
        self.told: list[tuple[int, int]] = []

    def copy(self) -> int:
        return back_up(self.directory / FILE, self.target, lambda *pages: self.told.append(pages))

    async def test_while_writing(self) -> None:
        """A copy has what was acknowledged before, opens as a store, and the store goes on meanwhile."""
        store = self.open(backlog_bytes=2**30)
        await gatherResults([store.write((STATE, ("s", f"k{n}"), (b"1" * 5000,))) for n in range(3000)])
        copying = deferToThread(self.copy)
        written = 0
        while not copying.called:
            await store.write((STATE, ("s", f"later{written}"), (b"1" * 5000,)))
            written += 1
        self.assertEqual(await copying, self.target.stat().st_size)
        self.assertGreater(written, 1)
        self.assertEqual(self.told[-1][0], 0)
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.target.rename(self.directory / FILE)
        StoreFile(self.directory).open()
        connection = sqlite3.connect(self.directory / FILE)
        self.addCleanup(connection.close)
        kept = connection.execute("SELECT count(*) FROM state WHERE key LIKE 'k%'").fetchone()[0]
        self.assertEqual(kept, 3000)

    async def test_permissions(self) -> None:
        """A copy is for its owner only."""
        await self.open().write((STATE, ("s", "k"), (b"1",)))
        self.copy()
        self.assertEqual(self.target.stat().st_mode & 0o777, 0o600)

    def test_on_disk(self) -> None:
        """When a copy is told of, it is on disk, and so is its name."""
        self.open()
        synced: list[tuple[str, bool]] = []
        fsync = os.fsync

        def synced_now(descriptor: int) -> None:
            synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), self.target.exists()))
            fsync(descriptor)

        self.patch(os, "fsync", synced_now)
        self.copy()
        self.assertIn((f"{self.target}.unfinished", False), synced)
        self.assertEqual(synced[-1], (str(self.target.parent), True))

    def assert_refused(self, text: str) -> None:
        with self.assertRaises(StorageError) as refused:
            self.copy()
        self.assertIn(text, str(refused.exception))
        self.assertEqual(list(self.target.parent.glob(f"{self.target.name}.*")), [])

    def test_exists(self) -> None:
        """Nothing is overwritten."""
        self.open()
        self.target.write_text("precious")
        self.assert_refused("exists; nothing is overwritten")
        self.assertEqual(self.target.read_text(), "precious")

    def test_nothing_there(self) -> None:
        """Without a store nothing is made."""
        self.assert_refused("does not exist")
        self.assertFalse(self.target.exists())

    def test_no_store(self) -> None:
        """The database of another program is not copied."""
        self.directory.mkdir()
        sqlite3.connect(self.directory / FILE).execute("CREATE TABLE theirs (a)").connection.close()
        self.assert_refused("is no store of iii")
        self.assertFalse(self.target.exists())

    def test_no_directory(self) -> None:
        """A target that cannot be written is refused by its name."""
        self.open()
        self.target = self.target / "missing" / "copy"
        self.assert_refused("No such file or directory")
