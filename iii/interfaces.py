"""The few contracts between the core, the modules and the sockets (DESIGN.md, 2 and 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred

    from iii.core.triggers import Trigger
    from iii.storage.updates import Operation, Updated

Collection = tuple[str, ...]
"""Where keys are together: C{(scope,)} of the state, C{(stream_name, group_id)} of a stream.  Any texts, also empty."""


class IConnection(Interface):
    """One connection to a worker as the core sees it: somewhere to send frames to."""

    address = Attribute("The peer's address without port, C{str | None}.")
    full = Attribute("So much waits to be sent that calls to this peer are to be refused, C{bool}.")

    def send(frame: bytes) -> None:
        """
        Send one text message.  Never waits and never raises; on a closed connection it is dropped.

        @param frame: JSON in UTF-8.
        """

    def ping() -> None:
        """Ask for a sign of life; the core's C{ponged} is called when it comes."""

    def close(code: int | None) -> None:
        """
        Send what waits, then end the connection in order.

        @param code: The WebSocket close code; C{None} sends a close frame without one.
        """

    def abort() -> None:
        """End the connection at once, without a close frame."""


class IChannelSocket(Interface):
    """What sits at one end of a channel: a worker's socket, or a module of the engine."""

    full = Attribute("A reader takes no more now and will call the channel's C{reader_ready} later, C{bool}.")

    def send(payload: bytes, is_binary: bool) -> None:
        """Send one message to a reader."""

    def pause() -> None:
        """Read no more from a writer until C{resume}."""

    def resume() -> None:
        """Read from a writer again."""

    def finish() -> None:
        """
        The channel has ended: a reader has got everything; nobody reads what a writer would still write.  Not called
        on an end that has itself ended the channel.
        """


class ITriggerProvider(Interface):
    """Gives meaning to a trigger type: a module, or a worker behind the core's adapter."""

    description = Attribute("One line, C{str}.")

    def register(trigger: Trigger) -> None:
        """
        Start a binding.  A trigger with the id of an active one replaces it.

        @raise TriggerRefused: The binding is not accepted; an active one with this id stays.
        """

    def unregister(trigger: Trigger) -> None:
        """End a binding that was registered."""


class IModule(Interface):
    """A part of the engine: an L{IService} that declares what it adds to the core."""

    description = Attribute("One line for listings, C{str}.")
    internal = Attribute("It runs whether the configuration names it or not, C{bool}.")
    functions = Attribute("C{Sequence[FunctionDeclaration]}")
    trigger_types = Attribute("C{Mapping[str, ITriggerProvider]}")


class IValues(Interface):
    """
    JSON values under (collection, key); state and streams are made of them (spec/state.md, 1 and 7; DESIGN.md, 7).

    Values are JSON texts in UTF-8, kept as they came; C{b"null"} is a value like others, C{None} is absence.  A change
    that has been answered has survived a power loss, unless the store is said to be volatile.  Changes of one key are
    applied, and answered, in the order in which they were asked for.  Every method may fail with L{StorageError}; then
    nothing has changed.
    """

    def get(collection: Collection, key: str) -> Deferred[bytes | None]:
        """Return a value; never one that a crash could take back."""

    def put(collection: Collection, key: str, value: bytes) -> Deferred[bytes | None]:
        """Store a value and return the one that it replaces."""

    def delete(collection: Collection, key: str) -> Deferred[bytes | None]:
        """Remove a value and return it."""

    def update(
        collection: Collection, key: str, operations: Sequence[Operation], accept: Callable[[bytes], None] | None = None
    ) -> Deferred[Updated]:
        """
        Apply operations to a value in one step and store the result (spec/state.md, 4).

        @param accept: Given the result before it is stored; with the L{EngineError} that it raises, this fails.
        """

    def items(collection: Collection) -> Deferred[list[tuple[str, bytes]]]:
        """
        Return the keys and values of a collection, in the order in which the keys were first put.  All changes that
        were answered before this was asked for are in it.
        """

    def collections(prefix: Collection = ()) -> Deferred[list[Collection]]:
        """Return the collections that have values and begin so, sorted."""


class ILocalValues(IValues):
    """Values that this engine alone changes."""

    def snapshot(collection: Collection) -> Deferred[list[tuple[str, bytes]]]:
        """
        Return the keys and values of a collection like C{items}, so that when the Deferred fires all changes answered
        before are in them, and none that is answered later is.  Changes may have to wait for it.
        """
