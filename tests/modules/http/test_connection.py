"""Tests for L{iii.modules.http.connection}."""

from __future__ import annotations

import gc
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.http.connection import BODY_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT, WRITE_TIMEOUT
from iii.modules.http.exchange import Exchange
from tests.modules.http.fakes import DATE, Client, Invocation, Server, WorkerEnd

GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
SOAK = settings(
    max_examples=50_000 if os.environ.get("III_SOAK") else 300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class ConnectionTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.server.route("GET", "a")
        self.server.route("POST", "a")
        self.server.route("HEAD", "a")
        self.client = self.server.connect()

    @property
    def calls(self) -> list[Invocation]:
        calls: list[Invocation] = self.server.engine.calls
        return calls

    @property
    def ended(self) -> str | None:
        """How the server has ended the connection."""
        return self.client.transport.ended


class KeepAliveTests(ConnectionTestCase):
    def test_one_after_the_other(self) -> None:
        """A connection serves many requests."""
        for number in range(50):
            self.client.send(GET)
            self.calls[-1].returns({"body": number})
        responses = self.client.responses(*["GET"] * 50)
        self.assertEqual([each.json for each in responses], list(range(50)))
        self.assertEqual((responses[0]["connection"], self.ended), (None, None))

    def test_close(self) -> None:
        """When the client asks to close, the answer says so, and the connection ends."""
        self.client.request("GET", "/a", connection="close")
        self.assertEqual(self.ended, None)
        self.calls[-1].returns({})
        self.assertEqual((self.client.response()["connection"], self.ended), ("close", "closed"))

    def test_http10(self) -> None:
        """A client of HTTP/1.0 gets the connection closed, unless it asks for the contrary."""
        self.client.request("GET", "/a", version="1.0", connection="keep-alive")
        self.calls[-1].returns({})
        self.client.request("GET", "/a", version="1.0")
        self.calls[-1].returns({})
        first, second = self.client.responses("GET", "GET")
        self.assertEqual((first["connection"], second["connection"]), ("keep-alive", "close"))
        self.assertEqual(self.ended, "closed")

    def test_nothing_after_close(self) -> None:
        """What comes after the last request is neither answered nor an error."""
        self.client.send(b"GET /a HTTP/1.1\r\nconnection: close\r\n\r\n" + GET)
        self.calls[0].returns({})
        self.client.send(GET)
        self.assertEqual((len(self.calls), self.client.response().status), (1, 200))

    def test_upgrade(self) -> None:
        """A route answers a request for another protocol as any other."""
        self.client.request("GET", "/a", connection="Upgrade", upgrade="websocket")
        self.calls[0].returns({"body": 1})
        self.assertEqual(self.client.response().json, 1)


class PipeliningTests(ConnectionTestCase):
    def test_order(self) -> None:
        """Requests are worked on concurrently and answered in their order."""
        self.client.send(GET * 4)
        for number in (2, 1, 3):
            self.calls[number].returns({"body": number})
        self.assertEqual(self.client.raw, b"")
        self.calls[0].returns({"body": 0})
        self.assertEqual([each.json for each in self.client.responses(*["GET"] * 4)], [0, 1, 2, 3])

    def test_answered_while_reading(self) -> None:
        """Requests of one read that are answered at once leave in one write, too."""
        writes: list[bytes] = []
        self.patch(self.client.transport, "write", writes.append)
        self.client.connection.dataReceived(b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
        self.server.turn()
        self.assertEqual(len(writes), 1)
        self.assertEqual(writes[0].count(b" 404 "), 20)

    def test_one_send(self) -> None:
        """What becomes ready in one turn leaves in one write."""
        writes: list[bytes] = []
        self.patch(self.client.transport, "write", writes.append)
        self.client.connection.dataReceived(GET * 3)
        for call in self.calls:
            call.returns({})
        self.server.turn()
        self.assertEqual(len(writes), 1)

    def test_answers_of_the_router(self) -> None:
        """An answer that needs no function waits for its turn, too."""
        self.client.send(GET + b"GET /none HTTP/1.1\r\n\r\n")
        self.assertEqual(self.client.raw, b"")
        self.calls[0].returns({})
        self.assertEqual([each.status for each in self.client.responses("GET", "GET")], [200, 404])

    def test_bounded(self) -> None:
        """Only so many requests are taken up; then the client is not read from until answers have left."""
        server = Server(http_pipelined=4)
        server.route("GET", "a")
        client = server.connect()
        client.send(GET * 10)
        self.assertEqual((len(server.engine.calls), client.transport.reading), (4, False))
        server.engine.calls[1].returns({})
        self.assertEqual(len(server.engine.calls), 4)
        server.engine.calls[0].returns({})
        self.assertEqual((len(server.engine.calls), client.transport.reading), (6, False))
        for number in range(2, 10):
            server.engine.calls[number].returns({})
        self.assertEqual((len(client.responses(*["GET"] * 10)), client.transport.reading), (10, True))
        self.assertTrue(server.is_empty())

    def test_body_at_the_bound(self) -> None:
        """The last request taken up is read to its end all the same."""
        server = Server(http_pipelined=2)
        server.route("POST", "a")
        client = server.connect()
        post = b"POST /a HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[1]"
        client.send(post + post[:-2])
        self.assertTrue(client.transport.reading)
        client.send(post[-2:] + post)
        self.assertEqual((len(server.engine.calls), client.transport.reading), (2, False))

    def test_answered_at_once(self) -> None:
        """Thousands of requests that are answered at once neither recurse nor wait."""
        self.client.send(b"GET /none HTTP/1.1\r\n\r\n" * 3000)
        self.assertEqual(self.client.raw.count(b"HTTP/1.1 404"), 3000)

    def test_client_does_not_read(self) -> None:
        """Of the requests that one read has brought, no more are taken up while answers wait for the client."""
        server = Server(outbox_bytes=5000, http_pipelined=4)
        server.route("GET", "a")
        server.engine.at_once = lambda call: call.returns({"body": "x" * 1000})
        client = server.connect()
        client.transport.takes = False
        client.send(GET * 500)
        taken_up = len(server.engine.calls)
        self.assertLess(taken_up, 100)  # also the transport keeps 64 KiB
        client.transport.takes = True
        client.transport.take(10**6)
        answers = client.responses(*["GET"] * 500)
        self.assertEqual({answer.status for answer in answers}, {200})
        self.assertEqual((len(answers), len(server.engine.calls)), (500, 500))

    def test_reads_slowly_what_it_asked_for(self) -> None:
        """A client that takes little at a time is not idle, although all that was taken up is answered."""
        server = Server(outbox_bytes=5000, http_pipelined=4)
        server.route("GET", "a")
        server.engine.at_once = lambda call: call.returns({"body": "x" * 1000})
        client = server.connect()
        client.transport.takes = False
        client.send(GET * 500)
        for _ in range(4):
            server.wait(int(WRITE_TIMEOUT) - 10)
            client.transport.take(1000)
        self.assertIsNone(client.transport.ended)
        client.transport.takes = True
        client.transport.take(10**6)
        self.assertEqual(len(client.responses(*["GET"] * 500)), 500)

    def test_held_answers_are_bounded(self) -> None:
        """Answers that wait behind another one count; above the hard limit the connection is cut."""
        server = Server(outbox_bytes=1000, outbox_hard_bytes=100_000)
        server.route("GET", "a")
        client = server.connect()
        client.send(GET * 4)
        for number in (1, 2, 3):
            server.engine.calls[number].returns({"body": "x" * 40_000})
        self.assertEqual(client.transport.ended, "aborted")
        self.assertTrue(server.engine.calls[0].cancelled)
        self.assertTrue(server.is_empty())

    def test_held_answers_are_forgotten(self) -> None:
        """What was held and has left does not count any more."""
        server = Server(outbox_hard_bytes=100_000)
        server.route("GET", "a")
        client = server.connect()
        for _ in range(5):
            client.send(GET * 2)
            first, second = server.engine.calls[-2:]
            second.returns({"body": "x" * 40_000})
            first.returns({})
            server.turn()
        self.assertEqual(len(client.responses(*["GET"] * 10)), 10)

    def test_close_in_the_middle(self) -> None:
        """When an answer ends the connection, requests behind it are abandoned."""
        self.client.send(GET * 3)
        self.calls[1].returns({"status_code": 101})
        self.calls[0].returns({})
        self.assertEqual(self.ended, "closed")
        self.assertTrue(self.calls[2].cancelled)
        self.assertTrue(self.server.is_empty())


class RefusalsTests(ConnectionTestCase):
    def test_malformed(self) -> None:
        """What is no request gives an empty 400 without CORS headers, and the connection ends."""
        self.client.send(b"GET /a HTTP/1.1\r\na : b\r\n\r\n")
        self.assertEqual(
            self.client.raw,
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: " + DATE + b"\r\n\r\n",
        )
        self.assertEqual(self.ended, "half-closed")

    def test_limits(self) -> None:
        """Head and target above the limit, and too many header lines, have their own status."""
        for data, status in (
            (b"GET / HTTP/1.1\r\na: " + b"b" * 2**16, 431),
            (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
            (b"GET /" + b"a" * 2**16, 414),
        ):
            client = self.server.connect()
            client.send(data)
            self.assertEqual(client.response().status, status)

    def test_after_others(self) -> None:
        """It is said after the answers to the requests before; what follows is dropped."""
        self.client.send(GET + b"rubbish\r\n\r\n" + GET)
        self.client.send(GET)
        self.assertEqual(self.client.raw, b"")
        self.calls[0].returns({})
        self.assertEqual([each.status for each in self.client.responses("GET", "GET")], [200, 400])
        self.assertEqual(len(self.calls), 1)

    def test_in_a_body(self) -> None:
        """A body that cannot be read ends its request: the call is forgotten and the client told."""
        self.client.send(b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        reader = self.server.end_of("request_body")
        self.client.send(b"x\r\n")
        self.assertEqual(self.client.response("POST").status, 400)
        self.assertTrue(self.calls[0].cancelled)
        self.assertTrue(reader.finished)
        self.assertTrue(self.server.is_empty())

    def test_in_a_body_after_the_answer(self) -> None:
        """When the answer is out, nothing more can be said; the connection ends."""
        self.client.send(b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        self.calls[0].returns({"body": 1})
        self.client.send(b"x\r\n")
        self.assertEqual((self.client.response("POST").json, self.ended), (1, "half-closed"))

    def test_in_a_body_during_the_answer(self) -> None:
        """A streamed answer under way is cut, so that it does not look complete."""
        self.client.send(b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        writer = self.server.end_of("response")
        writer.binary(b"a")
        self.server.turn()
        self.client.send(b"x\r\n")
        self.assertEqual((self.ended, writer.finished), ("aborted", True))
        self.assertTrue(self.server.is_empty())

    def test_hidden_request(self) -> None:
        """A request in the body of another is never served (TRAPS.md: C{h2c} on a POST)."""
        hidden = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
        self.client.send(
            b"POST /a HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: %d\r\n\r\n" % len(hidden)
            + hidden
        )
        self.assertEqual([call.data["method"] for call in self.calls], ["POST"])


class TimeoutsTests(ConnectionTestCase):
    def wait(self, seconds: float) -> None:
        self.server.wait(int(seconds))

    def test_idle(self) -> None:
        """A connection without a request is closed in time, silently."""
        self.client.send(GET)
        self.calls[0].returns({})
        self.wait(IDLE_TIMEOUT - 1)
        self.client.send(GET)
        self.calls[1].returns({})
        self.wait(IDLE_TIMEOUT - 1)
        self.assertEqual(self.ended, None)
        self.wait(3)
        self.assertEqual((self.ended, len(self.client.responses("GET", "GET"))), ("closed", 2))

    def test_idle_from_the_start(self) -> None:
        """So is one that never sends anything."""
        self.wait(IDLE_TIMEOUT + 2)
        self.assertEqual((self.ended, self.client.raw), ("closed", b""))

    def test_not_idle(self) -> None:
        """One that waits for an answer is not idle; its time begins with the answer."""
        server = Server(timeout=1000.0)
        server.route("GET", "a")
        client = server.connect()
        client.send(GET)
        server.wait(500)
        server.engine.calls[0].returns({})
        server.wait(int(IDLE_TIMEOUT) - 1)
        self.assertEqual(client.transport.ended, None)

    def test_slow_head(self) -> None:
        """A head that does not get complete is given up, however steadily it comes."""
        self.client.send(b"GET / HTTP/1.1\r\n")
        for _ in range(int(HEAD_TIMEOUT) + 2):
            self.client.send(b"a: b\r\n")
            self.wait(1)
        self.assertEqual((self.client.response().status, self.ended), (408, "half-closed"))

    def test_many_heads(self) -> None:
        """Heads of different requests are not added up."""
        self.client.send(GET[:10])
        for _ in range(3 * int(HEAD_TIMEOUT)):
            self.wait(1)
            self.client.send(GET[10:] + GET[:10])
            self.calls[-1].returns({})
        self.assertEqual(self.ended, None)

    def test_slow_body(self) -> None:
        """A body that stops coming is given up; one that goes on is not."""
        self.client.send(b"POST /a HTTP/1.1\r\ncontent-length: 100\r\n\r\n")
        self.server.end_of("response").binary(b"x")
        for _ in range(3):
            self.wait(BODY_TIMEOUT - 1)
            self.client.send(b"a")
        self.assertEqual(self.ended, None)
        self.wait(BODY_TIMEOUT + 2)
        self.assertEqual(self.ended, "aborted")

    def test_slow_json(self) -> None:
        """Before an answer has begun it is a 408."""
        server = Server(timeout=1000.0)
        server.route("POST", "a")
        client = server.connect()
        client.send(b"POST /a HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n")
        server.wait(int(BODY_TIMEOUT) + 2)
        self.assertEqual((client.response("POST").status, client.transport.ended), (408, "half-closed"))

    def test_body_after_the_answer(self) -> None:
        """A body that nobody needs any more cannot hold the connection by trickling in."""
        self.client.send(b"POST /none HTTP/1.1\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(int(BODY_TIMEOUT) + 2):
            self.client.send(b"a")
            self.wait(1)
        self.assertEqual((self.client.response("POST").status, self.ended), (404, "half-closed"))

    def test_stalled_body(self) -> None:
        """That the function does not read its body is not the client's fault."""
        server = Server(timeout=1000.0, channel_buffer_bytes=10)
        server.route("POST", "a")
        client = server.connect()
        client.send(b"POST /a HTTP/1.1\r\ncontent-length: 100\r\n\r\n" + b"x" * 20)
        self.assertFalse(client.transport.reading)
        server.wait(200)
        server.end_of("request_body")
        self.assertTrue(client.transport.reading)
        server.wait(int(BODY_TIMEOUT) - 1)
        self.assertEqual(client.transport.ended, None)

    def stop_reading(self, server: Server) -> Client:
        """Return a client that has asked for much and does not read it."""
        server.route("GET", "a")
        client = server.connect()
        client.transport.takes = False
        client.send(GET * 3)
        server.engine.calls[0].returns({"body": "x" * 100_000})
        server.turn()
        server.engine.calls[1].returns({"body": "x" * 100_000})
        server.turn()
        return client

    def test_never_reads(self) -> None:
        """A client that takes nothing of what waits for it is cut off."""
        server = Server(outbox_bytes=1000)
        client = self.stop_reading(server)
        self.assertFalse(client.transport.reading)
        server.wait(int(WRITE_TIMEOUT) - 1)
        self.assertEqual(client.transport.ended, None)
        server.wait(3)
        self.assertEqual(client.transport.ended, "aborted")
        self.assertTrue(server.is_empty())

    def test_reads_slowly(self) -> None:
        """One that takes something is not."""
        server = Server(outbox_bytes=1000, timeout=10_000.0)
        client = self.stop_reading(server)
        for _ in range(5):
            server.wait(int(WRITE_TIMEOUT) - 1)
            client.transport.take(100)
        self.assertEqual(client.transport.ended, None)
        client.transport.takes = True
        client.transport.take(10**9)
        server.turn()
        server.wait(int(WRITE_TIMEOUT) + 5)
        self.assertEqual((client.transport.ended, client.transport.reading), (None, True))
        server.engine.calls[2].returns({})
        self.assertEqual(len(client.responses("GET", "GET", "GET")), 3)

    def test_does_not_read_the_last_answer(self) -> None:
        """A closed connection whose client does not read the rest is cut off."""
        self.client.transport.takes = False
        self.client.request("GET", "/a", connection="close")
        self.calls[0].returns({"body": "x" * 100_000})
        self.server.turn()
        self.assertEqual(self.ended, "closed")
        self.wait(WRITE_TIMEOUT - 1)
        self.client.transport.take(10)
        self.wait(WRITE_TIMEOUT - 1)
        self.assertEqual(self.ended, "closed")
        self.wait(5)
        self.assertEqual(self.ended, "aborted")

    def test_lingering_from_a_pause(self) -> None:
        """A client that was not read from is read from again, so that its end of the connection is seen."""
        server = Server(http_pipelined=1)
        server.route("GET", "a")
        client = server.connect()
        client.send(GET * 3)
        self.assertFalse(client.transport.reading)
        server.engine.calls[0].returns({"status_code": 101})
        self.assertEqual((client.transport.ended, client.transport.reading), ("half-closed", True))

    def test_lingering(self) -> None:
        """A client that is still sending can read the answer; then the connection is cut."""
        self.client.send(b"rubbish\n\n")
        self.assertEqual(self.ended, "half-closed")
        self.client.send(b"more")
        self.wait(LINGER_TIMEOUT + 1)
        self.assertEqual(self.ended, "aborted")


class StoppingTests(ConnectionTestCase):
    def test_idle(self) -> None:
        """An idle connection is closed."""
        self.server.site.closing = True
        self.client.connection.retire()
        self.assertEqual(self.ended, "closed")

    def test_in_progress(self) -> None:
        """Requests in progress are answered; the last answer says that the connection ends."""
        self.client.send(GET * 2)
        self.server.site.closing = True
        self.client.connection.retire()
        self.calls[0].returns({})
        self.calls[1].returns({})
        first, second = self.client.responses("GET", "GET")
        self.assertEqual((first["connection"], second["connection"], self.ended), (None, "close", "closed"))

    def test_streaming(self) -> None:
        """A response whose head is sent is completed, then the connection ends."""
        self.client.send(GET)
        writer = self.server.end_of("response")
        writer.binary(b"a")
        self.server.site.closing = True
        self.client.connection.retire()
        writer.close()
        self.assertEqual((self.client.response().body, self.ended), (b"a", "closed"))

    def test_at_once(self) -> None:
        """Closing abandons what is in progress."""
        self.client.send(GET)
        self.client.connection.close()
        self.assertEqual((self.ended, self.calls[0].cancelled), ("closed", True))
        self.assertTrue(self.server.is_empty())


class LeakTests(ConnectionTestCase):
    def count(self) -> int:
        return sum(isinstance(each, Exchange) for each in gc.get_objects())

    def test_nothing_stays(self) -> None:
        """When a request is answered its objects are gone, without help of the garbage collector."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = self.count()
        open_writers: list[WorkerEnd] = []
        for _ in range(3):
            self.client.send(GET)
            self.calls.pop().returns({})
            self.client.send(b"POST /a HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n1")
            self.calls.pop().fails("a", "b")
            self.client.send(b"POST /a HTTP/1.1\r\ncontent-length: 1\r\n\r\n1")
            self.server.end_of("request_body")
            self.calls.pop().returns({})
            for _ in range(2):
                self.client.send(GET)
                writer = self.server.end_of("response")
                writer.binary(b"a")
                writer.close()
                self.calls.clear()
            self.client.send(GET)
            open_writers.append(self.server.end_of("response"))
            open_writers[-1].text(type="set_status", status_code=201)
            self.calls.pop().returns({})
            self.client.send(b"HEAD /a HTTP/1.1\r\n\r\n")
            open_writers.append(self.server.end_of("response"))
            open_writers[-1].binary(b"a")
            self.calls.clear()
            self.client.send(b"GET /none HTTP/1.1\r\n\r\n")
        self.client.lost()
        self.assertEqual(self.count() - before, 3)  # a worker that still writes knows what it writes to
        for writer in open_writers:
            writer.close()
        self.assertEqual(self.count() - before, 0)
        self.assertTrue(self.server.is_empty())


steps = st.lists(
    st.sampled_from(["send", "send", "send", "return", "null", "fail", "write", "text", "end", "read", "tick"]),
    max_size=30,
)
pieces = st.one_of(
    st.sampled_from(
        [
            GET, GET[:20], GET[20:], b"POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", b"GET /none HTTP/1.1\r\n\r\n",
            b"POST /a HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n", b"[1]", b"abc",
            b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"\r\n",
            b"HEAD /a HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n", b"GET /a HTTP/1.0\r\n\r\n", GET * 6,
            b"POST /a HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
        ]
    ),
    st.binary(max_size=30),
)  # fmt: skip


class PropertyTests(SynchronousTestCase):
    @SOAK
    @given(steps, st.data())
    def test_anything(self, steps: list[str], data: st.DataObject) -> None:
        """Whatever client and worker do in whatever order, nothing is raised and nothing is left behind."""
        server = Server(http_pipelined=4, concurrency=2, http_body_bytes=50, outbox_bytes=500, channel_buffer_bytes=20)
        for method in ("GET", "POST", "HEAD"):
            server.route(method, "a")
        client = server.connect()
        writers = []
        for step in steps:
            calls = server.engine.calls
            if step == "send" and client.transport.ended is None:
                client.send(data.draw(pieces))
            elif step == "tick":
                server.wait(data.draw(st.integers(1, 40)))
            elif step == "write" and calls:
                call = data.draw(st.sampled_from(calls))
                ref = call.data["response"]
                channel = server.engine.channels.find(ref["channel_id"], ref["access_key"])
                if channel is not None and channel.writer is None:
                    writers.append(server.end_of("response", call))
                if writers:
                    data.draw(st.sampled_from(writers)).binary(b"x" * data.draw(st.integers(0, 300)))
            elif step == "text" and writers:
                data.draw(st.sampled_from(writers)).text(
                    type="set_status", status_code=data.draw(st.integers(100, 600))
                )
            elif step == "end" and writers:
                writer = data.draw(st.sampled_from(writers))
                writers.remove(writer)
                writer.close()
            elif step == "read" and calls:
                ref = data.draw(st.sampled_from(calls)).data["request_body"]
                channel = server.engine.channels.find(ref["channel_id"], ref["access_key"])
                if channel is not None and channel.reader is None:
                    server.end_of("request_body", next(call for call in calls if call.data["request_body"] == ref))
            elif step in ("return", "null", "fail") and calls:
                call = data.draw(st.sampled_from(calls))
                outcome = {"return": b'{"body":1}', "null": b"null", "fail": None}[step]
                if outcome is None:
                    call.fails("a", "b")
                else:
                    call.returns_raw(outcome)
                call.cancelled = True
        client.lost()
        self.assertTrue(server.is_empty())
        self.assertEqual(len(server.site.connections), 0)
