"""Tests for what one sees of queues and does to them (spec/queue.md, 8; docs/queue.md)."""

from __future__ import annotations

from typing import Any

from tests.core.fakes import connect
from tests.modules.queue.case import QueueTestCase


class FunctionTests(QueueTestCase):
    queues = {
        "one": {"max_retries": 1, "concurrency": 1},
        "few": {"max_retries": 1, "dlq_max_jobs": 2},
        "brief": {"max_retries": 1, "dlq_retention_ms": 30_000},
        "orders": {"type": "fifo", "message_group_field": "g"},
    }

    def setUp(self) -> None:
        super().setUp()
        self.worker.register("f")

    def bury(self, *payloads: Any, queue: str = "one") -> list[str]:
        """Let messages become dead letters, one a second, and return their ids."""
        ids = []
        for payload in payloads:
            ids.append(self.enqueue(payload, queue=queue))
            self.fail_job(self.jobs()[-1], f"no {payload}")
            self.turn(1)
        return ids

    def stats(self, topic: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("engine::queue::topic_stats", {"topic": topic})
        return answer

    def test_redrive(self) -> None:
        """Dead letters are delivered again, oldest first, under their ids, with all their deliveries before them."""
        first, second = self.bury(1, 2)
        self.assertEqual(self.ask("iii::queue::redrive", {"queue": "one"}), {"queue": "one", "redriven": 2})
        self.assertEqual(self.payloads(), [1, 2, 1])
        self.assertEqual(self.rows("id, state, attempts, error"), [(first, 0, 0, ""), (second, 0, 0, "")])
        self.answer(self.jobs()[2])
        self.answer(self.jobs()[3])
        self.assertEqual((self.payloads(), self.rows()), ([1, 2, 1, 2], []))
        self.assertEqual(self.ask("iii::queue::redrive", {"queue": "one"})["redriven"], 0)

    def test_redrive_keeps(self) -> None:
        """A dead letter that is delivered again keeps its namespace, its trace and its baggage."""
        other = connect(self.engine, "other", namespace="other")
        other.register("f")
        trace = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "baggage": "a=1"}
        self.enqueue(1, queue="one", namespace="other", **trace)
        self.fail_job(self.jobs(other)[0], worker=other)
        self.ask("iii::queue::redrive", {"queue": "one"})
        first, second = self.jobs(other)
        self.assertNotEqual(first.pop("invocation_id"), second.pop("invocation_id"))
        self.assertRegex(second.pop("traceparent"), f"^00-{'1' * 32}-(?!2{{16}})[0-9a-f]{{16}}-01$")
        del first["traceparent"]
        self.assertEqual(second, first)

    def test_named_queue_first(self) -> None:
        """Where a topic and a named queue have one name, it is that of the queue."""
        self.worker.register_trigger("t", "durable:subscriber", "f", config={"topic": "one"})
        self.ask("iii::durable::publish", {"topic": "one", "data": 1})
        self.assertEqual(len(self.jobs()), 1)
        self.assertEqual(self.stats("one")["depth"], 0)
        rows = [row for row in self.ask("engine::queue::list_topics") if row["name"] == "one"]
        self.assertEqual([(row["kind"], row["in_flight"]) for row in rows], [("queue", 0)])
        self.assertEqual([row["topic"] for row in self.ask("engine::queue::dlq_topics")].count("one"), 1)

    def test_unknown_names(self) -> None:
        """A name that nobody knows is no error: there is nothing in it."""
        for function_id, given, answer in (
            ("iii::queue::redrive", {"queue": "x"}, {"queue": "x", "redriven": 0}),
            ("engine::queue::discard", {"queue": "x"}, {"queue": "x", "discarded": 0}),
            ("engine::queue::jobs", {"queue": "x"}, []),
        ):
            self.assertEqual(self.ask(function_id, given), answer)

    def test_redrive_many(self) -> None:
        """So also with more than fit into one piece; twice at one time moves each once."""
        self.ask("engine::queue::pause", {"queue": "few"})
        rows = "SELECT 1000 + value, 'd' || value, '__fn_queue::few', 2, 0, '', 'default', 'f', NULL, NULL, 1, 0"
        numbers = "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 700)"
        self.store._connection.execute(f"INSERT INTO job {numbers} {rows}, 0, 0, value, '', x'31' FROM n")
        self.restart()
        self.store.hold()
        calls = [self.worker.call("iii::queue::redrive", {"queue": "few"}) for _ in range(2)]
        self.turn()
        while self.store.release(hold=True):
            self.turn()
        moved = [self.worker.outcome(call)["redriven"] for call in calls]
        self.assertEqual(sum(moved), 700)
        self.assertEqual(self.rows("id"), [(f"d{number}",) for number in range(1, 701)])
        self.assertEqual((self.stats("few")["ready"], self.stats("few")["dlq_depth"]), (700, 0))

    def test_redrive_filtered(self) -> None:
        """A filter says which ones, and a limit how many."""
        self.bury(1, 12, 2, 23)
        for given, expected in (
            ({"error_contains": "no 1"}, 2), ({"error_code": "other"}, 0), ({"function_id": "g"}, 0),
            ({"failed_before_ms": 0}, 0), ({"namespace": "default", "failed_after_ms": 1_000_003_000}, 1),
        ):  # fmt: skip
            answer = self.ask("iii::queue::redrive", {"queue": "one", "filter": given})
            self.assertEqual(answer["redriven"], expected, given)
        self.assertEqual(self.ask("engine::queue::discard", {"queue": "one", "limit": 1})["discarded"], 1)
        self.assertEqual(self.stats("one")["dlq_depth"], 0)

    def test_redrive_some(self) -> None:
        """So many as were asked for, those that failed first."""
        ids = self.bury(1, 2, 3)
        self.ask("engine::queue::pause", {"queue": "one"})
        self.assertEqual(self.ask("iii::queue::redrive", {"queue": "one", "limit": 2})["redriven"], 2)
        self.assertEqual(sorted(self.rows()), sorted(zip(ids, (0, 0, 2), strict=True)))

    def test_span(self) -> None:
        """The moments of a filter may be any numbers; those who have failed at C{failed_after_ms} are among them."""
        self.bury(1, 2, 3)
        for given, expected in (
            ({"failed_after_ms": 2**70}, 0), ({"failed_before_ms": -(2**70)}, 0),
            ({"failed_after_ms": 1_000_001_000, "failed_before_ms": 1_000_002_000}, 1),
            ({"failed_after_ms": -(2**70), "failed_before_ms": 2**70}, 2),
        ):  # fmt: skip
            answer = self.ask("engine::queue::discard", {"queue": "one", "filter": given})
            self.assertEqual(answer["discarded"], expected, given)

    def test_misspelt_filter(self) -> None:
        """A member of a filter that is not known is refused by name: without it, all dead letters would be meant."""
        self.bury(1)
        for function_id in ("engine::queue::discard", "iii::queue::redrive"):
            code, message = self.ask(function_id, {"queue": "one", "filter": {"functionId": "g"}})
            self.assertEqual(code, "deserialization_error")
            self.assertIn("`functionId`", message)
        self.assertEqual(self.stats("one")["dlq_depth"], 1)

    def test_redrive_message(self) -> None:
        """One dead letter may be delivered again, also changed."""
        first, second = self.bury(1, 2)
        given = {"queue": "one", "message_id": second}
        self.assertEqual(self.ask("iii::queue::redrive_message", given), {**given, "redriven": 1})
        self.assertEqual(self.ask("iii::queue::redrive_message", given), {**given, "redriven": 0})
        self.answer(self.jobs()[-1])
        self.worker.register("g")
        self.ask(
            "iii::queue::redrive_message", {"topic": "one", "message_id": first, "data": {"a": 3}, "function_id": "g"}
        )
        self.assertEqual((self.jobs()[-1]["function_id"], self.jobs()[-1]["data"]), ("g", {"a": 3}))

    def test_discard_message(self) -> None:
        """One dead letter may be removed; what is no dead letter is not."""
        (dead,) = self.bury(1)
        waiting = self.enqueue(2, "missing", queue="one")
        for message_id, count in ((waiting, 0), ("nope", 0), (dead, 1), (dead, 0)):
            given = {"queue": "one", "message_id": message_id}
            self.assertEqual(self.ask("iii::queue::discard_message", given), {**given, "redriven": count})
        self.assertEqual(self.rows("id"), [(waiting,)])

    def test_dead_letters(self) -> None:
        """They are listed newest first, in pages; the numbers agree."""
        ids = self.bury(1, 2, 3)
        listed = self.ask("engine::queue::dlq_messages", {"topic": "one"})
        self.assertEqual([each["id"] for each in listed], ids[::-1])
        page = self.ask("engine::queue::dlq_messages", {"queue": "one", "offset": 1, "limit": 1})
        self.assertEqual([each["payload"] for each in page], [2])
        self.assertEqual(self.ask("engine::queue::dlq_messages", {"topic": "one", "limit": 0}), [])
        self.assertEqual(self.ask("engine::queue::dlq_messages", {"topic": "nope"}), [])
        counts = {row["topic"]: row["message_count"] for row in self.ask("engine::queue::dlq_topics")}
        self.assertEqual(counts, {"brief": 0, "default": 0, "few": 0, "one": 3, "orders": 0})

    def test_retention(self) -> None:
        """A queue keeps as many dead letters as it may, the newest ones, and as long as it may."""
        self.bury(1, 2, 3, 4, queue="few")
        self.bury(5, queue="brief")
        for _ in range(10):
            self.turn(1)
        self.assertEqual(self.rows("data"), [(b"3",), (b"4",), (b"5",)])
        for _ in range(40):
            self.turn(1)
        self.assertEqual(self.rows("data"), [(b"3",), (b"4",)])

    def test_lists(self) -> None:
        """All queues are listed, with what is in them, whatever the input is."""
        self.enqueue(1)
        for given in ({}, None, [1]):
            call = self.worker.call("engine::queue::list_topics", given)
            self.turn()
            rows = {row.pop("name"): row for row in self.worker.outcome(call)}
            self.assertEqual(
                rows["default"],
                {
                    "broker_type": "builtin", "subscriber_count": 10, "kind": "queue", "ready": 0, "in_flight": 1,
                    "delayed": 0, "dead": 0, "paused": False,
                },
            )  # fmt: skip
        self.assertEqual(sorted(rows), ["brief", "default", "few", "one", "orders"])

    def test_stats(self) -> None:
        """What waits and runs is the depth, not what waits for its moment."""
        for number in range(2):
            self.enqueue(number, queue="one")
        self.enqueue(3, queue="one", options={"delay_ms": 1000})
        found = self.stats("one")
        self.assertEqual(
            found,
            {
                "depth": 2, "consumer_count": 1, "dlq_depth": 0, "config": None, "ready": 1, "in_flight": 1,
                "delayed": 1, "paused": False, "delivered": 0, "failed": 0,
            },
        )  # fmt: skip
        self.assertEqual(self.stats("nope")["depth"], 0)

    def test_jobs(self) -> None:
        """Messages are listed by state and function, and found by their receipts."""
        (dead,) = self.bury(0)
        running = self.enqueue(1, queue="one")
        ready = self.enqueue(2, queue="one", options={"priority": 4})
        delayed = self.enqueue(3, "g", queue="one", options={"delay_ms": 5000})
        for state, job in (("dead", dead), ("running", running), ("ready", ready), ("delayed", delayed)):
            listed = self.ask("engine::queue::jobs", {"queue": "one", "state": state})
            self.assertEqual([(each["id"], each["state"]) for each in listed], [(job, state)])
            self.assertEqual(self.ask("engine::queue::job", {"message_id": job}), listed[0])
        self.assertEqual(self.ask("engine::queue::job", {"message_id": ready})["priority"], 4)
        listed = self.ask("engine::queue::jobs", {"queue": "one", "function_id": "f", "offset": 1, "limit": 1})
        self.assertEqual([each["id"] for each in listed], [running])
        self.assertIsNone(self.ask("engine::queue::job", {"message_id": "nope"}))

    def test_jobs_being_written(self) -> None:
        """A list waits for what is being written, and is given also when that fails."""
        for refused in (True, False):
            self.store.hold()
            self.worker.call("f", 1, action={"type": "enqueue", "queue": "one"})
            listing = self.worker.call("engine::queue::jobs", {"queue": "one"})
            self.turn()
            self.assertRaises(ValueError, self.worker.outcome, listing)  # there is no answer yet
            self.store.release(refused=refused)
            self.turn()
            self.assertEqual(len(self.worker.outcome(listing)), 0 if refused else 1)

    def test_cancel(self) -> None:
        """What waits may be cancelled, also what waits for its moment or its function; what runs may not."""
        running, waiting = (self.enqueue(number, queue="one") for number in range(2))
        delayed = self.enqueue(2, queue="one", options={"delay_ms": 5000})
        missing = self.enqueue(3, "g")
        for queue, job, count in (
            ("one", running, 0), ("one", waiting, 1), ("one", delayed, 1), ("default", missing, 1), ("one", missing, 0),
        ):  # fmt: skip
            given = {"queue": queue, "message_id": job}
            self.assertEqual(self.ask("engine::queue::cancel", given), {**given, "cancelled": count})
        self.answer(self.jobs()[0])
        self.turn(10)
        self.assertEqual((self.payloads(), self.rows()), ([0], []))
        self.assertEqual((self.stats("one")["delayed"], self.stats("one")["ready"]), (0, 0))

    def repeat(self, queue: str, count: int) -> None:
        """Enqueue messages with one receipt."""
        for number in range(count):
            given = {"queue": queue, "function_id": "f", "data": {"g": 1, "n": number}, "messageReceiptId": "same"}
            self.ask("engine::queue::enqueue", given)

    def test_repeated_receipt(self) -> None:
        """A dead letter is found also when a message with the same receipt waits or runs."""
        self.repeat("few", 2)
        for function_id in ("iii::queue::redrive_message", "iii::queue::discard_message"):
            self.fail_job(self.jobs()[-1])
            self.assertEqual(self.ask(function_id, {"topic": "few", "message_id": "same"})["redriven"], 1)
        self.assertEqual((self.rows("data"), len(self.jobs())), ([(b'{"g": 1, "n": 0}',)], 3))

    def test_cancel_repeated_receipt(self) -> None:
        """Messages with one receipt are cancelled one by one; the one that runs is left."""
        self.repeat("orders", 4)
        self.store.hold()
        given = {"queue": "orders", "message_id": "same"}
        calls = [self.worker.call("engine::queue::cancel", given) for _ in range(2)]
        self.store.release()
        self.turn()
        self.assertEqual([self.worker.outcome(call)["cancelled"] for call in calls], [1, 1])
        for number in range(2):
            self.answer(self.jobs()[number])
        self.assertEqual((self.payloads(), self.rows()), ([{"g": 1, "n": 0}, {"g": 1, "n": 3}], []))

    def test_cancel_refused(self) -> None:
        """A message whose cancellation cannot be written waits as before, and is counted once."""
        running, waiting = self.enqueue(1, queue="one"), self.enqueue(2, queue="one")
        self.store.hold()
        call = self.worker.call("engine::queue::cancel", {"queue": "one", "message_id": waiting})
        self.turn()
        self.store.release(refused=True)
        self.turn()
        self.assertEqual(self.worker.outcome(call)[0], "jobs_failed")
        self.assertEqual(self.rows("id"), [(running,), (waiting,)])
        self.assertEqual((self.stats("one")["ready"], self.stats("one")["in_flight"]), (1, 1))
        self.answer(self.jobs()[0])
        self.assertEqual(self.payloads(), [1, 2])

    def test_cancel_in_group(self) -> None:
        """When a group's first message waits for its retry and is cancelled, the group goes on."""
        first = self.enqueue({"g": 1}, queue="orders")
        self.enqueue({"g": 1, "n": 2}, queue="orders")
        self.fail_job(self.jobs()[0])
        self.assertEqual(self.ask("engine::queue::cancel", {"queue": "orders", "message_id": first})["cancelled"], 1)
        self.assertEqual(self.payloads()[1:], [{"g": 1, "n": 2}])

    def test_pause(self) -> None:
        """A paused queue starts nothing, also after a restart, until it is resumed."""
        self.assertEqual(self.ask("engine::queue::pause", {"queue": "one"}), {"queue": "one", "paused": True})
        self.enqueue(1, queue="one")
        self.restart()
        self.worker.register("f")
        self.turn(1)
        self.assertTrue(self.stats("one")["paused"])
        self.assertEqual(self.jobs(), [])
        self.assertEqual(self.ask("engine::queue::resume", {"queue": "one"}), {"queue": "one", "paused": False})
        self.turn()
        self.assertEqual(self.payloads(), [1])

    def test_wrong_input(self) -> None:
        """Names that are missing, empty or given twice are errors."""
        message = {"message_id": "m"}
        for function_id, given, code in (
            ("iii::queue::redrive", {}, "deserialization_error"),
            ("iii::queue::redrive", {"queue": "a", "topic": "a"}, "deserialization_error"),
            ("iii::queue::redrive", {"queue": ""}, "queue_not_set"),
            ("iii::queue::redrive_message", {"queue": "", **message}, "queue_not_set"),
            ("iii::queue::redrive_message", {"queue": "one", "message_id": ""}, "message_id_not_set"),
            ("iii::queue::discard_message", {"queue": "one"}, "deserialization_error"),
            ("engine::queue::topic_stats", {"topic": ""}, "topic_required"),
            ("engine::queue::dlq_messages", {"topic": ""}, "topic_required"),
            ("engine::queue::dlq_messages", {"topic": "one", "limit": -1}, "deserialization_error"),
            ("engine::queue::dlq_messages", {"topic": "one", "offset": "1"}, "deserialization_error"),
        ):
            self.assertEqual(self.ask(function_id, given)[0], code, (function_id, given))

    def test_removed_queue(self) -> None:
        """Messages of a queue that is no longer configured stay, can be seen, and nobody gets them."""
        self.enqueue(1, "late", queue="one")
        self.queues = {}
        self.restart()
        self.worker.register("late")
        self.turn()
        self.assertEqual((self.jobs(), self.stats("one")["ready"]), ([], 1))
        self.flushLoggedErrors()
