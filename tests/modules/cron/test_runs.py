from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from iii.storage.errors import StorageError
from tests.modules.cron.case import CronCase


class OverlapTests(CronCase):
    """What is due while a run is under way."""

    limits = {"cron_runs_per_job": 3}

    def test_skip(self) -> None:
        """By default it is left out, and the history says so."""
        self.schedule("* * * * * *")
        self.wait(3)
        (call,) = self.calls()
        self.worker.answer(call, result=1)
        self.wait(1)
        self.assertEqual(self.slots(), ["09:00:04"])
        reason = "the run before is still under way"
        self.assertEqual(self.runs(), [("succeeded", None), ("skipped", reason), ("succeeded", None)])
        self.assertEqual(self.ask("engine::cron::history", id="job")["runs"][1]["count"], 2)

    def test_queue(self) -> None:
        """With C{queue} it runs afterwards, in order, with its own slot."""
        self.schedule("* * * * * *", overlap="queue")
        self.wait(2)
        (call,) = self.calls()
        self.worker.send("unregistertrigger", id="none")
        self.worker.answer(call, result=1)
        (call,) = self.calls()
        self.assertEqual(call["data"]["scheduled_time"][11:19], "09:00:02")
        self.wait(1)
        self.assertEqual(self.calls(), [])
        self.worker.answer(call, result=1)
        self.assertEqual(self.slots(), ["09:00:03"])

    def test_queue_bound(self) -> None:
        """The queue has a bound; what exceeds it is skipped and counted."""
        self.schedule("* * * * * *", overlap="queue")
        self.wait(5)
        self.assertEqual([outcome for outcome, _ in self.runs()], ["running", "waiting", "waiting", "skipped"])
        self.assertIn("`engine.limits.cron_runs_per_job`", str(self.runs()[-1][1]))
        self.assertEqual(self.engine.counters.limit_hits["cron_runs_per_job"], 2)

    def test_allow(self) -> None:
        """With C{allow} it runs at once, up to the bound."""
        self.schedule("* * * * * *", overlap="allow")
        self.wait(5)
        self.assertEqual(self.slots(), ["09:00:01", "09:00:02", "09:00:03"])
        self.wait(1)
        self.assertEqual(self.slots(), ["09:00:06"])

    def test_jobs_are_independent(self) -> None:
        """A handler that never answers stops its own job only."""
        self.worker.register("g")
        self.schedule("* * * * * *", id="a")
        self.schedule("* * * * * *", id="b", function_id="g")
        self.wait(1)
        for call in self.calls():
            if call["function_id"] == "g":
                self.worker.answer(call, result=1)
        self.wait(1)
        self.assertEqual([call["function_id"] for call in self.calls()], ["g"])

    def test_ended_while_waiting(self) -> None:
        """What waits for a job that has ended is not run."""
        self.schedule("* * * * * *", overlap="queue")
        self.wait(2)
        (call,) = self.calls()
        self.worker.send("unregistertrigger", id="job")
        self.worker.answer(call, result=1)
        self.wait(2)
        self.assertEqual(self.calls(), [])

    def test_replica_gone(self) -> None:
        """What waits is run on another replica when the one has gone whose trigger began it."""
        other = self.connect("other")
        other.register("f")
        self.schedule("*/10 * * * * *", overlap="queue", id="a")
        self.schedule("*/10 * * * * *", overlap="queue", id="b", worker=other)
        self.calls(other)
        self.wait(20)
        (call,) = self.calls(other)
        self.worker.leave()
        other.answer(call, result=1)
        self.wait(1)
        self.assertEqual(self.slots(other), ["09:00:20"])


