"""
A worker of the queue's crash test, to be killed at any moment: C{python -m tests.integration.queue_worker PORT NAME}.

It notes what it does in the file C{deliveries} of its directory before it does it, in one write to a file that is only
appended to.  So the lines of all workers are in the order in which things happened, and nothing that an answer told the
engine is missing, whenever a worker is killed.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater

from tests.integration.engine import HOST
from tests.sdk.client import Client, RemoteError

JOB, DOOMED, TOPIC = "crash::job", "crash::doomed", "crash-events"
SUBSCRIBERS = ("crash::one", "crash::other")
DOOM = "this job never succeeds"
STARTED, SUCCEEDED, FAILED = "S", "E", "F"
MOST_SECONDS = 0.02  # of one delivery
FAILING = 0.1  # the share of deliveries that fail


def own_job(name: str) -> str:
    """Return the function that only the worker of this name has."""
    return f"{JOB}-{name}"


class QueueWorker(Client):
    """
    One connection of the worker.

    @ivar epoch: Which life of the engine it belongs to, as the test wrote it before it started the engine.
    """

    name = ""
    deliveries = -1

    def __init__(self) -> None:
        super().__init__()
        self.epoch = int(Path("epoch").read_text())
        self._under_way: set[IDelayedCall] = set()

    async def register(self) -> None:
        for function_id in (JOB, own_job(self.name), DOOMED, *SUBSCRIBERS):
            self._send(type="registerfunction", id=function_id)
        await self.call("engine::workers::register", {"runtime": "python", "name": self.name})
        for function_id in SUBSCRIBERS:
            config = {"topic": TOPIC, "queue_config": {"maxRetries": 10**6, "backoffDelayMs": 1}}
            trigger = {"id": f"{self.name}-{function_id}", "trigger_type": "durable:subscriber", "config": config}
            self._send(type="registertrigger", function_id=function_id, **trigger)

    async def ended(self) -> None:
        await self._closed

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        if message["type"] == "invokefunction":
            self._note(STARTED, message)
            call = self.factory.reactor.callLater(
                random.uniform(0.0, MOST_SECONDS), lambda: self._answer(call, message)
            )
            self._under_way.add(call)
        else:
            super().onMessage(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        for call in self._under_way:
            call.cancel()
        self._under_way.clear()
        super().onClose(wasClean, code, reason)

    def _answer(self, call: IDelayedCall, message: dict[str, Any]) -> None:
        self._under_way.discard(call)
        answer = {"invocation_id": message["invocation_id"], "function_id": message["function_id"]}
        if message["function_id"] == DOOMED or random.random() < FAILING:
            self._note(FAILED, message)
            self._send(type="invocationresult", **answer, error={"code": "invocation_failed", "message": DOOM})
        else:
            self._note(SUCCEEDED, message)
            self._send(type="invocationresult", **answer, result=None)

    def _note(self, what: str, message: dict[str, Any]) -> None:
        line = json.dumps([self.epoch, what, message["function_id"], message["data"]["key"]]) + "\n"
        os.write(self.deliveries, line.encode())

    def _send(self, **message: Any) -> None:
        self.sendMessage(json.dumps(message).encode())


async def work(reactor: Any, port: int, name: str) -> None:
    """Serve the engine, whenever it is there, until this process is killed."""
    QueueWorker.name = name
    QueueWorker.deliveries = os.open("deliveries", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    factory = WebSocketClientFactory(f"ws://{HOST}:{port}/", reactor=reactor)
    factory.protocol = QueueWorker
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
    while True:
        try:
            worker: QueueWorker = await TCP4ClientEndpoint(reactor, HOST, port).connect(factory)
            await worker.opened
            await worker.register()
            await worker.ended()
        except (ConnectError, ConnectionClosed):
            await deferLater(reactor, 0.02)
        except RemoteError as error:
            print(f"{name}: {error}", flush=True)
            await deferLater(reactor, 0.1)


def main(port: int, name: str) -> None:
    from twisted.internet import reactor

    serving = Deferred.fromCoroutine(work(reactor, port, name))
    serving.addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
