"""Tests for L{iii.modules.http.gate}; how it looks to clients is in C{test_exchange}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.modules.http.gate import Gate


class Guest:
    """Notes when it is let in; may leave at once, and bring another one to the gate."""

    def __init__(self, name: str, admitted: list[str]) -> None:
        self.name, self._admitted = name, admitted
        self.brings: tuple[Gate, Guest] | None = None

    def admitted(self) -> None:
        self._admitted.append(self.name)
        if self.brings is not None:
            gate, other = self.brings
            gate.leave(self)
            pass_through(gate, other)


def pass_through(gate: Gate, guest: Guest) -> bool:
    """Let a guest in, now or later; C{False} when it is turned away."""
    if gate.enter():
        guest.admitted()
        return True
    return gate.wait(guest)


class GateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.admitted: list[str] = []
        self.guests = {name: Guest(name, self.admitted) for name in "abcdef"}

    def test_order(self) -> None:
        """Who came first gets in first, also before one who comes while others are being let in."""
        gate = Gate(2)
        for name in "abcd":
            self.assertTrue(pass_through(gate, self.guests[name]))
        self.assertEqual(self.admitted, ["a", "b"])
        self.guests["c"].brings = gate, self.guests["e"]
        gate.leave(self.guests["a"])
        self.assertEqual(self.admitted, ["a", "b", "c", "d"])
        gate.leave(self.guests["d"])
        self.assertEqual(self.admitted, ["a", "b", "c", "d", "e"])

    def test_full(self) -> None:
        """As many may wait as may be in; one more is turned away."""
        gate = Gate(2)
        self.assertEqual([pass_through(gate, self.guests[name]) for name in "abcde"], [True] * 4 + [False])

    def test_leave_the_queue(self) -> None:
        """Who waits may leave."""
        gate = Gate(1)
        for name in "ab":
            pass_through(gate, self.guests[name])
        gate.leave(self.guests["b"])
        gate.leave(self.guests["a"])
        self.assertEqual((self.admitted, gate.free), (["a"], 1))
