from __future__ import annotations

from datetime import UTC, datetime

from twisted.internet.defer import fail

from iii.modules.cron.store import ROOM
from iii.storage.errors import StorageError
from tests.modules.cron.case import CronCase

AT = "2026-02-10T10:00:00+01:00"  # START + 0
LATER = "2026-02-10T09:10:00Z"


class OneShotTests(CronCase):
    """Jobs with C{at}."""

    limits = {"cron_one_shots": 2}

    def listed(self) -> list[str]:
        return [job["id"] for job in self.ask("engine::cron::list")["jobs"]]

    def restart(self) -> None:
        self.end()
        self.begin()

    def test_once(self) -> None:
        """It runs once, at its time."""
        self.assertIsNone(self.schedule(at=LATER))
        self.wait(599)
        self.assertEqual(self.calls(), [])
        self.wait(1000)
        self.assertEqual(self.slots(), ["09:10:00"])
        self.assertEqual(self.one_shot_rows.values, {})

    def test_timezone(self) -> None:
        """Without an offset, it is in the time zone that is named."""
        self.schedule(at="2026-02-10T10:05:00", timezone="Europe/Berlin")
        self.wait(300)
        self.assertEqual(self.slots(), ["09:05:00"])

    def test_worker_gone(self) -> None:
        """It outlives the worker that registered it, and another one gets it."""
        self.schedule(at=LATER)
        self.worker.leave()
        self.assertEqual(self.listed(), ["job"])
        other = self.connect("other")
        other.register("f")
        other.edge.frames.clear()
        self.wait(600)
        self.assertEqual(self.slots(other), ["09:10:00"])
        self.assertEqual(self.listed(), [])

    def test_removed(self) -> None:
        """One whose worker has gone can be removed for good; one that has a trigger cannot."""
        self.schedule(at=LATER)
        operator = self.connect("operator")
        self.assertEqual(
            self.ask("engine::cron::remove", id="job"),
            ("cron_job_in_use", "Cron job 'job' belongs to a trigger; end that with engine::unregister_trigger"),
        )
        self.worker.leave()
        self.worker = operator
        self.assertEqual(self.ask("engine::cron::remove", id="job"), {"id": "job", "removed": True})
        self.assertEqual(self.listed(), [])
        self.assertEqual(self.one_shot_rows.values, {})
        self.assertEqual(self.ask("engine::cron::remove", id="job")[0], "cron_job_not_found")

    def test_restart(self) -> None:
        """It survives a restart, also when the worker registers it again, under another id."""
        self.schedule(at=LATER, metadata={"m": 1})
        self.restart()
        self.assertEqual(self.listed(), ["job"])
        self.schedule(at=LATER, metadata={"m": 1}, id="again")
        self.assertEqual(self.listed(), ["again"])
        self.wait(600)
        (call,) = self.calls()
        self.assertEqual((call["data"]["job_id"], call["metadata"]), ("again", {"m": 1}))

    def test_missed(self) -> None:
        """When its time passes while the engine is down, it runs as soon as it can."""
        self.schedule(at=LATER)
        self.end()
        self.clock.rightNow += 86400
        self.begin()
        self.wait(1)
        self.assertEqual(self.slots(), ["09:10:00"])
        self.restart()
        self.wait(5)
        self.assertEqual(self.calls(), [])

    def test_missed_skip(self) -> None:
        """With C{missed: skip} it is dropped then."""
        self.schedule(at=LATER, missed="skip")
        self.end()
        self.clock.rightNow += 86400
        self.begin()
        self.wait(5)
        self.assertEqual((self.calls(), self.listed(), self.one_shot_rows.values), ([], [], {}))

    def test_waits_for_function(self) -> None:
        """When its function is not there, it waits for it, also over a restart."""
        self.schedule(at=LATER, function_id="g")
        self.wait(700)
        self.restart()
        self.wait(10)
        self.worker.register("other", "g")
        self.assertEqual(self.slots(), ["09:10:00"])
        self.assertEqual(self.engine.counters.cron_missed, 1)
        self.wait(10)
        self.assertEqual((self.calls(), self.one_shot_rows.values), ([], {}))

    def test_stopping(self) -> None:
        """A function that comes while the engine stops is not called; the next engine does that."""
        self.schedule(at=LATER, function_id="g")
        self.wait(700)
        self.engine.stopping = True
        self.worker.register("g")
        self.assertEqual(self.calls(), [])
        self.restart()
        self.worker.register("g")
        self.wait(1)
        self.assertEqual(self.slots(), ["09:10:00"])

    def test_paused(self) -> None:
        """While it is paused, it waits, also over a restart."""
        self.schedule(at=LATER)
        self.ask("engine::cron::pause", id="job")
        self.wait(700)
        self.restart()
        self.wait(10)
        self.assertEqual((self.calls(), self.listed()), ([], ["job"]))
        self.ask("engine::cron::resume", id="job")
        self.wait(30)
        self.assertEqual(self.slots(), ["09:10:00"])
        self.wait(100)
        self.assertEqual((self.calls(), self.listed(), self.one_shot_rows.values), ([], [], {}))

    def test_failing_store(self) -> None:
        """When it cannot be claimed, it is tried again."""
        self.schedule(at=LATER)
        put = self.rows.put
        self.rows.put = lambda key, value: fail(StorageError("disk full"))  # type: ignore[method-assign]
        self.wait(610)
        self.assertEqual((self.calls(), self.runs()), ([], [("failed", "no lock: disk full")]))
        self.rows.put = put  # type: ignore[method-assign]
        self.wait(30)
        self.assertEqual(self.slots(), ["09:10:00"])
        self.assertTrue(self.ask("engine::cron::history", id="job")["runs"][0]["late"])
        self.assertEqual(self.one_shot_rows.values, {})

    def test_busy(self) -> None:
        """When its time comes during a run that was asked for, it runs afterwards."""
        self.schedule(at=LATER)
        self.wait(590)
        self.ask("engine::cron::run", id="job")
        (call,) = self.calls()
        self.wait(20)
        self.assertEqual(self.calls(), [])
        self.worker.answer(call, result=1)
        self.wait(30)
        self.assertEqual(self.slots(), ["09:10:00"])

    def test_crash(self) -> None:
        """It runs at most once: not again when the engine crashes before it has forgotten it."""
        self.schedule(at=LATER)
        kept = dict(self.one_shot_rows.values)
        self.wait(600)
        self.assertEqual(self.slots(), ["09:10:00"])
        self.service._stop_ticking()
        self.one_shot_rows.values = kept
        self.begin()
        self.wait(5)
        self.assertEqual(self.calls(), [])

    def test_registered_again(self) -> None:
        """A worker that registers it again when it has run starts nothing."""
        self.schedule(at=LATER)
        self.wait(600)
        self.slots()
        self.worker.leave()
        self.worker = self.connect("worker")
        self.worker.register("f")
        self.assertIsNone(self.schedule(at=LATER))
        self.wait(5)
        self.assertEqual(self.calls(), [])

    def test_past(self) -> None:
        """One whose time has passed when it is first registered never runs."""
        self.assertIsNone(self.schedule(at=AT))
        self.wait(5)
        self.assertEqual(self.calls(), [])
        self.assertEqual(self.ask("engine::cron::list")["jobs"][0]["next_runs"], [])

    def test_unregister(self) -> None:
        """Unregistered on purpose, it is gone."""
        self.schedule(at=LATER)
        self.worker.send("unregistertrigger", id="job")
        self.assertEqual((self.listed(), self.one_shot_rows.values), ([], {}))
        self.restart()
        self.wait(700)
        self.assertEqual(self.calls(), [])

    def test_unregister_while_waiting(self) -> None:
        """Also while it waits for its function."""
        self.schedule(at=LATER, function_id="g")
        self.wait(700)
        self.worker.send("unregistertrigger", id="job")
        self.worker.register("g")
        self.assertEqual(self.calls(), [])

    def test_growth(self) -> None:
        """However many have run, those that have run more than a day ago are not known any more."""
        for number in range(3 * ROOM):
            at = datetime.fromtimestamp(self.clock.seconds() + 60, UTC).isoformat()
            self.schedule(at=at, overlap="allow", id=str(number))
            self.clock.advance(90)
            self.slots()
        day = 86400 // 90
        self.assertLess(len(self.rows.values), 2 * day + ROOM + 1)
        self.assertEqual(set(self.rows.values), set(self.store._jobs))

    def test_bound(self) -> None:
        """So many may wait; one more is refused."""
        self.schedule(at=LATER, id="a")
        self.schedule(at=LATER, id="b")
        error = self.schedule(at=LATER, id="c")
        self.assertEqual(error["message"], "2 jobs with `at` wait already (`engine.limits.cron_one_shots`)")
        self.worker.send("unregistertrigger", id="a")
        self.assertIsNone(self.schedule(at=LATER, id="c"))
