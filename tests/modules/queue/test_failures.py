"""Tests for retries, dead letters, missing functions, and workers that go (spec/queue.md, 6 and 10)."""

from __future__ import annotations

from tests.core.fakes import connect
from tests.modules.queue.case import QueueTestCase


class RetryTests(QueueTestCase):
    queues = {
        "four": {"max_retries": 4, "backoff_ms": 50},
        "none": {"max_retries": 0},
        "capped": {"max_retries": 9, "backoff_ms": 1000, "max_backoff_ms": 1500},
        "fixed": {"max_retries": 9, "backoff_ms": 1000, "backoff_type": "fixed"},
        "shaking": {"max_retries": 9, "backoff_ms": 1000, "backoff_type": "fixed", "backoff_jitter": 0.5},
        "short": {"timeout_ms": 1000, "max_retries": 1},
        "telling": {"delivery_metadata": True, "max_retries": 3},
        "parking": {"missing_function_timeout_ms": 60_000, "concurrency": 1},
    }

    def setUp(self) -> None:
        super().setUp()
        self.worker.register("f")

    def delays(self, queue: str, failures: int) -> list[int]:
        """Let a message fail so often, and return how long each next delivery took, in milliseconds."""
        self.enqueue(1, queue=queue)
        delays = []
        for number in range(1, failures + 1):
            self.fail_job(self.jobs()[-1])
            passed = 0
            while len(self.jobs()) == number and passed < 5000:
                self.turn(0.01)
                passed += 10
            delays.append(passed)
        return delays

    def test_backoff(self) -> None:
        """Of four deliveries, the delays between them double; then it is a dead letter."""
        self.assertEqual(self.delays("four", 4), [50, 100, 200, 5000])
        self.assertEqual(self.ask("engine::queue::topic_stats", {"topic": "four"})["dlq_depth"], 1)

    def test_cap(self) -> None:
        """No delay is longer than the cap."""
        self.assertEqual(self.delays("capped", 3), [1000, 1500, 1500])

    def test_fixed(self) -> None:
        """With a fixed backoff all delays are the same."""
        self.assertEqual(self.delays("fixed", 3), [1000, 1000, 1000])

    def test_jitter(self) -> None:
        """Chance may shorten a delay by a part of it."""
        chances = iter((0.0, 1.0, 0.5))
        self.module.dispatcher._chance = lambda: next(chances)
        self.assertEqual(self.delays("shaking", 3), [1000, 500, 750])

    def test_large(self) -> None:
        """A large payload is the same in every delivery, also of a dead letter that is delivered again."""
        large = {"a": "x" * 50_000}
        self.enqueue(large, queue="four")
        for _ in range(4):
            self.fail_job(self.jobs()[-1])
            self.turn(1)
        self.ask("iii::queue::redrive", {"queue": "four"})
        self.assertEqual(self.payloads(), [large] * 5)

    def test_at_least_once(self) -> None:
        """A queue without retries delivers once."""
        self.enqueue(1, queue="none")
        self.fail_job(self.jobs()[0])
        self.turn(100)
        self.assertEqual(len(self.jobs()), 1)

    def test_others_go_on(self) -> None:
        """While a message waits for its retry, others run; it comes before those that came later."""
        self.enqueue("a")
        self.fail_job(self.jobs()[0])
        for number in range(12):
            self.enqueue(number)
        self.turn(1)
        self.assertEqual(len(self.jobs()), 11)
        self.answer(self.jobs()[5])
        self.assertEqual(self.payloads()[-1], "a")

    def test_survives(self) -> None:
        """Failed deliveries are remembered across a restart, and so is the delay."""
        self.enqueue(1, queue="four")
        self.fail_job(self.jobs()[0])
        self.assertEqual(self.rows("state, attempts"), [(1, 1)])
        self.restart()
        self.worker.register("f")
        self.turn()
        self.assertEqual(self.jobs(), [])
        self.turn(0.05)
        for _ in range(3):
            self.fail_job(self.jobs()[-1])
            self.turn(1)
        self.assertEqual(len(self.jobs()), 3)

    def test_in_flight_runs_again(self) -> None:
        """What ran when the engine ended runs again."""
        self.enqueue(1)
        self.assertEqual(len(self.jobs()), 1)
        self.restart()
        self.worker.register("f")
        self.turn()
        self.assertEqual(self.payloads(), [1])

    def test_timeout(self) -> None:
        """A delivery that takes too long has failed; its late answer is ignored, and counted."""
        self.enqueue(1, queue="short")
        self.turn(1.2)
        (dead,) = self.ask("engine::queue::dlq_messages", {"topic": "short"})
        self.assertEqual(dead["error"], "TIMEOUT: f did not answer within 1 s")
        self.answer(self.jobs()[0])
        self.assertEqual(self.engine.counters.late_answers, 1)
        self.assertEqual(len(self.rows()), 1)

    def test_real_error(self) -> None:
        """A dead letter has the error of the function, its stack trace, and the receipt as its id."""
        receipt = self.enqueue({"a": 1}, queue="none")
        error = {"code": "invocation_failed", "message": "boom", "stacktrace": "at line 3"}
        self.answer(self.jobs()[0], error=error)
        (dead,) = self.ask("engine::queue::dlq_messages", {"topic": "none"})
        self.assertEqual(
            dead,
            {
                "id": receipt, "payload": {"a": 1}, "error": "invocation_failed: boom", "failed_at": 1_000_000,
                "retries": 1, "size_bytes": 8, "function_id": "f", "namespace": "default",
                "error_code": "invocation_failed", "created_at_ms": 1_000_000_000, "failed_at_ms": 1_000_000_000,
                "stacktrace": "at line 3",
            },
        )  # fmt: skip

    def test_delivery_metadata(self) -> None:
        """A queue may tell functions which message and attempt it is, beside the payload; the first attempt is 1."""
        receipt = self.enqueue({"a": 1}, "g", queue="telling")
        other = connect(self.engine, "other")
        other.register("g")
        self.turn()
        self.fail_job(self.jobs(other)[0], worker=other)
        self.turn(1)
        other.leave()
        self.worker.register("g")
        self.turn()
        first, second, third = *self.jobs(other), *self.jobs()
        told = {"queue": "telling", "message_id": receipt, "created_at_ms": 1_000_000_000}
        self.assertEqual(first["metadata"], {**told, "attempt": 1, "interruptions": 0})
        self.assertEqual(second["metadata"], {**told, "attempt": 2, "interruptions": 0})
        self.assertEqual(third["metadata"], {**told, "attempt": 2, "interruptions": 1})
        self.assertEqual([job["data"] for job in (first, second, third)], [{"a": 1}] * 3)

    def test_missing_function(self) -> None:
        """A message for a function that is not there waits for it, costs no delivery, and holds up no other one."""
        for function_id in ("late", "f", "late"):
            self.enqueue(function_id, function_id, queue="parking")
        self.assertEqual(self.payloads(), ["f"])
        self.answer(self.jobs()[0])
        self.turn(50)
        self.worker.register("late")
        self.turn()
        self.answer(self.jobs()[1])
        self.assertEqual(self.payloads(), ["f", "late", "late"])
        self.assertEqual(self.rows("attempts"), [(0,)])

    def test_read_before_told(self) -> None:
        """A message that is read from disk before its commit is known runs once, and is counted once."""
        for number in range(2):
            self.enqueue(number, "late")
        self.store.hold()
        self.worker.call("late", 2, action={"type": "enqueue", "queue": "default"})
        self.turn()
        self.store.commit()
        self.worker.register("late")
        self.turn()
        self.assertEqual(self.payloads(), [0, 1, 2])
        self.store.release()
        self.turn()
        self.assertEqual(self.payloads(), [0, 1, 2])
        self.answer(self.jobs()[2])
        stats = self.ask("engine::queue::topic_stats", {"topic": "default"})
        self.assertEqual((stats["in_flight"], stats["ready"], len(self.rows())), (2, 0, 2))

    def test_missing_for_long(self) -> None:
        """After the time of the queue, a message for a missing function is a dead letter that says so."""
        self.enqueue(1, "late", queue="parking")
        for _ in range(58):
            self.turn(1)
        self.assertEqual(self.rows("state"), [(0,)])
        for _ in range(4):
            self.turn(1)
        (dead,) = self.ask("engine::queue::dlq_messages", {"topic": "parking"})
        self.assertEqual(dead["error"], "function_not_found: Function late not found in namespace default.")

    def test_own_not_found(self) -> None:
        """An error of the function that looks like the engine's is a failure like others."""
        self.enqueue(1, queue="none")
        self.answer(self.jobs()[0], error={"code": "function_not_found", "message": "mine"})
        self.assertEqual(self.rows("state"), [(2,)])

    def test_worker_goes(self) -> None:
        """When a worker goes, its messages are delivered again without a failure, three times, and then with one."""
        self.enqueue(1, "g")
        for number in range(5):
            other = connect(self.engine, "other")
            other.register("g")
            self.turn(0 if number < 4 else 1)
            self.assertEqual(self.payloads(other), [1], number)
            other.leave()
            self.turn()
        self.assertEqual(self.rows("attempts, interruptions"), [(2, 3)])

    def test_overloaded(self) -> None:
        """A worker that takes no more calls costs a message no delivery."""
        self.worker.edge.full = True
        self.enqueue(1)
        self.turn(3)
        self.worker.edge.full = False
        self.turn(1)
        self.assertEqual((self.payloads(), self.rows("attempts")), ([1], [(0,)]))

    def test_overloaded_backlog(self) -> None:
        """Nothing is written while a worker takes no more calls, and messages for others go on."""
        other = connect(self.engine, "other")
        other.register("g")
        self.worker.edge.full = True
        for number in range(20):
            other.call("f", number, action={"type": "enqueue", "queue": "parking"})
        other.call("g", "others", action={"type": "enqueue", "queue": "parking"})
        self.turn()
        self.assertEqual(self.payloads(other), ["others"])
        self.answer(self.jobs(other)[0], other)
        self.turn(3)
        self.assertEqual(self.store.read("SELECT total_changes(), count(*) FROM job", ()), [(22, 20)])
        self.worker.edge.full = False
        self.turn(1)
        for number in range(20):
            self.assertEqual(self.payloads(), list(range(number + 1)))
            self.answer(self.jobs()[number])

    def test_overloaded_condition(self) -> None:
        """A condition that cannot be asked keeps all its messages waiting, and is asked once at a time."""
        other = connect(self.engine, "other")
        other.register("want")
        config = {"topic": "orders", "condition_function_id": "want"}
        self.worker.register_trigger("t", "durable:subscriber", "f", config=config)
        self.turn()
        other.edge.full = True
        for number in range(3):
            self.ask("iii::durable::publish", {"topic": "orders", "data": number})
        self.turn(3)
        self.assertEqual(self.rows("state, attempts"), [(0, 0)] * 3)
        other.edge.full = False
        self.turn(1)
        self.assertEqual(self.payloads(other), [0, 1, 2])

    def test_store_fails(self) -> None:
        """When outcomes cannot be recorded, no job starts until they can; then what has ended does not run again."""
        for number in range(13):
            self.enqueue(number)
        self.store._connection.execute("PRAGMA query_only = ON")
        self.answer(self.jobs()[0])
        self.answer(self.jobs()[1])
        self.turn(3)
        self.assertEqual((len(self.jobs()), len(self.rows())), (10, 13))
        self.store._connection.execute("PRAGMA query_only = OFF")
        self.turn(1)
        self.assertEqual((len(self.jobs()), len(self.rows())), (12, 11))
        self.flushLoggedErrors()

    def test_drain(self) -> None:
        """When the engine stops, no job starts; those under way may end, and then nothing is under way."""
        for number in range(11):
            self.enqueue(number)
        self.module.stop_accepting()
        for job in self.jobs():
            self.assertTrue(self.module.busy())
            self.answer(job)
        self.assertFalse(self.module.busy())
        self.assertEqual((len(self.jobs()), len(self.rows())), (10, 1))

    def test_payload_is_not_read(self) -> None:
        """A retry of a large message neither reads nor writes its payload: one that cannot be read stops no others."""
        self.enqueue("x" * 20_000)
        self.store.fail_reads = True
        self.fail_job(self.jobs()[0])
        self.assertEqual(self.rows_written(), [(1, 1, 20_002)])

    def rows_written(self) -> list[tuple[int, ...]]:
        """State, attempts and size of the jobs on disk."""
        statement = "SELECT state, attempts, length(data) FROM job"
        return self.store._connection.execute(statement).fetchall()

    def test_stop_redriving(self) -> None:
        """Stopping waits for what is just being written, and nothing further of a long operation is begun."""
        self.store._connection.execute(
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 300) "
            "INSERT INTO job SELECT n, 'j' || n, '__fn_queue::none', 2, 0, '', 'default', 'g', "
            "NULL, NULL, 1, 0, 0, 0, 0, '', x'6E' FROM number"
        )
        self.restart()
        self.store.hold()
        call = self.worker.call("iii::queue::redrive", {"queue": "none"})
        stopped = self.module.stopService()
        self.assertNoResult(stopped)
        self.store.release()
        self.successResultOf(stopped)
        self.turn()
        self.assertEqual(self.store.read("SELECT state, count(*) FROM job GROUP BY state", ()), [(0, 256), (2, 44)])
        self.assertEqual(self.worker.outcome(call)[1], "Failed to redrive DLQ for queue 'none': the engine is stopping")

    def test_stop_looking_after(self) -> None:
        """Stopping waits for what is done now and then."""
        self.enqueue(1, options={"deduplication_key": "k", "deduplication_window_ms": 1})
        self.store.hold()
        for _ in range(10):
            self.turn(1)
        stopped = self.module.stopService()
        self.assertNoResult(stopped)
        self.store.release()
        self.successResultOf(stopped)

    def test_drain_without_worker(self) -> None:
        """When a worker goes while the engine stops, nothing is waited for; its message runs at the next start."""
        other = connect(self.engine, "other")
        other.register("g")
        self.enqueue(1, "g")
        self.module.stop_accepting()
        other.leave()
        self.turn()
        self.assertFalse(self.module.busy())
        self.assertEqual(self.rows("state, attempts, interruptions"), [(0, 0, 0)])
