"""The line on random histories: against a plain dictionary of jobs with states, with restarts at any moment."""

from __future__ import annotations

import os
import random

from twisted.trial.unittest import SynchronousTestCase

from iii.modules.queue import groups as groups_module
from iii.modules.queue.delivery import Line
from iii.modules.queue.jobs import DEAD, DELAYED, READY, Job
from iii.modules.queue.retry import Policy
from tests.modules.queue.fakes import Disk, job

HISTORIES = 6000 if os.environ.get("III_SOAK") else 600
STEPS = 120
FUNCTIONS = ("f", "g")


class Simulation:
    """
    One queue, moved by chance.

    @ivar finished: Positions of jobs that have ended, in that order.
    @ivar told: What was done, for the report of a failure.
    """

    def __init__(self, chance: random.Random, ordered: str | None) -> None:
        self.chance, self.ordered = chance, ordered
        self.policy = Policy(ordered=ordered, concurrency=chance.choice((1, 2, 5)))
        self.window = chance.choice((4, 8, 64))
        self.disk, self.now, self.last = Disk(), 1000, 0
        self.present = set(FUNCTIONS)
        self.accepted: set[int] = set()
        self.finished: list[int] = []
        self.withdrawn: set[int] = set()
        self.dead: set[int] = set()
        self.group_of: dict[int, str] = {}
        self.told: list[str] = []
        self.restart()

    def restart(self) -> None:
        self.told.append("restart")
        self.disk.crash()
        self.withdrawn = {position for position in self.withdrawn if position not in self.disk.rows}
        self.line = Line(self.policy, window=self.window)
        if self.disk.rows:
            self.disk.load(self.line)

    def step(self) -> None:
        actions = {
            self.enqueue: 8, self.commit: 10, self.finish: 6, self.fail: 3, self.interrupt: 1, self.pass_time: 3,
            self.lose_function: 1, self.find_function: 2, self.withdraw: 1, self.restart: 0.3, self.kill: 1,
        }  # fmt: skip
        action = self.chance.choices(list(actions), list(actions.values()))[0]
        action()
        self.serve()

    def enqueue(self) -> None:
        self.last += 1
        group = self.chance.choice("abc") if self.ordered == "groups" else ""
        rank = 0 if self.ordered else self.chance.choice((0, 0, -1, -9))
        delayed = not self.ordered and self.chance.random() < 0.2
        new = job(
            self.last, group=group, rank=rank,
            function_id="f" if self.ordered == "queue" else self.chance.choice(FUNCTIONS),
            state=DELAYED if delayed else READY, due_ms=self.now + self.chance.choice((0, 3, 50)) if delayed else 0,
        )  # fmt: skip
        self.told.append(f"enqueue {new.position} {group} {rank} {new.function_id} {new.due_ms}")

        def stored() -> None:
            self.accepted.add(new.position)
            self.group_of[new.position] = group
            (self.line.put_off if delayed else self.line.arrived)(new)

        self.disk.write(new.position, new, stored)

    def commit(self) -> None:
        if self.disk.writing:
            self.told.append(f"commit {self.disk.writing[0][0]}")
            self.disk.commit()

    def _running(self) -> Job | None:
        running = list(self.line.running.values())
        return self.chance.choice(running) if running else None

    def finish(self) -> None:
        ended = self._running()
        if ended is not None:
            self.told.append(f"finish {ended.position}")
            self.finished.append(ended.position)
            self.disk.write(ended.position, None, lambda: self.line.written(ended))
            self.line.done(ended)

    def kill(self) -> None:
        ended = self._running()
        if ended is not None:
            self.told.append(f"dead letter {ended.position}")
            self.dead.add(ended.position)
            ended.state = DEAD
            self.disk.write(ended.position, ended, lambda: self.line.written(ended))
            self.line.done(ended)

    def fail(self) -> None:
        failed = self._running()
        if failed is not None:
            self.line.failed(failed)
            failed.attempts += 1
            failed.state, failed.due_ms = DELAYED, self.now + self.chance.choice((0, 1, 20))
            self.told.append(f"fail {failed.position} until {failed.due_ms}")
            self.disk.write(failed.position, failed, lambda: self.line.put_off(failed))

    def interrupt(self) -> None:
        again = self._running()
        if again is not None:
            self.told.append(f"interrupt {again.position}")
            self.line.again(again)

    def pass_time(self) -> None:
        self.now += self.chance.choice((1, 5, 30))
        self.told.append(f"now {self.now}")

    def lose_function(self) -> None:
        self.present.discard(self.chance.choice(FUNCTIONS))

    def find_function(self) -> None:
        found = self.chance.choice(FUNCTIONS)
        self.present.add(found)
        self.told.append(f"function {found}")
        self.line.release(("default", found))

    def withdraw(self) -> None:
        if self.disk.rows:
            row = self.chance.choice(list(self.disk.rows.values()))
            if row.state != DEAD:
                taken = self.line.withdraw(row)
                self.told.append(f"withdraw {row.position}: {taken is not None}")
                if taken is not None:
                    self.withdrawn.add(row.position)
                    self.disk.write(row.position, None, lambda: self.line.written(taken))

    def serve(self) -> None:
        for _ in range(50):
            piece = self.line.wanted(self.now)
            if piece is None:
                break
            self.disk.answer(self.line, piece, self.now)
        while (started := self.line.next(self.now)) is not None:
            if started.function_id not in self.present:
                self.told.append(f"park {started.position}")
                assert self.line.park(started, started.target, 2**60)
                self.serve_pieces()
            else:
                self.told.append(f"start {started.position}")
                self.check_start(started)

    def serve_pieces(self) -> None:
        while (piece := self.line.wanted(self.now)) is not None:
            self.disk.answer(self.line, piece, self.now)

    def check_start(self, started: Job) -> None:
        position = started.position
        assert position in self.disk.rows, f"{position} runs and is not on disk"
        assert position not in self.withdrawn, f"{position} runs although it was withdrawn"
        row = self.disk.rows[position]
        assert row.state != DEAD and (row.state, row.due_ms, row.attempts) == (
            started.state, started.due_ms, started.attempts
        ), f"{position} runs, but not as it is on disk"  # fmt: skip
        assert started.state == READY or started.due_ms <= self.now, f"{position} runs too early"
        assert len(self.line.running) <= self.policy.concurrency
        if self.ordered:
            alike = [
                each for each, other in self.disk.rows.items()
                if other.state != DEAD and other.group == row.group and each not in self.withdrawn
            ]  # fmt: skip
            ended = set(self.finished) | self.dead
            earlier = [each for each in alike if each < position and each not in ended]
            assert not earlier, f"{position} runs before {earlier}"
            busy = [each for each, other in self.line.running.items() if other.group == row.group and each != position]
            assert not busy, f"{position} runs beside {busy}"

    def drain(self) -> None:
        """Everything that is left must run."""
        self.present = set(FUNCTIONS)
        for function in FUNCTIONS:
            self.line.release(("default", function))
        for _ in range(20 * STEPS):
            self.now += 100
            self.serve()
            while self.line.running:
                self.finish()
            while self.disk.writing:
                self.disk.commit()
        left = {position for position, row in self.disk.rows.items() if row.state != DEAD}
        assert not left, f"{sorted(left)} never ran"
        lost = self.accepted - set(self.finished) - self.dead - self.withdrawn
        assert not lost, f"{sorted(lost)} are lost"
        assert self.line.waiting == 0 and not self.line.running
        assert self.line.groups is None or (len(self.line.groups), self.line.groups.kept) == (0, 0)


class HistoryTests(SynchronousTestCase):
    timeout = 600

    def run_histories(self, ordered: str | None) -> None:
        for _ in range(HISTORIES):
            seed = random.randrange(2**32)
            self.history(seed, ordered)

    def history(self, seed: int, ordered: str | None) -> None:
        simulation = Simulation(random.Random(seed), ordered)
        try:
            for _ in range(STEPS):
                simulation.step()
            simulation.drain()
        except Exception as error:
            told = "\n".join(simulation.told)
            raise AssertionError(f"seed {seed}: {error!r}\n{told}") from error

    def test_unordered(self) -> None:
        """Every job runs, when it may, at least once, and none that was withdrawn; priorities and delays included."""
        self.run_histories(None)

    def test_groups(self) -> None:
        """Likewise; and a job of a group runs only when all earlier ones have ended."""
        self.patch(groups_module, "FOLLOWING", 2)
        self.run_histories("groups")

    def test_in_order(self) -> None:
        """Likewise, for the queue as a whole."""
        self.run_histories("queue")
