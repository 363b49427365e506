"""
A worker on a published Python SDK: C{worker.py ENGINE_URL NAME}.

It offers the functions C{NAME::echo} and so on, and is told what else to do by calls of them.  It runs in the SDK's own
environment, where only C{interface.py} beside it can be imported.  C{worker.mjs} is the same program for Node.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import time
from collections import defaultdict
from typing import Any

from interface import (
    InvocationError,
    IStream,
    Logger,
    StreamDeleteResult,
    StreamSetResult,
    TriggerAction,
    TriggerHandler,
    connect,
    create_channel_async,
    create_stream,
    http,
)

PIECES = (1, 1000, 65536, 100_000)  # bytes; SDKs cut at 64 KiB


class Provider(TriggerHandler[Any]):
    """Keeps the bindings of one trigger type, and what it was told about them.  Refuses all when given a reason."""

    def __init__(self, refusal: str | None) -> None:
        self.refusal = refusal
        self.events: list[dict[str, Any]] = []
        self.bindings: dict[str, Any] = {}

    async def register_trigger(self, config: Any) -> None:
        self.events.append(
            {
                "event": "register",
                "id": config.id,
                "function_id": config.function_id,
                "config": config.config,
                "metadata": getattr(config, "metadata", None),
            }
        )
        if self.refusal:
            raise ValueError(self.refusal)
        self.bindings[config.id] = config

    async def unregister_trigger(self, config: Any) -> None:
        self.events.append({"event": "unregister", "id": config.id})
        self.bindings.pop(config.id, None)


class Notes(IStream[Any]):
    """A stream that this worker keeps; what it is asked to set it keeps under C{kept}."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Any] = {}

    async def get(self, given: Any) -> Any:
        return self.items.get((given.group_id, given.item_id))

    async def set(self, given: Any) -> Any:
        old = self.items.get((given.group_id, given.item_id))
        self.items[given.group_id, given.item_id] = new = {"kept": given.data}
        return StreamSetResult(old_value=old, new_value=new)

    async def delete(self, given: Any) -> Any:
        return StreamDeleteResult(old_value=self.items.pop((given.group_id, given.item_id), None))

    async def list(self, given: Any) -> Any:
        return [value for (group, _), value in self.items.items() if group == given.group_id]

    async def list_groups(self, given: Any) -> Any:
        return sorted({group for group, _ in self.items})

    async def update(self, given: Any) -> Any:
        """Never called: newer SDKs do not register it, and tests do not update with older ones."""
        raise NotImplementedError


