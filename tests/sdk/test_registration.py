"""Functions that come and go while their worker stays, and workers that go."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred

from tests.sdk.client import RemoteError
from tests.sdk.contract import AllSdks, OneSdk, needs, on_all_sdks, on_each_sdk
from tests.sdk.sdk import Ability


class RegistrationContract(OneSdk):
    async def test_unregister_function(self) -> None:
        """A function can be called until it is unregistered, and again after it was registered anew."""
        function_id = self.unique("functions::f")
        for _ in range(2):
            await self.worker.do("register_function", id=function_id)
            await self.eventually("it can be called", lambda: self._exists(function_id))
            await self.worker.do("unregister", key=function_id)
            await self.eventually("it cannot be called any more", lambda: self._is_missing(function_id))

    @needs(Ability.SERVICES)
    async def test_services(self) -> None:
        """Registering a service, which means nothing any more, disturbs nobody."""
        await self.worker.do("register_service", id=self.unique("service"))
        self.assertEqual(await self.worker.call(self.worker.id("echo"), payload=["still here"]), ["still here"])

    async def test_leaves(self) -> None:
        """A worker that shuts down leaves neither functions nor a row in the list of workers."""
        leaver = await self.start_worker(self.engine.url, self.sdk, self.unique("leaver"))
        await leaver.worker.ready(self.client)
        await leaver.worker.stop()
        await self.eventually("its functions are gone", lambda: self._is_missing(leaver.id("echo")))
        workers = (await self.client.call("engine::workers::list", {}))["workers"]
        self.assertNotIn(leaver.name, [worker["name"] for worker in workers])

    async def test_replicas(self) -> None:
        """Two processes of one worker share its calls; when one dies, the other has them all."""
        name = self.unique("replica")
        one, other = [await self.start_worker(self.engine.url, self.sdk, name) for _ in range(2)]
        both = {one.worker.pid, other.worker.pid}

        async def answer_in_turn() -> bool:
            return {await self._pid(name) for _ in range(4)} == both

        await self.eventually("both answer calls", answer_in_turn, 20, ignoring=(RemoteError,))
        await one.worker.kill()

        async def is_alone() -> bool:
            return {await self._pid(name) for _ in range(4)} == {other.worker.pid}

        await self.eventually("the other has all calls", is_alone, ignoring=(RemoteError,))

    async def _pid(self, name: str) -> int:
        pid: int = (await self.client.call(f"{name}::process", {}))["pid"]
        return pid

    async def _exists(self, function_id: str) -> bool:
        return not await self._is_missing(function_id)

    async def _is_missing(self, function_id: str) -> bool:
        try:
            await self.client.call(function_id, {})
        except RemoteError as error:
            self.assertEqual(error.code, "function_not_found")
            return True
        return False


class KilledContract(AllSdks):
    """Victims on all SDKs at once, because the engine waits for the return of each for some seconds."""

    async def test_killed_in_a_call(self) -> None:
        """A call of a worker that dies ends with an error, not with the caller's time-out."""
        victims = [
            await self.start_worker(self.engine.url, worker.sdk, self.unique("victim")) for worker in self.workers
        ]
        for victim in victims:
            await victim.worker.ready(self.client)
        calls = {
            worker.name: Deferred.fromCoroutine(worker.call(victim.id("slow"), payload={"seconds": 60}))
            for worker, victim in zip(self.workers, victims, strict=True)
        }
        for victim in victims:
            await self.eventually("the call is under way", partial(self._has_call, victim.name))
        for victim in victims:
            await victim.worker.kill()
        codes = {name: (await self.assertFailure(call, RemoteError)).code for name, call in calls.items()}
        self.assertEqual(codes, dict.fromkeys(calls, "invocation_stopped"))

    async def _has_call(self, name: str) -> bool:
        worker = (await self.client.call("engine::workers::info", {"name": name}))["worker"]
        return worker["active_invocations"] == 1


globals().update(on_each_sdk(RegistrationContract), **on_all_sdks(KilledContract))
