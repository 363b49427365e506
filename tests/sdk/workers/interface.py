"""
The interface of C{iii-sdk} 0.22, on which C{worker.py} is written, whatever version is installed.

What a version cannot do is missing here, or dropped: C{tests/sdk/pypi.py} says what that is.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from iii.stream import IStream, StreamSetResult
from iii.triggers import TriggerHandler

from iii import InitOptions

MINOR = int(version("iii-sdk").split(".")[1])

try:
    from iii import TriggerAction
except ImportError:  # it cannot enqueue
    TriggerAction = None

if MINOR >= 22:
    from iii.helpers import create_channel_async
    from iii_helpers.http import http
    from iii_helpers.observability import Logger

    from iii import InvocationError
elif MINOR >= 19:
    from iii.helpers import create_channel_async
    from iii_observability import Logger

    from iii import IIIInvocationError as InvocationError
    from iii import http
elif MINOR >= 11:
    from iii.errors import IIIInvocationError as InvocationError
    from iii.logger import Logger

    from iii import http

    async def create_channel_async(iii: Any) -> Any:
        return await iii.create_channel_async()

else:
    from iii.logger import Logger

    class InvocationError(Exception):
        def __init__(self, code: str, message: str, stacktrace: str | None) -> None:
            super().__init__(message)
            self.code, self.message, self.stacktrace = code, message, stacktrace

    async def create_channel_async(iii: Any) -> Any:
        return await iii.create_channel()

    try:
        from iii import http
    except ImportError:
        http = None

if MINOR >= 19:
    from iii.helpers import create_stream
else:

    def create_stream(iii: Any, name: str, stream: IStream[Any]) -> None:
        iii.create_stream(name, stream)


try:
    from iii.stream import StreamDeleteResult
except ImportError:  # what is returned is dropped

    def StreamDeleteResult(old_value: Any) -> Any:
        return None


__all__ = [
    "IStream",
    "InvocationError",
    "Logger",
    "StreamDeleteResult",
    "StreamSetResult",
    "TriggerAction",
    "TriggerHandler",
    "connect",
    "create_channel_async",
    "create_stream",
    "http",
]


def connect(url: str, name: str) -> Any:
    """Return a client that connects, or is connected, and can be used from every thread."""
    options = InitOptions(worker_name=name)
    if MINOR < 11:
        return EarlyClient(url, options)
    from iii import register_worker

    if hasattr(options, "worker_description"):
        options.worker_description = f"{name} under test"
    return register_worker(url, options)


class EarlyClient:
    """A client of a version before 0.9, which knows only the event loop of its caller, and asynchronous handlers."""

    def __init__(self, url: str, options: InitOptions) -> None:
        from iii import III

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._iii = self._on_loop(lambda: III(url, options))
        asyncio.run_coroutine_threadsafe(self._iii.connect(), self._loop).result()

    def register_function(self, id: str, handler: Callable[[Any], Any], **options: Any) -> Any:
        async def asynchronous(data: Any) -> Any:
            result = handler(data)
            return await result if inspect.isawaitable(result) else result

        known = inspect.signature(self._iii.register_function).parameters
        options = {name: value for name, value in options.items() if name in known}
        return self._on_loop(lambda: self._iii.register_function(id, asynchronous, **options))

    def register_trigger(self, trigger: dict[str, Any]) -> Any:
        arguments = (trigger["type"], trigger["function_id"], trigger.get("config"))
        return self._on_loop(lambda: self._iii.register_trigger(*arguments))

    def register_trigger_type(self, type: dict[str, str], handler: TriggerHandler[Any]) -> None:
        self._on_loop(lambda: self._iii.register_trigger_type(type["id"], type["description"], handler))

    def unregister_trigger_type(self, type: dict[str, str]) -> None:
        self._on_loop(lambda: self._iii.unregister_trigger_type(type["id"]))

    def register_service(self, service: dict[str, str]) -> None:
        self._on_loop(lambda: self._iii.register_service(service["id"], service.get("description")))

    def create_stream(self, name: str, stream: IStream[Any]) -> None:
        self._on_loop(lambda: self._iii.create_stream(name, stream))

    async def trigger_async(self, request: dict[str, Any]) -> Any:
        function_id, payload = request["function_id"], request.get("payload")
        if "action" in request:
            return self._iii.trigger_void(function_id, payload)
        try:
            return await self._iii.trigger(function_id, payload, request.get("timeout_ms", 30_000) / 1000)
        except TimeoutError as error:
            raise InvocationError("TIMEOUT", str(error), None) from error
        except Exception as error:
            sent = ast.literal_eval(str(error))  # the error of the wire, as Python writes a dict
            raise InvocationError(sent["code"], sent["message"], sent.get("stacktrace")) from error

    async def create_channel(self) -> Any:
        return await self._iii.create_channel()

    async def list_functions(self) -> Any:
        return await self._iii.list_functions()

    async def list_workers(self) -> Any:
        return await self._iii.list_workers()

    def on_functions_available(self, callback: Callable[[list[Any]], None]) -> None:
        self._iii.on_functions_available(callback)

    def shutdown(self) -> None:
        asyncio.run_coroutine_threadsafe(self._iii.shutdown(), self._loop).result()

    def _on_loop(self, action: Callable[[], Any]) -> Any:
        """Do something on the event loop, where the client sends nothing when it is used elsewhere."""
        if threading.current_thread() is self._thread:
            return action()

        async def act() -> Any:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result()
