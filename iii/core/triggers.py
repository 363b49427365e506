"""
Triggers: intents of workers that something shall call a function (spec/worker-protocol.md, 9).

A trigger names a type, a target function and a config.  Whatever the order of events, a trigger is *live* while a
provider of its type exists and takes it, else *parked*: kept, but silent.  Triggers from different connections that
agree in everything but their id are one *binding* with several owners; the provider hears of one of them, so that it
fires once, and of another when that one goes (DESIGN.md, 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

import attrs
import msgspec
from msgspec import Raw
from twisted.logger import Logger

from iii.core.budget import size_of
from iii.core.errors import InternalError, TriggerRefused
from iii.core.ids import new_id
from iii.core.shown import shown
from iii.interfaces import ITriggerProvider
from iii.wire.messages import ABSENT, DEFAULT_NAMESPACE, NULL, ErrorBody, value_of

if TYPE_CHECKING:
    from iii.core.connections import Connection

MAX_SUMMARY = 80
"""Characters of a summary."""
LONG_CONFIG = 100_000
"""Bytes of a config that is not read for its summary."""
MAX_EQUAL = 100
"""Equal triggers of one connection."""
MAX_REASON = 1000
"""Characters kept of what a provider says against a trigger."""

ProviderKey = tuple[str, str]
"""Namespace and type id."""
BindingKey = tuple[ProviderKey, tuple[object, ...]]
"""Who provides it, and the likeness of its triggers."""
Report = Callable[["Trigger", ErrorBody | None], None]
"""
Told what a trigger's provider says of it after C{TriggerTable.register} has returned: C{None} when it has taken it,
else why it does not.
"""


def unheard(trigger: Trigger, error: ErrorBody | None) -> None:
    """The report of triggers about which nobody wants to know."""


@attrs.define(eq=False)
class Trigger:
    """
    What was registered, and how it stands.

    @ivar namespace: Of the target function.
    @ivar trigger_namespace: Of the provider, when it was named.
    @ivar origin: The namespace of whoever registered it, where its provider is looked for first.
    @ivar owner: The connection that registered it; C{None} for those made by C{engine::register_trigger}.
    @ivar report: Whom to tell what its provider says.
    @ivar binding: What makes it live; C{None} while it is parked.
    @ivar reason: Why it is parked.
    """

    id: str
    trigger_type: str
    function_id: str
    config: Raw = NULL
    metadata: Raw = ABSENT
    namespace: str = DEFAULT_NAMESPACE
    trigger_namespace: str | None = None
    origin: str = DEFAULT_NAMESPACE
    owner: Connection | None = None
    report: Report = unheard
    binding: Binding | None = None
    reason: str = ""

    @property
    def size(self) -> int:
        """The bytes that it keeps."""
        return size_of(
            self.id, self.trigger_type, self.function_id, self.config, self.metadata, self.namespace,
            self.trigger_namespace,
        )  # fmt: skip

    @cached_property
    def likeness(self) -> tuple[object, ...]:
        """
        What it has in common with equal triggers of other connections, beside the provider; those without an owner are
        never equal.
        """
        if self.owner is None:
            return (self.id,)
        return self.namespace, self.function_id, _digest(self.config), _digest(self.metadata)

    @cached_property
    def summary(self) -> str:
        """Its config on one line of bounded length, for listings; of a very long one the beginning, as it came."""
        if len(memoryview(self.config)) > LONG_CONFIG:
            text = bytes(memoryview(self.config)[: 4 * MAX_SUMMARY]).decode(errors="ignore")
        else:
            text = msgspec.json.encode(value_of(self.config)).decode()
        return text if len(text) <= MAX_SUMMARY else text[:MAX_SUMMARY] + "…"


@attrs.define(eq=False)
class Binding:
    """
    Equal triggers of different connections.

    @ivar presented: The one that the provider knows.
    @ivar members: All of them by owner, C{presented} first.
    """

    key: BindingKey
    presented: Trigger
    members: dict[Connection | None, Trigger]

    @property
    def provider_key(self) -> ProviderKey:
        """Who provides it."""
        return self.key[0]


@attrs.define(eq=False)
class Provider:
    """
    Whoever gives meaning to a trigger type.

    @ivar connection: The worker that it is; C{None} for a module.
    @ivar module: The module that it is, for introspection.
    """

    handler: ITriggerProvider
    description: str = ""
    connection: Connection | None = None
    module: str | None = None
    configuration_schema: Raw = ABSENT
    request_schema: Raw = ABSENT
    response_schema: Raw = ABSENT


class TriggerTable:
    """
    All triggers and the providers of their types.

    @ivar ownerless: How many triggers have no owner.
    @ivar ownerless_bytes: What these keep.
    """

    log = Logger()

    def __init__(self) -> None:
        self.ownerless = self.ownerless_bytes = 0
        self._triggers: dict[str, Trigger] = {}
        self._of_type: dict[str, dict[str, Trigger]] = {}
        self._providers: dict[ProviderKey, list[Provider]] = {}
        self._bindings: dict[BindingKey, list[Binding]] = {}  # several, when an owner has several equal triggers

    def __len__(self) -> int:
        return len(self._triggers)

    # Triggers.

    def find(self, trigger_id: str) -> Trigger | None:
        """Return the trigger with this id, live or parked."""
        return self._triggers.get(trigger_id)

    def all(self) -> list[Trigger]:
        """All triggers, live and parked, by id."""
        return sorted(self._triggers.values(), key=lambda trigger: trigger.id)

    def register(self, trigger: Trigger) -> None:
        """
        Add a trigger, or replace the one with this id whoever owns it: a worker that comes back registers its ids
        again, perhaps before its old connection has been noticed to be gone.

        @raise TriggerRefused: The provider does not accept it; what stood under this id before stays.
        """
        old = self._triggers.get(trigger.id)
        if old is not None:
            self._deactivate(old)
        try:
            self._activate(trigger)
        except TriggerRefused:
            if old is not None:
                self._activate_or_park(old)
            raise
        if old is not None:
            self._forget(old)
        self._triggers[trigger.id] = trigger
        if trigger.owner is None:
            self.ownerless += 1
            self.ownerless_bytes += trigger.size
        self._of_type.setdefault(trigger.trigger_type, {})[trigger.id] = trigger

    def remove(self, trigger: Trigger) -> None:
        """End a trigger that is in the table."""
        self._deactivate(trigger)
        self._forget(trigger)

    def _forget(self, trigger: Trigger) -> None:
        del self._triggers[trigger.id]
        if trigger.owner is None:
            self.ownerless -= 1
            self.ownerless_bytes -= trigger.size
        of_type = self._of_type[trigger.trigger_type]
        del of_type[trigger.id]
        if not of_type:
            del self._of_type[trigger.trigger_type]

    # Providers.

    def provider(self, key: ProviderKey) -> Provider | None:
        """The provider that serves a type now."""
        providers = self._providers.get(key)
        return providers[-1] if providers else None

    def providers(self) -> Iterable[tuple[ProviderKey, Provider]]:
        """All types and who serves them now, by id, then namespace."""
        return sorted(
            ((key, providers[-1]) for key, providers in self._providers.items()), key=lambda item: item[0][::-1]
        )

    def provide(self, key: ProviderKey, provider: Provider) -> None:
        """
        Let a provider serve a type.  It gets all triggers of that type that now resolve to it; when it goes, the one
        that served the type before serves it again.
        """
        providers = self._providers.setdefault(key, [])
        served = self._withdraw_bindings(
            key, tell=bool(providers) and providers[-1].connection is not provider.connection
        )
        providers[:] = [other for other in providers if other.connection is not provider.connection]
        providers.append(provider)
        self._resume(served)
        self._resolve_again(key[1])

    def withdraw(self, key: ProviderKey, connection: Connection | None) -> None:
        """
        The provider that this connection (or, for C{None}, the module) was serves a type no longer.  Whoever serves it
        next also gets the triggers that this one did not take.
        """
        providers = self._providers.get(key, [])
        leaving = [provider for provider in providers if provider.connection is connection]
        if not leaving:
            return
        serving = providers[-1] in leaving
        if serving:
            self._withdraw_bindings(key, tell=False)
        providers[:] = [provider for provider in providers if provider not in leaving]
        if not providers:
            del self._providers[key]
        if serving:
            self._resolve_again(key[1])

    def answered(self, key: ProviderKey, connection: Connection, trigger_id: str, error: ErrorBody | None) -> None:
        """A worker that provides a type has taken a trigger or, with an error, has not: then the trigger is parked."""
        provider, trigger = self.provider(key), self._triggers.get(trigger_id)
        if provider is None or provider.connection is not connection or trigger is None or trigger.binding is None:
            return
        binding = trigger.binding
        if binding.provider_key != key or binding.presented is not trigger:
            return
        members = list(binding.members.values()) if error is None else self._dissolve(binding)
        for member in members:
            if error is not None:
                member.reason = error.message[:MAX_REASON]
            member.report(member, error)

    def _resolve(self, trigger: Trigger) -> ProviderKey | None:
        """Find where a trigger's type is provided (spec/worker-protocol.md, 9.1)."""
        kind = trigger.trigger_type
        if trigger.trigger_namespace is not None:
            candidates = [(trigger.trigger_namespace, kind)]
        else:
            candidates = [(trigger.origin, kind), (DEFAULT_NAMESPACE, kind)]
        return next((key for key in candidates if key in self._providers), None)

    def _withdraw_bindings(self, key: ProviderKey, *, tell: bool) -> list[Trigger]:
        """
        Park all triggers that a provider serves and return them, in an order in which they become the same bindings
        again, with the same ones presented; tell it, if it lives on.
        """
        live = [trigger.binding for trigger in self._of_type.get(key[1], {}).values() if trigger.binding is not None]
        alike = dict.fromkeys(binding.key for binding in live if binding.provider_key == key)
        served = []
        for binding in [binding for each in alike for binding in self._bindings[each]]:
            if tell:
                self._end(key, binding.presented)
            served += self._dissolve(binding)
        for trigger in served:
            trigger.reason = "its provider has gone"
        return served

    def _resume(self, triggers: Iterable[Trigger]) -> None:
        for trigger in triggers:
            self._activate_or_park(trigger)

    def _resolve_again(self, trigger_type: str) -> None:
        """A provider has come or gone: move what it now serves, and offer again what waits or was not taken."""
        for trigger in list(self._of_type.get(trigger_type, {}).values()):
            key = trigger.binding.provider_key if trigger.binding is not None else None
            if key != self._resolve(trigger):
                self._deactivate(trigger)
                self._activate_or_park(trigger)

    # Live and parked.

    def _activate_or_park(self, trigger: Trigger) -> None:
        try:
            self._activate(trigger)
        except TriggerRefused as error:
            trigger.reason = str(error)
            trigger.report(trigger, ErrorBody(error.code, str(error)))

    def _activate(self, trigger: Trigger) -> None:
        """Make a parked trigger live if its type is provided.  L{TriggerRefused} leaves it parked."""
        provider_key = self._resolve(trigger)
        if provider_key is None:
            trigger.reason = f"no provider of trigger type '{trigger.trigger_type}' is connected"
            return
        key = provider_key, trigger.likeness
        binding = self._shared(key, trigger)
        if binding is None:
            self._begin(provider_key, trigger)
            binding = Binding(key, trigger, {})
            self._bindings.setdefault(key, []).append(binding)
        binding.members[trigger.owner] = trigger
        trigger.binding, trigger.reason = binding, ""

    def _shared(self, key: BindingKey, trigger: Trigger) -> Binding | None:
        """
        Find a binding of equal triggers for one more: two of one owner are two bindings.

        @raise TriggerRefused: Its owner has very many; nothing is gained by them, and finding one among them costs.
        """
        bindings = self._bindings.get(key, ())
        found = next((each for each in bindings if trigger.owner not in each.members), None)
        if found is None and len(bindings) >= MAX_EQUAL:
            raise TriggerRefused(f"a connection may have {MAX_EQUAL} triggers that differ in nothing but their id")
        return found

    def _deactivate(self, trigger: Trigger) -> None:
        """Park a live trigger; its provider is told if it was the one presented, and gets another owner's instead."""
        binding = trigger.binding
        if binding is None:
            return
        del binding.members[trigger.owner]
        trigger.binding = None
        if binding.presented is not trigger:
            self._close_gap(binding, trigger.owner)
            return
        others = self._dissolve(binding)
        self._end(binding.provider_key, trigger)
        self._resume(others)

    def _dissolve(self, binding: Binding) -> list[Trigger]:
        """Park all triggers of a binding and return them; the provider is not told."""
        bindings = self._bindings[binding.key]
        bindings.remove(binding)
        if not bindings:
            del self._bindings[binding.key]
        members = list(binding.members.values())
        binding.members.clear()
        for member in members:
            member.binding = None
        return members

    def _close_gap(self, binding: Binding, owner: Connection | None) -> None:
        """
        An owner has left a binding: if it is a member of later ones of equal triggers, move it here from the last of
        them.  So each owner is always in the first ones, and what is equal fires as often as some owner wants it to,
        not more often.
        """
        bindings = self._bindings[binding.key]
        later = [each for each in bindings[bindings.index(binding) :] if owner in each.members]
        if later:
            trigger = later[-1].members[owner]
            self._deactivate(trigger)
            self._activate_or_park(trigger)

    def _begin(self, key: ProviderKey, trigger: Trigger) -> None:
        """Hand a trigger to a provider.  Its failure is a defect, and means that it does not take this trigger."""
        try:
            self._providers[key][-1].handler.register(trigger)
        except TriggerRefused:
            raise
        except Exception as defect:
            error = InternalError(new_id())
            self.log.failure(
                "the provider of {type} failed to take trigger {id}, error {error_id}",
                type=shown(key[1]), id=shown(trigger.id), error_id=error.error_id,
            )  # fmt: skip
            raise TriggerRefused(str(error)) from defect

    def _end(self, key: ProviderKey, trigger: Trigger) -> None:
        """Tell a provider that a binding has ended.  Its failure is a defect of its own, and must not keep us."""
        try:
            self._providers[key][-1].handler.unregister(trigger)
        except Exception:
            self.log.failure(
                "the provider of {type} failed to end trigger {id}", type=shown(key[1]), id=shown(trigger.id)
            )


def _digest(payload: Raw) -> bytes:
    """The same bytes for equal JSON, whatever the order of members, and hardly the same for other JSON."""
    return blake2b(msgspec.json.encode(value_of(payload), order="sorted"), digest_size=16).digest() if payload else b""
