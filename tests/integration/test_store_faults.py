"""Disks that are full or fail: writers hear of it, nothing acknowledged is lost, and the engine goes on by itself."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.engine import EngineProcess
from tests.sdk.client import Client, RemoteError, connect

VALUE = "x" * 2000


class FaultTests(TestCase):
    async def fill(self, client: Client, prefix: str, most: int = 20_000) -> tuple[list[str], RemoteError]:
        """Set one key after the other until one is refused.  Return those that were acknowledged, and the refusal."""
        kept: list[str] = []
        for number in range(0, most, 20):
            keys = [f"{prefix}{number + offset}" for offset in range(20)]
            outcomes = await gatherResults([self.set(client, key) for key in keys])
            kept += [key for key, outcome in zip(keys, outcomes, strict=True) if outcome is None]
            refused = [outcome for outcome in outcomes if outcome is not None]
            if refused:
                return kept, refused[0]
        raise AssertionError("the disk was never full")

    def set(self, client: Client, key: str) -> Any:
        from twisted.internet.defer import Deferred

        async def outcome() -> RemoteError | None:
            try:
                await client.call("state::set", {"scope": "s", "key": key, "value": VALUE})
            except RemoteError as error:
                return error
            return None

        return Deferred.fromCoroutine(outcome())

    async def check(self, client: Client, kept: list[str]) -> None:
        for key in kept:
            self.assertEqual(await client.call("state::get", {"scope": "s", "key": key}), VALUE)

    async def test_write_errors(self) -> None:
        """
        While the kernel refuses to let the files grow, writes fail with an error that says so, reads go on, and when it
        lets them grow again writes succeed, without a restart.
        """
        engine = await EngineProcess.for_test(self, reactor, [{"name": "iii-state"}])
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        soft, hard = resource.prlimit(engine.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, (1_000_000, hard))
        kept, error = await self.fill(client, "a")
        self.assertEqual(error.code, "SET_ERROR")
        self.assertRegex(error.message, "Failed to set value: .*store.db: .*(disk|full)")
        await self.check(client, kept)
        self.assertIsNotNone(await self.set(client, "refused"))
        self.assertIsNone(await client.call("state::get", {"scope": "s", "key": "refused"}))
        resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, (soft, hard))
        self.assertIsNone(await self.set(client, "again"))
        await client.close()
        await engine.kill()
        await engine.start()
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        await self.check(client, [*kept, "again"])
        self.assertIn("disk I/O error", engine.log.read_text())

    async def test_full_disk(self) -> None:
        """The same on a file system without space, which comes back when something else on it is removed."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(directory)], capture_output=True, check=False
        )
        if mounted.returncode:
            raise SkipTest(f"cannot mount a small file system: {mounted.stderr.decode(errors='replace').strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(directory)], check=True)
        (directory / "ballast").write_bytes(b"x" * 3_000_000)
        settings = {"data_directory": str(directory / "data")}
        engine = await EngineProcess.for_test(self, reactor, [{"name": "iii-state"}], settings)
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        kept, error = await self.fill(client, "a")
        self.assertEqual(error.code, "SET_ERROR")
        self.assertIn("full", error.message)
        await self.check(client, kept)
        (directory / "ballast").unlink()
        self.assertIsNone(await self.set(client, "again"))
        await self.check(client, [*kept, "again"])
        await engine.kill()
        await engine.start()
        again = await connect(reactor, engine.worker_port)
        self.addCleanup(again.close)
        await self.check(again, [*kept, "again"])
