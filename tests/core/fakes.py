"""A worker as tests move it: what it sends goes into the core, what it gets is kept as Python objects."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from iii.core.announcement import Announcement
from iii.core.engine import Engine
from iii.core.ids import new_id
from iii.core.limits import Limits
from iii.interfaces import IChannelSocket, IConnection, ITriggerProvider


def make_engine(clock: Clock, **options: Any) -> Engine:
    """Return an engine whose limits are given by their names, among its other options."""
    limits = {name: options.pop(name) for name in list(options) if name in Limits.__struct_fields__}
    return Engine(clock, Limits(**limits), **options)


def capture(case: SynchronousTestCase) -> list[dict[str, Any]]:
    """Return the list of what is logged from now on."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    case.addCleanup(globalLogPublisher.removeObserver, events.append)
    return events


@implementer(IConnection)
class FakeEdge:
    """
    Keeps what is sent.

    @ivar frames: Every message, as objects.
    @ivar ended: How the core has ended the connection: C{("close", code)} or C{"abort"}.
    """

    def __init__(self, address: str | None = "10.0.0.7") -> None:
        self.address, self.full = address, False
        self.frames: list[dict[str, Any]] = []
        self.pings = 0
        self.ended: Any = None

    def send(self, frame: bytes) -> None:
        self.frames.append(json.loads(frame))

    def ping(self) -> None:
        self.pings += 1

    def close(self, code: int | None) -> None:
        self.ended = ("close", code)

    def abort(self) -> None:
        self.ended = "abort"


class FakeWorker:
    """A connected worker."""

    def __init__(self, engine: Engine) -> None:
        self.edge = FakeEdge()
        self.connection = engine.connected(self.edge)
        self.id = self.connection.id

    def send(self, type: str, **members: Any) -> None:
        """Send one message to the engine."""
        self.connection.received(json.dumps({"type": type, **members}).encode())

    def register(self, *function_ids: str, **members: Any) -> None:
        """Register functions."""
        for function_id in function_ids:
            self.send("registerfunction", id=function_id, **members)

    def register_trigger(self, id: str, trigger_type: str = "t", function_id: str = "f", **members: Any) -> None:
        """Register a trigger."""
        self.send("registertrigger", id=id, trigger_type=trigger_type, function_id=function_id, **members)

    def provide(self, type_id: str, **members: Any) -> None:
        """Register a trigger type."""
        self.send("registertriggertype", id=type_id, **members)

    def call(self, function_id: str, data: Any = None, **members: Any) -> str:
        """Call a function and return the id of the call."""
        invocation_id = members.pop("invocation_id", None) or new_id()
        self.send("invokefunction", invocation_id=invocation_id, function_id=function_id, data=data, **members)
        return invocation_id

    def answer(self, invocation: dict[str, Any], **outcome: Any) -> None:
        """Answer a call that was received, with C{result=} or C{error=}."""
        self.send("invocationresult", **{key: invocation[key] for key in ("invocation_id", "function_id")}, **outcome)

    def received(self, type: str) -> list[dict[str, Any]]:
        """Return what came, of one type, without the type."""
        return [
            {key: value for key, value in frame.items() if key != "type"}
            for frame in self.edge.frames
            if frame["type"] == type
        ]

    def outcome(self, invocation_id: str) -> Any:
        """Return the result of a call, or its error as C{(code, message)}; fails without an answer, or with two."""
        (answer,) = (each for each in self.received("invocationresult") if each["invocation_id"] == invocation_id)
        if "error" in answer:
            return answer["error"]["code"], answer["error"]["message"]
        return answer.get("result")

    def leave(self) -> None:
        """The worker closes its connection in order."""
        self.connection.left()

    def cut(self) -> None:
        """The connection breaks off."""
        self.connection.lost()


def connect(engine: Engine, name: str | None = None, **said: Any) -> FakeWorker:
    """Return a worker that has said who it is, so that what it registers applies at once."""
    worker = FakeWorker(engine)
    worker.connection.announce(Announcement(name=name, **said))
    return worker


@implementer(ITriggerProvider)
class FakeProvider:
    """
    Provides a trigger type.

    @ivar events: What it was told: C{("register", id)} and C{("unregister", id)}.
    @ivar active: The triggers that it serves, by id.
    @ivar refusal: Raised by C{register}, when there is one.
    """

    def __init__(self, description: str = "of a test") -> None:
        self.description = description
        self.events: list[tuple[str, str]] = []
        self.active: dict[str, Any] = {}
        self.refusal: Exception | None = None

    def register(self, trigger: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.events.append(("register", trigger.id))
        self.active[trigger.id] = trigger

    def unregister(self, trigger: Any) -> None:
        self.events.append(("unregister", trigger.id))
        del self.active[trigger.id]


@implementer(IChannelSocket)
class FakeSocket:
    """
    One end of a channel.

    @ivar events: What it was told: messages as C{(payload, is_binary)}, and C{"pause"}, C{"resume"}, C{"finish"}.
    """

    def __init__(self) -> None:
        self.full = False
        self.events: list[Any] = []

    def send(self, payload: bytes, is_binary: bool) -> None:
        self.events.append((payload, is_binary))

    def pause(self) -> None:
        self.events.append("pause")

    def resume(self) -> None:
        self.events.append("resume")

    def finish(self) -> None:
        self.events.append("finish")
