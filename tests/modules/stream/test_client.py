"""Tests for L{iii.modules.stream.client}, C{clients} and C{messages}: one client's messages, without a socket."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from iii.core.invocations import CallFailed
from iii.core.limits import Limits
from iii.modules.stream import messages
from iii.modules.stream.backend import IStreamBackend
from iii.modules.stream.client import WAITING_BYTES
from iii.modules.stream.clients import Clients
from iii.modules.stream.subscription import Subscription
from iii.storage.errors import StorageError
from iii.wire.messages import ABSENT, ErrorBody
from tests.modules.stream.clients import HANDLER_TIMEOUT, ClientsTestCase, FakeAttendance, Peer

FAILED = CallFailed(ErrorBody("oops", "it broke"))


class JoinTests(ClientsTestCase):
    def test_fake(self) -> None:
        """The tests' backend provides what a backend does."""
        verifyObject(IStreamBackend, self.backend)

    def test_group(self) -> None:
        """A group's snapshot has the values in the order of the backend, and beside them their ids."""
        self.backend.change("chat", "r1", "m1", b'{"t":"hi"}')
        self.backend.change("chat", "r1", "m0", b"null")
        peer = self.peer()
        peer.join("c1", "chat", "r1")
        (sync,) = peer.messages()
        self.assertEqual(sync.pop("timestamp"), 1_000_002)
        self.assertEqual(
            sync,
            {
                "type": "stream",
                "streamName": "chat",
                "groupId": "r1",
                "id": None,
                "subscriptionId": "c1",
                "event": {"type": "sync", "data": [{"t": "hi"}, None], "ids": ["m1", "m0"]},
            },
        )

    def test_item(self) -> None:
        """An item's snapshot is its value, null when there is none; the empty name is an item."""
        self.backend.change("s", "g", "", b"7")
        peer = self.peer()
        for item in ("", "absent"):
            peer.join(item, "s", "g", id=item)
        got = [(message["id"], message["event"]) for message in peer.messages()]
        self.assertEqual(got, [("", {"type": "sync", "data": 7}), ("absent", {"type": "sync", "data": None})])

    def test_events_follow(self) -> None:
        """After the snapshot come the events, with later stamps."""
        peer = self.peer()
        peer.join("c1", "s", "g")
        self.backend.change("s", "g", "i", b"1")
        self.backend.change("s", "other", "i", b"1")
        self.backend.say("s", "g", None, b'{"type":"typing","data":1}')
        got = peer.messages()
        self.assertEqual([message["event"]["type"] for message in got], ["sync", "create", "event"])
        stamps = [message["timestamp"] for message in got]
        self.assertEqual(stamps, sorted(set(stamps)))

    def test_exact(self) -> None:
        """What happens before the moment of the snapshot is in it and not told; what happens after it is told."""
        self.backend.waiting = []
        peer = self.peer()
        peer.join("c1", "s", "g")
        self.backend.change("s", "g", "i", b"1")
        self.assertEqual(peer.messages(), [])
        self.backend.waiting[0].callback(None)
        self.backend.change("s", "g", "i", b"2")
        self.assertEqual(peer.events(), [("sync", [1]), ("update", 2)])

    def test_once(self) -> None:
        """One frame for each event, also to who has joined the group and the item."""
        peer = self.peer()
        peer.join("c1", "s", "g")
        peer.join("c2", "s", "g", id="i")
        peer.messages()
        self.backend.change("s", "g", "i", b"1")
        self.assertEqual(peer.events(), [("create", 1)])

    def test_same_id(self) -> None:
        """A join with an id that is in use replaces what was joined; to join the same again is no leave."""
        peer = self.peer()
        peer.join("c1", "s", "g")
        peer.join("c1", "s", "g")
        self.assertEqual(self.attendance.gone, [])
        peer.join("c1", "s", "h")
        self.assertEqual([gone.group for gone in self.attendance.gone], ["g"])
        peer.messages()
        self.backend.change("s", "g", "i", b"1")
        self.backend.change("s", "h", "i", b"2")
        self.assertEqual(peer.events(), [("create", 2)])

    def test_what_handlers_get(self) -> None:
        """Join handlers get what the client asks for, and the context of its connection."""
        self.peer(b'{"user":"ann"}').join("c1", "s", "g", id="i", other=1)
        (subscription,) = self.attendance.joined
        self.assertEqual(
            (subscription.subscription_id, subscription.stream, subscription.group, subscription.item),
            ("c1", "s", "g", "i"),
        )
        self.assertEqual(bytes(subscription.context), b'{"user":"ann"}')

    def test_refused(self) -> None:
        """A refused join is told, takes no effect, and leaves what was joined before as it is."""
        peer = self.peer()
        peer.join("c1", "s", "g")
        self.attendance.allows = False
        peer.join("c1", "s", "h")
        got = peer.messages()[1]
        self.assertEqual((got["groupId"], got["subscriptionId"], got["event"]), ("h", "c1", {"type": "unauthorized"}))
        self.backend.change("s", "h", "i", b"1")
        self.backend.change("s", "g", "i", b"2")
        self.assertEqual(peer.events(), [("create", 2)])
        self.assertEqual(self.attendance.gone, [])

    def test_fails_closed(self) -> None:
        """When join handlers fail, the join is refused."""
        peer = self.peer()
        self.attendance.allows = FAILED
        peer.join("c1", "s", "g")
        self.attendance.allows = ValueError("a defect")
        peer.join("c2", "s", "g")
        self.assertEqual(peer.events(), [("unauthorized", None)] * 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_time_out(self) -> None:
        """Join handlers that do not answer in time refuse; what waited for them goes on."""
        peer = self.peer()
        self.attendance.allows = Deferred()
        peer.join("c1", "s", "g")
        self.attendance.allows = True
        peer.join("c2", "s", "g")
        self.clock.advance(HANDLER_TIMEOUT - 0.1)
        self.assertEqual(peer.messages(), [])
        self.clock.advance(0.1)
        self.assertEqual([event for event, _ in peer.events()], ["unauthorized", "sync"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_after_the_other(self) -> None:
        """Messages of a client are handled in order; those of others do not wait."""
        first, second = self.peer(), self.peer()
        self.attendance.allows = waiting = Deferred()
        first.join("c1", "s", "g")
        self.attendance.allows = True
        first.join("c2", "s", "h")
        first.send("leave", "c2", "s", "h")
        second.join("c1", "s", "g")
        self.assertEqual(len(second.messages()), 1)
        self.assertEqual([joined.group for joined in self.attendance.joined], ["g", "g"])
        waiting.callback(True)
        self.assertEqual([message["groupId"] for message in first.messages()], ["g", "h"])
        self.assertEqual([gone.group for gone in self.attendance.gone], ["h"])


class FailedReadTests(ClientsTestCase):
    def test_told(self) -> None:
        """A snapshot that cannot be read is told with an event that old clients ignore; events follow."""
        peer = self.peer()
        self.backend.failure = StorageError("/secret/path is broken")
        peer.join("c1", "s", "g")
        (message,) = peer.messages()
        self.assertEqual(message["event"]["type"], "error")
        self.assertEqual(message["event"]["error"]["code"], "snapshot_failed")
        self.assertNotIn("secret", json.dumps(message))
        self.backend.change("s", "g", "i", b"1")
        self.assertEqual(peer.events(), [("create", 1)])

    def test_defect(self) -> None:
        """A defect is logged; the join takes no effect and is left again."""
        peer = self.peer()
        self.backend.failure = ValueError("a defect")
        peer.join("c1", "s", "g")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(peer.messages()[0]["event"]["error"]["code"], "internal_error")
        self.assertEqual((len(self.attendance.gone), len(self.clients.fanout)), (1, 0))
        peer.join("c1", "s", "g")
        self.assertEqual(peer.events(), [("sync", [])])


class LargeSnapshotTests(ClientsTestCase):
    limits = Limits(stream_snapshot_bytes=100)

    def test_told(self) -> None:
        """Of a group that is too large the client is told so, and gets the events."""
        self.backend.change("s", "g", "i", b'"%s"' % (b"x" * 100))
        peer = self.peer()
        peer.join("c1", "s", "g")
        peer.join("c2", "s", "g", id="i")
        for message in peer.messages():
            self.assertEqual(message["event"]["error"]["code"], "snapshot_too_large")
            self.assertIn("engine.limits.stream_snapshot_bytes", message["event"]["error"]["message"])
        self.backend.change("s", "g", "i", b"1")
        self.assertEqual(peer.events(), [("update", 1)])
        self.assertEqual(self.engine.counters.limit_hits, {"stream_snapshot_bytes": 2})

    def test_custom(self) -> None:
        """Likewise of what a worker keeps."""

        async def read() -> Raw:
            return Raw(b'"%s"' % (b"x" * 100))

        self.custom["s", "g", None] = read
        peer = self.peer()
        peer.join("c1", "s", "g")
        self.assertEqual(peer.messages()[0]["event"]["error"]["code"], "snapshot_too_large")


class CustomTests(ClientsTestCase):
    def read(self, answer: Any) -> None:
        async def read() -> Raw:
            found = await answer if isinstance(answer, Deferred) else answer
            if isinstance(found, Exception):
                raise found
            assert isinstance(found, Raw)
            return found

        self.custom["s", "g", None] = read

    def test_read(self) -> None:
        """What a worker says that its stream has is passed on, whatever it is; nothing is null."""
        peer = self.peer()
        for answer in (Raw(b'[{"id": "m"}]'), Raw(b"7"), ABSENT):
            self.read(answer)
            peer.join("c1", "s", "g")
        got = peer.messages()
        self.assertEqual([message["event"].get("data") for message in got], [[{"id": "m"}], 7, None])
        self.assertNotIn("ids", got[0]["event"])

    def test_stamp(self) -> None:
        """The snapshot's stamp is earlier than that of every event that may not be in it."""
        self.read(waiting := Deferred())
        peer = self.peer()
        peer.join("c1", "s", "g")
        self.backend.change("s", "g", "i", b"1")
        waiting.callback(Raw(b"[]"))
        create, sync = peer.messages()
        self.assertEqual((create["event"]["type"], sync["event"]["type"]), ("create", "sync"))
        self.assertLess(sync["timestamp"], create["timestamp"])

    def test_failed(self) -> None:
        """When the worker fails, or does not answer in time, the client is told so and gets the events."""
        peer = self.peer()
        self.read(FAILED)
        peer.join("c1", "s", "g")
        self.read(Deferred())
        peer.join("c1", "s", "g")
        self.clock.advance(HANDLER_TIMEOUT)
        self.assertEqual([message["event"]["error"]["code"] for message in peer.messages()], ["snapshot_failed"] * 2)
        self.backend.change("s", "g", "i", b"1")
        self.assertEqual(peer.events(), [("create", 1)])


class LeaveTests(ClientsTestCase):
    def test_leave(self) -> None:
        """What is left is delivered no more; handlers hear what was joined, whatever the message says."""
        peer = self.peer(b'{"user":"ann"}')
        peer.join("c1", "s", "g", id="i")
        peer.messages()
        peer.send("leave", "c1", "another", "forged", id="x")
        self.assertEqual(self.attendance.gone, self.attendance.joined)
        self.backend.change("s", "g", "i", b"1")
        self.assertEqual((peer.messages(), len(self.clients.fanout)), ([], 0))

    def test_unknown(self) -> None:
        """To leave what was not joined is ignored."""
        peer = self.peer()
        peer.send("leave", "c1", "s", "g")
        self.assertEqual((self.attendance.gone, peer.messages()), ([], []))

    def test_failing_handlers(self) -> None:
        """The leave takes effect also when its handlers fail or take too long."""
        peer = self.peer()
        for answer in (FAILED, ValueError("a defect"), Deferred()):
            self.attendance.leaving = answer
            peer.join("c1", "s", "g")
            peer.send("leave", "c1", "s", "g")
            self.clock.advance(HANDLER_TIMEOUT)
        peer.join("c1", "s", "g")
        self.assertEqual([event for event, _ in peer.events()], ["sync"] * 4)
        self.flushLoggedErrors(ValueError)

    def test_disconnect(self) -> None:
        """When a connection ends, nothing is delivered to it, and handlers hear of all that it had joined, in turn."""
        peer = self.peer()
        for name in ("c1", "c2", "c3"):
            peer.join(name, "s", name)
        peer.send("leave", "c2", "s", "c2")
        self.attendance.gone.clear()
        self.attendance.leaving = waiting = Deferred()
        peer.client.closed()
        self.assertEqual(len(self.clients.fanout), 0)
        self.assertEqual([gone.group for gone in self.attendance.gone], ["c1"])
        self.assertEqual(self.clients.leaving, 1)
        ended = self.clients.all_ended()
        self.attendance.leaving = None
        waiting.callback(None)
        self.assertEqual([gone.group for gone in self.attendance.gone], ["c1", "c3"])
        self.assertEqual(self.clients.leaving, 0)
        self.successResultOf(ended)

    def test_disconnect_during_a_join(self) -> None:
        """A client that goes while handlers think about it is left again if they let it in, and not else."""
        for answer, heard in ((True, 1), (False, 0)):
            peer = self.peer()
            self.attendance.allows = waiting = Deferred()
            self.attendance.gone.clear()
            peer.join("c1", "s", "g")
            peer.join("c2", "s", "never asked")
            peer.client.closed()
            self.assertEqual(self.clients.leaving, 1)
            waiting.callback(answer)
            self.assertEqual(len(self.attendance.gone), heard)
            self.assertEqual((len(self.clients.fanout), self.clients.leaving), (0, 0))
        self.assertNotIn("never asked", [joined.group for joined in self.attendance.joined])

    def test_disconnect_during_a_snapshot(self) -> None:
        """A client that goes while its snapshot is read is not subscribed, and is left."""
        self.backend.waiting = []
        peer = self.peer()
        peer.join("c1", "s", "g")
        peer.client.closed()
        self.backend.waiting[0].callback(None)
        self.assertEqual((len(self.attendance.gone), len(self.clients.fanout), self.clients.leaving), (1, 0, 0))

    def test_counted(self) -> None:
        """Connections, subscriptions and deliveries are counted."""
        peers = [self.peer(), self.peer()]
        for peer in peers:
            peer.join("c1", "s", "g")
        self.backend.change("s", "g", "i", b"1")
        self.backend.change("s", "nobody", "i", b"1")
        peers[0].client.closed()
        counters = self.engine.counters
        self.assertEqual((counters.stream_connections, counters.stream_connections_ended), (2, 1))
        self.assertEqual((counters.stream_subscriptions, counters.stream_subscriptions_ended), (2, 1))
        self.assertEqual((counters.stream_events, counters.stream_deliveries), (1, 2))


class Thinking(FakeAttendance):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.thinking: list[Deferred[Any]] = []
        self.admitted: list[Subscription] = []

    async def joining(self, subscription: Subscription) -> bool:
        answer = await self._think()
        if answer:
            self.admitted.append(subscription)
        return answer

    async def left(self, subscription: Subscription) -> None:
        self.gone.append(subscription)
        await self._think()

    async def _think(self) -> bool:
        waiting: Deferred[bool] = Deferred()
        self.thinking.append(waiting)
        return await waiting


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(0, 1), st.integers(0, 1), st.sampled_from([None, "a", "b"])),
        st.tuples(st.just("leave"), st.integers(0, 1), st.integers(0, 1)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("answer"), st.booleans()),
        st.tuples(st.just("snapshot"), st.booleans()),
        st.tuples(st.just("close"), st.integers(0, 1)),
        st.tuples(st.just("change"), st.sampled_from(["a", "b"])),
    ),
    max_size=60,
)


