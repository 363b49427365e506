"""The core and its model, taken through the same steps and compared after each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from twisted.internet.task import Clock
from zope.interface import implementer

from iii.core.announcement import Announcement
from iii.core.engine import Module
from iii.core.errors import TriggerRefused
from iii.core.invocations import Call as EngineCall
from iii.core.triggers import Trigger
from iii.interfaces import ITriggerProvider
from iii.wire.messages import ErrorBody, value_of
from tests.core.comparison import Comparison
from tests.core.fakes import FakeWorker, make_engine
from tests.core.model import CALL_TIMEOUT, GRACE, MAX_PENDING, TICK, Call, Model, Outcome, Peer, Seen, Wish

T = TypeVar("T")
Step = tuple[str, int, int, int]
"""What is done, and three numbers below eight that say to what, each modulo the number of things that there are."""

NAMESPACES = ("default", "default", "a")
FUNCTIONS = ("f", "f", "g")
KINDS = ("t", "t", "m")
TRIGGERS = ("t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7")
TICKS = (1, 1, 2, 5, 9, 11, 59, 151)


class NothingToDo(Exception):
    """There is nothing to which a step could be done."""


@implementer(ITriggerProvider)
class OwnProvider:
    """The engine's own provider of the type C{m}; like a worker it is told what its peer in the model then has."""

    description = "of a test"

    def __init__(self, view: dict[str, dict[str, Any]]) -> None:
        self._view = view

    def register(self, trigger: Trigger) -> None:
        if value_of(trigger.config) == "bad":
            raise TriggerRefused("bad")
        told = {"id": trigger.id, "trigger_type": trigger.trigger_type, "function_id": trigger.function_id}
        self._view[trigger.id] = {**told, "config": value_of(trigger.config), "namespace": trigger.namespace}

    def unregister(self, trigger: Trigger) -> None:
        del self._view[trigger.id]