class LockTests(CronCase):
    """The lock of a job whose run has outlived its engine, or its registration."""

    def test_renewal(self) -> None:
        """A lock is renewed as long as the run lasts, and released at its end."""
        self.schedule("0 * * * * *")
        self.wait(60)
        (call,) = self.calls()
        key = next(iter(self.rows.values))
        for _ in range(20):
            self.wait(15)
            self.assertFalse(self.successResultOf(self.lock(key)))
        self.worker.answer(call, result=1)
        self.assertTrue(self.successResultOf(self.lock(key)))

    def lock(self, key: str) -> Any:
        return Deferred.fromCoroutine(self.store.lock(key, "other"))

    def test_crash(self) -> None:
        """After a crash, the job runs again when the lock's time is over."""
        self.schedule("*/10 * * * * *")
        self.wait(10)
        self.assertEqual(len(self.calls()), 1)
        self.service._stop_ticking()
        self.begin()
        self.schedule("*/10 * * * * *")
        self.wait(25)
        self.assertEqual(self.calls(), [])
        self.wait(10)
        self.assertEqual(self.slots(), ["09:00:40"])

    def test_registered_again(self) -> None:
        """A worker that registers a job anew while it runs does not get it twice at a time."""
        self.schedule("*/10 * * * * *")
        self.wait(10)
        (call,) = self.calls()
        self.worker.send("unregistertrigger", id="job")
        self.schedule("*/10 * * * * *", id="again")
        self.wait(10)
        self.assertEqual(self.calls(), [])
        self.worker.answer(call, result=1)
        self.wait(10)
        self.assertEqual(self.slots(), ["09:00:30"])

    def test_failing_store(self) -> None:
        """When a slot cannot be claimed, it is not run; the next one is."""
        self.schedule("* * * * * *")
        put = self.rows.put
        self.rows.put = lambda key, value: fail(StorageError("disk full"))  # type: ignore[method-assign]
        self.wait(1)
        self.assertEqual(self.calls(), [])
        self.assertEqual(self.runs(), [("failed", "no lock: disk full")])
        self.rows.put = put  # type: ignore[method-assign]
        self.wait(1)
        self.assertEqual(self.slots(), ["09:00:02"])

    def test_failing_lock(self) -> None:
        """When nobody knows whether a run that was asked for has got the lock, it is given back."""
        self.schedule("*/10 * * * * *")
        put = self.rows.put
        self.rows.put = lambda key, value: fail(StorageError("disk full"))  # type: ignore[method-assign]
        self.ask("engine::cron::run", id="job")
        self.assertEqual(self.runs(), [("failed", "no lock: disk full")])
        self.rows.put = put  # type: ignore[method-assign]
        self.wait(10)
        self.assertEqual(self.slots(), ["09:00:10"])

    def warnings(self) -> list[str]:
        """Return the list of what is warned of from now on."""
        found: list[str] = []

        def observe(event: Any) -> None:
            if event["log_level"] is LogLevel.warn:
                found.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return found

    def test_each_failure_is_told(self) -> None:
        """However many jobs fail in one second, the log says of each that it did."""
        for name in "abc":
            self.schedule("* * * * * *", id=name, function_id=f"absent-{name}")
        warnings = self.warnings()
        self.wait(1)
        for name in "abc":
            (found,) = (text for text in warnings if text.startswith(f"cron job {name} "))
            self.assertIn(f"failed: function_not_found: Function absent-{name}", found)

    def test_failing_store_is_told(self) -> None:
        """That a job was not run is said also where its lock is a worry, too."""
        self.schedule("* * * * * *")
        warnings = self.warnings()
        self.rows.put = lambda key, value: fail(StorageError("disk full"))  # type: ignore[method-assign]
        self.wait(1)
        self.assertIn("cron job job (* * * * * *) -> f failed: no lock: disk full", warnings)

    def test_missed_is_told(self) -> None:
        """Of missed runs the log has the first time, in a form that people read."""
        self.schedule("0 0 * * * *")
        warnings = self.warnings()
        self.jump(2 * 3600 + 60)
        self.assertIn("missed runs from 2026-02-10T10:00:00+00:00 on", warnings[0])

    def test_counters(self) -> None:
        """What runs, fails and is left out is counted."""
        self.schedule("* * * * * *")
        self.wait(2)
        self.worker.answer(self.calls()[0], error={"code": "x", "message": ""})
        counters = self.engine.counters
        self.assertEqual((counters.cron_runs, counters.cron_runs_failed, counters.cron_runs_skipped), (1, 1, 1))
        self.jump(60)
        self.assertEqual(counters.cron_missed, 0)

    def test_failing_release(self) -> None:
        """A lock that cannot be released has not failed the run, and is renewed no more."""
        self.schedule("* * * * * *")
        self.wait(1)
        (call,) = self.calls()
        self.rows.put = lambda key, value: fail(StorageError("disk full"))  # type: ignore[method-assign]
        self.worker.answer(call, result=1)
        self.assertEqual(self.runs(), [("succeeded", None)])


