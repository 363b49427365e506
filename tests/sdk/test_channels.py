"""Channels between workers of two SDKs: the ends are made by one and one of them is used by the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.sdk.contract import Needs, PairOfSdks, on_each_pair
from tests.sdk.environments import PARTNERS
from tests.sdk.sdk import MIB, Ability

LARGE = 6 * MIB  # more than a channel's buffer of 64 messages holds
HUGE = 100_000_000


class ChannelsContract(PairOfSdks):
    common_needs = Needs((Ability.CHANNELS,))

    async def test_push(self) -> None:
        """What the maker of a channel writes is read by the function that was handed the reader."""
        await self._same("push", "read_channel", 5000)

    async def test_push_much(self) -> None:
        """More than a channel buffers arrives complete and in order."""
        await self._same("push", "read_channel", LARGE)

    async def test_pull(self) -> None:
        """What the function that was handed the writer writes is read by the maker of the channel."""
        await self._same("pull", "write_channel", 5000)

    async def test_pull_much(self) -> None:
        """More than a channel buffers arrives complete and in order."""
        await self._same("pull", "write_channel", LARGE)

    async def test_no_bytes(self) -> None:
        """A channel that carried only text messages ends, too."""
        await self._same("push", "read_channel", 0)

    async def _same(self, way: str, function: str, size: int) -> None:
        answer: dict[str, Any] = await self.one.do(way, function_id=self.other.id(function), bytes=size)
        self.assertEqual(answer["received"], answer["sent"])
        self.assertEqual(answer["received"]["bytes"], size)


class MemoryTests(PairOfSdks, TestCase):
    """What passes through a channel does not stay in the engine, however much it is."""

    first, second = PARTNERS  # a Python worker and a Node worker
    most_growth = 20_000_000  # bytes

    async def test_push(self) -> None:
        """100 MB from Python to Node arrive unchanged, and the engine's memory peaks less than 20 MB higher."""
        await self._pass("push", "read_channel")

    async def test_pull(self) -> None:
        """100 MB from Node to Python: the same."""
        await self._pass("pull", "write_channel")

    async def _pass(self, way: str, function: str) -> None:
        process = Path(f"/proc/{self.engine.pid}")
        (process / "clear_refs").write_text("5")  # the peak counts from here
        before = _kilobytes(process, "VmRSS")
        request = {"function_id": self.other.id(function), "bytes": HUGE}
        answer: dict[str, Any] = await self.client.call(self.one.id(way), request, seconds=25)
        self.assertEqual(answer["received"], answer["sent"])
        self.assertEqual(answer["received"]["bytes"], HUGE)
        self.assertLess((_kilobytes(process, "VmHWM") - before) * 1024, self.most_growth)


def _kilobytes(process: Path, key: str) -> int:
    """Read a figure from a directory of C{/proc}."""
    (line,) = [line for line in (process / "status").read_text().splitlines() if line.startswith(f"{key}:")]
    return int(line.split()[1])


globals().update(on_each_pair(ChannelsContract))
