"""
The groups of a FIFO queue (spec/queue.md, 7): pure.

One job of a group is its head: it waits in the line, runs, waits for its retry, or for its function.  The group's next
jobs follow when it has ended, strictly in order.  A few of them are kept here; of the rest, only where on disk they
begin is known, so that a group with a million jobs that cannot run costs no more than one with a few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum

import attrs

from iii.modules.queue.jobs import DELAYED, Job, Target

FOLLOWING = 32
"""Jobs of one group that are kept behind its head."""
MAX_GROUPS = 100_000
"""Groups tracked per queue.  Jobs of further groups wait until one has finished, even if they could run."""


class State(Enum):
    """Where the head of a group is."""

    HEAD = "in the line: it waits there, or runs"
    RETRY = "on disk, until its moment comes"
    PARKED = "on disk, until its function comes"
    READ = "among what is to be read next"


NEXT: Mapping[tuple[State, str], State] = {
    (State.HEAD, "failed"): State.RETRY,
    (State.HEAD, "parked"): State.PARKED,
    (State.HEAD, "ended"): State.READ,  # unless the next one is known, or there is none
    (State.RETRY, "due"): State.HEAD,
    (State.RETRY, "withdrawn"): State.READ,
    (State.PARKED, "withdrawn"): State.READ,
    (State.PARKED, "released"): State.READ,
    (State.READ, "found"): State.HEAD,
    (State.READ, "found delayed"): State.RETRY,
}
"""What a state and an event lead to; nothing else happens to a group."""


@attrs.define(eq=False)
class Group:
    """
    A group with a head.

    @ivar following: The jobs behind the head.
    @ivar more: Where on disk further ones begin, if there are any.
    @ivar target: The function that it waits for.
    @ivar parked: Where the head stands that waits for that.
    """

    name: str
    state: State = State.HEAD
    following: deque[Job] = attrs.field(factory=deque)
    more: int | None = None
    target: Target | None = None
    parked: int | None = None


class Groups:
    """
    Who is the head of which group.

    @ivar kept: How many jobs are kept behind the heads.
    @ivar to_read: The names of groups whose next jobs are to be read, in the order in which they are to run.
    """

    def __init__(self, limit: int = MAX_GROUPS, following: int = FOLLOWING) -> None:
        self._limit, self._following, self.kept = limit, following, 0
        self._groups: dict[str, Group] = {}
        self._parked: dict[Target, set[str]] = {}
        self.to_read: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def full(self, name: str) -> bool:
        """Whether a job of this group cannot be taken in, since too many groups are known."""
        return name not in self._groups and len(self._groups) >= self._limit

    def admit(self, job: Job, *, keep: bool) -> bool:
        """
        Take in a job that has come, or was read; its group is not L{full}.

        @param keep: There is room for one more behind its head.
        @return: Whether it is the head, and is to wait in the line.  Otherwise it is kept behind its head, or its place
            on disk is noted.
        """
        group = self._groups.get(job.group)
        if group is None:
            self._groups[job.group] = Group(job.group)
            return True
        if group.state is State.RETRY and job.state == DELAYED:
            self._move(group, "due")
            return True
        if keep and group.state is State.HEAD and group.more is None and len(group.following) < self._following:
            following = group.following
            behind = len(following)
            while behind and following[behind - 1].position > job.position:  # its removal has failed
                behind -= 1
            following.insert(behind, job)
            self.kept += 1
        else:
            self._note(group, job.position)
        return False

    def keeps(self, job: Job) -> bool:
        """Whether a job is one of those behind their head."""
        group = self._groups.get(job.group)
        return group is not None and job in group.following

    def start(self, group: str) -> int:
        """Where on disk to read the next jobs of a group of L{to_read}."""
        more = self._groups[group].more
        assert more is not None
        return more

    def read(self, name: str, jobs: Iterable[Job], more: int | None, now_ms: int) -> list[Job]:
        """
        The next jobs of a group have been read.

        @param more: Where those begin that were not.
        @return: The head, if it may run, and those behind it that are kept.
        """
        del self.to_read[name]
        group, found = self._groups[name], list(jobs)
        if not found and more is None:
            del self._groups[name]
            return []
        group.more = more
        if not found:
            self.to_read[name] = None
            return []
        head = found[0]
        if head.state == DELAYED and head.due_ms > now_ms:
            self._move(group, "found delayed")
            if len(found) > 1:
                self._note(group, found[1].position)
            return []
        self._move(group, "found")
        group.following = deque(found[1:])
        self.kept += len(group.following)
        return found

    def ended(self, job: Job) -> Job | None:
        """A head has ended, or was withdrawn: return the next one, if it is known."""
        group = self._groups[job.group]
        if group.following:
            self.kept -= 1
            return group.following.popleft()
        if group.more is None:
            del self._groups[job.group]
        else:
            self._read_next(group, "ended")
        return None

    def retries(self, job: Job) -> list[Job]:
        """A head will run again later, and is on disk until then: return those that were kept behind it."""
        return self._leave(self._groups[job.group], "failed")

    def park(self, job: Job, target: Target) -> list[Job]:
        """A head waits for a function, on disk: return those that were kept behind it."""
        group = self._groups[job.group]
        group.target, group.parked = target, job.position
        self._parked.setdefault(target, set()).add(group.name)
        dropped = self._leave(group, "parked")
        self._note(group, job.position)
        return dropped

    def release(self, target: Target) -> None:
        """A function is there: the groups that wait for it are to be read."""
        for name in sorted(self._parked.get(target, ()), key=lambda name: self._groups[name].more or 0):
            group = self._groups[name]
            self._unpark(group)
            self._read_next(group, "released")

    def wait(self, names: Iterable[str]) -> None:
        """At the start: groups whose heads are on disk, for their moment."""
        for name in names:
            self._groups[name] = Group(name, State.RETRY, more=0)

    def forget(self, job: Job) -> list[Job]:
        """A head that waits goes back to the disk, to be read again: return those that were kept behind it."""
        group = self._groups.pop(job.group)
        self.kept -= len(group.following)
        return list(group.following)

    def withdraw_following(self, job: Job) -> Job | None:
        """Take out a job that is kept behind its head; C{None} if it is not."""
        group = self._groups.get(job.group)
        kept = (
            None if group is None else next((each for each in group.following if each.position == job.position), None)
        )
        if group is not None and kept is not None:
            group.following.remove(kept)
            self.kept -= 1
        return kept

    def withdraw_head(self, job: Job) -> None:
        """A job that is only on disk is to be no more: if its group waits for it or for its function, that goes on."""
        group = self._groups.get(job.group)
        if group is None:
            return
        if group.state is State.RETRY and job.state == DELAYED or job.position == group.parked:
            self._unpark(group)
            self._read_next(group, "withdrawn")

    def _leave(self, group: Group, event: str) -> list[Job]:
        """A head has gone to the disk, and so do those behind it."""
        dropped = list(group.following)
        group.following.clear()
        self.kept -= len(dropped)
        self._move(group, event)
        if dropped:
            self._note(group, dropped[0].position)
        return dropped

    def _note(self, group: Group, position: int) -> None:
        if group.more is None or position < group.more:
            group.more = position

    def _move(self, group: Group, event: str) -> None:
        group.state = NEXT[group.state, event]

    def _read_next(self, group: Group, event: str) -> None:
        self._move(group, event)
        if group.more is None:
            group.more = 0
        self.to_read[group.name] = None

    def _unpark(self, group: Group) -> None:
        if group.target is not None:
            names = self._parked[group.target]
            names.discard(group.name)
            if not names:
                del self._parked[group.target]
            group.target = group.parked = None
