"""Disks that are full or fail: writers hear of it, nothing acknowledged is lost, and the engine goes on by itself."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.client import Agent

from tests.integration.engine import EngineProcess
from tests.integration.process import ProcessFailed
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

    def set(self, client: Client, key: str) -> Deferred[RemoteError | None]:
        """Set a key, and return why that was refused."""

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

    async def readiness(self, engine: EngineProcess) -> Any:
        response = await treq.get(f"{engine.api_url}/readyz", agent=Agent(reactor))
        said = await response.json()
        self.assertEqual(response.code, 503 if "problems" in said else 200)
        return said

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
        single = 0
        while await self.set(client, f"single{single}") is None:  # less may still fit
            kept.append(f"single{single}")
            single += 1
        await self.check(client, kept)
        self.assertIsNone(await client.call("state::get", {"scope": "s", "key": f"single{single}"}))
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
        self.assertIn("is full", (await self.readiness(engine))["problems"]["store data"])
        await self.check(client, kept)
        response = await treq.get(f"{engine.api_url}/metrics", agent=Agent(reactor))
        self.assertRegex(await response.text(), r"\niii_store_failed_commits_total [1-9]")
        (directory / "ballast").unlink()
        while "problems" in await self.readiness(engine):  # the store finds out by itself
            await deferLater(reactor, 0.1)
        self.assertIsNone(await self.set(client, "again"))
        await self.check(client, [*kept, "again"])
        await engine.kill()
        await engine.start()
        again = await connect(reactor, engine.worker_port)
        self.addCleanup(again.close)
        await self.check(again, [*kept, "again"])


class SharedStoreTests(TestCase):
    async def test_two_engines(self) -> None:
        """A second engine with the same store does not start, and says who has it; the first one goes on."""
        first = await EngineProcess.for_test(self, reactor, [{"name": "iii-state"}])
        settings = {"data_directory": str(first.directory / "data")}
        second = EngineProcess(reactor, Path(self.mktemp()).resolve(), [{"name": "iii-state"}], settings)
        self.addCleanup(second.kill)
        with self.assertRaises(ProcessFailed) as failed:
            await second.start()
        self.assertIn(f"store.db: another engine has it open (process {first.pid})", str(failed.exception))
        self.assertIn("exit code 1", str(failed.exception))
        client = await connect(reactor, first.worker_port)
        await client.call("state::set", {"scope": "s", "key": "k", "value": 1})
        await client.close()

    async def test_backup(self) -> None:
        """What C{iii backup} copies while the engine runs can take the store's place."""
        engine = await EngineProcess.for_test(self, reactor, [{"name": "iii-state"}])
        client = await connect(reactor, engine.worker_port)
        await client.call("state::set", {"scope": "s", "key": "k", "value": "as backed up"})
        iii = str(Path(sys.executable).with_name("iii"))
        command = [iii, "-c", "config.yaml", "backup", "copy.db"]
        done = await deferToThread(subprocess.run, command, cwd=engine.directory, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"store\.db -> .*copy\.db \([\d,]+ bytes\)")
        await client.call("state::set", {"scope": "s", "key": "k", "value": "later"})
        await client.close()
        await engine.stop()
        for companion in (engine.directory / "data").glob("store.db-*"):
            companion.unlink()
        (engine.directory / "copy.db").rename(engine.directory / "data" / "store.db")
        await engine.start()
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        self.assertEqual(await client.call("state::get", {"scope": "s", "key": "k"}), "as backed up")