class OnceTests(CronCase):
    """A slot is run at most once."""

    def test_restart(self) -> None:
        """Not again by the engine that comes after a crash in the same second."""
        self.schedule("* * * * * *")
        self.wait(1)
        self.assertEqual(self.slots(), ["09:00:01"])
        self.service._stop_ticking()
        self.clock.rightNow -= 1
        self.begin()
        self.schedule("* * * * * *")
        self.wait(1)
        self.assertEqual(self.slots(), [])
        self.assertEqual(self.runs(), [("skipped", "the slot was run already")])
        self.wait(1)
        self.assertEqual(self.slots(), ["09:00:02"])

    def test_far_future(self) -> None:
        """What was run while the clock was wrong by days does not silence a job until then."""
        self.clock.rightNow += 40 * 86400
        self.schedule("* * * * * *")
        self.wait(1)
        self.slots()
        self.end()
        self.clock.rightNow -= 40 * 86400
        self.begin()
        self.schedule("* * * * * *")
        self.wait(1)
        self.assertEqual(len(self.slots()), 1)


class MissedTests(CronCase):
    """Slots that pass while nobody looks."""

    def test_skip(self) -> None:
        """By default they are lost."""
        self.schedule("0 0 * * * *")
        self.jump(3 * 3600 + 600)
        self.wait(10)
        self.assertEqual(self.calls(), [])

    def test_once(self) -> None:
        """With C{once} the job runs, once, as soon as it can."""
        self.schedule("0 0 * * * *", missed="once")
        self.jump(3 * 3600 + 600)
        self.wait(10)
        self.assertEqual(self.slots(), ["10:00:00"])
        self.assertTrue(self.ask("engine::cron::history", id="job")["runs"][0]["late"])

    def test_restart(self) -> None:
        """So it does when the engine was down, also when it has never run before."""
        self.schedule("0 0 * * * *", missed="once")
        self.end()
        self.clock.rightNow += 3 * 3600 + 600
        self.begin()
        self.schedule("0 0 * * * *", missed="once")
        self.assertEqual(self.slots(), ["10:00:00"])
        self.end()
        self.begin()
        self.schedule("0 0 * * * *", missed="once")
        self.wait(100)
        self.assertEqual(self.slots(), [])

    def test_worker_away(self) -> None:
        """And when the worker was away."""
        self.schedule("0 0 * * * *", missed="once")
        self.worker.leave()
        self.wait(3700)
        self.worker = self.connect("worker")
        self.worker.register("f")
        self.schedule("0 0 * * * *", missed="once")
        self.assertEqual(self.slots(), ["10:00:00"])

    def test_new_job(self) -> None:
        """A job that is new has missed nothing."""
        self.schedule("0 0 * * * *", missed="once")
        self.assertEqual(self.calls(), [])


