"""Log records of workers, in the engine's store and at other workers (spec/observability.md, 5, 7 and 8)."""

from __future__ import annotations

from typing import Any

from tests.sdk.contract import OneSdk, needs, on_each_sdk
from tests.sdk.sdk import Ability


class LogsContract(OneSdk):
    @needs(Ability.LOGGER)
    async def test_logger(self) -> None:
        """What the SDK's logger writes is in the store, with its level and its data."""
        message = self.unique("by the logger")
        await self.worker.do("log", level="warn", message=message, data={"order": 4711})
        record = await self._kept(message)
        self.assertEqual((record["severity_number"], record["severity_text"]), (13, "WARN"))
        self.assertIn("4711", str(record["attributes"]))

    async def test_function(self) -> None:
        """What a worker writes through the engine's function has the worker's name."""
        message = self.unique("by the function")
        payload = {"message": message, "data": {"order": 42}}
        self.assertIsNone(await self.worker.call("engine::log::error", payload=payload))
        record = await self._kept(message)
        self.assertEqual((record["service_name"], record["severity_text"]), (self.worker.name, "ERROR"))
        self.assertEqual(record["attributes"], {"order": 42})

    async def test_trigger(self) -> None:
        """A worker hears of a record that another one writes, once."""
        key = self.unique("trigger")
        binding = {"type": "log", "function_id": self.worker.id("watch"), "config": {"level": "error"}}
        await self.worker.do("register_trigger", key=key, **binding)
        try:
            await self.eventually("the trigger is there", lambda: self._triggers(binding["function_id"]))
            message = self.unique("for the trigger")
            await self.client.call("engine::log::error", {"message": message})
            await self.eventually("the record has come", lambda: self._heard(message))
            self.assertEqual(len(await self._heard(message)), 1)
        finally:
            await self.worker.do("unregister", key=key)

    async def _triggers(self, function_id: Any) -> Any:
        query = {"trigger_type": "log", "function_id": function_id}
        return (await self.client.call("engine::registered-triggers::list", query))["registered_triggers"]

    async def _kept(self, message: str) -> dict[str, Any]:
        """Return the only record with this text, when it is there."""
        (record,) = await self.eventually(f"there is a record {message!r}", lambda: self._records(message))
        return record

    async def _records(self, message: str) -> list[dict[str, Any]]:
        logs = (await self.client.call("engine::logs::list", {}))["logs"]
        return [record for record in logs if record["body"] == message]

    async def _heard(self, message: str) -> list[Any]:
        received = await self.worker.received("watch")
        return [each for each in received if each["data"].get("body") == message]


globals().update(on_each_sdk(LogsContract))
