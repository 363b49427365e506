"""What the engine has acknowledged is there after SIGKILL, and was on disk before it was acknowledged."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.engine import EngineProcess
from tests.integration.process import eventually
from tests.sdk.client import Client, connect

SOAK = bool(os.environ.get("III_SOAK"))
ROUNDS = 1000 if SOAK else 50
WRITERS = 16
KEYS = 40
STATE = [{"name": "iii-state"}]


class Writer:
    """
    Changes keys of its own until its connection is cut, one change of it under way at a time.

    @ivar certain: What its keys have, by what was acknowledged; C{None}: no value.
    @ivar unsure: The key whose change was not acknowledged, and what it has if that was made nevertheless.
    """

    def __init__(self, number: int, client: Client, chance: random.Random) -> None:
        self.scope = f"writer-{number}"
        self.certain: dict[str, Any] = {}
        self.unsure: tuple[str, Any] | None = None
        self.acknowledged = 0
        self._client, self._chance, self._count = client, chance, 0

    async def run(self) -> None:
        kinds = (self._set, self._set, self._increment, self._delete)
        try:
            while True:
                await self._chance.choice(kinds)(f"k{self._chance.randrange(KEYS)}")
        except ConnectionClosed:
            return

    async def _change(self, key: str, function: str, after: Any, **data: Any) -> None:
        self.unsure = key, after
        await self._client.call(f"state::{function}", {"scope": self.scope, "key": key, **data})
        self.certain[key], self.unsure = after, None
        self.acknowledged += 1

    async def _set(self, key: str) -> None:
        self._count += 1
        value = {"n": self._count, "text": "x" * self._chance.choice((0, 10, 100, 5000))}
        await self._change(key, "set", value, value=value)

    async def _increment(self, key: str) -> None:
        before = self.certain.get(key) or {}
        after = {**before, "sum": before.get("sum", 0) + 1}
        await self._change(key, "update", after, ops=[{"type": "increment", "path": "sum", "by": 1}])

    async def _delete(self, key: str) -> None:
        await self._change(key, "delete", None)

    async def check(self, client: Client) -> list[str]:
        """Return what is not as it was acknowledged, and go on from what is there."""
        wrong = []
        for key, expected in list(self.certain.items()) + ([self.unsure] if self.unsure else []):
            found = await client.call("state::get", {"scope": self.scope, "key": key})
            possible = [self.certain.get(key)] + ([self.unsure[1]] if self.unsure and self.unsure[0] == key else [])
            if found not in possible:
                wrong.append(f"{self.scope} {key}: {found!r} is none of {possible!r} ({expected!r})")
            self.certain[key] = found
        self.unsure, self._client = None, client
        return wrong


class CrashTests(TestCase):
    timeout = 7200

    async def test_killed_under_load(self) -> None:
        """
        Killed at any moment, many times: every acknowledged change is there, no change is there in part, and the file
        is sound.
        """
        seed = random.randrange(2**32)
        chance = random.Random(seed)
        engine = EngineProcess(reactor, Path(self.mktemp()).resolve(), STATE)
        self.addCleanup(engine.kill)
        await engine.start()
        client = await connect(reactor, engine.worker_port)
        writers = [Writer(number, client, chance) for number in range(WRITERS)]
        for round_number in range(ROUNDS):
            running = [Deferred.fromCoroutine(writer.run()) for writer in writers]
            await deferLater(reactor, chance.uniform(0.0, 0.3))
            await engine.kill()
            await gatherResults(running)
            if round_number % 10 == 0:
                self.check_integrity(engine)
            await engine.start()
            client = await connect(reactor, engine.worker_port)
            wrong = [text for writer in writers for text in await writer.check(client)]
            self.assertEqual(wrong, [], f"seed {seed}, round {round_number}")
        self.assertGreater(sum(writer.acknowledged for writer in writers), 10 * ROUNDS)
        await client.close()

    def check_integrity(self, engine: EngineProcess) -> None:
        """Check a copy of the file as the crash has left it, so that the engine meets it unrecovered, too."""
        copy = Path(self.mktemp()).resolve()
        shutil.copytree(engine.directory / "data", copy)
        connection = sqlite3.connect(copy / "store.db")
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])


class FsyncTests(TestCase):
    async def test_fsync_before_the_answer(self) -> None:
        """What a write has put into the log is synchronised to disk before its answer is sent, seen by the kernel."""
        if shutil.which("strace") is None:
            raise SkipTest("not installed: strace")
        engine = await EngineProcess.for_test(self, reactor, STATE)
        client = await connect(reactor, engine.worker_port)
        self.addCleanup(client.close)
        await client.call("state::set", {"scope": "s", "key": "before", "value": 1})
        trace = engine.directory / "trace"
        calls = "trace=fsync,fdatasync,write,pwrite64,send,sendto,sendmsg,writev"
        tracer = subprocess.Popen(
            ["strace", "-f", "-y", "-s", "10000", "-e", calls, "-o", str(trace), "-p", str(engine.pid)],
            stderr=subprocess.PIPE,
        )
        try:
            await eventually(reactor, "strace is attached", self._attached(tracer))
            marker = "marker-of-the-test"
            await client.call("state::set", {"scope": "s", "key": "k", "value": marker})
        finally:
            tracer.terminate()
            tracer.wait()
        lines = trace.read_text(errors="replace").splitlines()
        logged = self._first(lines, rf"pwrite64\(\d+<[^>]*store\.db-wal>.*{marker}")
        synced = (
            self._first(lines[logged:], r"(fsync|fdatasync)(\(\d+<[^>]*store\.db-wal>\)|.*resumed>\)) += 0") + logged
        )
        answered = self._first(
            lines, rf"(sendto|sendmsg|write|writev|send)\(\d+<(socket|TCP).*invocationresult.*{marker}"
        )
        self.assertLess(logged, synced)
        self.assertLess(synced, answered)

    def _attached(self, tracer: subprocess.Popen[bytes]) -> Callable[[], Awaitable[bool]]:
        assert tracer.stderr is not None
        os.set_blocking(tracer.stderr.fileno(), False)
        said = b""

        async def attached() -> bool:
            nonlocal said
            said += tracer.stderr.read() or b""  # type: ignore[union-attr]
            if tracer.poll() is not None:
                raise SkipTest(f"strace cannot attach: {said.decode(errors='replace').strip()}")
            return b"attached" in said

        return attached

    def _first(self, lines: list[str], pattern: str) -> int:
        for number, line in enumerate(lines):
            if re.search(pattern, line):
                return number
        self.fail(f"{pattern} is in none of {len(lines)} lines")
        raise AssertionError
