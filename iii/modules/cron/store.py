"""
What must be remembered of jobs: which slot was run last, who runs a job now, which jobs are paused (spec/cron.md, 5).

A slot is claimed before it is run, and never again: not by another engine, not after a crash, not when the clock was
set back.  So a slot is run at most once.  Whoever claims one may take the job's lock with it, which keeps the next slot
from being run elsewhere at the same time.  The lock is renewed while the run lasts and is free again when its time is
over: an engine that has died blocks a job for C{lock_ttl_ms} and no longer.

Jobs are known by their keys, which are the same on all engines and after a restart.  Each run has a token of its own;
only its owner renews or releases a lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import Interface, implementer

from iii.storage.errors import StorageError
from iii.storage.schema import Table
from iii.storage.sqlite import Store

FUTURE = 86400
"""Seconds; a slot that was run so far in the future was run while the clock was wrong, and does not count."""
KEPT = 400 * 86400
"""Seconds that the last run of a job is remembered: it may run once a year."""
ROOM = 1000
"""Jobs that may come before it is looked again for those that need not be known any more."""


class Claim(Enum):
    """What has become of a claim."""

    TAKEN = "taken"
    DONE = "the slot was run already"
    HELD = "another run of the job is under way elsewhere"
    PAUSED = "the job is paused"


class ICronStore(Interface):
    """What engines that share jobs agree on.  Every method may fail with L{iii.storage.errors.StorageError}."""

    def start() -> None:
        """Begin, when what it keeps things in has been opened."""

    async def claim(key: str, slot: int, mark: int, token: str, exclusive: bool) -> Claim:
        """
        Take a slot, so that nobody else runs it.

        @param mark: All slots up to this instant, at least the slot itself, count as run.
        @param exclusive: Take the job's lock with it.
        """

    async def lock(key: str, token: str) -> bool:
        """Take a job's lock; C{False}: another run has it."""

    async def renew(key: str, token: str) -> bool:
        """Keep a lock for another C{lock_ttl_ms}, also one that got lost; C{False}: another run has it."""

    async def release(key: str, token: str) -> None:
        """Give a lock back, if the token still has it."""

    async def last(key: str) -> int | None:
        """Return the instant up to which a job's slots count as run."""

    async def begin(key: str, mark: int) -> None:
        """A job without a last run is new: slots up to this instant count as run."""

    async def finished(key: str) -> None:
        """A job that runs once is over, and forgotten here: it need not be known for as long as others."""

    async def pause(key: str) -> None:
        """Let nobody run a job until C{resume}."""

    async def resume(key: str, mark: int | None) -> None:
        """
        Let a job run again.

        @param mark: If the job was paused, slots up to this instant count as run: they were left out on purpose.
        """

    async def paused() -> set[str]:
        """Return the keys of the paused jobs."""


class Rows(Protocol):
    """Where an engine keeps values by key."""

    def load(self) -> Iterable[tuple[str, bytes]]:
        """Return all."""

    def put(self, key: str, value: bytes) -> Deferred[None]:
        """Keep a value; fires when it has survived a power loss, unless rows are said to be volatile."""

    def remove(self, key: str) -> Deferred[None]:
        """Keep a value no more."""


class MemoryRows:
    """Keeps nothing: what is in memory is gone when the engine stops."""

    def load(self) -> Iterable[tuple[str, bytes]]:
        return ()

    def put(self, key: str, value: bytes) -> Deferred[None]:
        return succeed(None)

    def remove(self, key: str) -> Deferred[None]:
        return succeed(None)


class SqliteRows:
    """Rows of a table of the embedded store."""

    def __init__(self, store: Store, table: Table, index: str) -> None:
        """@param index: Tells the rows of one user from those of others in the table (C{lock_index})."""
        self._store, self._table, self._index = store, table, index

    def load(self) -> Iterable[tuple[str, bytes]]:
        (value,) = self._table.values
        statement = f"SELECT job, {value} FROM {self._table.name} WHERE lock_index = ? ORDER BY position"
        return [(key, found) for key, found in self._store.read(statement, (self._index,))]

    def put(self, key: str, value: bytes) -> Deferred[None]:
        return self._store.write((self._table, (self._index, key), (value,)))

    def remove(self, key: str) -> Deferred[None]:
        return self._store.write((self._table, (self._index, key), None))


class Kept(msgspec.Struct, omit_defaults=True):
    """
    What is kept of one job.

    @ivar last: Slots up to here count as run.
    @ivar owner: The token of the run that has the lock; empty for none.
    @ivar expires_at_ms: When the lock is free again, unless it is renewed.
    @ivar finished: It was to run once, and has.
    """

    last: int | None = None
    owner: str = ""
    expires_at_ms: int = 0
    paused: bool = False
    finished: bool = False


