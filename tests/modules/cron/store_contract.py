"""What every store of cron does; a mixin for the test cases of the adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from iii.modules.cron.store import FUTURE, Claim, ICronStore

# A contract is no TestCase by itself, or Trial would run it without a store.
if TYPE_CHECKING:
    Mixin = TestCase
else:
    Mixin = object


class CronStoreContract(Mixin):
    """
    @ivar store: A store, which is running.
    @ivar now: Its clock's whole seconds when the test begins.
    """

    store: Any
    now: int

    async def pass_ttl(self) -> None:
        """Let locks that are not renewed run out."""
        raise NotImplementedError

    async def claim(self, slot: int, token: str = "a", *, exclusive: bool = True, key: str = "job") -> Claim:
        claim: Claim = await self.store.claim(key, self.now + slot, self.now + slot, token, exclusive)
        return claim

    def test_interface(self) -> None:
        """It provides the interface."""
        verifyObject(ICronStore, self.store)

    async def test_once(self) -> None:
        """A slot is claimed once, and with it all before it; the next one can be."""
        self.assertIs(await self.claim(0), Claim.TAKEN)
        await self.store.release("job", "a")
        for slot in (0, -60):
            self.assertIs(await self.claim(slot, "b"), Claim.DONE)
        self.assertIs(await self.claim(1, "b"), Claim.TAKEN)

    async def test_lock(self) -> None:
        """While a run has the lock, no other slot of the job can be claimed with it; without it, one can."""
        self.assertIs(await self.claim(0), Claim.TAKEN)
        self.assertIs(await self.claim(1, "b"), Claim.HELD)
        self.assertIs(await self.claim(1, "b", key="other"), Claim.TAKEN)
        self.assertIs(await self.claim(1, "b", exclusive=False), Claim.TAKEN)
        self.assertFalse(await self.store.lock("job", "b"))

    async def test_held_slot_is_not_done(self) -> None:
        """A slot that was not claimed because of the lock can be claimed when that is free."""
        await self.claim(0)
        self.assertIs(await self.claim(1, "b"), Claim.HELD)
        await self.store.release("job", "a")
        self.assertIs(await self.claim(1, "b"), Claim.TAKEN)

    async def test_safe_release(self) -> None:
        """Only the token that has the lock releases it."""
        await self.claim(0)
        await self.store.release("job", "b")
        self.assertFalse(await self.store.lock("job", "b"))
        await self.store.release("job", "a")
        self.assertTrue(await self.store.lock("job", "b"))

    async def test_ttl(self) -> None:
        """A lock that is not renewed is free when its time is over; its former owner gets no more of it."""
        await self.claim(0)
        await self.pass_ttl()
        self.assertTrue(await self.store.lock("job", "b"))
        self.assertFalse(await self.store.renew("job", "a"))
        await self.store.release("job", "a")
        self.assertFalse(await self.store.lock("job", "c"))

    async def test_renew(self) -> None:
        """Renewing keeps a lock, and takes one back that nobody has got meanwhile."""
        await self.claim(0)
        self.assertTrue(await self.store.renew("job", "a"))
        await self.pass_ttl()
        self.assertTrue(await self.store.renew("job", "a"))
        self.assertFalse(await self.store.lock("job", "b"))

    async def test_far_future(self) -> None:
        """A slot run more than a day ahead was run by a wrong clock, and does not count."""
        self.assertIs(await self.claim(FUTURE + 100, exclusive=False), Claim.TAKEN)
        self.assertIs(await self.claim(0, exclusive=False), Claim.TAKEN)

    async def test_mark(self) -> None:
        """A claim may cover later slots, too."""
        self.assertIs(await self.store.claim("job", self.now - 600, self.now - 60, "a", False), Claim.TAKEN)
        self.assertEqual(await self.store.last("job"), self.now - 60)
        self.assertIs(await self.claim(-300, exclusive=False), Claim.DONE)
        self.assertIs(await self.claim(0, exclusive=False), Claim.TAKEN)

    async def test_begin(self) -> None:
        """A new job begins once; one that has run does not begin again."""
        self.assertIsNone(await self.store.last("job"))
        await self.store.begin("job", self.now - 60)
        await self.store.begin("job", self.now)
        self.assertEqual(await self.store.last("job"), self.now - 60)
        self.assertIs(await self.claim(-60), Claim.DONE)

    async def test_pause(self) -> None:
        """A paused job can be claimed by nobody, until it is resumed."""
        await self.store.pause("job")
        self.assertEqual(await self.store.paused(), {"job"})
        self.assertIs(await self.claim(0), Claim.PAUSED)
        self.assertTrue(await self.store.lock("job", "a"))
        await self.store.resume("job", None)
        self.assertEqual(await self.store.paused(), set())
        self.assertIs(await self.claim(0, exclusive=False), Claim.TAKEN)

    async def test_resume(self) -> None:
        """Slots up to the mark of a job that was paused count as run; of another one they do not."""
        await self.store.resume("job", self.now)
        self.assertIsNone(await self.store.last("job"))
        await self.store.pause("job")
        await self.store.resume("job", self.now)
        self.assertEqual(await self.store.last("job"), self.now)
        self.assertIs(await self.claim(-1), Claim.DONE)