class RandomTests(ClientsTestCase):
    @settings(deadline=None)
    @given(STEPS)
    def test_whoever_comes_goes(self, steps: list[Any]) -> None:
        """
        However joins, leaves, ends of connections, answers of handlers and snapshots follow on each other: in the end
        nothing is subscribed, and all that was let in has been told to have left, once.  Only what was joined again
        under its id has not.
        """
        super().setUp()
        attendance = Thinking()
        clients = Clients(attrs.evolve(self.surroundings, attendance=attendance))
        self.backend.observer = clients.deliver
        self.backend.waiting = []
        peers = [Peer(clients, b"%d" % number) for number in range(2)]
        closed: set[int] = set()

        def close(index: int) -> None:
            if index not in closed:
                closed.add(index)
                peers[index].client.closed()

        def settle() -> None:
            while attendance.thinking or self.backend.waiting:
                (attendance.thinking or self.backend.waiting).pop(0).callback(True)

        for kind, *step in steps:
            if kind == "join" and step[0] not in closed:
                peers[step[0]].join(str(step[1]), "s", "g", id=step[2])
            elif kind == "leave" and step[0] not in closed:
                peers[step[0]].send("leave", str(step[1]), "s", "g")
            elif kind == "answer" and attendance.thinking:
                attendance.thinking.pop(0).callback(step[0])
            elif kind == "snapshot" and self.backend.waiting:
                self.backend.failure = None if step[0] else StorageError("broken")
                self.backend.waiting.pop(0).callback(None)
            elif kind == "settle":
                settle()
            elif kind == "close":
                close(step[0])
            elif kind == "change":
                self.backend.change("s", "g", step[0], b"1")
        for index in range(2):
            close(index)
        settle()
        self.successResultOf(clients.all_ended())
        self.assertEqual((len(clients.fanout), clients.leaving), (0, 0))
        counters = self.engine.counters
        self.assertEqual(counters.stream_subscriptions, counters.stream_subscriptions_ended)
        self.assertEqual(counters.stream_connections_ended, 2)
        told = {id(subscription) for subscription in attendance.gone}
        self.assertEqual(len(told), len(attendance.gone))
        self.assertLessEqual(told, {id(subscription) for subscription in attendance.admitted})
        names = [(bytes(each.context), each.subscription_id, each.item) for each in attendance.admitted]
        for index, subscription in enumerate(attendance.admitted):
            if id(subscription) not in told:
                self.assertIn(names[index], names[index + 1 :])


