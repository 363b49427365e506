"""Calls from a worker of one SDK to a worker of another."""

from __future__ import annotations

from typing import Any

from tests.sdk.client import RemoteError
from tests.sdk.contract import Needs, OneSdk, PairOfSdks, needs, on_each_pair, on_each_sdk
from tests.sdk.sdk import MIB, Ability

VALUES = {
    "text": 'grüße, 你好, 🙂 " \\ \u2028 \x00',
    "numbers": [0, -1, 2**53 - 1, 0.1, 1e300, -1.5e-7],
    "nested": {"list": [[], {}, [None, True, False]], "": "empty key"},
    "null": None,
}

# What a stack trace has in it.
TRACES = {
    "python": ("out of ünits", "worker.py"),
    "node": ("out of ünits", "worker.mjs"),
    "rust": ("iii_sdk::",),
}


class CallsContract(PairOfSdks):
    async def test_values(self) -> None:
        """Any JSON arrives as it was sent, in both directions; objects name their caller."""
        echo = self.other.id("echo")
        answer = await self.one.call(echo, payload=VALUES)
        caller = answer.pop("_caller_worker_id")
        self.assertEqual(answer, VALUES)
        self.assertEqual(caller, await self._worker_id(self.one.name))
        for value in ([1, "two"], "text", 7, False):
            self.assertEqual(await self.one.call(echo, payload=value), value)

    async def test_no_values(self) -> None:
        """A call without a payload and a handler that returns nothing both mean null."""
        self.assertIsNone(await self.one.call(self.other.id("echo")))
        self.assertIsNone(await self.one.call(self.other.id("nothing"), payload={"key": 1}))

    @needs(Ability.CALL_METADATA)
    async def test_metadata(self) -> None:
        """The metadata of a call reaches the handler beside the payload."""
        answer = await self.one.call(self.other.id("metadata_of"), payload={}, metadata={"tenant": "a", "n": [1]})
        self.assertEqual(answer, {"metadata": {"tenant": "a", "n": [1]}})

    async def test_error(self) -> None:
        """What a handler raises reaches the caller with code and message."""
        error = await self._error(self.other.id("fail"), payload={"message": "out of ünits"})
        self.assertEqual((error["code"], error["message"]), ("invocation_failed", self._message("out of ünits")))

    @needs(Ability.STACK_TRACES)
    async def test_stack_trace(self) -> None:
        """The stack trace of what a handler raises reaches the caller, too."""
        error = await self._error(self.other.id("fail"), payload={"message": "out of ünits"})
        for part in TRACES[self.other.sdk.runtime]:
            self.assertIn(part, error["stacktrace"])

    async def test_no_such_function(self) -> None:
        """A function that nobody has registered is an error at once."""
        missing = self.other.id(self.unique("missing"))
        error = await self._error(missing, payload={})
        self.assertEqual(error["code"], "function_not_found")
        self.assertEqual(error["message"], f"Function {missing} not found in namespace default.")

    async def test_timeout(self) -> None:
        """The caller's SDK gives up by itself; the late answer disturbs neither side."""
        error = await self._error(self.other.id("slow"), payload={"seconds": 0.4}, timeout_ms=100)
        if self.one.sdk.can(Ability.CODED_ERRORS):
            self.assertEqual(error["code"], "TIMEOUT")
            self.assertIn("invocation timed out", error["message"])
        # Begun after the first and as long: it ends after the late answer has come.
        self.assertEqual(await self.one.call(self.other.id("slow"), payload={"seconds": 0.4}), {"slept": 0.4})

    async def test_void(self) -> None:
        """A call without an answer is carried out once, with its payload."""
        received = await self._receive_void()
        self.assertEqual(received["data"]["n"], 1)

    @needs(Ability.CALL_METADATA)
    async def test_void_metadata(self) -> None:
        """A call without an answer carries metadata, too."""
        received = await self._receive_void(metadata={"m": 1})
        self.assertEqual((received["data"]["n"], received["metadata"]), (1, {"m": 1}))

    async def test_void_error(self) -> None:
        """A failing call without an answer, or one to nobody, disturbs neither side."""
        await self.one.call(self.other.id("fail"), payload={}, void=True)
        await self.one.call(self.other.id("missing"), payload={}, void=True)
        self.assertEqual(await self.one.call(self.other.id("echo"), payload=["still", "here"]), ["still", "here"])

    async def test_large_result(self) -> None:
        """A result as large as the caller can take arrives; a larger one is an error, and the caller stays."""
        limit = self.one.sdk.max_message_bytes
        size = min(limit, 4 * MIB) * 9 // 10
        answer = await self.one.call(self.other.id("generate"), payload={"bytes": size})
        self.assertEqual(len(answer["text"]), size)
        if limit < 4 * MIB:
            before = await self._worker_id(self.one.name)
            error = await self._error(self.other.id("generate"), payload={"bytes": limit + 1})
            self.assertEqual(error["code"], "payload_too_large")
            self.assertEqual(await self._worker_id(self.one.name), before)

    async def _receive_void(self, **options: Any) -> Any:
        """Have the one call the other without an answer, and return the only thing that comes."""
        key = self.unique("void")
        request = {"payload": {"key": key, "n": 1}, **options}
        self.assertIsNone(await self.one.call(self.other.id("receive"), void=True, **request))
        await self.eventually("the void call has come", lambda: self.other.received(key))
        await self.one.call(self.other.id("echo"), payload={})
        (received,) = await self.other.received(key)
        return received

    def _message(self, text: str) -> str:
        """Return what becomes of the text of an error in the other's SDK."""
        return self.other.sdk.error_prefix + text

    async def _error(self, function_id: str, **request: Any) -> Any:
        """Return the error with which a call of the one to the other ends."""
        answer = await self.one.do("call", function_id=function_id, **request)
        self.assertIn("error", answer)
        return answer["error"]

    async def _worker_id(self, name: str) -> str:
        worker_id: str = (await self.client.call("engine::workers::info", {"name": name}))["worker"]["id"]
        return worker_id


class PayloadContract(OneSdk):
    async def test_large_payload(self) -> None:
        """A payload as large as the worker can take is delivered."""
        size = min(self.sdk.max_message_bytes, 4 * MIB) * 9 // 10
        answer = await self.client.call(self.worker.id("echo"), {"text": "x" * size})
        self.assertEqual(len(answer["text"]), size)

    async def test_too_large_payload(self) -> None:
        """A payload too large for the worker is refused to the caller, instead of costing the worker its connection."""
        if self.sdk.max_message_bytes > 4 * MIB:
            answer = await self.client.call(self.worker.id("echo"), {"text": "x" * 4 * MIB})
            self.assertEqual(len(answer["text"]), 4 * MIB)
            return
        with self.assertRaises(RemoteError) as caught:
            await self.client.call(self.worker.id("echo"), {"text": "x" * self.sdk.max_message_bytes})
        self.assertEqual(caught.exception.code, "payload_too_large")
        self.assertEqual(await self.client.call(self.worker.id("echo"), [1]), [1])


class FragmentsContract(OneSdk):
    common_needs = Needs((Ability.FRAGMENTS,))

    async def test_fragments(self) -> None:
        """What an SDK sends in fragments, because it is larger than 16 MiB, arrives; it takes as much in return."""
        answer = await self.client.call(self.worker.id("echo"), {"text": "x" * 20 * MIB})
        self.assertEqual(len(answer["text"]), 20 * MIB)


globals().update(on_each_pair(CallsContract), **on_each_sdk(PayloadContract), **on_each_sdk(FragmentsContract))