_decode = msgspec.json.Decoder(Kept).decode
_encode = msgspec.json.Encoder().encode


@implementer(ICronStore)
class KvCronStore:
    """
    Keeps the jobs of one engine.

    All of them are in memory; each change is on disk before it is answered.  Nobody else has the file, so that this is
    the truth.  The lock keeps a run that has survived the engine's crash, in its worker, from meeting the next one.
    """

    def __init__(self, rows: Rows, clock: IReactorTime, ttl_ms: int) -> None:
        """@param ttl_ms: When a lock that is not renewed is free again."""
        self._rows, self._clock, self._ttl_ms = rows, clock, ttl_ms
        self._jobs: dict[str, Kept] = {}
        self._most = ROOM

    def start(self) -> None:
        self._jobs = {key: _decode(value) for key, value in self._rows.load()}
        self._drop_old()

    def _drop_old(self) -> None:
        """Forget what nobody needs any more."""
        now = self._clock.seconds()
        for key, kept in list(self._jobs.items()):
            age = FUTURE if kept.finished else KEPT
            if not kept.paused and not self._held(kept) and (kept.last or 0) <= now - age:
                del self._jobs[key]
                self._rows.remove(key).addErrback(lambda _: None)  # the next start tries again
        self._most = 2 * len(self._jobs) + ROOM

    async def claim(self, key: str, slot: int, mark: int, token: str, exclusive: bool) -> Claim:
        kept = self._job(key)
        if kept.paused:
            return Claim.PAUSED
        if kept.last is not None and slot <= kept.last <= self._clock.seconds() + FUTURE:
            return Claim.DONE
        if exclusive:
            if self._held(kept):
                return Claim.HELD
            self._hold(kept, token)
        before, kept.last = kept.last, mark
        try:
            await self._keep(key, kept)
        except StorageError:
            if kept.last == mark:
                kept.last = before
            raise
        return Claim.TAKEN

    async def lock(self, key: str, token: str) -> bool:
        kept = self._job(key)
        if self._held(kept):
            return False
        self._hold(kept, token)
        await self._keep(key, kept)
        return True

    async def renew(self, key: str, token: str) -> bool:
        kept = self._job(key)
        if kept.owner != token and self._held(kept):
            return False
        self._hold(kept, token)
        await self._keep(key, kept)
        return True

    async def release(self, key: str, token: str) -> None:
        kept = self._job(key)
        if kept.owner == token:
            kept.owner, kept.expires_at_ms = "", 0
            await self._keep(key, kept)

    async def last(self, key: str) -> int | None:
        return self._job(key).last

    async def begin(self, key: str, mark: int) -> None:
        kept = self._job(key)
        if kept.last is None:
            kept.last = mark
            await self._keep(key, kept)

    async def finished(self, key: str) -> None:
        kept = self._jobs.get(key)
        if kept is not None:
            kept.finished = True
            await self._keep(key, kept)

    async def pause(self, key: str) -> None:
        kept = self._job(key)
        kept.paused = True
        await self._keep(key, kept)

    async def resume(self, key: str, mark: int | None) -> None:
        kept = self._job(key)
        if kept.paused and mark is not None:
            kept.last = mark
        kept.paused = False
        await self._keep(key, kept)

    async def paused(self) -> set[str]:
        return {key for key, kept in self._jobs.items() if kept.paused}

    def _job(self, key: str) -> Kept:
        return self._jobs.get(key) or Kept()

    def _held(self, kept: Kept) -> bool:
        now_ms = self._now_ms()
        return bool(kept.owner) and now_ms < kept.expires_at_ms <= now_ms + self._ttl_ms

    def _hold(self, kept: Kept, token: str) -> None:
        kept.owner, kept.expires_at_ms = token, self._now_ms() + self._ttl_ms

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)

    def _keep(self, key: str, kept: Kept) -> Deferred[None]:
        if key not in self._jobs and len(self._jobs) >= self._most:
            self._drop_old()
        self._jobs[key] = kept
        return self._rows.put(key, _encode(kept))


class OneShot(msgspec.Struct):
    """
    A job that runs once, as it outlives the worker that registered it, and the engine.

    @ivar metadata: Null for none.
    """

    trigger_id: str
    function_id: str
    namespace: str
    config: msgspec.Raw
    metadata: msgspec.Raw


_decode_one_shot = msgspec.json.Decoder(OneShot).decode


class OneShots:
    """The jobs that run once and have not run yet, by key."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def load(self) -> list[tuple[str, OneShot]]:
        """Return those that a former engine has left."""
        return [(key, _decode_one_shot(value)) for key, value in self._rows.load()]

    def keep(self, key: str, one_shot: OneShot) -> Deferred[None]:
        return self._rows.put(key, _encode(one_shot))

    def forget(self, key: str) -> Deferred[None]:
        return self._rows.remove(key)