class Worker:
    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.iii = connect(url, name)
        self.registered: dict[str, Any] = {}
        self.providers: dict[str, Provider] = {}
        self.received: defaultdict[str, list[Any]] = defaultdict(list)
        self.gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def start(self) -> None:
        for handler in (
            *(self.nothing, self.metadata_of, self.process, self.fail, self.slow, self.generate, self.call),
            *(self.receive, self.watch, self.log, self.received_by),
            *(self.work, self.attempt, self.wanted, self.visit, self.keep_calling),
            *(self.write_channel, self.read_channel, self.push, self.pull),
            *(self.register_function, self.register_trigger, self.unregister, self.register_type, self.unregister_type),
            *(self.register_service, self.list, self.watch_functions),
            *(self.events, self.fire, self.open_gate, self.answer, self.keep_stream),
        ):
            self.iii.register_function(f"{self.name}::{handler.__name__}", handler)
        for handler in (self.upload, self.pieces, self.no_content, self.value, self.late) if http else ():
            self.iii.register_function(f"{self.name}::{handler.__name__}", http(handler))
            self._route("POST", handler.__name__)
        self._route("GET", "answer", "/:id/parts/:part")
        self._route("POST", "answer")
        self._route("GET", "fail")
        self._route("POST", "visit")
        # The last: when it can be called, the rest is there too.
        self.iii.register_function(
            f"{self.name}::echo",
            self.echo,
            description="Returns what it gets",
            metadata={"team": "tests"},
            request_format={"type": "object", "title": "Anything"},
        )

    def _route(self, method: str, function: str, parameters: str = "") -> None:
        config = {"api_path": f"/{self.name}/{function}{parameters}", "http_method": method}
        self.iii.register_trigger({"type": "http", "function_id": f"{self.name}::{function}", "config": config})

    # Calls

    async def echo(self, data: Any) -> Any:
        return data

    async def nothing(self, data: Any) -> None:
        return None

    async def metadata_of(self, data: Any, metadata: Any = None) -> Any:
        return {"metadata": metadata}

    async def process(self, data: Any) -> Any:
        return {"pid": os.getpid()}

    def fail(self, data: Any) -> None:
        raise ValueError(data.get("message", "failed as told"))

    async def slow(self, data: Any) -> Any:
        self.received["slow"].append(data["seconds"])
        await asyncio.sleep(data["seconds"])
        return {"slept": data["seconds"]}

    async def generate(self, data: Any) -> Any:
        return {"text": "x" * data["bytes"]}

    async def call(self, data: Any) -> Any:
        """Call what C{data} says and return C{result}, or C{error} as the SDK raised it."""
        request = {key: data[key] for key in ("function_id", "payload", "metadata", "timeout_ms") if key in data}
        if data.get("void"):
            request["action"] = {"type": "void"}
        if "enqueue" in data:
            request["action"] = TriggerAction.Enqueue(queue=data["enqueue"])
        try:
            result = await self.iii.trigger_async(request)
            return {"result": result.model_dump() if "enqueue" in data and not isinstance(result, dict) else result}
        except InvocationError as error:
            return {"error": {"code": error.code, "message": error.message, "stacktrace": error.stacktrace}}

    async def receive(self, data: Any, metadata: Any = None) -> None:
        """Keep the payload, and the metadata, under the payload's C{key}."""
        self.received[data["key"]].append({"data": data, "metadata": metadata})

    async def watch(self, data: Any) -> None:
        """Keep an event of the engine, which cannot name a key."""
        self.received["watch"].append({"data": data})

    async def log(self, data: Any) -> None:
        """Write a log record with the SDK's logger."""
        getattr(Logger(), data["level"])(data["message"], data["data"])

    async def received_by(self, data: Any) -> Any:
        return {"received": self.received[data["key"]]}

    async def work(self, data: Any) -> Any:
        """Note under C{key}, and in the log, that this is executed; take some time; say which process it was."""
        self.received[data["key"]].append("work")
        print("executing", data["key"], flush=True)
        await asyncio.sleep(data["seconds"])
        return {"pid": os.getpid()}

    async def attempt(self, data: Any) -> None:
        """Note C{n} and the time under C{key}, wait for C{gate}, and fail at the first C{failures} attempts of C{n}."""
        notes = self.received[data["key"]]
        notes.append({"n": data["n"], "at_ms": time.monotonic() * 1000})
        attempts = sum(note["n"] == data["n"] for note in notes)
        await asyncio.sleep(data.get("seconds", 0))
        if "gate" in data:
            await self._gate(data["gate"])
        if attempts <= data.get("failures", 0):
            raise ValueError(f"attempt {attempts} of {data['n']} fails as told")

    async def wanted(self, data: Any) -> Any:
        """Say what C{wanted} says, as a condition does."""
        return data["wanted"]

    async def visit(self, request: Any) -> Any:
        """Like C{work}, for HTTP: key and time come in the body."""
        return {"status_code": 200, "headers": {}, "body": await self.work(request["body"])}

    async def keep_calling(self, data: Any) -> None:
        """
        From now on call a function C{times} times, one call C{every} so many seconds, and keep under C{key} how each
        has ended.  In the payload of each call, C{key} has the number of the call behind it.
        """
        self._task = asyncio.create_task(self._keep_calling(data))

    async def _keep_calling(self, data: Any) -> None:
        calls = []
        for number in range(data["times"]):
            calls.append(asyncio.create_task(self._call_numbered(data, number)))
            await asyncio.sleep(data["every"])
        await asyncio.gather(*calls)

    async def _call_numbered(self, data: Any, number: int) -> None:
        payload = {**data["payload"], "key": f"{data['payload']['key']}-{number}"}
        outcome = await self.call({**data, "payload": payload})
        self.received[data["key"]].append({"key": payload["key"], **outcome})

    # Channels

    async def write_channel(self, data: Any) -> Any:
        return await _write(data["writer"], data["bytes"])

    async def read_channel(self, data: Any) -> Any:
        return await _read(data["reader"])

    async def push(self, data: Any) -> Any:
        """Make a channel, hand its reader to a function and write to it."""
        channel = await create_channel_async(self.iii)
        request = {"function_id": data["function_id"], "payload": {"reader": channel.reader_ref.model_dump()}}
        received, sent = await asyncio.gather(self.iii.trigger_async(request), _write(channel.writer, data["bytes"]))
        return {"sent": sent, "received": received}

    async def pull(self, data: Any) -> Any:
        """Make a channel, hand its writer to a function and read what that writes."""
        channel = await create_channel_async(self.iii)
        payload = {"writer": channel.writer_ref.model_dump(), "bytes": data["bytes"]}
        request = {"function_id": data["function_id"], "payload": payload}
        sent, received = await asyncio.gather(self.iii.trigger_async(request), _read(channel.reader))
        return {"sent": sent, "received": received}

    # Registrations

    async def register_function(self, data: Any) -> Any:
        handler = getattr(self, data.get("handler", "echo"))
        self.registered[data["id"]] = self.iii.register_function(data["id"], handler)

    async def register_trigger(self, data: Any) -> Any:
        trigger = {key: data[key] for key in ("type", "function_id", "config", "metadata") if key in data}
        self.registered[data["key"]] = self.iii.register_trigger(trigger)

    async def unregister(self, data: Any) -> Any:
        self.registered.pop(data["key"]).unregister()

    async def register_type(self, data: Any) -> Any:
        self.providers[data["id"]] = provider = Provider(data.get("refusal"))
        self.iii.register_trigger_type({"id": data["id"], "description": data.get("description", "")}, provider)

    async def unregister_type(self, data: Any) -> Any:
        self.iii.unregister_trigger_type({"id": data["id"], "description": ""})

    async def register_service(self, data: Any) -> Any:
        self.iii.register_service({"id": data["id"], "description": "of a test"})

    async def events(self, data: Any) -> Any:
        return {"events": self.providers[data["id"]].events}

    async def fire(self, data: Any) -> Any:
        """Call the functions bound to a trigger type, as its provider."""
        results = []
        for binding in list(self.providers[data["id"]].bindings.values()):
            request = {"function_id": binding.function_id, "payload": data["payload"]}
            metadata = getattr(binding, "metadata", None)
            results.append(await self.iii.trigger_async({**request, "metadata": metadata}))
        return {"results": results}

    async def keep_stream(self, data: Any) -> None:
        """From now on keep a stream."""
        create_stream(self.iii, data["name"], Notes())

    # Listings

    async def list(self, data: Any) -> Any:
        """List by a method that old SDKs have."""
        rows = await getattr(self.iii, data["method"])()
        return {"rows": [row.model_dump() for row in rows]}

    async def watch_functions(self, data: Any) -> Any:
        """Keep the ids of the functions that there are, each time that some come or go."""
        keep = self.received["functions"].append
        self.iii.on_functions_available(lambda rows: keep([row.function_id for row in rows]))

    # HTTP

    async def answer(self, request: Any) -> Any:
        """Answer with what the request object says."""
        said = {key: request[key] for key in ("method", "path", "path_params", "query_params", "headers", "body")}
        return {"status_code": 201, "headers": {"x-worker": self.name}, "body": said}

    async def upload(self, request: Any, response: Any) -> None:
        """Answer with the size and the digest of the body."""
        body = await request.request_body.read_all()
        await response.status(202)
        await response.headers({"content-type": "text/plain", "x-worker": self.name})
        await response.writer.write(f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode())
        response.close()

    async def pieces(self, request: Any, response: Any) -> None:
        """Write C{first}, and C{second} once the gate named in the query is open."""
        await response.status(200)
        await response.headers({"content-type": "text/event-stream"})
        await response.writer.write(b"first")
        gate = request.query_params["gate"]
        await self._gate(gate)
        try:
            await response.writer.write(b"second")
            response.close()
        finally:
            self.received[gate].append("done")

    async def no_content(self, request: Any, response: Any) -> None:
        await response.status(204)
        response.close()

    async def value(self, request: Any, response: Any) -> Any:
        """Return the answer instead of writing it."""
        return {"status_code": 203, "body": {"parsed": request.body}}

    async def late(self, request: Any, response: Any) -> None:
        """Open the response only when the gate named in the query is open, and tell under its name how that went."""
        gate = request.query_params["gate"]
        self.received[gate].append("waiting")
        await self._gate(gate)
        try:
            await response.status(200)
            await response.writer.write(b"late")
            response.close()
        finally:
            self.received[gate].append("done")

    async def open_gate(self, data: Any) -> Any:
        self.gates[data["gate"]].set()

    async def _gate(self, name: str) -> None:
        await asyncio.wait_for(self.gates[name].wait(), 20)


async def _write(writer: Any, size: int) -> Any:
    digest, left, turn = hashlib.sha256(), size, 0
    await writer.send_message_async("begin")
    while left:
        piece = os.urandom(min(left, PIECES[turn % len(PIECES)]))
        await writer.write(piece)
        digest.update(piece)
        left, turn = left - len(piece), turn + 1
    await writer.send_message_async("end")
    await writer.close_async()
    return {"bytes": size, "sha256": digest.hexdigest(), "texts": ["begin", "end"]}


async def _read(reader: Any) -> Any:
    digest, size = hashlib.sha256(), 0
    texts: list[str] = []
    reader.on_message(texts.append)
    async for piece in reader:
        digest.update(piece)
        size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest(), "texts": texts}


def main() -> None:
    url, name = sys.argv[1:]
    stopping = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    worker = Worker(url, name)
    worker.start()
    signal.sigwait(stopping)
    worker.iii.shutdown()


main()
