from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iii.modules.cron.history import PER_JOB, History, Run
from tests.modules.cron.case import CronCase


class FunctionTests(CronCase):
    def test_list(self) -> None:
        """Jobs are listed with what they are, and their next times."""
        self.schedule("0 0 */6 * * *", missed="once")
        self.schedule("0 0 0 1 1 *", id="a", function_id="g", overlap="allow")
        listing = self.ask("engine::cron::list", next_runs=2)
        self.assertEqual((listing["total"], [job["id"] for job in listing["jobs"]]), (2, ["a", "job"]))
        (job,) = self.ask("engine::cron::list", function_id="f", next_runs=2)["jobs"]
        self.assertRegex(job.pop("key"), "^[0-9a-f]{32}$")
        self.assertEqual(
            job,
            {
                "id": "job", "function_id": "f", "namespace": "default", "schedule": "0 0 */6 * * *",
                "overlap": "skip", "missed": "once", "jitter_seconds": 0, "paused": False, "active": 0,
                "connected": True, "last_run": None,
                "next_runs": ["2026-02-10T12:00:00+00:00", "2026-02-10T18:00:00+00:00"],
            },
        )  # fmt: skip

    def test_pages(self) -> None:
        """Long lists come in pages."""
        for number in range(5):
            self.schedule("@daily", id=f"job{number}", n=number)
        page = self.ask("engine::cron::list", offset=3, limit=10)
        self.assertEqual(([job["id"] for job in page["jobs"]], page["total"]), (["job3", "job4"], 5))
        self.assertEqual(self.ask("engine::cron::list", limit=5000)[0], "deserialization_error")

    def test_turns(self) -> None:
        """While a long list is made others get their turn."""
        for number in range(25):
            self.schedule("0 0 0 29 2 Sat", id=f"job{number:02}", n=number)
        call = self.worker.call("engine::cron::list", {"next_runs": 10})
        self.assertEqual(self.worker.received("invocationresult"), [])
        self.clock.advance(0)
        jobs = self.worker.outcome(call)["jobs"]
        self.assertEqual([job["id"] for job in jobs], [f"job{number:02}" for number in range(25)])

    def test_last_run(self) -> None:
        """The list has the last run, the history all that are known, newest first."""
        self.schedule("* * * * * *")
        self.wait(1)
        self.worker.answer(self.calls()[0], result=1)
        self.wait(1)
        (job,) = self.ask("engine::cron::list")["jobs"]
        self.assertEqual((job["last_run"]["outcome"], job["active"]), ("running", 1))
        runs = self.ask("engine::cron::history", id="job")["runs"]
        self.assertEqual([run["outcome"] for run in runs], ["running", "succeeded"])
        self.assertEqual(runs[1]["scheduled_time"], "2026-02-10T09:00:01+00:00")
        self.assertEqual(runs[1]["duration_ms"], 0)
        self.assertEqual(len(self.ask("engine::cron::history", id="job", limit=1)["runs"]), 1)

    def test_pause(self) -> None:
        """A paused job does not run, also after a restart, until it is resumed."""
        self.schedule("* * * * * *")
        self.assertEqual(self.ask("engine::cron::pause", id="job"), {"id": "job", "paused": True})
        self.wait(2)
        self.assertEqual(self.calls(), [])
        self.assertEqual(self.runs()[0], ("skipped", "the job is paused"))
        self.end()
        self.begin()
        self.schedule("* * * * * *", id="again")
        self.wait(2)
        self.assertEqual(self.calls(), [])
        self.assertTrue(self.ask("engine::cron::list")["jobs"][0]["paused"])
        self.assertEqual(self.ask("engine::cron::resume", id="again"), {"id": "again", "paused": False})
        self.wait(1)
        self.assertEqual(self.slots(), ["09:00:05"])

    def test_left_out_on_purpose(self) -> None:
        """What was due while a job was paused is not missed, whatever it does about missed times."""
        self.schedule("0 0 * * * *", missed="once")
        self.wait(1)
        self.ask("engine::cron::pause", id="job")
        self.wait(3700)
        self.ask("engine::cron::resume", id="job")
        self.end()
        self.begin()
        self.schedule("0 0 * * * *", missed="once")
        self.wait(1)
        self.assertEqual(self.calls(), [])
        self.wait(3600)
        self.assertEqual(self.slots(), ["11:00:00"])

    def test_run(self) -> None:
        """A job can be run besides its times, also while it is paused, and then still runs at them."""
        self.schedule("*/10 * * * * *")
        self.ask("engine::cron::pause", id="job")
        self.wait(3)
        self.assertEqual(self.ask("engine::cron::run", id="job"), {"id": "job", "started": True})
        self.assertEqual(self.slots(), ["09:00:03"])
        self.assertTrue(self.ask("engine::cron::history", id="job")["runs"][0]["manual"])
        self.ask("engine::cron::resume", id="job")
        self.wait(7)
        self.assertEqual(self.slots(), ["09:00:10"])

    def test_busy(self) -> None:
        """Not while a run is under way, where runs must not overlap."""
        self.schedule("* * * * * *")
        self.wait(1)
        self.assertEqual(
            self.ask("engine::cron::run", id="job"),
            ("cron_job_busy", "cron job job is not run now: the run before is still under way"),
        )

    def test_by_key(self) -> None:
        """A job is found by its key, too, which stays when its id changes."""
        self.schedule("@daily")
        key = self.ask("engine::cron::list")["jobs"][0]["key"]
        self.worker.send("unregistertrigger", id="job")
        self.schedule("@daily", id="other")
        self.assertEqual(self.ask("engine::cron::list")["jobs"][0]["key"], key)
        self.assertEqual(self.ask("engine::cron::run", id=key), {"id": "other", "started": True})

    def test_unknown(self) -> None:
        """What is not there is not found."""
        for name in ("history", "pause", "resume", "run"):
            answer = self.ask(f"engine::cron::{name}", id="nobody")
            self.assertEqual(answer, ("cron_job_not_found", "Cron job 'nobody' not found"), name)


class HistoryTests(SynchronousTestCase):
    def add(self, history: History, key: str, number: int) -> None:
        for each in range(number):
            history.add(key, Run(str(each), "", "succeeded"))

    def test_per_job(self) -> None:
        """Of each job the last runs are known."""
        history = History(1000)
        self.add(history, "a", PER_JOB + 5)
        runs = history.of("a")
        self.assertEqual((len(runs), runs[0].scheduled_time), (PER_JOB, str(PER_JOB + 4)))

    def test_skipped(self) -> None:
        """Runs that are skipped in a row for one reason take the place of one, and are counted."""
        history = History(1000)
        for reason in ("busy", "busy", "busy", "paused", "busy"):
            run = Run(reason, "", "skipped", reason=reason)
            history.add("a", run)
            history.skipped("a", run)
        self.assertEqual(
            [(run.reason, run.count) for run in history.of("a")], [("busy", 1), ("paused", 1), ("busy", 3)]
        )
        self.add(history, "a", 1)
        self.assertEqual(history._count, 4)

    def test_all(self) -> None:
        """Above the bound of all, those of the job are forgotten that has not run for longest."""
        history = History(10)
        self.add(history, "a", 5)
        self.add(history, "b", 5)
        self.add(history, "c", 7)
        self.assertEqual([len(history.of(key)) for key in "abc"], [0, 3, 7])
        self.assertEqual(history.of("b")[-1].scheduled_time, "2")
        self.add(history, "c", 200)
        self.assertEqual([len(history.of(key)) for key in "abc"], [0, 0, 10])
