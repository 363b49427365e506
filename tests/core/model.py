"""
What the core promises about connections, written a second time and otherwise, to be compared with it.

There are no tables to be kept up to date: each peer knows what it has registered and when, and who serves what is
worked out from that whenever it is asked.  Choices that the core may make freely (which of several equally busy
workers, which of several equal triggers) are looked up in C{seen}, and only checked.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import attrs

from iii.core.reattach import ANSWER_TIMEOUT, PATIENCE

TICK = 0.5
"""Seconds.  Everything is done at a whole number of ticks."""
CALL_TIMEOUT = 75.0
"""Deadlines are kept to a two-hundredth of this: a call ends between its deadline and the next tick."""
GRACE = 5.03125
"""This ends in the same tick as the deadlines that are due then, but before any of them."""
MAX_PENDING = 3

Key = tuple[str, str]
"""Namespace and id."""
Outcome = tuple[str, Any]
"""C{("result", value)} or C{("error", code)}."""


@attrs.frozen
class Wish:
    """A trigger as a worker registers it; the provider of the engine's own type C{m} refuses the config C{"bad"}."""

    id: str
    kind: str
    function: str
    config: str
    namespace: str
    trigger_namespace: str | None

    @property
    def likeness(self) -> tuple[str, str, str]:
        return self.namespace, self.function, self.config


@attrs.define(eq=False)
class Peer:
    """
    One connection.

    @ivar away: It has broken off, and its calls wait until then for the worker.
    @ivar held: What it has registered before its namespace was known.
    @ivar held_calls: Calls to functions among these.
    @ivar missed: Outcomes of its calls that came while it was away.
    @ivar view: The triggers that it was told of as their provider, by id, as the messages said.
    """

    name: str
    opened: float
    open: bool = True
    away: float | None = None
    namespace: str | None = None
    suspect: bool = False
    full: bool = False
    functions: dict[str, int] = attrs.field(factory=dict)
    types: dict[Key, int] = attrs.field(factory=dict)
    triggers: dict[str, Wish] = attrs.field(factory=dict)
    held: list[tuple[Any, ...]] = attrs.field(factory=list)
    held_calls: list[Call] = attrs.field(factory=list)
    missed: list[tuple[str, Outcome]] = attrs.field(factory=list)
    view: dict[str, dict[str, Any]] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Call:
    """
    One call.

    @ivar caller: Who waits for its outcome; C{None} when nobody does.
    @ivar callee: Who is to answer it; C{None} when nobody is.
    """

    number: int
    caller: Peer | None
    id: str
    namespace: str
    function: str
    callee: Peer | None = None
    wire_id: str = ""
    deadline: float = 0.0
    shortened: bool = False


@attrs.define
class Seen:
    """
    What the core has sent during a step.

    @ivar deliveries: Who was asked to carry out a call, and under which id, by the call's number.
    @ivar refusals: Who was told that which trigger was not taken.
    """

    deliveries: dict[int, list[tuple[Peer, str]]] = attrs.field(factory=dict)
    refusals: list[tuple[Peer, str]] = attrs.field(factory=list)


