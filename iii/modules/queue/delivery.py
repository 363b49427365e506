"""
Who gets what: the order in which the jobs of one queue start.  Pure: no disk, no network, no clock.

A L{Line} knows the next few hundred jobs of its queue; the rest is on disk, and the line says which piece of it is to
be read when it runs low (L{Line.wanted}).  It can do so because there is a point in the order of the queue up to which
it knows every job, or knows where to find it:

 - jobs that may run are ordered by rank and position.  Those before C{ready_from} are known.  A new one from there on
   is left to be read; when too many are known, the last of them are forgotten and C{ready_from} moves back.
 - delayed jobs are ordered by the moment when they may run.  Those before C{due_from} are known, and the moment of the
   next one is.  When it comes, they stand in the line where their position puts them: before what was enqueued later.
 - jobs whose function is not there are I{parked}: forgotten, but for the first one.  When the function comes, reading
   goes back to it.
 - jobs whose function takes no more calls for the moment are set aside here, so that others may start.
 - of a FIFO queue, L{Groups} knows which jobs must wait for others.

Reading may so come upon a job twice.  C{held} contains every job that waits in memory, is running, or whose outcome is
being written; reading skips these.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import chain

import attrs

from iii.modules.queue.groups import FOLLOWING, Groups
from iii.modules.queue.jobs import DELAYED, Job, Key, Target
from iii.modules.queue.parking import MAX_MISSING, Parking
from iii.modules.queue.rate import Rate
from iii.modules.queue.retry import Policy

WINDOW = 512
"""Jobs that a line knows at one time, about."""
MAX_RETRYING = 100_000
"""Jobs waiting for a retry that a queue in order knows when it begins to be in order."""
BEGIN: Key = (-(2**62), 0)
END: Key = (2**62, 2**62)


@attrs.frozen
class Piece:
    """
    What is to be read next.

    @ivar kind: C{ready}, C{due}, C{group}, or C{retrying}: only the positions of all delayed jobs.
    @ivar start: From where on; of a group only the position counts.
    @ivar count: So many jobs.
    @ivar without: Functions whose jobs may be left out, since they are parked.
    """

    kind: str
    start: Key
    count: int
    group: str = ""
    without: frozenset[Target] = frozenset()


class Line:
    """
    The jobs of one queue that wait and run.

    @ivar paused: Somebody has said that none shall start.
    @ivar attended: Somebody is there to serve it.
    @ivar running: The jobs under way, by position.
    @ivar parked: The functions whose jobs are parked.
    @ivar condition: The function that is asked before each delivery, see L{ask}.  While it is parked, no job starts.
    """

    def __init__(
        self, policy: Policy, *, window: int = WINDOW, max_missing: int = MAX_MISSING, following: int = FOLLOWING
    ) -> None:
        """
        @param window: Jobs that are known at one time, about.
        @param max_missing: Functions that jobs are parked for at one time.
        @param following: Jobs of one group that are kept behind its head.
        """
        self.paused, self.attended = False, True
        self.running: dict[int, Job] = {}
        self.parked = Parking(max_missing)
        self.condition: Target | None = None
        self._window, self._following = window, following
        self._heap: list[tuple[int, int, Job]] = []
        self._held: set[int] = set()
        self._holds: dict[Target, int] = {}  # until when, in the order in which they began
        self._aside: list[tuple[int, int, Job]] = []
        self._ready_from = END
        self._due_from = BEGIN
        self._next_due: int | None = None
        self._due_waiting = 0
        self._retrying: set[int] = set()  # of a queue in order, what must come first
        self._rate: Rate | None = None
        self._in_order, self._retrying_known = False, True
        self.groups: Groups | None = None
        self.follow(policy)
        self._retrying_known = True

    def follow(self, policy: Policy) -> None:
        """Deliver by this policy from now on.  A line with groups keeps them, and gets none later."""
        self.policy = policy
        self._concurrency = 1 if policy.ordered == "queue" else policy.concurrency
        in_order = policy.ordered == "queue"
        self._retrying_known = self._retrying_known and (self._in_order or not in_order)
        self._in_order = in_order
        if policy.ordered == "groups" and self.groups is None and not self._held:
            self.groups = Groups(following=self._following)
        if policy.rate_limit is None:
            self._rate = None
        elif self._rate is None or self._rate.limit != policy.rate_limit:
            self._rate = Rate(policy.rate_limit)

    def ask(self, condition: Target | None) -> None:
        """Ask this function before each delivery from now on; what waits for another one does so no more."""
        if condition != self.condition and self.condition is not None:
            self.release(self.condition)
        self.condition = condition

    def load(self, next_due: int | None, delayed_groups: Sequence[str]) -> None:
        """At the start: there are jobs on disk.  When the first delayed one may run, and which groups wait for one."""
        self._ready_from = BEGIN
        self._next_due = next_due
        self._retrying_known = not self._in_order
        if self.groups is not None:
            self.groups.wait(delayed_groups)

    @property
    def waiting(self) -> int:
        """How many known jobs could start."""
        return len(self._heap)

    @property
    def _waiting_in_memory(self) -> int:
        return len(self._heap) + len(self._aside) + (0 if self.groups is None else self.groups.kept)

    @property
    def _behind(self) -> bool:
        """Whether jobs that come before all that are known are still to be read; between groups there is no order."""
        return bool(self._heap) and self._heap[0] > self._ready_from and self.groups is None

    # What may start.

    def next(self, now_ms: int) -> Job | None:
        """Take the next job that shall start now; it runs from now on."""
        heap = self._heap
        if self._holds:
            self._end_holds(now_ms)
        if not heap or len(self.running) >= self._concurrency or self.paused or not self.attended:
            return None
        if self._holds and self._held_up() or self.parked and self.condition in self.parked:
            return None
        if self.groups is None and heap[0] > self._ready_from:  # L{_behind}, once for each job
            return None
        if self._in_order and not self._first(heap[0][1]):
            return None
        if self._rate is not None and not self._rate.take(now_ms):
            return None
        job = heapq.heappop(heap)[2]
        if job.state == DELAYED:
            self._due_waiting -= 1
            self._retrying.discard(job.position)
        self.running[job.position] = job
        return job

    def _first(self, position: int) -> bool:
        """Whether no job before this one waits for its retry."""
        return self._retrying_known and (not self._retrying or position <= min(self._retrying))

    def _held_up(self) -> bool:
        """Set jobs of held functions aside, unless the queue keeps its order.  Return whether no other one waits."""
        heap = self._heap
        while heap and (heap[0][2].target in self._holds or self.condition in self._holds):
            if self._in_order:
                return True
            self._aside.append(heapq.heappop(heap))
        return not heap

    def _end_holds(self, now_ms: int) -> None:
        over = [target for target, until_ms in self._holds.items() if until_ms <= now_ms]
        if over:
            for target in over:
                del self._holds[target]
            aside, self._aside = self._aside, []
            for entry in aside:
                heapq.heappush(self._heap, entry)

    def wake_ms(self, now_ms: int) -> int | None:
        """When L{next} or L{wanted} may have something that they have not now, as far as time alone decides."""
        if self._next_due is None and self._rate is None and not self._holds or self.paused or not self.attended:
            return None
        moments = list(self._holds.values())
        if self._next_due is not None:
            moments.append(self._next_due)
        if self._rate is not None and self._heap and len(self.running) < self._concurrency:
            moments.append(self._rate.next_ms(now_ms))
        return min((moment for moment in moments if moment > now_ms), default=None)

    # What comes.

    def arrived(self, job: Job) -> None:
        """A job that may run is on disk now: a new one, or one that was redriven."""
        if (job.rank, job.position) < self._ready_from:
            self._take(job)
            if len(self._heap) > 2 * self._window:
                self._forget_last()

    def put_off(self, job: Job) -> None:
        """A job that may run at its moment is on disk now."""
        self._held.discard(job.position)
        if self._in_order:
            self._retrying.add(job.position)
        if (job.due_ms, job.position) < self._due_from:
            self._due_from = job.due_ms, job.position
        if self._next_due is None or job.due_ms < self._next_due:
            self._next_due = job.due_ms

    def _take(self, job: Job) -> None:
        """Let a job that is on disk wait, unless it must wait elsewhere."""
        position = job.position
        if position in self._held:
            return
        if self.groups is not None and job.group:
            if job.state != DELAYED and self.groups.full(job.group):
                self._ready_from = min(self._ready_from, (job.rank, position))
                return
            if not self.groups.admit(job, keep=self._waiting_in_memory < self._window):
                if self.groups.keeps(job):
                    self._held.add(position)
                return
        elif self.parked and job.target in self.parked:
            self.parked.note(job.target, job)
            return
        self._held.add(position)
        self._wait(job)

    def _wait(self, job: Job) -> None:
        if job.state == DELAYED:
            self._due_waiting += 1
        heapq.heappush(self._heap, (job.rank, job.position, job))

    def _forget_last(self) -> None:
        """Leave the last of many waiting jobs to be read again."""
        waiting = sorted(self._heap)
        self._heap = waiting[: self._window]
        for entry in waiting[self._window :]:
            rank, position, job = entry
            if job.state == DELAYED:
                self._heap.append(entry)
                continue
            self._held.discard(position)
            self._ready_from = min(self._ready_from, (rank, position))
            if self._grouped(job):
                assert self.groups is not None
                self._drop(self.groups.forget(job))

    def _grouped(self, job: Job) -> bool:
        return self.groups is not None and bool(job.group)

    # What has become of a job that ran.

    def done(self, job: Job) -> None:
        """A job has ended, or is a dead letter; that is being written."""
        del self.running[job.position]
        self._follow_up(job)

    def failed(self, job: Job) -> None:
        """A job will run again at a later moment; that is being written.  Its group waits for it."""
        del self.running[job.position]
        if self._grouped(job):
            assert self.groups is not None
            self._drop(self.groups.retries(job))
        elif self._in_order:
            self._retrying.add(job.position)

    def again(self, job: Job) -> None:
        """A job will run again as soon as it can; nothing has to be written, or that is on disk."""
        del self.running[job.position]
        self._wait(job)

    def hold(self, job: Job, target: Target, until_ms: int) -> None:
        """
        A function takes no more calls: the job that ran and others that need it wait here; nothing has to be written.

        @param target: Its own function, or the condition.
        """
        if self._rate is not None:
            self._rate.give_back()
        if self._in_order and job.state == DELAYED:
            self._retrying.add(job.position)
        self.again(job)
        self._holds[target] = until_ms

    def written(self, job: Job) -> None:
        """What has become of a job is on disk."""
        self._held.discard(job.position)

    def park(self, job: Job, target: Target, deadline_ms: int) -> bool:
        """
        A function that a job needs is not there: leave the job on disk until that comes.

        @param target: Its own function, or another one.
        @param deadline_ms: When it has waited too long.
        @return: C{False}: jobs of too many functions are parked already; the job is still running.
        """
        if not self.parked.begin(target, deadline_ms):
            return False
        del self.running[job.position]
        self._held.discard(job.position)
        if self._rate is not None:
            self._rate.give_back()
        if self._grouped(job):
            assert self.groups is not None
            self._drop(self.groups.park(job, target))
        else:
            self.parked.note(target, job)
            if self._in_order and job.state == DELAYED:
                self._retrying.add(job.position)
        return True

    def release(self, target: Target) -> None:
        """A function is there, or the time of those that wait for it is over: its parked jobs are read again."""
        parked = self.parked.end(target)
        if parked is None:
            return
        if parked.ready is not None:
            self._ready_from = min(self._ready_from, parked.ready)
        if parked.due is not None:
            self._due_from = min(self._due_from, parked.due)
            self._next_due = min(parked.due[0], parked.due[0] if self._next_due is None else self._next_due)
        if self.groups is not None:
            self.groups.release(target)

    # What somebody takes out.

    def withdraw(self, job: Job) -> Job | None:
        """
        A job shall be no more; that is being written.

        @param job: As it was read from disk.
        @return: The job, or C{None} when it runs or its outcome is just being written.
        """
        position = job.position
        waiting = next((entry for entry in chain(self._heap, self._aside) if entry[1] == position), None)
        if waiting is not None:
            if waiting in self._aside:
                self._aside.remove(waiting)
            else:
                self._heap.remove(waiting)
                heapq.heapify(self._heap)
            if job.state == DELAYED:
                self._due_waiting -= 1
            self._follow_up(waiting[2])
            self._retrying.discard(position)
            return waiting[2]
        if position in self._held:
            return None if self.groups is None else self.groups.withdraw_following(job)
        self._held.add(position)
        self._retrying.discard(position)
        if self._grouped(job):
            assert self.groups is not None
            self.groups.withdraw_head(job)
        return job

    # What is to be read.

    def wanted(self, now_ms: int) -> Piece | None:
        """Say what is to be read now, to be answered with L{read}."""
        if self.paused or not self.attended or len(self._aside) >= 2 * self._window:
            return None
        if self.parked and self.condition in self.parked:
            return None
        if not self._retrying_known:
            return Piece("retrying", BEGIN, MAX_RETRYING)
        half, groups = self._window // 2, self.groups
        if self._next_due is not None and self._next_due <= now_ms and self._due_waiting < half:
            return Piece("due", self._due_from, half)
        low = self._behind or len(self._heap) <= self._window // 4
        full = self._waiting_in_memory >= 2 * self._window
        if full and not low:
            return None
        if groups is not None and groups.to_read:
            group = next(iter(groups.to_read))
            return Piece("group", (0, groups.start(group)), 1 if full else self._following, group)
        if self._ready_from != END and low and not (groups is not None and groups.full("")):
            return Piece("ready", self._ready_from, half, without=self._left_out())
        return None

    def _left_out(self) -> frozenset[Target]:
        return frozenset(self.parked) if self.groups is None else frozenset()

    def read_retrying(self, positions: Sequence[int]) -> None:
        """The queue has begun to be in order: take the positions of the jobs that are delayed on disk."""
        waiting = {position for _, position, _ in chain(self._heap, self._aside)}
        self._retrying.update(each for each in positions if each in waiting or each not in self._held)
        self._retrying_known = True

    def read_ready(self, piece: Piece, jobs: Sequence[Job], start: Key) -> None:
        """
        Take what was read of the jobs that may run.

        @param start: Where to go on; C{END} when this was all.
        """
        self._ready_from = start
        self.parked.pass_over(piece.without, piece.start)
        for job in jobs:
            self._take(job)

    def read_due(self, piece: Piece, jobs: Sequence[Job], next_due: int | None) -> None:
        """
        Take what was read of the delayed jobs that may run.

        @param next_due: When the next one may that may not yet.
        """
        if jobs:
            self._due_from = jobs[-1].due_ms, jobs[-1].position + 1
        if len(jobs) < piece.count:
            self._next_due = next_due
        for job in jobs:
            self._take(job)

    def read_group(self, piece: Piece, jobs: Sequence[Job], now_ms: int) -> None:
        """Take what was read of a group."""
        assert self.groups is not None
        more = jobs[-1].position + 1 if len(jobs) == piece.count else None
        fresh = [job for job in jobs if job.position not in self._held]
        kept = self.groups.read(piece.group, fresh, more, now_ms)
        self._held.update(job.position for job in kept)
        if kept:
            self._wait(kept[0])

    def _follow_up(self, job: Job) -> None:
        """Let the next job of a group wait."""
        if self._grouped(job):
            assert self.groups is not None
            following = self.groups.ended(job)
            if following is not None:
                self._wait(following)

    def _drop(self, jobs: Sequence[Job]) -> None:
        self._held.difference_update(job.position for job in jobs)