class Simulation:
    """
    One engine and its workers.

    @ivar trace: What has been done, in words.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.engine = make_engine(
            self.clock, call_timeout=CALL_TIMEOUT, namespace_grace=GRACE, pending_calls_per_connection=MAX_PENDING
        )
        self.model = Model()
        self.trace: list[str] = []
        self._workers: dict[Peer, FakeWorker] = {}
        self._comparison = Comparison(self.engine, self.model, self._workers)
        self._deliveries: list[tuple[Peer, dict[str, Any]]] = []
        self._calls = 0
        self._ids: list[str] = []
        self._answers: list[tuple[Peer, str, Any]] = []
        view = self.model.module.view
        self.engine.add_module(Module("m", "m", "of a test", internal=True), trigger_types={"m": OwnProvider(view)})

    def run(self, steps: Sequence[Step]) -> None:
        """Do the steps and end everything.  What is wrong is raised with all that led to it."""
        try:
            for name, *numbers in steps:
                try:
                    getattr(self, name)(*numbers)
                except NothingToDo:
                    continue
                self._compare()
            self._end(stop=len(steps) % 2 == 0)
        except Exception as error:
            raise AssertionError("\n".join((*self.trace, f"-> {error!r}"))) from error

    def _pick(self, things: Sequence[T], number: int) -> T:
        if not things:
            raise NothingToDo
        return things[-1 - number % len(things)]

    def _worker(self, number: int) -> tuple[Peer, FakeWorker]:
        peer = self._pick(self.model.open, number)
        return peer, self._workers[peer]

    def _say(self, text: str) -> None:
        self.trace.append(f"{self.model.now:g}: {text}")

    def rest(self, *_: int) -> None:
        """Nothing is done."""
        raise NothingToDo

    # Connections.

    def connect(self, *_: int) -> None:
        """A worker connects."""
        worker, peer = FakeWorker(self.engine), Peer(f"w{len(self.model.peers)}", self.model.now)
        self._workers[peer] = worker
        self.model.peers.append(peer)
        self._say(f"{peer.name} connects")

    def announce(self, which: int, namespace: int, _: int) -> None:
        """A worker says who it is."""
        peer, worker = self._worker(which)
        chosen = self._pick(NAMESPACES, namespace)
        self._say(f"{peer.name} announces itself in {chosen}")
        worker.connection.announce(Announcement(namespace=None if chosen == "default" else chosen))
        self._see()
        self.model.announce(peer, chosen)

    def arrive(self, _: int, namespace: int, __: int) -> None:
        """A worker connects and says who it is."""
        self.connect()
        self.announce(0, namespace, 0)

    def hurry(self, *_: int) -> None:
        """A worker connects, registers a function, and calls it before it says who it is."""
        self.connect()
        self.serve(0, 0, 0)
        self.call(0, 0, 3)

    def cut(self, which: int, *_: int) -> None:
        """A connection breaks off, and the engine notices."""
        peer, worker = self._worker(which)
        self._say(f"{peer.name} is cut off")
        worker.cut()
        self._see()
        self.model.end(peer, broken=True)

    def leave(self, which: int, *_: int) -> None:
        """A worker closes its connection in order."""
        peer, worker = self._worker(which)
        self._say(f"{peer.name} leaves")
        worker.leave()
        self._see()
        self.model.end(peer, broken=False)

    def reattach(self, which: int, previous: int, token: int) -> None:
        """A worker says which connection it had before, noticed to be gone or not, mostly with its token."""
        peer, _ = self._worker(which)
        self._reattach(peer, self._pick(self.model.peers, previous), token > 0)

    def come_back(self, previous: int, token: int, registers: int) -> None:
        """A worker connects and reattaches at once, mostly one that is waited for, and mostly goes on to register."""
        away = [peer for peer in self.model.peers if peer.away is not None]
        former = self._pick(away if away and token > 1 else self.model.peers, previous)
        self.connect()
        self._reattach(self.model.peers[-1], former, token > 0)
        if registers:
            self.announce(0, registers, 0)
            self.serve(0, registers, 0)

    def _reattach(self, peer: Peer, former: Peer, token: bool) -> None:
        secret = self._workers[former if token else peer].connection.token
        self._say(f"{peer.name} reattaches to {former.name}" + ("" if token else " with a wrong token"))
        self._workers[peer].send("reattach", previous_worker_id=self._workers[former].id, reattach_token=secret)
        self._see()
        if token:
            aborted = former is not peer and former.open
            self.model.reattach(peer, former)
            assert not aborted or self._workers[former].edge.ended == "abort", f"{former.name}'s socket stays open"

    def pong(self, which: int, several: int, _: int) -> None:
        """Workers answer pings: one, or all that are suspected."""
        suspects = [peer for peer in self.model.open if peer.suspect]
        for peer in suspects if several % 2 else [self._pick(suspects, which)]:
            self._say(f"{peer.name} answers a ping")
            self._workers[peer].connection.ponged()
            peer.suspect = False

    def clog(self, which: int, *_: int) -> None:
        """A worker reads no longer what is sent to it, or reads again."""
        peer, worker = self._worker(which)
        peer.full = worker.edge.full = not peer.full
        self._say(f"{peer.name} reads {'no longer' if peer.full else 'again'}")

    def wait(self, ticks: int, *_: int) -> None:
        """Time passes."""
        self._say(f"{TICKS[ticks] * TICK:g} s pass")
        for _tick in range(TICKS[ticks]):
            self.clock.advance(TICK)
            self._see()
            self.model.tick()
            self._compare_sent()

    # Registrations.

    def _register(self, number: int, kind: str, *what: Any, **message: Any) -> None:
        peer, worker = self._worker(number)
        self._say(f"{peer.name} registers {kind} {' '.join(map(str, what))}")
        worker.send(**message)
        self._see()
        self.model.register(peer, (kind, *what))

    def serve(self, which: int, function: int, _: int) -> None:
        """A worker registers a function."""
        id = self._pick(FUNCTIONS, function)
        self._register(which, "function", id, type="registerfunction", id=id)

    def serve_no_more(self, which: int, function: int, _: int) -> None:
        """A worker withdraws a function."""
        id = self._pick(FUNCTIONS, function)
        self._register(which, "no function", id, type="unregisterfunction", id=id)

    def provide(self, which: int, kind: int, namespace: int) -> None:
        """A worker provides a trigger type."""
        id, named = self._pick(KINDS, kind), self._pick((None, None, None, "default", "a"), namespace)
        self._register(which, "type", named, id, type="registertriggertype", id=id, namespace=named)

    def provide_no_more(self, which: int, kind: int, namespace: int) -> None:
        """A worker that knows which types it provides withdraws one."""
        if self._worker(which)[0].namespace is None:
            raise NothingToDo
        id, named = self._pick(KINDS, kind), self._pick((None, None, None, "default", "a"), namespace)
        self._register(which, "no type", named, id, type="unregistertriggertype", id=id, namespace=named)

    def bind(self, which: int, trigger: int, how: int) -> None:
        """A worker registers a trigger; many of them are equal."""
        wish = self._pick(
            (
                Wish(TRIGGERS[trigger], "m", "f", "bad", "default", None),
                Wish(TRIGGERS[trigger], "m", "f", "good", "default", None),
                Wish(TRIGGERS[trigger], "t", "f", "good", "default", "a"),
                Wish(TRIGGERS[trigger], "t", "f", "good", "default", "default"),
                Wish(TRIGGERS[trigger], "t", "f", "good", "a", None),
                Wish(TRIGGERS[trigger], "t", "f", "good", "default", None),
                Wish(TRIGGERS[trigger], "t", "f", "good", "default", None),
            ),
            how,
        )
        self._register(
            which, "trigger", wish,
            type="registertrigger", id=wish.id, trigger_type=wish.kind, function_id=wish.function, config=wish.config,
            namespace=wish.namespace, trigger_namespace=wish.trigger_namespace,
        )  # fmt: skip

    def bind_no_more(self, which: int, trigger: int, _: int) -> None:
        """A worker withdraws a trigger, perhaps another one's."""
        id = TRIGGERS[trigger]
        self._register(which, "no trigger", id, type="unregistertrigger", id=id)

    def judge(self, which: int, trigger: int, verdict: int) -> None:
        """A worker that provides a type says how it took a trigger: of those that it was told of, or of any."""
        peer, worker = self._worker(which)
        id, kind = TRIGGERS[trigger], "t"
        if peer.view and verdict:
            id = self._pick(list(peer.view), trigger)
            kind = peer.view[id]["trigger_type"]
        error = {"code": "no", "message": "no"} if verdict != 1 else None
        self._say(f"{peer.name} says of trigger {id} of type {kind}: {'no' if error else 'yes'}")
        worker.send("triggerregistrationresult", id=id, trigger_type=kind, function_id="f", error=error)
        self._see()
        if error:
            self.model.refuse(peer, id, kind)

    # Calls.

    def call(self, which: int, function: int, how: int) -> None:
        """
        A worker calls a function, mostly one that there is: for its answer, under a new or a used id, or without
        wanting one.
        """
        peer, worker = self._worker(which)
        served = [(other.namespace or "", id) for other in self.model.open for id in other.functions]
        id = f"00000000-0000-4000-8000-{self._calls:012}"
        if how == 5 and self._ids:
            id = self._pick(self._ids, function)
        elif how == 6:
            id = ""
        if id:
            self._ids.append(id)
        namespace, name = NAMESPACES[how % 3], "nobody's" if how == 7 else self._pick(FUNCTIONS, function)
        if served and how in (0, 1, 4, 5, 6):
            namespace, name = self._pick(served, function)
        void = how == 4
        call = Call(self._calls, peer, "" if void else id, namespace, name)
        wanted = "" if call.id else ", wanting no answer"
        self._say(f"{peer.name} calls {name} in {namespace}: #{call.number}, id {id or 'none'}{wanted}")
        self._calls += 1
        action = {"type": "void"} if void else None
        worker.send(
            "invokefunction", invocation_id=id or None, function_id=name, namespace=namespace, action=action,
            data={"number": call.number},
        )  # fmt: skip
        self._see()
        self.model.call(call)

    def fire(self, _: int, function: int, namespace: int) -> None:
        """The engine itself calls a function."""
        name, where = self._pick(FUNCTIONS, function), self._pick(NAMESPACES, namespace)
        call = Call(self._calls, self.model.module, f"own {self._calls}", where, name)
        self._calls += 1
        self._say(f"the engine calls {name} in {where}: #{call.number}")

        def complete(_: EngineCall, result: Raw, error: ErrorBody | None) -> None:
            outcome = ("result", value_of(result)) if error is None else ("error", error.code)
            self._answers.append((self.model.module, call.id, outcome))

        data = Raw(msgspec.json.encode({"number": call.number}))
        self.engine.invoke(name, data, complete, namespace=where)
        self._see()
        self.model.call(call)

    def answer(self, which: int, by: int, how: int) -> None:
        """A call that was delivered is answered: mostly by whoever has it, with a result, an error or nonsense."""
        under_way = [call for call in self.model.calls if call.callee is not None]
        if under_way and how < 6:
            missed = [call for call in under_way if call.caller and call.caller.away is not None]
            call = self._pick(missed if missed and how % 2 else under_way, which)
            assert call.callee is not None
            peer, wire_id, number = call.callee, call.wire_id, call.number
        else:
            asked, invocation = self._pick(self._deliveries, which)
            wire_id, number = invocation["invocation_id"], invocation["data"]["number"]
            peer = asked if how == 6 else self._worker(by)[0]
        outcome: dict[str, Any] = {"result": number}
        expected: Outcome = "result", number
        if how % 3 == 2:
            outcome, expected = {"error": {"code": "own", "message": "m"}}, ("error", "own")
        elif how == 4:
            outcome, expected = {"error": {"code": 1}}, ("error", "invocation_error")
        self._say(f"{peer.name} answers {wire_id} for #{number}: {outcome}")
        self._workers[peer].send("invocationresult", invocation_id=wire_id, function_id="f", **outcome)
        self._see()
        if peer.open:
            self.model.answer(peer, wire_id, expected)

    # What is compared.

    def _see(self) -> None:
        """Take in what the engine has sent since the last time."""
        assert not self.model.seen.deliveries, f"calls were delivered that had ended: {self.model.seen.deliveries}"
        self.model.seen = Seen()
        for peer, worker in self._workers.items():
            frames, worker.edge.frames = worker.edge.frames, []
            for frame in frames:
                self._take(peer, worker, frame)

    def _take(self, peer: Peer, worker: FakeWorker, frame: dict[str, Any]) -> None:
        seen, kind = self.model.seen, frame.pop("type")
        if kind in ("invokefunction", "invocationresult"):
            assert not worker.connection.closed or peer.open, f"{kind} was sent to {peer.name}, which is gone"
        if kind == "invokefunction":
            self._deliveries.append((peer, frame))
            seen.deliveries.setdefault(frame["data"]["number"], []).append((peer, frame["invocation_id"]))
        elif kind == "invocationresult":
            error = frame.get("error")
            outcome = ("result", frame.get("result")) if error is None else ("error", error["code"])
            self._answers.append((peer, frame["invocation_id"], outcome))
        elif kind == "registertrigger":
            peer.view[frame["id"]] = frame
        elif kind == "unregistertrigger":
            assert not peer.open or frame["id"] in peer.view, f"{peer.name} is told to end {frame['id']}, unknown to it"
            peer.view.pop(frame["id"], None)
        elif kind == "triggerregistrationresult":
            seen.refusals.append((peer, frame["id"]))
        else:
            assert kind == "workerregistered", f"{peer.name} got {kind}"

    def _compare_sent(self) -> None:
        """Everybody got the answers that they had to get, and no calls but those of the model."""
        model = self.model
        expected, model.answers = Counter((peer.name, *answer) for peer, *answer in model.answers), []
        got = Counter((peer.name, *answer) for peer, *answer in self._answers)
        assert got == expected, f"answers: too many {got - expected}, missing {expected - got}"
        assert not model.seen.deliveries, f"calls were delivered that had ended: {model.seen.deliveries}"
        self._answers = []

    def _compare(self) -> None:
        self._see_nothing_more()
        self._compare_sent()
        self._comparison.everything()

    def _see_nothing_more(self) -> None:
        for peer, worker in self._workers.items():
            late = [frame["type"] for frame in worker.edge.frames if frame["type"] != "workerregistered"]
            assert not late, f"{peer.name} got {late}"

    def _end(self, stop: bool) -> None:
        """All connections go, time passes or the engine stops, and nothing is left."""
        while self.model.open:
            (self.cut if len(self.model.open) % 3 else self.leave)(0)
            self._compare()
        if stop:
            self._say("the engine stops")
            self.engine.close()
            self._see()
            self.model.stop()
            self._compare()
        else:
            self.wait(len(TICKS) - 1)
            self._compare()
        waiting = [call.number for call in self.model.calls if call.caller or call.callee]
        assert not waiting, f"calls {waiting} have no end"
        self._comparison.nothing_left()
        timers = self.clock.getDelayedCalls()
        assert not timers, f"still to come: {timers}"