class ClockTests(CronCase):
    def test_set_back(self) -> None:
        """When the clock is set back, nothing runs twice; it goes on when the clock has caught up."""
        self.schedule("0 * * * * *")
        self.wait(600)
        self.assertEqual(len(self.slots()), 1)
        self.calls()
        self.clock.rightNow -= 300
        self.wait(299)
        self.assertEqual(self.slots(), [])
        self.wait(62)
        self.assertEqual(self.slots(), ["09:11:00"])

    def test_new_jobs_after_that(self) -> None:
        """What is registered meanwhile runs at its times, although timers stand still."""
        self.wait(600)
        self.clock.rightNow -= 3600
        self.schedule("*/10 * * * * *", id="new")
        self.wait(10)
        self.assertEqual(self.slots(), ["08:10:10"])

    def test_ticks_at_whole_seconds(self) -> None:
        """Jobs run at whole seconds, whenever the engine was started."""
        self.end()
        self.clock.rightNow += 0.5
        self.begin()
        self.schedule("* * * * * *")
        self.clock.advance(0.25)
        self.assertEqual(self.calls(), [])
        self.clock.advance(0.25)
        (call,) = self.calls()
        self.assertEqual(call["data"]["scheduled_time"][11:19], "09:00:01")

    def test_many_at_once(self) -> None:
        """Jobs that are due together all run, also when they are too many for one turn."""
        for number in range(1000):
            self.schedule("0 0 * * * *", id=f"job{number}", n=number)
        self.wait(3600)
        self.assertEqual(len(self.calls()), 1000)


class DefectTests(CronCase):
    def test_next_time(self) -> None:
        """A job whose next time cannot be found leaves, and the others go on."""

        class Broken:
            def after(self, instant: int) -> int | None:
                raise OverflowError("no such time")

        self.schedule("* * * * * *", id="broken")
        self.schedule("* * * * * *", id="other", n=1)
        schedule = self.service._triggers.schedule
        (entry,) = [entry for job, entry in schedule._entries.items() if job.trigger_id == "broken"]
        entry.occurrences = Broken()
        for _ in range(2):
            self.wait(1)
            (call,) = self.calls()
            self.assertEqual(call["data"]["job_id"], "other")
            self.worker.answer(call, result=1)
        self.assertEqual(len(self.flushLoggedErrors(OverflowError)), 1)
        self.assertEqual(len(schedule), 1)

    def test_renewal(self) -> None:
        """A run whose lock cannot be renewed, for whatever reason, ends in order, and gives it back."""
        self.schedule("0 * * * * *")
        self.wait(60)
        (call,) = self.calls()
        self.store.renew = lambda key, token: fail(OverflowError("a defect"))  # type: ignore[method-assign]
        self.wait(20)
        self.worker.answer(call, result=1)
        self.assertEqual(self.runs(), [("succeeded", None)])
        self.assertNotIn(b"owner", b"".join(self.rows.values.values()))
        self.assertEqual(len(self.flushLoggedErrors(OverflowError)), 1)


class StopTests(CronCase):
    def test_stop(self) -> None:
        """Stopping runs nothing more, waits for no handler, gives locks back, and leaves no timer."""
        self.schedule("* * * * * *")
        self.schedule("* * * * * *", id="queued", overlap="queue")
        self.wait(3)
        self.calls()
        self.end()
        timers = [str(timer) for timer in self.clock.getDelayedCalls()]
        self.assertEqual([timer for timer in timers if "Deadlines" not in timer], [])  # the core's
        self.assertNotIn(b"owner", b"".join(self.rows.values.values()))
        self.wait(5)
        self.assertEqual(self.calls(), [])

    def test_stopping(self) -> None:
        """While the engine drains, nothing new is run."""
        self.schedule("* * * * * *")
        self.engine.stopping = True
        self.wait(2)
        self.assertEqual(self.calls(), [])

    def test_queued(self) -> None:
        """Nor what waits for a run that ends meanwhile."""
        self.schedule("* * * * * *", overlap="queue")
        self.wait(2)
        (call,) = self.calls()
        self.engine.stopping = True
        self.worker.answer(call, result=1)
        self.assertEqual(self.calls(), [])
        self.assertEqual(self.runs(), [("succeeded", None), ("skipped", "the engine is stopping")])
