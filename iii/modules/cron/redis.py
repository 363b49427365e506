"""What engines on one Redis server agree on about their common jobs (spec/cron.md, 5)."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from iii.modules.cron.store import FUTURE, KEPT, Claim, ICronStore
from iii.storage.redis import RedisLink, Script

PAUSED = "cron_paused"

CLAIM = Script(
    """
    local slot, mark, token, ttl, now, exclusive, future, kept = unpack(ARGV)
    if redis.call('SISMEMBER', KEYS[3], KEYS[4]) == 1 then return 'PAUSED' end
    local last = tonumber(redis.call('GET', KEYS[2]) or '')
    if last and last >= tonumber(slot) and last <= tonumber(now) + tonumber(future) then return 'DONE' end
    if exclusive == '1' and not redis.call('SET', KEYS[1], token, 'NX', 'PX', ttl) then return 'HELD' end
    redis.call('SET', KEYS[2], mark, 'EX', kept)
    return 'TAKEN'
    """
)
RENEW = Script(
    """
    local owner = redis.call('GET', KEYS[1])
    if owner and owner ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1
    """
)
RESUME = Script(
    """
    if redis.call('SREM', KEYS[1], ARGV[1]) == 1 and ARGV[2] ~= '' then
      redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
    end
    """
)
RELEASE = Script("if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('DEL', KEYS[1])")


@implementer(ICronStore)
class RedisCronStore:
    """
    Keeps C{cron_lock:<key>} (the token of the run that has the lock), C{cron_last:<key>} (up to when slots count as
    run) and the set C{cron_paused}.
    """

    def __init__(self, link: RedisLink, clock: IReactorTime, ttl_ms: int) -> None:
        self._link, self._clock, self._ttl_ms = link, clock, ttl_ms

    def start(self) -> None:
        """The link is the engine's."""

    async def claim(self, key: str, slot: int, mark: int, token: str, exclusive: bool) -> Claim:
        now = int(self._clock.seconds())
        arguments = (slot, mark, token, self._ttl_ms, now, int(exclusive), FUTURE, KEPT)
        answer = await self._link.eval(CLAIM, (_lock(key), _last(key), PAUSED, key), arguments)
        return Claim[cast(bytes, answer).decode()]

    async def lock(self, key: str, token: str) -> bool:
        return await self._link.execute("SET", _lock(key), token, "NX", "PX", self._ttl_ms) is not None

    async def renew(self, key: str, token: str) -> bool:
        return await self._link.eval(RENEW, (_lock(key),), (token, self._ttl_ms)) == 1

    async def release(self, key: str, token: str) -> None:
        await self._link.eval(RELEASE, (_lock(key),), (token,))

    async def last(self, key: str) -> int | None:
        answer = await self._link.execute("GET", _last(key))
        return None if answer is None else int(cast(bytes, answer))

    async def begin(self, key: str, mark: int) -> None:
        await self._link.execute("SET", _last(key), mark, "NX", "EX", KEPT)

    async def finished(self, key: str) -> None:
        """Other engines may have promised to run it, too, and come back after days: it is known as long as others."""

    async def pause(self, key: str) -> None:
        await self._link.execute("SADD", PAUSED, key)

    async def resume(self, key: str, mark: int | None) -> None:
        await self._link.eval(RESUME, (PAUSED, _last(key)), (key, "" if mark is None else mark, KEPT))

    async def paused(self) -> set[str]:
        answer = await self._link.execute("SMEMBERS", PAUSED)
        return {member.decode() for member in cast(list[bytes], answer)}


def _lock(key: str) -> str:
    return f"cron_lock:{key}"


def _last(key: str) -> str:
    return f"cron_last:{key}"
