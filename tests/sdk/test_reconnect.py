"""Workers that lose their engine, or their connection to it, and come back without help."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.integration.engine import EngineProcess
from tests.sdk.cable import Cable
from tests.sdk.client import RemoteError
from tests.sdk.contract import Contract, Needs, needs, on_each_sdk
from tests.sdk.sdk import Ability, Sdk

RETURN_SECONDS = 25.0  # SDKs try again after 1, 2, 4, 8 ... seconds, give or take a third


class LostEngineContract(Contract):
    common_needs = Needs((Ability.TRIGGER_TYPES,))
    sdk: Sdk

    async def setUp(self) -> None:
        self.require(self.sdk)
        self._engine = await EngineProcess.for_test(self, reactor)
        self.client = await self.connect(self._engine)
        self.worker = await self.start_worker(self._engine.url, self.sdk, "worker")
        await self.worker.worker.ready(self.client)
        await self.worker.do("register_type", id="tick")
        await self.worker.do(
            "register_trigger", key="t", type="tick", function_id="worker::receive", config={"n": 1}, metadata={"m": 1}
        )
        (self.binding,) = await self.eventually("it is bound", self._events)

    @property
    def engine(self) -> EngineProcess:
        return self._engine

    async def test_crash(self) -> None:
        """After the engine was killed and started again, all that a worker has registered is there again."""
        await self.engine.kill()
        await self.engine.start()
        await self._is_back()

    async def test_stop(self) -> None:
        """The same after the engine was stopped, which it does well while workers are connected."""
        await self.engine.stop()
        await self.engine.start()
        await self._is_back()

    async def _is_back(self) -> None:
        self.client = await self.connect(self.engine)
        self.worker = self.worker.with_client(self.client)
        await self.worker.worker.ready(self.client)
        self.assertEqual(await self.worker.call("worker::echo", payload=["through the SDK"]), ["through the SDK"])
        await self.eventually("its route answers", self._answers)
        # The type and its binding: the provider is told anew, with the same id, and reaches the function.
        await self.eventually("it is bound again", lambda: self._has_events([self.binding] * 2))
        await self.worker.do("fire", id="tick", payload={"key": "k"})
        (received,) = await self.worker.received("k")
        if self.sdk.can(Ability.TRIGGER_METADATA, Ability.CALL_METADATA):
            self.assertEqual(received["metadata"], {"m": 1})

    async def _events(self) -> list[Any]:
        events: list[Any] = (await self.worker.do("events", id="tick"))["events"]
        return events

    async def _has_events(self, expected: list[Any]) -> bool:
        return await self._events() == expected

    async def _answers(self) -> bool:
        function, code = ("upload", 202) if self.sdk.can(Ability.HTTP_HELPER) else ("answer", 201)
        response = await self.request("POST", f"/worker/{function}", data=b"x")
        await response.content()
        return response.code == code


class LostConnectionContract(Contract):
    sdk: Sdk

    async def setUp(self) -> None:
        self.require(self.sdk)
        self._engine = await EngineProcess.for_test(self, reactor)
        self.client = await self.connect(self._engine)
        self.cable = Cable(reactor, self._engine.worker_port)
        self.addCleanup(self.cable.remove)
        self.worker = await self.start_worker(self.cable.url, self.sdk, "worker")
        await self.worker.worker.ready(self.client)

    @property
    def engine(self) -> EngineProcess:
        return self._engine

    async def test_cut(self) -> None:
        """A worker whose connection is cut works again on a new one, as a new worker of the same name."""
        before = await self._worker_ids()
        self.cable.cut()
        await self.eventually("the worker is back", lambda: self._is_another(before), RETURN_SECONDS)
        await self.worker.worker.ready(self.client)

    @needs(Ability.REATTACH)
    async def test_cut_during_call(self) -> None:
        """A call that is under way when the connection is cut is answered over the next one."""
        calling = Deferred.fromCoroutine(self.client.call("worker::slow", {"seconds": 2.5}))
        await self.eventually("the worker has the call", self._has_call)
        self.cable.cut()
        self.assertEqual(await calling, {"slept": 2.5})

    @needs(Ability.REATTACH)
    async def test_half_open(self) -> None:
        """A worker that returns while the engine still holds its old socket takes that one's place."""
        before = await self._worker_ids()
        self.cable.cut_worker_side()
        await self.eventually("the worker is back", lambda: self._is_another(before), RETURN_SECONDS)
        for n in range(5):
            self.assertEqual(await self.client.call("worker::echo", [n], seconds=5), [n])

    async def _worker_rows(self) -> list[Any]:
        rows: list[Any] = (await self.client.call("engine::workers::list", {"search": "worker"}))["workers"]
        return [row for row in rows if row["name"] == "worker"]

    async def _worker_ids(self) -> list[str]:
        if self.sdk.can(Ability.WORKER_PID):
            return [row["id"] for row in await self._worker_rows()]
        try:  # not listed, but known
            return [(await self.client.call("engine::workers::info", {"name": "worker"}))["worker"]["id"]]
        except RemoteError:
            return []

    async def _is_another(self, before: list[str]) -> bool:
        now = await self._worker_ids()
        return len(now) == 1 and now != before

    async def _has_call(self) -> bool:
        return await self.worker.received("slow") == [2.5]


globals().update(on_each_sdk(LostEngineContract), **on_each_sdk(LostConnectionContract))
