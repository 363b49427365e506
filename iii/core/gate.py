"""Registrations of a connection whose namespace is not known yet (spec/worker-protocol.md, 2.1)."""

from __future__ import annotations

from iii.core.errors import TooManyRegistrations
from iii.wire.messages import Message, RegisterFunction


class RegistrationGate:
    """
    Hold a connection's registrations back until its namespace is known.

    @ivar functions: The ids of the functions that are held back.
    """

    def __init__(self, limit: int) -> None:
        self.namespace: str | None = None
        self.functions: set[str] = set()
        self._limit = limit
        self._held: list[Message] = []

    def admit(self, registration: Message) -> list[Message]:
        """Return what may be applied now: this registration, or nothing yet.  At the limit, L{TooManyRegistrations}."""
        if self.namespace is not None:
            return [registration]
        if len(self._held) == self._limit:
            raise TooManyRegistrations(self._limit, "registrations before its namespace is known")
        self._held.append(registration)
        if isinstance(registration, RegisterFunction):
            self.functions.add(registration.id)
        return []

    def resolve(self, namespace: str) -> list[Message]:
        """Fix the namespace; the first call wins.  Return what may be applied now, oldest first."""
        if self.namespace is None:
            self.namespace = namespace
        held, self._held = self._held, []
        self.functions.clear()
        return held