class Model:
    """
    All peers and calls, and what every step makes of them.

    @ivar module: The provider of the type C{m} in C{default}, and whoever calls on behalf of the engine.
    @ivar refused: Triggers that a worker providing their type did not take, by id.
    @ivar answers: The outcomes that the step brings to those who wait, as (peer, id, outcome).
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.module = Peer("module", 0.0, namespace="default")
        self.peers: list[Peer] = []
        self.calls: list[Call] = []
        self.refused: set[str] = set()
        self.answers: list[tuple[Peer, str, Outcome]] = []
        self.seen = Seen()
        self._order = count()

    @property
    def open(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.open]

    # Functions and calls.

    def owners(self, namespace: str, function: str) -> list[Peer]:
        """Who serves a function, oldest first."""
        serving = [peer for peer in self.open if peer.namespace == namespace and function in peer.functions]
        return sorted(serving, key=lambda peer: peer.functions[function])

    def pending(self, peer: Peer) -> list[Call]:
        return [call for call in self.calls if call.callee is peer]

    def waited_for(self, peer: Peer) -> list[Call]:
        return [call for call in self.calls if call.caller is peer]

    def call(self, call: Call) -> None:
        """A worker calls: at once, or when the function that it has just registered applies."""
        caller = call.caller
        assert caller is not None
        unknown = not self.owners(call.namespace, call.function)
        if unknown and ("function", call.function) in caller.held:
            caller.held_calls.append(call)
        else:
            self._make(call)

    def _make(self, call: Call) -> None:
        for other in self.calls:
            if call.id and other.caller is call.caller and other.id == call.id:
                self._tell(other, ("error", "invocation_error"))
        self.calls.append(call)
        if not call.id:
            call.caller = None
        owners = self.owners(call.namespace, call.function)
        if not owners:
            self._end(call, ("error", "function_not_found"))
            return
        if len(owners) > 1:
            owners = [peer for peer in owners if not peer.suspect] or owners[-1:]
        reading = [peer for peer in owners if not peer.full]
        fewest = min((len(self.pending(peer)) for peer in reading), default=MAX_PENDING)
        if fewest >= MAX_PENDING:
            self._end(call, ("error", "worker_overloaded"))
            return
        deliveries = self.seen.deliveries.pop(call.number, [])
        assert len(deliveries) == 1, f"call #{call.number} was delivered to {[peer.name for peer, _ in deliveries]}"
        ((callee, wire_id),) = deliveries
        allowed = [peer for peer in reading if len(self.pending(peer)) == fewest]
        assert callee in allowed, f"call #{call.number} went to {callee.name}, not to {[peer.name for peer in allowed]}"
        assert wire_id not in [other.wire_id for other in self.pending(callee)], "an id is in use twice at the callee"
        call.callee, call.wire_id, call.deadline = callee, wire_id, self.now + CALL_TIMEOUT

    def answer(self, peer: Peer, wire_id: str, outcome: Outcome) -> None:
        """A worker answers; only that of the one who was asked counts, once and in time."""
        for call in self.pending(peer):
            if call.wire_id == wire_id:
                self._end(call, outcome)

    def _end(self, call: Call, outcome: Outcome) -> None:
        """A call has ended."""
        call.callee = None
        self._tell(call, outcome)

    def _tell(self, call: Call, outcome: Outcome) -> None:
        """Whoever waits for a call hears of it, now or when it is back, and waits no longer."""
        caller, call.caller = call.caller, None
        if caller is None:
            return
        if caller.open:
            self.answers.append((caller, call.id, outcome))
        else:
            caller.missed.append((call.id, outcome))

    # Registrations.

    def register(self, peer: Peer, registration: tuple[Any, ...]) -> None:
        """A worker registers or withdraws something: at once, or when its namespace is known."""
        if peer.namespace is None:
            peer.held.append(registration)
        else:
            self._apply(peer, *registration)

    def announce(self, peer: Peer, namespace: str) -> None:
        """A peer's namespace is known; the first time counts."""
        if peer.namespace is not None:
            return
        peer.namespace = namespace
        held, peer.held = peer.held, []
        for registration in held:
            self._apply(peer, *registration)
        held_calls, peer.held_calls = peer.held_calls, []
        for call in held_calls:
            self._make(call)

    def _apply(self, peer: Peer, kind: str, *what: Any) -> None:
        assert peer.namespace is not None
        if kind == "function":
            for other in self.owners(peer.namespace, what[0]):
                other.suspect = other.suspect or other is not peer
            peer.functions[what[0]] = next(self._order)
        elif kind == "no function":
            peer.functions.pop(what[0], None)
        elif kind == "type":
            key = (what[0] or peer.namespace, what[1])
            if key != ("default", "m"):
                peer.types[key] = next(self._order)
                self._offer_again(key[1])
        elif kind == "no type":
            key = (what[0] or peer.namespace, what[1])
            if key in peer.types:
                self._withdraw(peer, key)
        elif kind == "trigger":
            self._register_trigger(peer, what[0])
        else:
            peer.triggers.pop(what[0], None)

    def _withdraw(self, peer: Peer, key: Key) -> None:
        if self.provider(key) is peer:
            self._offer_again(key[1])
        del peer.types[key]
        peer.view = {
            id: told
            for id, told in peer.view.items()
            if (told.get("trigger_namespace", "default"), told["trigger_type"]) != key
        }

    def _offer_again(self, kind: str) -> None:
        """The providers of a type have changed: what one of them did not take is offered again."""
        kinds = {wish.id: wish.kind for peer in self.peers for wish in peer.triggers.values()}
        self.refused = {id for id in self.refused if kinds.get(id, kind) != kind}

    def _register_trigger(self, peer: Peer, wish: Wish) -> None:
        self.refused.discard(wish.id)
        if self.provider_of(peer, wish) is self.module and wish.config == "bad":
            assert (peer, wish.id) in self.seen.refusals, f"{peer.name} was not told that {wish.id} is refused"
            return
        for other in self.peers:
            other.triggers.pop(wish.id, None)
        peer.triggers[wish.id] = wish

    # Triggers.

    def provider(self, key: Key) -> Peer | None:
        """Who provides a type: the latest that does, else the engine's own."""
        providing = [peer for peer in self.open if key in peer.types]
        return max(
            providing, key=lambda peer: peer.types[key], default=self.module if key == ("default", "m") else None
        )

    def key_of(self, peer: Peer, wish: Wish) -> Key | None:
        """Where a trigger's type is provided."""
        for namespace in [wish.trigger_namespace] if wish.trigger_namespace else [peer.namespace, "default"]:
            assert namespace is not None
            if self.provider((namespace, wish.kind)):
                return namespace, wish.kind
        return None

    def provider_of(self, peer: Peer, wish: Wish) -> Peer | None:
        key = self.key_of(peer, wish)
        return key and self.provider(key)

    def is_live(self, peer: Peer, wish: Wish) -> bool:
        provider = self.provider_of(peer, wish)
        bad = provider is self.module and wish.config == "bad"
        return provider is not None and not bad and wish.id not in self.refused

    def bindings(self) -> dict[tuple[Key, tuple[str, str, str]], dict[Peer, list[str]]]:
        """Equal live triggers together: the ids by owner."""
        together: dict[Any, dict[Peer, list[str]]] = {}
        for peer in self.open:
            for wish in peer.triggers.values():
                if self.is_live(peer, wish):
                    group = together.setdefault((self.key_of(peer, wish), wish.likeness), {})
                    group.setdefault(peer, []).append(wish.id)
        return together

    def refuse(self, provider: Peer, id: str, kind: str) -> None:
        """A provider says that it does not take a trigger: if it was told of it, all that share it are parked."""
        if provider.view.get(id, {}).get("trigger_type") != kind:
            return
        (owners,) = [group for group in self.bindings().values() if any(id in ids for ids in group.values())]
        refused = self.seen.refusals
        assert id in [each for _, each in refused], f"the owner of {id} was not told that it is refused"
        assert len({peer for peer, _ in refused}) == len(refused), "one owner was told of two of its triggers"
        assert all(each in owners.get(peer, ()) for peer, each in refused), "an owner was told of an unequal trigger"
        self.refused.update(each for _, each in refused)
        del provider.view[id]

    # The end of connections, and what comes after it.

    def end(self, peer: Peer, broken: bool) -> None:
        """A connection ends in order or breaks off: what it had registered is gone, and its calls end or wait."""
        peer.functions, peer.triggers, peer.held = {}, {}, []
        for key in list(peer.types):
            self._withdraw(peer, key)
        peer.open = False
        if not broken:
            self._give_up(peer)
        elif self.pending(peer) or self.waited_for(peer) or peer.held_calls:
            peer.away = self.now + PATIENCE

    def _give_up(self, peer: Peer) -> None:
        peer.away = None
        peer.held_calls, peer.missed = [], []
        for call in self.waited_for(peer):
            call.caller = None
        for call in self.pending(peer):
            self._end(call, ("error", "invocation_stopped"))

    def reattach(self, peer: Peer, previous: Peer) -> None:
        """A worker proves that it had another connection before."""
        if previous is peer:
            return
        if previous.open:
            self.end(previous, broken=True)
        if previous.away is None:
            return
        previous.away = None
        taken = [call.wire_id for call in self.pending(peer)]
        for call in self.pending(previous):
            if call.wire_id in taken:
                self._end(call, ("error", "invocation_error"))
                continue
            call.callee = peer
            if call.deadline > self.now + ANSWER_TIMEOUT:
                call.deadline, call.shortened = self.now + ANSWER_TIMEOUT, True
        waited_for = [call.id for call in self.waited_for(peer)]
        for call in self.waited_for(previous):
            call.caller = peer
            if call.id in waited_for:
                self._tell(call, ("error", "invocation_error"))
        self.answers += [(peer, id, outcome) for id, outcome in previous.missed]
        held, previous.held_calls = previous.held_calls, []
        for call in held:
            call.caller = peer
            if peer.namespace is None:
                peer.held_calls.append(call)
            else:
                self._make(call)

    def stop(self) -> None:
        """The engine stops: nobody is waited for any more."""
        for peer in self.peers:
            if peer.away is not None:
                self._give_up(peer)

    def tick(self) -> None:
        """Time passes."""
        self.now += TICK
        for peer in self.open:
            if peer.namespace is None and peer.opened + GRACE <= self.now:
                self.announce(peer, "default")
        for call in self.calls:
            if call.callee and call.deadline < self.now:
                self._end(call, ("error", "invocation_stopped" if call.shortened else "TIMEOUT"))
        for peer in self.peers:
            if peer.away is not None and peer.away <= self.now:
                self._give_up(peer)
        self.calls = [call for call in self.calls if call.caller or call.callee]
