from __future__ import annotations

from zope.interface.verify import verifyObject

from iii.interfaces import IModule, ITriggerProvider
from tests.core.fakes import connect
from tests.modules.cron.case import CronCase


class CallTests(CronCase):
    """What the function gets (spec/cron.md, 4)."""

    def test_interfaces(self) -> None:
        """It is a module that provides a trigger type."""
        verifyObject(IModule, self.service)
        verifyObject(ITriggerProvider, self.service.trigger_types["cron"])

    def test_payload(self) -> None:
        """The function is called at each slot, with the contract's four members."""
        self.assertIsNone(self.schedule("*/30 * * * * *"))
        self.wait(29)
        self.assertEqual(self.calls(), [])
        self.wait(1)
        (call,) = self.calls()
        self.assertEqual(call["function_id"], "f")
        self.assertEqual(
            call["data"],
            {
                "trigger": "cron",
                "job_id": "job",
                "scheduled_time": "2026-02-10T09:00:30+00:00",
                "actual_time": "2026-02-10T09:00:30+00:00",
            },
        )
        self.assertRegex(call["traceparent"], "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$")
        self.assertNotIn("metadata", call)

    def test_actual_time(self) -> None:
        """A fraction of the actual time has six digits; the scheduled time has none."""
        self.schedule("*/30 * * * * *")
        self.clock.advance(31.25)
        (call,) = self.calls()
        self.assertEqual(call["data"]["scheduled_time"], "2026-02-10T09:00:30+00:00")
        self.assertEqual(call["data"]["actual_time"], "2026-02-10T09:00:31.250000+00:00")

    def test_metadata(self) -> None:
        """The trigger's metadata goes beside the payload; each run has a trace of its own."""
        self.schedule("* * * * * *", metadata={"team": "a"}, overlap="allow")
        self.wait(2)
        first, second = self.calls()
        self.assertEqual(first["metadata"], {"team": "a"})
        self.assertNotEqual(first["traceparent"][3:35], second["traceparent"][3:35])

    def test_namespace(self) -> None:
        """The function is looked up in the trigger's namespace when it is called."""
        other = connect(self.engine, "other", namespace="orders")
        self.schedule("* * * * * *", namespace="orders")
        self.wait(1)
        self.assertEqual(self.runs()[0][0], "failed")
        other.register("f")
        other.edge.frames.clear()
        self.wait(1)
        self.assertEqual(self.slots(other), ["09:00:02"])

    def test_failures(self) -> None:
        """A handler that fails or is not there ends neither the job nor others."""
        self.schedule("* * * * * *", id="job")
        self.schedule("* * * * * *", id="missing", function_id="g")
        self.wait(1)
        self.worker.answer(self.calls()[0], error={"code": "boom", "message": "no"})
        self.wait(1)
        self.assertEqual(self.slots(), ["09:00:02"])
        self.assertEqual(self.runs(), [("failed", "boom: no"), ("succeeded", None)])
        self.assertIn("function_not_found", str(self.runs("missing")))