class HostileTests(ClientsTestCase):
    limits = Limits(stream_subscriptions_per_connection=3, stream_subscription_bytes_per_connection=1000)

    def test_garbage(self) -> None:
        """What is no message is answered with an event that belongs to no subscription, and harms nothing."""
        garbage: list[bytes] = [
            b"", b"nonsense", b"\xff\xfe", b"[]", b"null", b'{"type":"join"}', b'{"type":"shout","data":{}}',
            b'{"type":"join","data":{"subscriptionId":"c","streamName":"s"}}',
            b'{"type":"join","data":{"subscriptionId":1,"streamName":"s","groupId":"g"}}',
            b'{"type":"join","data":{"subscriptionId":"c","streamName":"s","groupId":"g","id":7}}',
            b'{"type":"join","data":{"subscriptionId":"\\ud800","streamName":"s","groupId":"g"}}',
            b'{"type":"join","x":' + b"[" * 60_000,
        ]  # fmt: skip
        peer = self.peer()
        for message in garbage:
            peer.client.received(message)
        got = peer.messages()
        self.assertEqual(len(got), len(garbage))
        for message in got:
            self.assertEqual((message["streamName"], message["groupId"], message["id"]), ("", "", None))
            self.assertEqual((message["event"]["type"], message["event"]["error"]["code"]),
                             ("error", "malformed_message"))  # fmt: skip
        self.assertEqual(self.engine.counters.malformed_frames, len(garbage))
        peer.join("c1", "s", "g")
        self.assertEqual(peer.events(), [("sync", [])])

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_any_bytes(self, message: bytes) -> None:
        """Any bytes are read as a message or refused; nothing else is raised."""
        try:
            messages.decode(message)
        except messages.Unreadable:
            pass

    def test_many_joins(self) -> None:
        """One subscription more than the limit is refused without asking anybody; a leave makes room."""
        peer = self.peer()
        for number in range(5):
            peer.join(f"c{number}", "s", "g")
        got = peer.messages()
        self.assertEqual([message["event"]["type"] for message in got], ["sync"] * 3 + ["error"] * 2)
        self.assertEqual(got[4]["event"]["error"]["code"], "too_many_subscriptions")
        self.assertEqual(got[4]["subscriptionId"], "c4")
        self.assertEqual(len(self.attendance.joined), 3)
        self.assertEqual(self.engine.counters.limit_hits, {"stream_subscriptions_per_connection": 2})
        peer.join("c0", "s", "other")
        peer.send("leave", "c1", "s", "g")
        peer.join("c9", "s", "g")
        self.assertEqual([event for event, _ in peer.events()], ["sync", "sync"])

    def test_huge_ids(self) -> None:
        """The ids and names of a connection's subscriptions have a limit together; a leave makes room."""
        peer = self.peer()
        peer.join("x" * 600, "s", "g")
        peer.join("c2", "s", "ä" * 300)
        self.assertEqual([event for event, _ in peer.events()], ["sync", "error"])
        self.assertEqual(self.engine.counters.limit_hits, {"stream_subscription_bytes_per_connection": 1})
        peer.join("x" * 600, "s", "h")
        peer.send("leave", "x" * 600, "s", "g")
        peer.join("c2", "s", "ä" * 300)
        self.assertEqual([event for event, _ in peer.events()], ["sync", "sync"])

    def test_flood(self) -> None:
        """A client that sends on while a join is being decided is not read from until that is done."""
        peer = self.peer()
        self.attendance.allows = waiting = Deferred()
        peer.join("c1", "s", "g")
        sent = 0
        while not peer.edge.holds:
            peer.send("leave", "c2", "s", "g")
            sent += 1
            self.assertLess(sent, WAITING_BYTES // 200)
        waiting.callback(True)
        self.assertEqual(peer.edge.holds, set())

    def test_not_reading(self) -> None:
        """Nothing more is done for a client that does not take what it got."""
        peer = self.peer()
        peer.edge.outbox.full = True
        peer.join("c1", "s", "g")
        self.assertEqual((peer.messages(), self.attendance.joined), ([], []))
        peer.edge.outbox.full = False
        peer.client.drained()
        self.assertEqual(peer.events(), [("sync", [])])
