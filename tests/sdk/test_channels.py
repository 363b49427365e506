"""Channels between workers of two SDKs: the ends are made by one and one of them is used by the other."""

from __future__ import annotations

from typing import Any

from tests.sdk.contract import PairOfSdks, on_each_pair
from tests.sdk.environments import MIB

LARGE = 6 * MIB  # more than a channel's buffer of 64 messages holds


class ChannelsContract(PairOfSdks):
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


globals().update(on_each_pair(ChannelsContract))
