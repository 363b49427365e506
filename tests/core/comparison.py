"""Whether the core is where its model is."""

from __future__ import annotations

from collections.abc import Mapping

from iii.core.engine import Engine
from iii.core.functions import WorkerFunction
from tests.core.fakes import FakeWorker
from tests.core.model import Model, Peer


class Comparison:
    """Compares the core's tables, and what providers were told, with the model."""

    def __init__(self, engine: Engine, model: Model, workers: Mapping[Peer, FakeWorker]) -> None:
        self._engine, self._model, self._workers = engine, model, workers

    def everything(self) -> None:
        """C{AssertionError} says what differs."""
        self._tables()
        self._bindings()
        for peer in self._model.open:
            self._connection(peer)

    def nothing_left(self) -> None:
        """When all connections have gone, so has all that was theirs."""
        engine = self._engine
        left = len(engine.functions), len(engine.triggers), len(engine.connections), len(list(engine.broken_off))
        assert not any(left), f"left at the end: {left}"
        table = engine.triggers
        tables = (
            table._bindings,
            table._of_type,
            {key: each for key, each in table._providers.items() if key != ("default", "m")},
        )
        assert not any(tables), f"left of triggers at the end: {tables}"

    def _tables(self) -> None:
        """What live connections have registered is registered, no more and no less."""
        engine, model = self._engine, self._model
        peers = {worker.connection: peer for peer, worker in self._workers.items()}
        assert [peers[each] for each in engine.connections.values()] == model.open, "others are connected"
        functions = {
            (function.namespace, function.id): [peers[owner] for owner in function.owners]
            for function in engine.functions
            if isinstance(function, WorkerFunction)
        }
        keys = {(peer.namespace or "", id) for peer in model.open for id in peer.functions}
        assert functions == {key: model.owners(*key) for key in keys}, f"functions: {functions}"
        triggers = {
            each.id: (peers[each.owner], each.binding is not None) for each in engine.triggers.all() if each.owner
        }
        expected = {
            wish.id: (peer, model.is_live(peer, wish)) for peer in model.open for wish in peer.triggers.values()
        }
        wrong = {id for id in {*triggers, *expected} if triggers.get(id) != expected.get(id)}
        assert not wrong, f"triggers {wrong} differ"
        away = {peers[connection] for connection in engine.broken_off}
        assert away == {peer for peer in model.peers if peer.away is not None}, "others are waited for"
        under_way = sum(call.callee is not None for call in model.calls)
        assert engine.unanswered() == len(engine.under_way()) == under_way, "calls under way"
        assert sum(map(len, engine.deadlines._slots.values())) == under_way, "deadlines"

    def _bindings(self) -> None:
        """Equal triggers are presented to their provider once, or as often as one owner has them."""
        model = self._model
        presented: set[tuple[str, str]] = set()
        for (key, _), owners in model.bindings().items():
            provider = model.provider(key)
            assert provider is not None
            ids = {id for ids in owners.values() for id in ids}
            told = [id for id in provider.view if id in ids]
            assert len(told) == max(map(len, owners.values())), f"{provider.name} has {told} of the equal {sorted(ids)}"
            for id in told:
                self._told(provider, key, id)
                presented.add((provider.name, id))
        views = {(peer.name, id) for peer in (model.module, *model.open) for id in peer.view}
        assert views == presented, f"providers have {views - presented} and should not"

    def _told(self, provider: Peer, key: tuple[str, str], id: str) -> None:
        (wish,) = (peer.triggers[id] for peer in self._model.open if id in peer.triggers)
        told = provider.view[id]
        seen = told["trigger_type"], told["function_id"], told["config"], told.get("namespace", "default")
        assert seen == (wish.kind, wish.function, wish.config, wish.namespace), f"{provider.name} was told {told}"
        assert told.get("trigger_namespace", "default") == key[0], f"{provider.name} was told {told}"

    def _connection(self, peer: Peer) -> None:
        connection, model = self._workers[peer].connection, self._model
        registered = connection.registrations
        assert (peer.namespace, peer.suspect) == (connection.namespace, connection.suspect), peer.name
        assert {call.wire_id for call in model.pending(peer)} == set(connection.pending), f"calls to {peer.name}"
        assert {call.id for call in model.waited_for(peer)} == set(connection.made), f"calls of {peer.name}"
        assert set(registered.functions) == set(peer.functions), f"functions of {peer.name}"
        assert set(registered.triggers) == set(peer.triggers), f"triggers of {peer.name}"
        assert set(registered.trigger_types) == set(peer.types), f"types of {peer.name}"
        anything = any((peer.functions, peer.triggers, peer.types, peer.held, peer.held_calls))
        assert bool(registered.budget.used) == anything, f"{registered.budget.used} B of {peer.name}"
