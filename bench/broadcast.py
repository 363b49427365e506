"""Keep account of messages that everybody must get, in the order in which they were sent."""

from __future__ import annotations

from bench.frames import ConnectionEnded
from bench.ledger import Ledger


class Broadcast:
    """
    A round in which a message is answered when each of so many listeners has it.

    @ivar ledger: Has the account of the messages.
    """

    def __init__(self, ledger: Ledger, listeners: int) -> None:
        self.ledger = ledger
        self._sent: list[bytes] = []
        self._seen = [0] * listeners  # how many messages each has got
        self._complete = 0  # how many all have got
        self._behind = listeners  # how many do not have the next one

    def ask(self, count: int) -> list[bytes]:
        """Return the ids of up to so many messages to be sent now, as L{Ledger.ask} does."""
        messages = self.ledger.ask(count)
        self._sent += messages
        return messages

    def got(self, listener: int, message: bytes) -> None:
        """Note that a listener has got a message.  L{ConnectionEnded}: it is not the one that comes next."""
        seen = self._seen[listener]
        if seen == len(self._sent) or self._sent[seen] != message:
            raise ConnectionEnded(f"listener {listener} got {message!r} as message {seen}")
        self._seen[listener] = seen + 1
        if seen == self._complete:
            self._behind -= 1

    def completed(self) -> int:
        """Note which messages have come to everybody since the last time, and return how many."""
        if self._behind:
            return 0
        before, self._complete = self._complete, min(self._seen)
        for message in self._sent[before : self._complete]:
            self.ledger.answer(message, right=True)
        self._behind = self._seen.count(self._complete)
        return self._complete - before
