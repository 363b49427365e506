"""Trigger types that a worker provides, bound by workers of other SDKs."""

from __future__ import annotations

from typing import Any

from tests.sdk.contract import Handle, Needs, OneSdk, PairOfSdks, needs, on_each_pair, on_each_sdk
from tests.sdk.sdk import Ability


async def events_of(provider: Handle, type_id: str) -> list[Any]:
    """Return what the provider was told about bindings of its type."""
    events: list[Any] = (await provider.do("events", id=type_id))["events"]
    return events


class TriggerTypesContract(PairOfSdks):
    """The one provides a type, the other binds a function to it."""

    common_needs = Needs(first=(Ability.TRIGGER_TYPES,))

    async def setUp(self) -> None:
        await super().setUp()
        self.type_id = self.unique("type")
        self.key = self.unique("key")

    async def test_fires(self) -> None:
        """The provider is told of the binding with its config, and its call reaches the bound function."""
        await self._provide()
        await self._bind()
        (event,) = await self.eventually("the provider knows", lambda: events_of(self.one, self.type_id))
        expected = {"event": "register", "function_id": self.other.id("receive"), "config": {"every": 5}}
        self.assertEqual({key: event[key] for key in expected}, expected)
        answer = await self.one.do("fire", id=self.type_id, payload={"key": self.key, "tick": 1})
        self.assertEqual(answer, {"results": [None]})
        (received,) = await self.other.received(self.key)
        self.assertEqual(received["data"]["tick"], 1)

    @needs(Ability.TRIGGER_METADATA)
    async def test_metadata(self) -> None:
        """The provider is told of the binding's metadata."""
        await self._provide()
        await self._bind()
        (event,) = await self.eventually("the provider knows", lambda: events_of(self.one, self.type_id))
        self.assertEqual(event["metadata"], {"m": [1]})

    @needs(Ability.TRIGGER_METADATA, Ability.CALL_METADATA)
    async def test_metadata_to_function(self) -> None:
        """The provider's call reaches the bound function with the binding's metadata."""
        await self._provide()
        await self._bind()
        await self.eventually("the provider knows", lambda: events_of(self.one, self.type_id))
        await self.one.do("fire", id=self.type_id, payload={"key": self.key})
        (received,) = await self.other.received(self.key)
        self.assertEqual(received["metadata"], {"m": [1]})

    @needs(first=(Ability.UNBINDING_HEARD,))
    async def test_unbound(self) -> None:
        """The provider is told when a binding is unregistered, with its id, and fires it no more."""
        await self._provide()
        await self._bind()
        (event,) = await self.eventually("the provider knows", lambda: events_of(self.one, self.type_id))
        await self.other.do("unregister", key=self.key)
        self.assertEqual(await self._next_event(1), {"event": "unregister", "id": event["id"]})
        await self.one.do("fire", id=self.type_id, payload={"key": self.key})
        self.assertEqual(await self.other.received(self.key), [])

    async def test_bound_before_provided(self) -> None:
        """A binding of a type that nobody provides yet waits for it."""
        await self._bind()
        await self.other.call(self.other.id("echo"), payload={})  # behind it: the engine has seen the binding
        await self._provide()
        event = await self._next_event(0)
        self.assertEqual((event["event"], event["config"]), ("register", {"every": 5}))
        await self.one.do("fire", id=self.type_id, payload={"key": self.key})
        self.assertEqual(len(await self.other.received(self.key)), 1)

    @needs(second=(Ability.REFUSAL_HEARD,))
    async def test_refused(self) -> None:
        """The reason why a provider refuses a binding reaches the worker that made it; the binding is not live."""
        reason = self.unique("no such thing")
        await self._provide(refusal=reason)
        await self._bind()
        await self.eventually("the reason is in the worker's log", lambda: self._logged(reason))
        listed = await self.client.call("engine::registered-triggers::list", {"trigger_type": self.type_id})
        self.assertEqual(listed["registered_triggers"], [])

    async def _provide(self, **options: Any) -> None:
        await self.one.do("register_type", id=self.type_id, description="of a test", **options)
        await self.one.call(self.one.id("echo"), payload={})  # behind it: the engine has seen the type

    async def _bind(self) -> None:
        await self.other.do(
            "register_trigger",
            key=self.key,
            type=self.type_id,
            function_id=self.other.id("receive"),
            config={"every": 5},
            metadata={"m": [1]},
        )

    async def _next_event(self, index: int) -> Any:
        async def known() -> list[Any]:
            return (await events_of(self.one, self.type_id))[index:]

        return (await self.eventually("the provider is told", known))[0]

    async def _logged(self, text: str) -> bool:
        return text in self.other.worker.log


class ProviderLossContract(OneSdk):
    """Provider and binder are processes that go."""

    common_needs = Needs((Ability.TRIGGER_TYPES,))

    @needs(Ability.UNBINDING_HEARD)
    async def test_binder_goes(self) -> None:
        """The provider is told that a binding is over when the process that made it has ended."""
        type_id = self.unique("type")
        await self.worker.do("register_type", id=type_id)
        binder = await self.start_worker(self.engine.url, self.sdk, self.unique("binder"))
        await binder.worker.ready(self.client)
        await binder.do("register_trigger", key="t", type=type_id, function_id=binder.id("echo"), config={})
        (registered,) = await self.eventually("it is bound", lambda: events_of(self.worker, type_id))
        await binder.worker.kill()

        async def ended() -> bool:
            return {"event": "unregister", "id": registered["id"]} in await events_of(self.worker, type_id)

        await self.eventually("the binding has ended", ended)

    async def test_provider_returns(self) -> None:
        """A binding waits while its provider is gone, and is handed to the next one with the same id."""
        type_id = self.unique("type")
        first = await self.start_worker(self.engine.url, self.sdk, self.unique("first"))
        await first.worker.ready(self.client)
        await first.do("register_type", id=type_id)
        await self.worker.do(
            "register_trigger", key=type_id, type=type_id, function_id=self.worker.id("receive"), config={"n": 1}
        )
        (before,) = await self.eventually("it is bound", lambda: events_of(first, type_id))
        await first.worker.kill()
        await self.eventually("the binding is not live", lambda: self._is_parked(type_id))
        second = await self.start_worker(self.engine.url, self.sdk, self.unique("second"))
        await second.worker.ready(self.client)
        await second.do("register_type", id=type_id)
        (after,) = await self.eventually("it is bound again", lambda: events_of(second, type_id))
        self.assertEqual(after, before)

    async def _is_parked(self, type_id: str) -> bool:
        listed = await self.client.call("engine::registered-triggers::list", {"trigger_type": type_id})
        return listed["registered_triggers"] == []


globals().update(on_each_pair(TriggerTypesContract), **on_each_sdk(ProviderLossContract))