class ConditionTests(CronCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker.register("ask")
        self.schedule("* * * * * *", condition_function_id="ask", metadata={"m": 1})
        self.wait(1)
        (self.question,) = self.calls()

    def test_question(self) -> None:
        """The condition gets the same payload and trace, and no metadata."""
        self.assertEqual((self.question["function_id"], self.question["data"]["trigger"]), ("ask", "cron"))
        self.assertNotIn("metadata", self.question)
        self.worker.answer(self.question, result=True)
        (call,) = self.calls()
        self.assertEqual(call["data"], self.question["data"])
        self.assertEqual(call["traceparent"], self.question["traceparent"])

    def test_false(self) -> None:
        """Only the literal false leaves the run out."""
        self.worker.answer(self.question, result=False)
        self.assertEqual(self.calls(), [])
        self.assertEqual(self.runs(), [("skipped", "the condition said false")])
        for answer in ({"result": None}, {}, {"result": 0}, {"result": "false"}, {"result": {}}):
            self.wait(1)
            (question,) = self.calls()
            self.worker.answer(question, **answer)
            (call,) = self.calls()
            self.assertEqual(call["function_id"], "f", answer)
            self.worker.answer(call, result=1)

    def test_failure(self) -> None:
        """A condition that fails leaves the run out, and the job goes on."""
        self.worker.answer(self.question, error={"code": "boom", "message": "no"})
        self.assertEqual(self.calls(), [])
        self.assertEqual(self.runs(), [("skipped", "the condition failed: boom: no")])
        self.wait(1)
        self.assertEqual(self.calls()[0]["function_id"], "ask")

    def test_not_there(self) -> None:
        """So does one that does not exist, and one whose id is no text counts as absent."""
        self.schedule("* * * * * *", condition_function_id="nobody", id="b")
        self.schedule("* * * * * *", condition_function_id=5, id="c")
        self.wait(1)
        self.assertEqual([call["data"]["job_id"] for call in self.calls() if call["function_id"] == "f"], ["c"])


class RefusalTests(CronCase):
    def refusal(self, expression: object = None, **config: object) -> str:
        error = self.schedule(expression, **config)  # type: ignore[arg-type]
        self.assertEqual(error["code"], "trigger_registration_failed")
        text: str = error["message"]
        return text

    def test_missing(self) -> None:
        """An expression that is missing, empty or no text is required."""
        for config in ({}, {"expression": ""}, {"expression": 5}, {"expression": None}):
            self.assertEqual(self.refusal(**config), "Cron expression is required")
        for config in (None, [], "x", 5):
            self.worker.edge.frames.clear()
            self.worker.register_trigger("t", "cron", config=config)
            (answer,) = self.worker.received("triggerregistrationresult")
            self.assertEqual(answer["error"]["message"], "Cron expression is required", config)

    def test_invalid(self) -> None:
        """What cannot be parsed is told with the expression, the field and the value."""
        self.assertEqual(
            self.refusal("0 0 25 * * *"),
            "Invalid cron expression '0 0 25 * * *': hour: 25 is not a value from 0 to 23",
        )
        self.assertTrue(self.refusal(" ").startswith("Invalid cron expression ' ': it has 0 fields"))

    def test_stopping(self) -> None:
        """While the engine stops, nothing is taken; what is wrong with a config is told before that."""
        self.engine.stopping = True
        text = "cron scheduler is shutting down; cannot register job 'job'"
        self.assertEqual(self.refusal("* * * * * *"), text)
        self.assertEqual(self.refusal(), "Cron expression is required")
        self.assertIn("Invalid cron expression", self.refusal("nonsense"))

    def test_other_keys(self) -> None:
        """Each key of ours says what it can be; keys of nobody are ignored."""
        for config, text in (
            ({"overlap": "no"}, "`overlap` is no; it can be skip, queue, allow"),
            ({"missed": 5}, "`missed` is 5; it can be skip, once"),
            ({"jitter_seconds": 3601}, "`jitter_seconds` is 3601; it can be 0 to 3600"),
            ({"jitter_seconds": True}, "`jitter_seconds` is True; it can be 0 to 3600"),
            ({"timezone": "Mars/Base"}, "`timezone` is Mars/Base, which is no time zone known here; "),
            ({"timezone": "../etc/passwd"}, "`timezone` is ../etc/passwd, which is no time zone known here; "),
            ({"timezone": "/etc/passwd"}, "`timezone` is /etc/passwd, which is no time zone known here; "),
            ({"timezone": ""}, "`timezone` is '', which is no time zone known here; "),
            ({"timezone": "Europe"}, "`timezone` is Europe, which is no time zone known here; "),
            ({"timezone": "x" * 9000}, "`timezone` is xxx"),
            ({"at": "2030-01-01T00:00:00Z"}, "`expression` and `at` exclude each other"),
        ):
            self.assertTrue(self.refusal("* * * * * *", **config).startswith(text), (config, text))
        self.assertIsNone(self.schedule("* * * * * *", colour="red", timezone=None, overlap=None, jitter_seconds=None))

    def test_at(self) -> None:
        """An instant is a date and a time with an offset, or one in a time zone."""
        for config, text in (
            ({"at": "tomorrow"}, "`at` is tomorrow; an example is 2030-01-31T09:00:00+01:00"),
            ({"at": 5}, "`at` is 5; an example is"),
            ({"at": "2030-01-31T09:00:00"}, "`at` is 2030-01-31T09:00:00, without an offset such as Z; "),
            ({"at": "0001-01-01T00:00:00Z"}, "`at` is 0001-01-01T00:00:00Z; its year can be 1970 to 2100"),
            ({"at": "9999-12-31T23:59:59-12:00"}, "`at` is 9999-12-31T23:59:59-12:00; its year can be"),
            ({"at": "2030-01-31T09:00:00Z", "timezone": "Europe/Berlin"}, "`at` has an offset, and `timezone` says"),
        ):
            self.assertTrue(self.refusal(**config).startswith(text), (config, self.refusal(**config)))


class LifeTests(CronCase):
    def test_unregister(self) -> None:
        """A job ends with its trigger; a run under way goes on."""
        self.schedule("* * * * * *")
        self.wait(1)
        (call,) = self.calls()
        self.worker.send("unregistertrigger", id="job")
        self.wait(5)
        self.assertEqual(self.calls(), [])
        self.worker.answer(call, result=1)
        self.assertEqual(self.ask("engine::cron::list")["total"], 0)

    def test_disconnect(self) -> None:
        """A job ends with its worker's connection; its run fails."""
        self.schedule("* * * * * *")
        self.wait(1)
        self.worker.leave()
        self.wait(5)
        self.assertEqual(self.ask("engine::cron::list")["total"], 0)

    def test_replace(self) -> None:
        """A trigger with the id of a live one replaces it, unless it is refused: then the old one stays."""
        self.schedule("* * * * * *")
        self.schedule("*/10 * * * * *")
        self.wait(9)
        self.assertEqual(self.calls(), [])
        self.schedule("nonsense")
        self.wait(1)
        self.assertEqual(self.slots(), ["09:00:10"])

    def test_replicas(self) -> None:
        """Two replicas that register the same, under different ids, have one job; it lives on when one goes."""
        other = self.connect("other")
        other.register("f")
        self.schedule("* * * * * *", id="a")
        self.schedule("* * * * * *", id="b", worker=other)
        self.wait(1)
        self.assertEqual(self.slots() + self.slots(other), ["09:00:01"])
        self.worker.leave()
        self.wait(1)
        self.assertEqual(self.slots(other), ["09:00:02"])

    def test_equal_jobs_of_one_worker(self) -> None:
        """One worker that registers the same twice has two jobs, which both run."""
        self.schedule("* * * * * *", id="a")
        self.schedule("* * * * * *", id="b")
        self.wait(1)
        self.assertEqual([call["data"]["job_id"] for call in self.calls()], ["a", "b"])

    def test_timezone(self) -> None:
        """A job with a time zone goes by its clocks; the function hears UTC."""
        self.schedule("0 1 10 * * *", timezone="Europe/Berlin")
        self.wait(60)
        self.assertEqual(self.slots(), ["09:01:00"])

    def test_jitter(self) -> None:
        """Jobs with jitter are spread, always in the same way, and hear their slot."""
        for number in range(20):
            self.schedule("0 * * * * *", id=f"job{number}", jitter_seconds=50, function_id="f", n=number)
        began: dict[str, list[int]] = {}
        for second in range(1, 241):
            self.wait(1)
            for call in self.calls():
                began.setdefault(call["data"]["job_id"], []).append(second % 60)
                self.assertEqual(call["data"]["scheduled_time"][17:19], "00")
                self.worker.answer(call, result=1)
        self.assertEqual({len(set(seconds)) for seconds in began.values()}, {1})
        offsets = {seconds[0] for seconds in began.values()}
        self.assertGreater(len(offsets), 8)
        self.assertLessEqual(max(offsets), 50)

    def test_long_ids(self) -> None:
        """What workers call their things does not matter."""
        self.schedule("* * * * * *", id="\n" + "x" * 1000)
        self.wait(1)
        self.assertEqual(len(self.calls()), 1)
