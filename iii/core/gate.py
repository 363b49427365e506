"""Registrations of a connection whose namespace is not known yet (spec/worker-protocol.md, 2.1)."""

from __future__ import annotations

from iii.core.budget import Budget
from iii.core.errors import TooManyRegistrations
from iii.wire.messages import Message, RegisterFunction


class RegistrationGate:
    """
    Hold a connection's registrations back until its namespace is known.

    @ivar functions: The ids of the functions that are held back.
    """

    def __init__(self, limit: int, budget: Budget) -> None:
        """
        @param budget: From which the bytes of what is held are taken.
        """
        self.namespace: str | None = None
        self.functions: set[str] = set()
        self._limit, self._budget = limit, budget
        self._held: list[Message] = []
        self._bytes = 0

    def __len__(self) -> int:
        """How many registrations are held."""
        return len(self._held)

    def admit(self, registration: Message, size: int) -> list[Message]:
        """
        Return what may be applied now: this registration, or nothing yet.

        @param size: The bytes that it keeps.
        @raise TooManyRegistrations: No more can be held.
        """
        if self.namespace is not None:
            return [registration]
        if len(self._held) == self._limit:
            raise TooManyRegistrations(self._limit, "registrations before its namespace is known", "held_registrations")
        self._budget.take(size)
        self._bytes += size
        self._held.append(registration)
        if isinstance(registration, RegisterFunction):
            self.functions.add(registration.id)
        return []

    def resolve(self, namespace: str) -> list[Message]:
        """Fix the namespace; the first call wins.  Return what may be applied now, oldest first."""
        if self.namespace is None:
            self.namespace = namespace
        held, self._held = self._held, []
        self._budget.release(self._bytes)
        self._bytes = 0
        self.functions.clear()
        return held
