"""
The pure order against a multiset of jobs with states, whatever happens in whatever order; restarts at any moment.

The model knows nothing of windows and pieces: which job may start next follows from the states of all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from iii.modules.queue.delivery import Line
from iii.modules.queue.jobs import DEAD, DELAYED, READY, STATES, Job
from iii.modules.queue.retry import Policy
from tests.modules.queue.fakes import Disk, job
from tests.modules.queue.machines import Machine, run_machine

FUNCTIONS = ("f", "g")
WAITING = ("ready", "delayed", "parked")
FINAL = ("done", "dead", "cancelled")
number = st.integers(0, 7)


@attrs.define
class Known:
    """
    A job as the model sees it.

    @ivar state: C{ready}, C{delayed}, C{parked}, C{running}, C{done}, C{dead} or C{cancelled}.
    @ivar settled: That is on disk.
    @ivar returned: Its removal has failed: it may be out of order in its group.
    @ivar ended: How often it has ended, less the ends that a crash has taken back.
    """

    position: int
    rank: int
    group: str
    function_id: str
    state: str
    due_ms: int
    settled: bool = True
    returned: bool = False
    ended: int = 0

    @property
    def place(self) -> tuple[int, int]:
        return self.rank, self.position


class LineMachine(Machine):
    """
    One line, its disk, and the model.

    @cvar ordered: As of L{Policy}.
    """

    ordered: ClassVar[str | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.disk, self.now, self.last = Disk(), 1000, 0
        self.present = set(FUNCTIONS)
        self.model: dict[int, Known] = {}

    @initialize(concurrency=st.sampled_from((1, 2, 5)), window=st.sampled_from((4, 8, 64)))
    def begin(self, concurrency: int, window: int) -> None:
        self.concurrency, self.window = concurrency, window
        self.line = Line(self.policy(), window=window, following=2)

    def policy(self) -> Policy:
        return Policy(ordered=self.ordered, concurrency=self.concurrency)

    # What comes.

    @rule(group=st.sampled_from("abc"), rank=st.sampled_from((0, 0, -1)), function=st.sampled_from(FUNCTIONS),
          delay=st.sampled_from((0, 0, 0, 3, 50)), copies=st.sampled_from((1, 1, 4, 12)))  # fmt: skip
    def enqueue(self, group: str, rank: int, function: str, delay: int, copies: int) -> None:
        for _ in range(copies):
            self.last += 1
            if self.ordered:
                rank, delay = 0, 0
            new = job(
                self.last, group=group if self.ordered == "groups" else "", rank=rank,
                function_id="f" if self.ordered == "queue" else function,
                state=DELAYED if delay else READY, due_ms=self.now + delay if delay else 0,
            )  # fmt: skip
            self.disk.write(new.position, new, self.stored(new))
        self.serve()

    def stored(self, new: Job) -> Callable[[], None]:
        def then() -> None:
            self.model[new.position] = Known(
                new.position, new.rank, new.group, new.function_id, STATES[new.state], new.due_ms
            )
            (self.line.put_off if new.state == DELAYED else self.line.arrived)(new)

        return then

    @rule(count=st.integers(1, 30))
    def commit(self, count: int) -> None:
        for _ in range(min(count, len(self.disk.writing))):
            self.disk.commit()
            self.serve()

    # What becomes of it.

    @precondition(lambda self: self.line.running)
    @rule(which=number)
    def finish(self, which: int) -> None:
        ended, known = self.running(which)
        self.end(ended, known, "done", None)

    @precondition(lambda self: self.line.running)
    @rule(which=number)
    def bury(self, which: int) -> None:
        ended, known = self.running(which)
        ended.state = DEAD
        self.end(ended, known, "dead", ended)

    def running(self, which: int) -> tuple[Job, Known]:
        position = sorted(self.line.running)[which % len(self.line.running)]
        return self.line.running[position], self.model[position]

    def end(self, ended: Job, known: Known, state: str, row: Job | None) -> None:
        known.state, known.settled, known.ended = state, False, known.ended + 1
        self.line.done(ended)
        self.disk.write(ended.position, row, self.settling(known, lambda: self.line.written(ended)))
        self.serve()

    def settling(self, known: Known, then: Callable[[], None]) -> Callable[[], None]:
        def settle() -> None:
            known.settled = True
            then()

        return settle

    @precondition(lambda self: self.line.running)
    @rule(which=number, delay=st.sampled_from((0, 1, 20)))
    def fail(self, which: int, delay: int) -> None:
        failed, known = self.running(which)
        self.line.failed(failed)
        failed.attempts += 1
        failed.state, failed.due_ms = DELAYED, self.now + delay
        known.state, known.settled, known.due_ms = "delayed", False, failed.due_ms
        self.disk.write(failed.position, failed, self.settling(known, lambda: self.line.put_off(failed)))
        self.serve()

    @precondition(lambda self: self.line.running)
    @rule(which=number)
    def interrupt(self, which: int) -> None:
        again, known = self.running(which)
        known.state = STATES[again.state]
        self.line.again(again)
        self.serve()

    @rule(milliseconds=st.sampled_from((1, 5, 30)))
    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.serve()

    # What somebody does.

    @rule(which=st.integers(0, 60))
    def withdraw(self, which: int) -> None:
        rows = [row for _, row in sorted(self.disk.rows.items()) if row.state != DEAD]
        if not rows:
            return
        row = attrs.evolve(rows[which % len(rows)])
        known = self.model[row.position]
        taken = self.line.withdraw(row)
        assert (taken is not None) == (known.state in WAITING and known.settled), f"withdraw {known}: {taken}"
        if taken is not None:
            known.state, known.settled, known.ended = "cancelled", False, known.ended + 1
            self.disk.write(row.position, None, self.settling(known, lambda: self.line.written(taken)))
        self.serve()

    @rule()
    def refuse_removal(self) -> None:
        """The disk refuses the first removal of a job that was withdrawn."""
        for entry in self.disk.writing:
            known = self.model.get(entry[0])
            if known is not None and known.state == "cancelled":
                self.disk.writing.remove(entry)
                row = attrs.evolve(self.disk.rows[known.position])
                known.state, known.settled, known.returned = STATES[row.state], True, True
                known.ended -= 1
                self.line.written(row)
                (self.line.put_off if row.state == DELAYED else self.line.arrived)(row)
                break
        self.serve()

    @rule(function=st.sampled_from(FUNCTIONS))
    def lose_function(self, function: str) -> None:
        self.present.discard(function)

    @rule(function=st.sampled_from(FUNCTIONS))
    def find_function(self, function: str) -> None:
        self.present.add(function)
        self.line.release(("default", function))
        self.serve()

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.line.paused = paused
        self.serve()

    @rule(attended=st.booleans())
    def attend(self, attended: bool) -> None:
        self.line.attended = attended
        self.serve()

    @rule(concurrency=st.sampled_from((1, 2, 5)))
    def follow(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.line.follow(self.policy())
        self.serve()

    @rule()
    def restart(self) -> None:
        self.disk.crash()
        for known in self.model.values():
            row = self.disk.rows.get(known.position)
            if row is not None:
                if row.state != DEAD and known.state in FINAL:
                    known.ended -= 1  # a crash has taken that back
                known.state, known.due_ms = STATES[row.state], row.due_ms
            else:
                assert known.state in FINAL, f"{known} is not on disk"
            known.settled = True
        self.line = Line(self.policy(), window=self.window, following=2)
        if self.disk.rows:
            self.disk.load(self.line)
        self.serve()

    # What must come of it.

    def serve(self) -> None:
        """Start what starts, as the dispatcher does; what does and what does not must follow from the model."""
        for _ in range(1000):
            piece = self.line.wanted(self.now)
            if piece is not None:
                self.disk.answer(self.line, piece, self.now)
            due = [each for each in self.model.values() if each.settled and each.state in WAITING and each.due_ms]
            # So many that come due at one time are not all known at once.
            self.crowded = sum(each.due_ms <= self.now for each in due) >= self.window // 2
            while (started := self.line.next(self.now)) is not None:
                self.check_start(started)
                known = self.model[started.position]
                if started.function_id in self.present:
                    known.state = "running"
                else:
                    known.state = "parked"
                    assert self.line.park(started, started.target, 2**60)
            if self.line.wanted(self.now) is None:
                break
        else:
            raise AssertionError("the line reads forever")
        self.check_rest()

    def check_start(self, started: Job) -> None:
        known = self.model[started.position]
        row = self.disk.rows[started.position]
        assert known.settled and known.state in WAITING, f"{known} starts"
        assert (row.state, row.due_ms, row.attempts) == (started.state, started.due_ms, started.attempts)
        assert started.state == READY or started.due_ms <= self.now, f"{known} starts too early"
        assert not self.line.paused and self.line.attended, f"{known} starts, although nobody wants that"
        assert len(self.line.running) <= self.limit, f"{known} is one too many"
        if not known.returned and known.function_id in self.present:
            overtaken = [other for other in self.overtaking(known) if not other.returned]
            assert not overtaken, f"{known} overtakes {overtaken}"

    def overtaking(self, known: Known) -> list[Known]:
        """Which others ought to have started before."""
        unfinished = [each for each in self.model.values() if each.state not in FINAL and each is not known]
        if self.ordered:
            return [each for each in unfinished if each.group == known.group and each.position < known.position
                    or each.group == known.group and each.state == "running"]  # fmt: skip
        startable = [each for each in unfinished if self.could_start(each)]
        if self.crowded:
            startable = [each for each in startable if not each.due_ms]
        return [each for each in startable if each.place < known.place]

    @property
    def limit(self) -> int:
        return 1 if self.ordered == "queue" else self.concurrency

    def could_start(self, known: Known) -> bool:
        return (
            known.settled and known.state in WAITING and known.function_id in self.present and known.due_ms <= self.now
        )

    def check_rest(self) -> None:
        """What could start and has not must have a reason."""
        running = {position for position, known in self.model.items() if known.state == "running"}
        assert running == set(self.line.running)
        if self.line.paused or not self.line.attended or len(running) >= self.limit:
            return
        firsts: dict[object, Known] = {}
        for known in sorted(self.model.values(), key=lambda known: known.position):
            if known.state not in FINAL:
                firsts.setdefault(known.group if self.ordered else known.position, known)
        odd = {each.group for each in self.model.values() if each.returned and each.state not in FINAL and self.ordered}
        left = [known for known in firsts.values() if self.could_start(known) and known.group not in odd]
        assert not left, f"nobody starts {left}"

    def drain(self) -> None:
        if not hasattr(self, "line"):
            return
        self.line.paused, self.line.attended = False, True
        for function in FUNCTIONS:
            self.find_function(function)
        for _ in range(1000):
            self.pass_time(50)
            self.commit(1000)
            while self.line.running:
                self.finish(0)
            if not self.disk.writing and all(each.state in FINAL for each in self.model.values()):
                break
        assert all(each.ended == 1 for each in self.model.values()), self.model
        assert {position for position, row in self.disk.rows.items() if row.state == DEAD} == {
            position for position, each in self.model.items() if each.state == "dead"
        }
        assert (self.line.waiting, len(self.line._held)) == (0, 0)
        assert self.line.groups is None or (len(self.line.groups), self.line.groups.kept) == (0, 0)


class GroupsMachine(LineMachine):
    ordered = "groups"


class InOrderMachine(LineMachine):
    ordered = "queue"


class LineTests(SynchronousTestCase):
    timeout = 7200

    def test_unordered(self) -> None:
        """Jobs start by rank and position, each when it may and one time, and as soon as it can."""
        run_machine(LineMachine, 300, 60)

    def test_groups(self) -> None:
        """Likewise, the jobs of a group one after the other; and no group waits for another one."""
        run_machine(GroupsMachine, 300, 60)

    def test_in_order(self) -> None:
        """Likewise, for the queue as a whole."""
        run_machine(InOrderMachine, 200, 60)
