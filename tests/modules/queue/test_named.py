"""Tests for named queues (spec/queue.md, 3, 5 and 7)."""

from __future__ import annotations

from tests.core.fakes import connect
from tests.modules.queue.case import NOW, QueueTestCase


class EnqueueTests(QueueTestCase):
    queues = {
        "orders": {"type": "fifo", "message_group_field": "customer", "concurrency": 2},
        "groups": {"type": "fifo", "message_group_field": "customer"},
        "one": {"concurrency": 1},
        "small": {"max_jobs": 2},
    }

    def test_receipt(self) -> None:
        """The caller gets a receipt, and the function the payload and nothing else."""
        self.worker.register("f")
        receipt = self.enqueue({"to": "ann"}, baggage="a=1", traceparent=f"00-{'1' * 32}-{'2' * 16}-01")
        self.assertRegex(receipt, "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        (job,) = self.jobs()
        self.assertEqual(job.pop("data"), {"to": "ann"})
        self.assertEqual(job.pop("baggage"), "a=1,iii.function.id=f")
        self.assertRegex(job.pop("traceparent"), f"^00-{'1' * 32}-(?!2{{16}})[0-9a-f]{{16}}-01$")
        self.assertEqual(job.keys(), {"invocation_id", "function_id"})

    def test_receipt_is_the_id(self) -> None:
        """The receipt finds the message; it is gone when it has been answered."""
        self.worker.register("f")
        receipt = self.enqueue(1)
        self.assertEqual(self.rows(), [(receipt, 0)])
        self.assertEqual(self.ask("engine::queue::job", {"message_id": receipt})["state"], "running")
        self.answer(self.jobs()[0], result={"anything": 1})
        self.assertEqual(self.rows(), [])

    def test_answer(self) -> None:
        """The answer has the receipt, and trace and baggage as they were in the call; without an id there is none."""
        action = {"type": "enqueue", "queue": "default"}
        trace = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "baggage": "a=1"}
        call = self.worker.call("f", 1, action=action, metadata={"x": 1}, **trace)
        self.worker.send("invokefunction", function_id="f", data=2, action=action)
        self.worker.send("invokefunction", function_id="f", data=3, action={**action, "queue": "nope"})
        self.turn()
        (answer,) = self.worker.received("invocationresult")
        self.assertEqual(answer.pop("result"), {"messageReceiptId": self.rows("id")[0][0]})
        self.assertEqual(answer, {"invocation_id": call, "function_id": "f", **trace})
        self.assertEqual(self.rows("data"), [(b"1",), (b"2",)])

    def test_payload_only(self) -> None:
        """A payload that is an object gets no member of the engine, and the metadata of the call stays behind."""
        self.worker.register("f")
        self.enqueue({}, metadata={"x": 1})
        self.assertEqual(self.jobs()[0]["data"], {})
        self.assertNotIn("metadata", self.jobs()[0])

    def test_new_invocation(self) -> None:
        """Each delivery is an invocation of its own."""
        self.worker.register("f")
        self.enqueue(1)
        self.fail_job(self.jobs()[0])
        self.turn(1)
        first, second = self.jobs()
        self.assertNotEqual(first["invocation_id"], second["invocation_id"])

    def test_own_trace(self) -> None:
        """A message without a trace gets one for each delivery; hidden tags of its baggage stay behind."""
        self.worker.register("f")
        self.enqueue(1, baggage="iii.tag.kind=x, b=2,iii.tag.hidden=1")
        (job,) = self.jobs()
        self.assertRegex(job["traceparent"], "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$")
        self.assertEqual(job["baggage"], "b=2,iii.function.id=f")

    def test_any_payload(self) -> None:
        """Payloads are passed on as they are, also large ones, null, and none."""
        self.worker.register("f")
        for data in (None, [1], "text", {"a": "x" * 50_000}, 1.5):
            self.enqueue(data)
        self.assertEqual(self.payloads(), [None, [1], "text", {"a": "x" * 50_000}, 1.5])

    def test_direct(self) -> None:
        """The function does the same, with the receipt that it is given, or one of its own."""
        self.worker.register("f")
        given = self.ask("engine::queue::enqueue", {"queue": "one", "function_id": "f", "messageReceiptId": "r1"})
        self.assertEqual(given, {"messageReceiptId": "r1"})
        own = self.ask("engine::queue::enqueue", {"queue": "one", "function_id": "f", "data": 2, "namespace": "other"})
        self.assertEqual(len(own["messageReceiptId"]), 36)
        self.assertEqual(self.payloads(), [None])

    def test_namespace(self) -> None:
        """A message goes to the namespace of its call."""
        other = connect(self.engine, "other", namespace="other")
        other.register("f")
        self.worker.register("f")
        self.enqueue(1, namespace="other")
        self.assertEqual((self.payloads(other), self.payloads()), ([1], []))

    def test_unknown_queue(self) -> None:
        """Enqueueing into a queue that is not configured fails, and says so."""
        self.assertEqual(self.enqueue(1, queue="nope"), ("enqueue_error", "queue_not_found: Queue 'nope' not found"))

    def test_group_missing(self) -> None:
        """A message for a FIFO queue must have its group."""
        for data in ({"a": 1}, [1], None):
            code, message = self.enqueue(data, queue="orders")
            self.assertEqual(code, "enqueue_error")
            self.assertIn("FIFO queue 'orders' requires field 'customer' in data, but it was not found", message)
        code, message = self.enqueue({"customer": None}, queue="orders")
        self.assertIn("FIFO queue 'orders': field 'customer' must not be null", message)
        self.assertEqual(self.rows(), [])

    def test_full(self) -> None:
        """A queue takes no more than its settings allow; when one has ended, there is room."""
        self.worker.register("f")
        for data in (1, 2):
            self.enqueue(data, queue="small")
        code, message = self.enqueue(3, queue="small")
        self.assertEqual(
            (code, message), ("enqueue_error", "queue_full: Queue 'small' has 2 messages already (`max_jobs`)")
        )
        self.answer(self.jobs()[0])
        self.assertIsInstance(self.enqueue(4, queue="small"), str)

    def test_full_at_once(self) -> None:
        """Messages that come while others are being written count, too, unless they are not taken."""
        self.store.hold()
        calls = [self.worker.call("f", 1, action={"type": "enqueue", "queue": "small"}) for _ in range(4)]
        self.store.release()
        self.turn()
        outcomes = [self.worker.outcome(call) for call in calls]
        self.assertEqual([isinstance(each, dict) for each in outcomes], [True, True, False, False])
        self.assertEqual(len(self.rows()), 2)

    def test_room_after_failure(self) -> None:
        """What could not be written takes no room."""
        self.store._connection.execute("PRAGMA query_only = ON")
        self.assertEqual([self.enqueue(1, queue="small")[0] for _ in range(3)], ["enqueue_error"] * 3)
        self.store._connection.execute("PRAGMA query_only = OFF")
        self.assertIsInstance(self.enqueue(1, queue="small"), str)

    def test_full_and_known(self) -> None:
        """A message that is there already gets its receipt, also when the queue is full."""
        once = {"deduplication_key": "k"}
        first = self.enqueue(1, queue="small", options=once)
        self.enqueue(2, queue="small")
        self.assertEqual(self.enqueue(1, queue="small", options=once), first)

    def test_store_fails(self) -> None:
        """When the store does not take a message, the caller is told, and nothing runs."""
        self.worker.register("f")
        self.store._connection.execute("ALTER TABLE job RENAME TO hidden")
        code, message = self.enqueue(1)
        self.assertEqual(code, "enqueue_error")
        self.assertIn("enqueue_failed: Failed to enqueue: no such table: job", message)
        self.assertEqual(self.jobs(), [])

    def test_in_order(self) -> None:
        """With a concurrency of one, messages run one after the other, in order."""
        self.worker.register("f")
        for number in range(5):
            self.enqueue(number, queue="one")
        for number in range(5):
            self.assertEqual(self.payloads(), list(range(number + 1)))
            self.answer(self.jobs()[number])

    def test_concurrency(self) -> None:
        """So many run at one time; the default is ten."""
        self.worker.register("f")
        for number in range(12):
            self.enqueue(number)
        self.assertEqual(self.payloads(), list(range(10)))
        self.answer(self.jobs()[3])
        self.assertEqual(self.payloads()[10:], [10])

    def test_groups(self) -> None:
        """Of a FIFO queue, groups run side by side, each in order; a failing message blocks only its group."""
        self.worker.register("f")
        for customer, number in (("a", 1), ("a", 2), ("b", 1), ("b", 2)):
            self.enqueue({"customer": customer, "n": number}, queue="orders")
        self.assertEqual(self.payloads(), [{"customer": "a", "n": 1}, {"customer": "b", "n": 1}])
        self.fail_job(self.jobs()[0])
        self.answer(self.jobs()[1])
        self.assertEqual(self.payloads()[2:], [{"customer": "b", "n": 2}])
        self.turn(1)
        self.assertEqual(self.payloads()[3:], [{"customer": "a", "n": 1}])
        self.answer(self.jobs()[3])
        self.assertEqual(self.payloads()[4:], [{"customer": "a", "n": 2}])

    def test_group_waits_across_restarts(self) -> None:
        """A group whose first message waits for its retry does so after a restart, too."""
        self.worker.register("f")
        for number in (1, 2):
            self.enqueue({"customer": "a", "n": number}, queue="orders")
        self.fail_job(self.jobs()[0])
        self.restart()
        self.worker.register("f")
        self.turn()
        self.assertEqual(self.payloads(), [])
        self.turn(1)
        self.assertEqual(self.payloads(), [{"customer": "a", "n": 1}])

    def test_group_values(self) -> None:
        """Any JSON value is a group; equal ones are one."""
        self.worker.register("f")
        values = (1, "1", True, [1], {"id": 1}, "x" * 1000, "x" * 999)
        for number in range(2):
            for customer in values:
                self.enqueue({"customer": customer, "n": number}, queue="groups")
        first = self.jobs()
        self.assertEqual([job["data"] for job in first], [{"customer": customer, "n": 0} for customer in values])
        for job in reversed(first):
            self.answer(job)
            self.assertEqual(self.payloads()[-1], {**job["data"], "n": 1})

    def test_equal_groups(self) -> None:
        """However its JSON is written, an equal value is the same group."""
        self.worker.register("f")
        for groups, texts in enumerate((
            ('"M\u00fcller"', r'"M\u00fcller"'), ("1", "1.0", "1e0"), ('{"a":1,"b":2}', '{ "b": 2, "a": 1 }'),
            ("1e999", "1e999"),
        ), 1):  # fmt: skip
            for text in texts:
                self.enqueue_text(f'{{"customer":{text}}}')
            self.assertEqual(len({group for (group,) in self.rows("message_group")}), groups, texts)

    def enqueue_text(self, data: str) -> None:
        """Enqueue what is written so."""
        action = '"action":{"type":"enqueue","queue":"orders"}'
        self.worker.connection.received(
            f'{{"type":"invokefunction","function_id":"f","data":{data},{action}}}'.encode()
        )
        self.turn()

    def test_legacy_queue_without_group(self) -> None:
        """Messages that were stored before their queue became a FIFO queue run, too."""
        self.enqueue(1, queue="one")
        self.queues = {"one": {"type": "fifo", "message_group_field": "a"}}
        self.restart()
        self.worker.register("f")
        self.turn()
        self.assertEqual(self.payloads(), [1])

    def test_builtin_targets(self) -> None:
        """Functions of the engine may be enqueued, also very many of them."""
        action = {"type": "enqueue", "queue": "one"}
        calls = [
            self.worker.call("engine::queue::topic_stats", {"topic": f"{number}"}, action=action)
            for number in range(600)
        ]
        self.turn()
        self.turn()
        self.assertEqual(len({self.worker.outcome(call)["messageReceiptId"] for call in calls}), 600)
        self.assertEqual(self.ask("engine::queue::topic_stats", {"topic": "one"})["delivered"], 600)
        self.assertEqual(self.rows(), [])


