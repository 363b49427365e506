"""The fakes provide what the core's interfaces promise."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iii.interfaces import IChannelSocket, IConnection, ITriggerProvider
from tests.core.fakes import FakeEdge, FakeProvider, FakeSocket


class FakesTests(SynchronousTestCase):
    def test_interfaces(self) -> None:
        """Each fake provides its interface."""
        verifyObject(IConnection, FakeEdge())
        verifyObject(ITriggerProvider, FakeProvider())
        verifyObject(IChannelSocket, FakeSocket())
