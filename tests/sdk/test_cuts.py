"""
Cuts as they happen in networks: the two sides of a worker's connection notice at different times.

For some seconds the engine holds a connection that the worker has replaced already, or the worker one that the engine
has given up.  Meanwhile calls go on in both directions, and afterwards they are accounted for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any, Literal

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from iii.core.reattach import PATIENCE
from tests.integration.engine import EngineProcess
from tests.sdk.cable import Cable
from tests.sdk.client import RemoteError
from tests.sdk.contract import Contract, Handle
from tests.sdk.environments import NEWEST

SEED = 20261125
CUTS = 30
WORKERS_PER_SDK = 5
MOST_SKEW = 5.0  # seconds
CALL_TIMEOUT = 10.0  # of the engine; so long may a call take whose answer was lost with the connection
MOST_AGAIN = 0.2  # seconds
MADE_TIMEOUT = 12.0  # of the SDKs
RETURN_SECONDS = 25.0
SETTLED_SECONDS = 1.0  # after which registrations are looked at once more
CLEAR = {
    "function_not_found",  # the worker's registrations are gone
    "invocation_stopped",  # it did not come back in time
    "channel_send_failed",
    "TIMEOUT",  # it came back, and did not answer
}


Side = Literal["worker", "engine"]


@attrs.frozen
class Cut:
    """
    One cut.

    @ivar first: The side that notices first.
    @ivar skew: How many seconds later the other one does.
    @ivar again: How many seconds after it has come back the worker is cut off once more; C{None}, it is not.
    """

    first: Side
    skew: float
    again: float | None


class Patient:
    """A worker on a cable, the calls to it, and those that it makes."""

    def __init__(self, worker: Handle, cable: Cable, dice: random.Random) -> None:
        self.worker, self.cable, self.dice = worker, cable, dice
        self.calls: list[Deferred[None]] = []
        self.errors: dict[str, str | None] = {}  # how these calls ended, by the key under which executions are noted
        self.made: list[tuple[str, int]] = []  # the key of the outcomes, and how many there must be


class CutsTests(Contract, TestCase):
    survived = 0

    async def setUp(self) -> None:
        self.require(*NEWEST)
        settings = {"call_timeout_ms": round(CALL_TIMEOUT * 1000)}
        self._engine = await EngineProcess.for_test(self, reactor, settings=settings)
        self.client = await self.connect(self._engine)
        self.addCleanup(self._all_ended)
        self.steady = await self.start_worker(self._engine.url, NEWEST[0], "steady")
        dice = random.Random(SEED)
        self.patients: list[Patient] = []
        for number in range(WORKERS_PER_SDK):
            for sdk in NEWEST:
                cable = Cable(reactor, self._engine.worker_port)
                self.addCleanup(cable.remove)
                worker = await self.start_worker(cable.url, sdk, f"{sdk.name}-{number}")
                self.patients.append(Patient(worker, cable, random.Random(dice.random())))
        await self.steady.worker.ready(self.client)
        await _together([self._prepare(patient) for patient in self.patients])

    @property
    def engine(self) -> EngineProcess:
        return self._engine

    async def _all_ended(self) -> None:
        """After a failure, too, nothing may be left behind in the reactor."""
        calls = [call for patient in self.patients for call in patient.calls]
        await DeferredList(calls, consumeErrors=True)

    async def _prepare(self, patient: Patient) -> None:
        """
        Give a worker a trigger type of its own, bound by itself and by the steady worker, and a binding to a type of
        the steady worker.
        """
        worker, steady = patient.worker, self.steady
        await worker.worker.ready(self.client)
        await worker.do("register_type", id=_own(worker))
        await steady.do("register_type", id=_foreign(worker))
        for owner, type_id in ((worker, _own(worker)), (steady, _own(worker)), (worker, _foreign(worker))):
            await owner.do("register_trigger", key=type_id, type=type_id, function_id=owner.id("receive"))
        await self.eventually("its type is bound", lambda: self._bindings(worker, _own(worker), 2))
        await self.eventually("it is bound", lambda: self._bindings(steady, _foreign(worker), 1))

    async def _bindings(self, provider: Handle, type_id: str, count: int) -> bool:
        return len((await provider.do("events", id=type_id))["events"]) == count

    async def test_cuts(self) -> None:
        """
        However late the other side notices a cut:

        - no registration of the worker is lost, neither while the old connection is open on one side nor later;
        - an event of a type that it provides, one that it is bound to, and a request to its route come exactly once;
        - each call that was made meanwhile, by it or to it, over HTTP too, ends in time with its result or an error
          that says why; it was executed exactly once if it succeeded, and at most once if not;
        - a call that it had before the cut succeeds if it is back within L{PATIENCE} and is still working then.

        SDKs put what they send into a connection of which they do not know yet that it is cut, as does the engine, and
        nobody can tell that this was lost: such calls end when their time is over.
        """
        print(f"\n    {CUTS} cuts, seed {SEED} ...", end=" ", flush=True)
        dice = random.Random(SEED)
        sides: tuple[Side, ...] = ("worker", "engine")
        cuts = [
            Cut(dice.choice(sides), dice.uniform(0, MOST_SKEW), None if number % 3 else dice.uniform(0, MOST_AGAIN))
            for number in range(CUTS)
        ]
        dealt = [cuts[number :: len(self.patients)] for number in range(len(self.patients))]
        await _together([self._suffer(*each) for each in zip(self.patients, dealt, strict=True)])
        await _together([self._account(patient) for patient in self.patients])
        self.engine.check()
        self.assertGreater(self.survived, CUTS / 4, "too few calls had to survive their cut")

    async def _suffer(self, patient: Patient, cuts: list[Cut]) -> None:
        for cut in cuts:
            try:
                await self._cut(patient, cut)
            except Exception as error:
                raise AssertionError(f"{patient.worker.name}, {cut}, seed {SEED}: {error!r}") from error

    async def _cut(self, patient: Patient, cut: Cut) -> None:
        worker, cable, dice = patient.worker, patient.cable, patient.dice
        before = await self._registered(worker)
        traffic = Deferred.fromCoroutine(self._traffic(patient, cut.skew + 2))
        long_key, long_seconds = self.unique("long"), dice.uniform(1, 3 + cut.skew)
        asked_at = time.monotonic()
        long_call = self._call(patient, long_key, long_seconds)
        await self.eventually("the worker has the call", lambda: self._executions(worker, long_key))

        left_open = cable.cut_worker_side() if cut.first == "worker" else cable.cut_engine_side()
        cut_at = time.monotonic()

        def cut_rest() -> None:
            for end in left_open:
                end.cut()

        rest = deferLater(reactor, cut.skew, cut_rest)
        if cut.again is not None:
            await self.eventually("it connects", lambda: self._connects(cable), RETURN_SECONDS)
            await deferLater(reactor, cut.again, lambda: None)
            left_open += cable.cut_worker_side()

        async def is_back() -> bool:
            await self.client.call(worker.id("echo"), seconds=1)  # not over a connection that is dead at the other end
            return await self._registered(worker) == before

        await self.eventually("it is back", is_back, RETURN_SECONDS, ignoring=(RemoteError, AssertionError))
        back_at = time.monotonic()
        noticed_at = cut_at + (min(cut.skew, back_at - cut_at) if cut.first == "worker" else 0)
        in_time = asked_at + long_seconds > back_at and back_at - noticed_at < PATIENCE
        survives = in_time and cut.again is None
        await self._works_once(worker)
        await rest
        self.assertEqual(await self._registered(worker), before, "after the other side was cut")
        await self._works_once(worker)
        await deferLater(reactor, SETTLED_SECONDS, lambda: None)
        self.assertEqual(await self._registered(worker), before, "a while later")
        await self._works_once(worker)
        await traffic
        if survives:
            self.survived += 1
            await long_call  # before the next cut, which would be another matter
            self.assertIsNone(patient.errors[long_key], "the call before the cut")

    async def _connects(self, cable: Cable) -> bool:
        return cable.connected

    # What the worker has registered.

    async def _registered(self, worker: Handle) -> tuple[list[Any], list[Any]]:
        """Its functions and bindings as the engine lists them."""
        functions = await self.client.call("engine::functions::list", {"prefix": worker.id("")})
        bindings = await self.client.call("engine::registered-triggers::list", {"search": worker.name})
        return (
            sorted(row["function_id"] for row in functions["functions"]),
            sorted((row["id"], row["trigger_type"], row["function_id"]) for row in bindings["registered_triggers"]),
        )

    async def _works_once(self, worker: Handle) -> None:
        """What the worker provides, what it is bound to, and its route: each exactly once."""
        own, foreign, route = self.unique("own"), self.unique("foreign"), self.unique("route")
        fired = await worker.do("fire", id=_own(worker), payload={"key": own})
        self.assertEqual(len(fired["results"]), 2)
        self.assertEqual((len(await worker.received(own)), len(await self.steady.received(own))), (1, 1))
        fired = await self.steady.do("fire", id=_foreign(worker), payload={"key": foreign})
        self.assertEqual(len(fired["results"]), 1)
        self.assertEqual(len(await worker.received(foreign)), 1)
        response = await self.request("POST", f"/{worker.name}/visit", json={"key": route, "seconds": 0})
        self.assertEqual((response.code, await response.json()), (200, {"pid": worker.worker.pid}))
        self.assertEqual(await self._executions(worker, route), 1)

    # Calls around the cut.

    async def _traffic(self, patient: Patient, seconds: float) -> None:
        """Call the worker, request its route and have it call the steady worker for so many seconds."""
        key, every = self.unique("made"), 0.5
        times = round(seconds / every)
        payload = {"key": self.unique("by"), "seconds": patient.dice.uniform(0, 1)}
        request = {"function_id": self.steady.id("work"), "payload": payload, "timeout_ms": round(MADE_TIMEOUT * 1000)}
        await patient.worker.do("keep_calling", key=key, times=times, every=every, **request)
        patient.made.append((key, times))
        for _ in range(times):
            self._call(patient, self.unique("call"), patient.dice.uniform(0, 2))
            self._visit(patient, self.unique("visit"), patient.dice.uniform(0, 2))
            await deferLater(reactor, every, lambda: None)

    def _call(self, patient: Patient, key: str, seconds: float) -> Deferred[None]:
        async def call() -> None:
            try:
                await self.client.call(patient.worker.id("work"), {"key": key, "seconds": seconds})
            except RemoteError as error:
                patient.errors[key] = error.code
            else:
                patient.errors[key] = None

        patient.calls.append(Deferred.fromCoroutine(call()))
        return patient.calls[-1]

    def _visit(self, patient: Patient, key: str, seconds: float) -> None:
        async def visit() -> None:
            body = {"key": key, "seconds": seconds}
            response = await self.request("POST", f"/{patient.worker.name}/visit", json=body)
            said = await response.text()
            patient.errors[key] = None if response.code == 200 else f"{response.code} {said}"

        patient.calls.append(Deferred.fromCoroutine(visit()))

    # What has become of them.

    async def _account(self, patient: Patient) -> None:
        worker = patient.worker
        await gatherResults(patient.calls, consumeErrors=True)
        for key, error in patient.errors.items():
            self._judge(worker, key, error, await self._executions(worker, key))
        for key, times in patient.made:
            ended = partial(self._outcomes, worker, key, times)
            for outcome in await self.eventually("its calls have ended", ended, MADE_TIMEOUT + RETURN_SECONDS):
                error = outcome["error"]["code"] if "error" in outcome else None
                self._judge(worker, outcome["key"], error, await self._executions(self.steady, outcome["key"]))

    def _judge(self, worker: Handle, key: str, error: str | None, executions: int) -> None:
        text = f"{worker.name}, {key}, seed {SEED}: {error or 'ok'}, executed {executions} times"
        if error is None:
            self.assertEqual(executions, 1, text)
        else:
            self.assertLessEqual(executions, 1, text)
            self.assertTrue(error in CLEAR or error.startswith(("404 ", "50")), text)

    async def _executions(self, worker: Handle, key: str) -> int:
        return len(await worker.received(key))

    async def _outcomes(self, worker: Handle, key: str, times: int) -> list[Any] | None:
        outcomes = await worker.received(key)
        return outcomes if len(outcomes) == times else None


def _own(worker: Handle) -> str:
    return f"own-{worker.name}"


def _foreign(worker: Handle) -> str:
    return f"foreign-{worker.name}"


async def _together(coroutines: list[Awaitable[None]]) -> None:
    await gatherResults([Deferred.fromCoroutine(each) for each in coroutines], consumeErrors=True)