class OptionTests(QueueTestCase):
    queues = {
        "orders": {"type": "fifo", "message_group_field": "customer"},
        "one": {"concurrency": 1, "priority_field": "p", "max_priority": 9},
        "late": {"delay_ms": 5000},
        "slow": {"rate_limit": {"jobs": 2, "per_ms": 1000}},
    }

    def test_delay(self) -> None:
        """A message with a delay runs when that is over, before those that came later."""
        self.worker.register("f")
        self.enqueue("late", options={"delay_ms": 1500})
        self.turn(1.4)
        self.assertEqual(self.payloads(), [])
        self.turn(0.1)
        self.assertEqual(self.payloads(), ["late"])

    def test_run_at(self) -> None:
        """A message may say when it is to run, in milliseconds or in ISO 8601; a moment that has passed is now."""
        self.worker.register("f")
        self.enqueue(1, options={"run_at": NOW * 1000 + 2000})
        self.enqueue(2, options={"run_at": "1970-01-12T13:46:43+00:00"})
        self.enqueue(3, options={"run_at": 5})
        self.assertEqual(self.payloads(), [3])
        self.turn(2)
        self.assertEqual(self.payloads(), [3, 1])
        self.turn(1)
        self.assertEqual(self.payloads(), [3, 1, 2])

    def test_delay_of_queue(self) -> None:
        """A queue may delay all its messages, but for those that say otherwise."""
        self.worker.register("f")
        self.enqueue(1, queue="late")
        self.enqueue(2, queue="late", options={"delay_ms": 0})
        self.assertEqual(self.payloads(), [2])
        self.turn(5)
        self.assertEqual(self.payloads(), [2, 1])

    def test_delay_survives(self) -> None:
        """A restart changes no delay."""
        self.enqueue(1, options={"delay_ms": 3000})
        self.turn(1)
        self.restart()
        self.worker.register("f")
        self.turn(1.9)
        self.assertEqual(self.payloads(), [])
        self.turn(0.1)
        self.assertEqual(self.payloads(), [1])

    def test_priority(self) -> None:
        """Higher priorities run first, equal ones in order; the queue may take them from the payload."""
        self.worker.register("f")
        for data, options in (
            ({"n": 0}, {}), ({"n": 1}, {}), ({"n": 2}, {"priority": 5}), ({"n": 3, "p": 5}, {}),
            ({"n": 4, "p": 100}, {}), ({"n": 5}, {"priority": 9}), ({"n": 6, "p": "x"}, {}),
        ):  # fmt: skip
            self.enqueue(data, queue="one", options=options)
        for number in range(7):
            self.answer(self.jobs()[number])
        self.assertEqual([data["n"] for data in self.payloads()], [0, 4, 5, 2, 3, 1, 6])

    def test_rate_limit(self) -> None:
        """No more messages start in a time than the queue allows."""
        self.worker.register("f")
        for number in range(5):
            self.enqueue(number, queue="slow")
        self.assertEqual(len(self.jobs()), 2)
        self.turn(0.45)
        self.assertEqual(len(self.jobs()), 2)
        self.turn(0.1)
        self.assertEqual(len(self.jobs()), 3)
        self.turn(10)
        self.assertEqual(len(self.jobs()), 5)

    def test_deduplication(self) -> None:
        """Of messages with one key in a queue, the first is taken; others get its receipt, until the window ends."""
        first = self.enqueue(1, options={"deduplication_key": "k"})
        call = self.worker.call("f", 2, action={"type": "enqueue", "queue": "default", "deduplication_key": "k"})
        self.turn()
        self.assertEqual(self.worker.outcome(call), {"messageReceiptId": first, "deduplicated": True})
        self.assertNotEqual(self.enqueue(3, queue="one", options={"deduplication_key": "k"}), first)
        self.assertEqual(len(self.rows()), 2)
        self.turn(300)
        self.assertNotEqual(self.enqueue(4, options={"deduplication_key": "k"}), first)
        self.assertEqual(len(self.rows()), 3)

    def test_deduplication_at_once(self) -> None:
        """A message whose key is just being written is answered, or refused, when that one is."""
        action = {"type": "enqueue", "queue": "default", "deduplication_key": "k"}
        self.store.hold()
        refused = [self.worker.call("f", 1, action=action) for _ in range(2)]
        self.turn()
        self.assertEqual(self.worker.received("invocationresult"), [])
        self.store.release(refused=True)
        self.turn()
        self.assertEqual([self.worker.outcome(call)[0] for call in refused], ["enqueue_error"] * 2)
        self.store.hold()
        first, second = (self.worker.call("f", 1, action=action) for _ in range(2))
        self.store.release()
        self.turn()
        receipt = self.worker.outcome(first)
        self.assertEqual(self.worker.outcome(second), {**receipt, "deduplicated": True})
        self.assertEqual(self.rows("id"), [(receipt["messageReceiptId"],)])

    def test_deduplication_survives(self) -> None:
        """A restart changes nothing; keys whose time is over are removed."""
        first = self.enqueue(1, options={"deduplication_key": "k", "deduplication_window_ms": 20_000})
        self.restart()
        self.assertEqual(self.enqueue(1, options={"deduplication_key": "k"}), first)
        for _ in range(31):
            self.turn(1)
        self.assertEqual(self.store.read("SELECT * FROM deduplication", ()), [])

    def test_wrong_options(self) -> None:
        """Options that make no sense are refused, and so is what would take a message out of the order of its group."""
        for queue, options, text in (
            ("default", {"delay_ms": -1}, "invalid_option: `delay_ms`: expected 0 to"),
            ("default", {"delay_ms": 1, "run_at": 1}, "`run_at`: cannot be given beside `delay_ms`"),
            (
                "default",
                {"run_at": "tomorrow"},
                "`run_at`: expected milliseconds since the epoch, or a time in ISO 8601",
            ),
            ("default", {"run_at": "2026-01-01T00:00:00"}, "`run_at`: the time has no offset from UTC"),
            ("default", {"run_at": 2**60}, "`run_at`: more than ten years ahead"),
            ("default", {"priority": -1}, "`priority`: expected 0 to 255, got -1"),
            (
                "default",
                {"deduplication_key": "", "deduplication_window_ms": 0},
                "`deduplication_window_ms`: expected 1 to",
            ),
            ("orders", {"delay_ms": 1}, "FIFO queue 'orders' keeps its messages in order: `delay_ms` cannot be given"),
            ("orders", {"run_at": 1}, "`run_at` cannot be given"),
            ("orders", {"priority": 1}, "`priority` cannot be given"),
        ):
            code, message = self.enqueue({"customer": 1}, queue=queue, options=options)
            self.assertEqual(code, "enqueue_error")
            self.assertIn(text, message)
        self.assertEqual(self.rows(), [])
