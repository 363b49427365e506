"""
A worker is cut off, and comes back: a thousand times, with its two sides noticing at any time within five seconds.

Workers do what the SDKs do (spec/worker-protocol.md, 2 and 15): they connect again after one to two seconds, name their
former connection or, being old, do not, register everything again in the SDK's order, and send what they could not.
Meanwhile calls are under way in both directions, and triggers fire.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import count
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from iii.core.announcement import Announcement
from iii.core.engine import Engine
from iii.core.reattach import ANSWER_TIMEOUT, PATIENCE
from iii.interfaces import IConnection
from tests.core.fakes import make_engine

LATENCY = 0.01
"""Seconds that a frame takes in either direction."""
MAX_SKEW = 5.0
MAX_WORK = 4.0
"""Seconds that a function takes."""
BOUND = MAX_WORK + MAX_SKEW + 2.0 + ANSWER_TIMEOUT * 1.005 + 0.1
"""
Seconds in which a call ends, whatever is cut: its worker is cut off while it works, notices, connects, and then has the
time for an answer that the cut may have swallowed.
"""


@implementer(IConnection)
class Link:
    """
    One connection, between a process and the core.

    @ivar broken: From now on nothing gets through, though perhaps neither side knows it yet.
    @ivar answers: The ids of the calls whose outcome the core has sent, whether it got through or not.
    @ivar calls: The ids of the calls that have reached the core.
    """

    address, full = "10.0.0.7", False

    def __init__(self, process: Process) -> None:
        self.broken = False
        self.answers: list[str] = []
        self.calls: list[str] = []
        self._process, self._clock = process, process.clock
        self.connection = process.engine.connected(self)

    def send(self, frame: bytes) -> None:
        message = json.loads(frame)
        if message["type"] == "invocationresult":
            self.answers.append(message["invocation_id"])
        self._clock.callLater(LATENCY, self._arrive, message)

    def _arrive(self, message: dict[str, Any]) -> None:
        if not self.broken:
            self._process.received(message)

    def ping(self) -> None:
        self._clock.callLater(2 * LATENCY, lambda: None if self.broken else self.connection.ponged())

    def close(self, code: int | None) -> None:
        self.broken = True

    def abort(self) -> None:
        self.broken = True

    def to_engine(self, message: dict[str, Any]) -> None:
        """Send one message of the worker."""
        self._clock.callLater(LATENCY, self._reach, message)

    def _reach(self, message: dict[str, Any]) -> None:
        if self.broken:
            return
        if message["type"] == "announce":
            self.connection.announce(Announcement(name=message["name"]))
            return
        if message["type"] == "invokefunction" and message["invocation_id"]:
            self.calls.append(message["invocation_id"])
        self.connection.received(json.dumps(message).encode())


class Process:
    """
    A worker with its SDK.

    @ivar registrations: What it registers on every connection, trigger types first, then functions, then triggers.
    @ivar done: How often each piece of work has been done, by all processes.
    @ivar answered: When the outcomes of its calls came, by id.
    @ivar view: The triggers that it has been told of, by id.
    """

    _ids = count()

    def __init__(
        self, engine: Engine, clock: Clock, done: Counter[int], name: str, *registrations: dict[str, Any]
    ) -> None:
        self.engine, self.clock, self.name = engine, clock, name
        self.registrations, self.done = registrations, done
        self.reattaches = self.announces_first = True
        self.links: list[Link] = []
        self.answered: dict[str, list[float]] = {}
        self.made: dict[str, float] = {}
        self.view: dict[str, dict[str, Any]] = {}
        self.online = False
        self._queue: list[dict[str, Any]] = []

    @property
    def link(self) -> Link:
        return self.links[-1]

    def connect(self) -> None:
        """Connect, and send what the SDK sends first."""
        former = self.links[-1].connection if self.links else None
        self.links.append(Link(self))
        self.online, self.view = True, {}
        announcement = {"type": "announce", "name": self.name}
        if former is not None and self.reattaches:
            self.send({"type": "reattach", "previous_worker_id": former.id, "reattach_token": former.token})
        if self.announces_first:
            self.send(announcement)
        queue, self._queue = self._queue, []
        for message in (*self.registrations, *queue):
            self.send(message)
        if not self.announces_first:
            self.send(announcement)

    def disconnected(self) -> None:
        """Its side of the connection has closed."""
        self.online = False

    def send(self, message: dict[str, Any]) -> None:
        """Send one message, now or when there is a connection."""
        if self.online:
            self.link.to_engine(message)
        else:
            self._queue.append(message)

    def call(self, function_id: str, data: dict[str, Any], *, void: bool = False) -> str:
        """Call a function."""
        id = f"00000000-0000-4000-8000-{next(self._ids):012}"
        if not void:
            self.made[id] = self.clock.seconds()
        self.send(
            {"type": "invokefunction", "function_id": function_id, "data": data, "invocation_id": None if void else id}
        )
        return id

    def received(self, message: dict[str, Any]) -> None:
        """Act on one message of the engine."""
        kind, id = message["type"], message.get("id", "")
        if kind == "invokefunction":
            self.done[message["data"]["work"]] += 1
            self.clock.callLater(message["data"]["seconds"], self._finish, message["invocation_id"])
        elif kind == "invocationresult":
            self.answered.setdefault(message["invocation_id"], []).append(self.clock.seconds())
        elif kind == "registertrigger":
            self.view[id] = message
        elif kind == "unregistertrigger":
            del self.view[id]

    def _finish(self, invocation_id: str) -> None:
        self.send({"type": "invocationresult", "invocation_id": invocation_id, "function_id": "", "result": self.name})


def function(id: str) -> dict[str, Any]:
    return {"type": "registerfunction", "id": id}


def trigger_type(id: str) -> dict[str, Any]:
    return {"type": "registertriggertype", "id": id, "description": ""}


def trigger(id: str, trigger_type: str, function_id: str) -> dict[str, Any]:
    return {"type": "registertrigger", "id": id, "trigger_type": trigger_type, "function_id": function_id, "config": {}}


class World:
    """
    An engine with a worker that is cut off, its replica, a provider of a trigger type, and a caller.

    @ivar in_time: The worker has always been back in time to go on with its calls.
    @ivar trace: What has happened, in words.
    """

    def __init__(self, random: Random) -> None:
        self.random, self.clock = random, Clock()
        self.engine = make_engine(self.clock)
        self.done: Counter[int] = Counter()
        self.expected: list[int] = []
        self.in_time = True
        self.trace: list[str] = []
        self._work = count()
        self.provider = self._process("provider", trigger_type("fires"))
        self.worker = self._process(
            "worker", trigger_type("own"), function("worker"), function("both"), trigger("w1", "fires", "both"),
            trigger("w2", "fires", "worker"),
        )  # fmt: skip
        self.replica = self._process(
            "replica", function("replica"), function("both"), trigger("r1", "fires", "both"),
            trigger("r2", "own", "replica"),
        )  # fmt: skip
        self.caller = self._process("caller")
        self.worker.reattaches = random.random() < 0.7
        self.worker.announces_first = random.random() < 0.5
        self._say(f"worker reattaches: {self.worker.reattaches}, announces first: {self.worker.announces_first}")

    def _process(self, name: str, *registrations: dict[str, Any]) -> Process:
        return Process(self.engine, self.clock, self.done, name, *registrations)

    def _say(self, text: str) -> None:
        self.trace.append(f"{self.clock.seconds():.2f}: {text}")

    def run_until(self, end: float) -> None:
        """Let everything happen, each thing at its time."""
        clock = self.clock
        while clock.getDelayedCalls() and (then := min(call.getTime() for call in clock.getDelayedCalls())) <= end:
            clock.advance(then - clock.seconds())
        clock.advance(max(0.0, end - clock.seconds()))

    def live(self) -> None:
        """Let the worker be cut off once or twice, and check what must hold then and later."""
        random = self.random
        for process in random.sample((self.provider, self.worker, self.replica, self.caller), 4):
            process.connect()
        self.run_until(1.0)
        self.check_everything_works()
        for _ in range(random.choice((1, 1, 2))):
            self.cut()
        self.run_until(self.clock.seconds() + MAX_SKEW)
        self.check_everything_works()
        self.run_until(self.clock.seconds() + BOUND + MAX_WORK)
        self.check_everything_works()
        self.run_until(self.clock.seconds() + 1)
        self.check_calls()
        self.check_tables()

    def cut(self) -> None:
        """Cut the worker off among calls, and let it come back."""
        random, clock, link = self.random, self.clock, self.worker.link
        cut = clock.seconds() + random.uniform(0, 3)
        worker_notices, engine_notices = cut + random.uniform(0, MAX_SKEW), cut + random.uniform(0, MAX_SKEW)
        back = worker_notices + random.uniform(1, 2)
        in_order = random.random() < 0.1
        self.in_time &= not in_order and back + LATENCY < engine_notices + PATIENCE
        self._say(f"cut at {cut:.2f}; worker: {worker_notices:.2f}, back {back:.2f}; engine: {engine_notices:.2f}")
        for _ in range(random.randrange(6)):
            seconds = random.uniform(0, MAX_WORK)
            who, whom = random.choice(((self.caller, "worker"), (self.caller, "both"), (self.worker, "replica")))
            when = random.uniform(clock.seconds(), back + 1)
            clock.callLater(when - clock.seconds(), self._call, who, whom, seconds)
        clock.callLater(cut - clock.seconds(), setattr, link, "broken", True)
        clock.callLater(worker_notices - clock.seconds(), self.worker.disconnected)
        ended = link.connection.left if in_order else link.connection.lost
        clock.callLater(engine_notices - clock.seconds(), ended)
        self.run_until(back)
        self.worker.connect()
        self.run_until(back + 2 * LATENCY)
        for _ in range(3):
            self.run_until(clock.seconds() + random.uniform(0.1, 2))
            self.check_everything_works()

    def _call(self, caller: Process, function_id: str, seconds: float) -> None:
        work = next(self._work)
        self._say(f"{caller.name} calls {function_id}, work {work}, {seconds:.2f} s")
        caller.call(function_id, {"work": work, "seconds": seconds})

    def check_everything_works(self) -> None:
        """The connected worker gets calls and answers at once, and every trigger fires, once."""
        calls, before = [], self.clock.seconds()
        for caller, called in (self.caller, "worker"), (self.caller, "both"), (self.worker, "replica"):
            self.expected.append(work := next(self._work))
            calls.append((caller, caller.call(called, {"work": work, "seconds": 0.0})))
        bound = Counter(told["function_id"] for told in self.provider.view.values())
        assert bound == {"both": 1, "worker": 1}, f"the provider knows {sorted(self.provider.view)}"
        assert list(self.worker.view) == ["r2"], f"the worker provides {sorted(self.worker.view)}"
        for provider in (self.provider, self.worker):
            for told in provider.view.values():
                self.expected.append(work := next(self._work))
                provider.call(told["function_id"], {"work": work, "seconds": 0.0}, void=True)
        self.run_until(before + 5 * LATENCY)
        for caller, call in calls:
            assert len(caller.answered.get(call, ())) == 1, f"{caller.name} has no answer to {call}"
        assert all(self.done[work] == 1 for work in self.expected), "something was not done, or twice"

    def check_calls(self) -> None:
        """Every call has had one outcome, in time; nothing was done twice."""
        assert max(self.done.values()) == 1, f"done twice: {self.done}"
        for call, made in self.caller.made.items():
            answered = self.caller.answered.get(call, [])
            assert len(answered) == 1, f"the caller got {len(answered)} answers to {call}"
            assert answered[0] - made <= BOUND, f"{call} took {answered[0] - made} s"
        links = self.worker.links
        answers, reached = (
            Counter(id for link in links for id in link.answers),
            {id for link in links for id in link.calls},
        )
        for call in self.worker.made:
            once = call in reached and self.in_time and self.worker.reattaches
            assert answers[call] == 1 or not once and answers[call] == 0, f"{answers[call]} answers to {call} were sent"
            assert len(self.worker.answered.get(call, ())) <= 1, f"the worker got two answers to {call}"

    def check_tables(self) -> None:
        """Registered is what live connections have registered; nothing is under way."""
        engine = self.engine
        worker, replica = self.worker.link.connection, self.replica.link.connection
        assert engine.unanswered() == 0 and not list(engine.broken_off), "calls are still under way"
        owners = {each.id: set(getattr(each, "owners", ())) for each in engine.functions}
        assert owners == {"worker": {worker}, "replica": {replica}, "both": {worker, replica}}, owners
        triggers = {each.id: each.owner for each in engine.triggers.all()}
        assert triggers == {"w1": worker, "w2": worker, "r1": replica, "r2": replica}, triggers
        assert len(engine.connections) == 4, "a connection is left"


class CutTests(SynchronousTestCase):
    def test_cuts(self) -> None:
        """No registration is lost, no call hangs, nothing is done or answered twice, whoever notices a cut when."""
        for seed in range(1000):
            world = World(Random(seed))
            try:
                world.live()
                self.assertEqual(self.flushLoggedErrors(), [])
            except Exception as error:
                raise AssertionError("\n".join((f"seed {seed}", *world.trace, f"-> {error!r}"))) from error
